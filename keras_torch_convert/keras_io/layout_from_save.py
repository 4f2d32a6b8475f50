"""What a Keras model puts into a legacy .h5 file, without its values: Keras walks through the model
itself, into a file that only notes names.

Keras's own `save` takes an open h5py.File as well as a path. It is given one that makes no file:
groups, attributes and the shapes of data sets are noted, and the values are let go. A layout costs
Keras's walk and its config then, and no writing.
"""

from __future__ import annotations

from math import prod
from typing import Any

import h5py
import numpy as np

from ..errors import SaveError
from ..spec.file_layout import AttributeValue, FileLayout, StoredArray, StoredAttribute, StoredGroup
from ..spec.target import Target
from .keras_save import failures_reported, has_weights_alone, legacy_warning_silenced
from .weight_order import legacy_order

# Beside a model's weights a file may hold little, such as constants; an optimizer's state is for
# Keras to write.
MOST_OTHER_BYTES = 1 << 20
_WEIGHTS = "/model_weights"
_TOP_LEVEL = f"{_WEIGHTS}/top_level_model_weights"


class NoLayoutError(Exception):
    """The file of this model is for Keras itself to write; says why."""


def layout_of_save(target: Target) -> FileLayout:
    """The legacy .h5 file of a live model as Keras would write it now; every variable's array has
    its key.

    Raises NoLayoutError when it must be Keras that writes it, SaveError when Keras refuses the
    model.
    """
    model = target.model
    if not type(model).save.__module__.startswith(("keras.", "tf_keras.")):
        raise NoLayoutError("its class saves in a way of its own")
    if has_weights_alone(target):
        raise NoLayoutError("tf_keras saves the weights of a subclassed model alone")
    noted = _NotingFile()
    with failures_reported(target, ".h5"), legacy_warning_silenced():
        model.save(noted)
    keys = _keys(target, noted)
    arrays = [_stored(array, keys) for array in noted.arrays.values()]
    if sum(len(array.values) for array in arrays) > MOST_OTHER_BYTES:
        raise NoLayoutError("the file holds much beside the weights, such as an optimizer's state")
    return FileLayout(tuple(group.stored() for group in noted.groups.values()), tuple(arrays))


def _keys(target: Target, noted: _NotingFile) -> dict[str, str]:
    """Return the key of the variable that each array below the weights' group holds."""
    key_of = {id(variable.variable): variable.key for variable in target.variables.values()}
    variables = {f"{_WEIGHTS}/{layer.name}": legacy_order(layer) for layer in target.model.layers}
    own = [leaf for leaf in target.leaves() if leaf.layer is target.model]
    variables.setdefault(_TOP_LEVEL,
                         [variable.variable for leaf in own for variable in leaf.variables])
    found: dict[str, str] = {}
    for path, order in variables.items():
        names = noted.groups[path].names() if path in noted.groups else []
        if len(names) != len(order):
            raise NoLayoutError(
                f"its layer {path.rpartition('/')[2]} lists {len(names)} weights, {len(order)} "
                "known")
        found |= {
            f"{path}/{name}": key_of.get(id(one), "")
            for name, one in zip(names, order, strict=True)
        }
    for path, array in noted.arrays.items():
        variable = target.variables.get(found.get(path, ""))
        if path.startswith(f"{_WEIGHTS}/") and (variable is None or variable.shape != array.shape):
            raise NoLayoutError(
                f"it stores {path} {array.shape}, which is no variable of that shape")
    return found


def _stored(array: _Array, keys: dict[str, str]) -> StoredArray:
    key = keys.get(array.path, "")
    values = b"" if key or array.values is None else array.values.tobytes()
    if not key and len(values) != prod(array.shape) * array.dtype.itemsize:
        raise NoLayoutError(f"it stores {array.path} in parts")
    return StoredArray(array.path, array.shape, array.dtype.str, key, (), values)


class _Group:
    """A group of the noted, or the whole of it: what Keras asks of h5py's."""
    def __init__(self, noted: _NotingFile, path: str) -> None:
        self.noted, self.path = noted, path
        self.attrs: dict[str, Any] = {}

    def create_group(self, name: str) -> _Group:
        path = _joined(self.path, name)
        return self.noted.groups.setdefault(path, _Group(self.noted, path))

    def create_dataset(self, name: str | bytes, shape: tuple[int, ...], dtype: Any) -> _Array:
        path = _joined(self.path, name.decode("utf-8") if isinstance(name, bytes) else name)
        if path in self.noted.arrays:
            raise ValueError(f"Unable to create dataset (name already exists): {path}")
        return self.noted.arrays.setdefault(path, _Array(path, tuple(shape), np.dtype(dtype)))

    def names(self) -> list[str]:
        """The list of its weights' names; long ones are cut into several attributes."""
        parts = [
            value
            for name, value in self.attrs.items() if name.rstrip("0123456789") == "weight_names"
        ]
        return [_text(name) for part in parts for name in part]

    def stored(self) -> StoredGroup:
        return StoredGroup(self.path,
                           tuple(_attribute(name, value) for name, value in self.attrs.items()))


class _Array:
    """A data set of the noted. The last values are held, not copied, until all is noted: they are
    the model's own.
    """
    def __init__(self, path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype
        self.values: Any = None

    def __setitem__(self, key: Any, values: Any) -> None:
        if not self.path.startswith(f"{_WEIGHTS}/"):
            self.values = np.array(values, self.dtype)


class _NotingFile(h5py.File):  # type: ignore[misc]
    """Takes the place of an open file where Keras saves; there is none behind it."""
    def __init__(self) -> None:
        self.arrays: dict[str, _Array] = {}
        self.root = _Group(self, "/")
        self.groups = {"/": self.root}

    def __str__(self) -> str:
        # Keras tells the format by the ending.
        return "noted.h5"

    __repr__ = __str__

    def __bool__(self) -> bool:
        return True

    @property
    def attrs(self) -> dict[str, Any]:
        return self.root.attrs

    def create_group(self, name: str) -> _Group:
        return self.root.create_group(name)

    def create_dataset(self, name: str | bytes, shape: tuple[int, ...], dtype: Any) -> _Array:
        return self.root.create_dataset(name, shape, dtype)

    def flush(self) -> None:
        """There is no file."""


def _joined(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"


def _attribute(name: str, value: Any) -> StoredAttribute:
    """The attribute that h5py makes of a value: strings and lists of them of variable length,
    arrays of strings as they are.
    """
    if isinstance(value, (str, bytes)):
        return StoredAttribute(name, "text", _text(value))
    if isinstance(value, list) and value and all(isinstance(one, (str, bytes)) for one in value):
        return StoredAttribute(name, "text", tuple(map(_text, value)))
    array = np.asarray(value)
    if array.ndim > 1 or array.dtype.kind not in "Sbiuf":
        raise NoLayoutError(f"its attribute {name} is of a kind that Keras's files do not have")
    items: AttributeValue = tuple(
        _text(one) if isinstance(one, bytes) else one for one in array.reshape(-1).tolist())
    return StoredAttribute(name, array.dtype.str, items if array.ndim else array.item())


def _text(value: str | bytes) -> str:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise SaveError(f"a name in the model's file is no UTF-8 text: {value!r}") from error
