"""How a Keras model's weights lie in Keras files: enough to write those files without Keras.

A layout is read off files that Keras itself saved, with marker values in the variables: Keras's way
through a model is not walked a second time here. A variable is named by its place in the saved
tree, which is the same in every instance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Union

from ..errors import SaveError

AttributeValue = Union[str, int, float, bool, tuple[str, ...], tuple[int, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class StoredAttribute:
    """One attribute of an HDF5 group or data set.

    `dtype` is "text" for a UTF-8 string of variable length (value: str, or a tuple of str for an
    array of such strings), else NumPy's own name of the type with its byte order: "|S12" for byte
    strings of fixed length, given as str in `value`, "<i8", "<f4", "|b1" for numbers. A tuple is a
    one-dimensional array, anything else a scalar.
    """

    name: str
    dtype: str
    value: AttributeValue


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """One HDF5 group; `path` is absolute ("/model_weights/conv1", "/" for the root)."""

    path: str
    attributes: tuple[StoredAttribute, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One HDF5 data set, contiguous and little-endian.

    `path` is absolute, `dtype` NumPy's name of the type in the file with its byte order ("<f4",
    "|V2" for bfloat16). `key` is the variable whose values it holds; "" when it holds none of the
    Plan's variables (the state of a random generator). `values` are its bytes where no Plan gives
    them: those of such an array, and of variables that keep their own values.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    key: str
    attributes: tuple[StoredAttribute, ...] = ()
    values: bytes = b""


@dataclass(frozen=True, slots=True)
class FileLayout:
    """One HDF5 file: groups and arrays in the order in which Keras makes them, the root group
    first.
    """

    groups: tuple[StoredGroup, ...]
    arrays: tuple[StoredArray, ...]


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """One member of a .keras archive that is text: config.json, metadata.json (with its date
    pinned).
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class TargetLayout:
    """What the files of one architecture look like, in the Keras that made them.

    `framework` is "keras" or "tf_keras", `version` its version. `legacy` is the whole-model .h5
    file, `weights` the .weights.h5 file, also the weights inside a .keras archive; `members` are
    the archive's other members. None (or no members): that Keras cannot save it so.
    """

    framework: str
    version: str
    legacy: FileLayout | None = None
    weights: FileLayout | None = None
    members: tuple[ArchiveMember, ...] = ()

    def files(self) -> Iterator[FileLayout]:
        """Yield the HDF5 files that are known."""
        yield from (file for file in (self.legacy, self.weights) if file is not None)

    def paths(self, key: str) -> tuple[str, ...]:
        """Return all paths of a variable, those in the legacy file first."""
        return tuple(
            array.path for file in self.files() for array in file.arrays if array.key == key)


class LazyLayout:
    """The layout of a live model, recorded when it is first wanted: recording costs a save.

    Pickled it becomes the layout itself, or None when there is none to be had.
    """

    __slots__ = ("_record", "_recorded")

    def __init__(self, record: Callable[[], TargetLayout]) -> None:
        """`record` gives the layout, or raises SaveError; it is called once."""
        self._record = record
        self._recorded: TargetLayout | None = None

    def record(self) -> TargetLayout:
        """Return the layout, recorded now if it was not yet.

        Raises:
            SaveError: The model is gone, or Keras can save it in no format.
        """
        if self._recorded is None:
            self._recorded = self._record()
        return self._recorded

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (recorded_or_none(self),)

    def __copy__(self) -> LazyLayout:
        return self

    def __deepcopy__(self, _: Any) -> LazyLayout:
        return self


def recorded(layout: TargetLayout | LazyLayout | None) -> TargetLayout | None:
    """Return the layout, recorded now if it was not yet; see `LazyLayout.record`."""
    return layout.record() if isinstance(layout, LazyLayout) else layout


def recorded_or_none(layout: TargetLayout | LazyLayout | None) -> TargetLayout | None:
    """Return the same, None for what cannot be recorded; a warning says why."""
    try:
        return recorded(layout)
    except SaveError as error:
        warnings.warn(f"the plan is kept without the layout of Keras files: {error}", stacklevel=3)
        return None


def _itself(layout: TargetLayout | None) -> TargetLayout | None:
    return layout
