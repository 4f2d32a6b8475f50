"""A saved file compared with what it was to hold, value by value, with plain h5py.

The values of a file that was written from a layout are at the paths of the layout. In a file that
was saved from a model every variable must be found once with its exact bits, without walking
through the model as Keras does: in the legacy format each list of names must give the values in the
order that a freshly built model reads; in the newer formats each layer is asked what it stores, and
a group of the file (by the layer's name, where the file has names) must hold just that. Each group
serves one layer.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import SaveError
from ..spec.file_layout import FileLayout, StoredArray
from ..spec.target import Target, TargetLayer
from ..util.values_at_offsets import Streamed, ValueStream, same_bits
from .hdf5_reader import Hdf5File
from .keras_save import has_weights_alone
from .values import read_values
from .weight_order import default_legacy_order
from .weights_file import attributes_of, name_list, open_weights, reading

# The values of one variable in C order, of its size and of any shape.
Values = Callable[[], Streamed]
# The same, or the checksum with which they were written.
_Expected = Callable[[], Streamed | int]
_SAVED = "the saved file"
# The groups of a file by the name of the layer they belong to and by what arrays they hold.
_Groups = dict[tuple[str | None, tuple[Any, ...]], list[str]]


@dataclass(frozen=True, slots=True)
class _SavedFile:
    """A file that was written, open to be compared."""

    opened: Hdf5File
    stream: ValueStream

    def check(self, arrays: Iterable[tuple[StoredArray, _Expected]]) -> None:
        """Raise SaveError unless the file holds each array with its type, shape and bits."""
        for array, values in arrays:
            found = self._open(array.path)
            if not _is_like(found, array):
                raise SaveError(f"{array.path} reads back as {found.dtype} {found.shape}, expected "
                                f"{np.dtype(array.dtype)} {array.shape}")
            if not self._holds(found, values()):
                raise SaveError(
                    f"{array.path} reads back from the saved file with other values than expected")

    def holds(self, array: StoredArray, values: Streamed) -> bool:
        """Return whether the file holds these bits, in an array of this type and shape."""
        found = self._open(array.path)
        return _is_like(found, array) and self._holds(found, values)

    def _open(self, path: str) -> Any:
        return h5py.h5d.open(self.opened.file.id, path.encode("utf-8"))

    def _holds(self, found: Any, values: Streamed | int) -> bool:
        offset = found.get_offset()
        if isinstance(values, int):
            size = found.get_storage_size()
            return self.stream.checksum((self.opened.start or 0) + (offset or 0), size) == values
        if offset is None or self.opened.start is None:
            # Without values, in pieces, or packed.
            return same_bits(h5py.Dataset(found)[()], np.asarray(values))
        # Compared where they lie in the file, without an array of their size.
        return self.stream.holds(values, self.opened.start + int(offset))


def _is_like(found: Any, array: StoredArray) -> bool:
    return bool(found.shape == array.shape and found.dtype == np.dtype(array.dtype))


@contextmanager
def _saved_file(path: Path) -> Iterator[_SavedFile]:
    with open_weights(path, SaveError, _SAVED) as opened, path.open("rb", buffering=0) as file:
        yield _SavedFile(opened, ValueStream(file.fileno()))


def compare_with_checksums(path: Path, layout: FileLayout, checksums: Mapping[str, int]) -> None:
    """Compare every array of a layout, where plain h5py finds it, with the checksum with which it
    was written, or with the values that the layout itself has for it.

    Raises SaveError on any difference.
    """
    with _saved_file(path) as saved:
        saved.check((array, partial(checksums.__getitem__, array.path) if array.
                     key else partial(np.frombuffer, array.values)) for array in layout.arrays)


def compare_legacy_file(target: Target, path: Path) -> tuple[str, ...]:
    """Compare a legacy .h5 file, of the whole model or of its weights alone, with the model.

    Raises SaveError on any difference; returns notes (none here).
    """
    found: set[int] = set()
    with _saved_file(path) as saved:
        attributes = attributes_of(saved.opened.layout())
        weights = ""
        if not has_weights_alone(target):
            json.loads(saved.opened.file.attrs["model_config"])
            weights = "/model_weights"
        listed = name_list(attributes[weights or "/"], "layer_names")
        names = [str(layer.name) for layer in target.model.layers]
        if listed != names:
            raise SaveError(
                f"the saved file lists other layers than the model: {listed} instead of {names}")
        orders = [(layer.name, default_legacy_order(layer)) for layer in target.model.layers]
        top_level = [leaf for leaf in target.leaves() if leaf.layer is target.model]
        own = [variable.variable for leaf in top_level for variable in leaf.variables]
        for name, variables in [*orders, *([("top_level_model_weights", own)] if own else [])]:
            group = f"{weights}/{name}"
            saved.check(_listed(target, group, attributes[group], variables))
            found.update(map(id, variables))
    lost = [
        variable.display_name
        for variable in target.variables.values() if id(variable.variable) not in found
    ]
    if lost:
        raise SaveError(
            "a legacy .h5 file holds only the layers in model.layers, so these variables would "
            f"be lost: {', '.join(lost)}; save as .weights.h5")
    return ()


def _listed(target: Target, group: str, attributes: Mapping[str, Any],
            variables: Sequence[Any]) -> Iterator[tuple[StoredArray, Values]]:
    names = name_list(attributes, "weight_names")
    if len(names) != len(variables):
        raise SaveError(f"{group}: the saved file lists {len(names)} weights, the model has "
                        f"{len(variables)}")
    for name, variable in zip(names, variables, strict=True):
        values = read_values(target, variable)
        yield _stored(f"{group}/{name}", values), partial(np.asarray, values)


def _stored(path: str, values: npt.NDArray[Any]) -> StoredArray:
    # HDF5 knows bfloat16 only as two opaque bytes.
    dtype = f"|V{values.dtype.itemsize}" if values.dtype.kind == "V" else values.dtype.str
    return StoredArray(path, values.shape, dtype, "")


def compare_weights_file(target: Target, path: Path) -> tuple[str, ...]:
    """Compare a .weights.h5 file, or the one in a .keras archive, with the model.

    Returns notes on variables that a layer leaves out of its files by a saving method of its own.
    Raises SaveError on any difference.
    """
    notes: list[str] = []
    with _saved_file(path) as saved:
        groups = _groups(saved.opened.layout())
        for owner in {id(leaf.layer): leaf for leaf in target.leaves()}.values():
            stored: dict[str, Any] = {}
            owner.layer.save_own_variables(stored)
            notes += _not_stored(target, owner, stored)
            if stored:
                values = {key: _as_array(target, value) for key, value in stored.items()}
                _take_group(saved, groups, owner, values)
    return tuple(notes)


def compare_archive(target: Target, path: Path) -> tuple[str, ...]:
    """Compare a .keras archive with the model: checksums of all members, weights as in
    `compare_weights_file`.
    """
    with reading(_SAVED, SaveError), zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        if broken is not None:
            raise SaveError(f"the saved archive is damaged: {broken} does not fit its checksum")
    return compare_weights_file(target, path)


def _groups(layout: FileLayout) -> _Groups:
    """Return all groups called `vars`, in natural order, by the layer's name (None in files of
    tf_keras) and what they hold.
    """
    attributes = attributes_of(layout)
    arrays: dict[str, dict[str, StoredArray]] = {}
    for array in layout.arrays:
        group, _, name = array.path.rpartition("/")
        arrays.setdefault(group, {})[name] = array
    groups: _Groups = {}
    for path in sorted((path for path in attributes if path.endswith("/vars")), key=_natural):
        layer = attributes[path].get("name")
        key = (None if layer is None else str(layer), _held(arrays.get(path, {})))
        groups.setdefault(key, []).append(path)
    return groups


def _held(arrays: Mapping[str, StoredArray]) -> tuple[Any, ...]:
    return tuple(sorted((name, array.shape, array.dtype) for name, array in arrays.items()))


def _take_group(saved: _SavedFile, groups: _Groups, owner: TargetLayer,
                values: Mapping[str, npt.NDArray[Any]]) -> None:
    """Find the group that holds these values and remove it, since it serves one layer only."""
    name = str(owner.layer.name)
    held = _held({key: _stored(key, array) for key, array in values.items()})
    for key in ((name, held), (None, held)):
        paths = groups.get(key, [])
        for path in paths:
            if all(
                    saved.holds(_stored(f"{path}/{entry}", array), array)
                    for entry, array in values.items()):
                paths.remove(path)
                return
    named = any(name == known for (known, _), paths in groups.items() if paths)
    raise SaveError(
        f"layer {owner.display_name}: its weights read back from the saved file with other values "
        "than the model has" if named else
        f"layer {owner.display_name}: no group of the saved file holds the weights of this layer")


def _not_stored(target: Target, owner: TargetLayer, stored: Mapping[str, Any]) -> list[str]:
    """Return notes on the variables that a layer's own saving method leaves out.

    Raises SaveError when the method is Keras's plain one.
    """
    missing = [
        variable.display_name for variable in owner.variables
        if not any(value is variable.variable for value in stored.values()) and not any(
            same_bits(_as_array(target, value), read_values(target, variable.variable))
            for value in stored.values())
    ]
    if not missing:
        return []
    base: Any = next(base for base in type(owner.layer).__mro__ if base.__name__ == "Layer")
    if type(owner.layer).save_own_variables is base.save_own_variables:
        raise SaveError(
            f"layer {owner.display_name}: Keras leaves these variables out of its files: "
            f"{', '.join(missing)}")
    return [
        f"layer {owner.display_name} does not store these variables as they are, by a saving "
        f"method of its own: {', '.join(missing)}"
    ]


def _as_array(target: Target, value: Any) -> npt.NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "assign"):
        return read_values(target, value)
    if target.framework == "keras":
        import keras

        return np.asarray(keras.ops.convert_to_numpy(value))
    return np.asarray(value)


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Return a sort key in which `conv2d_10` comes after `conv2d_9`."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in re.split(r"(\d+)", path) if part]
