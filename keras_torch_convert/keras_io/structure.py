"""Groups, attributes and data sets of an open HDF5 file as a layout: what stands in a Keras file,
without its values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from ..errors import SaveError
from ..spec.file_layout import AttributeValue, FileLayout, StoredArray, StoredAttribute, StoredGroup

# How the formats keep the state of training, which is no part of a model converted for use.
OPTIMIZER_GROUPS = ("optimizer_weights", "optimizer")
COMPILE_ATTRIBUTE = "training_config"


def read_structure(file: Any, array: Callable[[Any, tuple[StoredAttribute, ...]],
                                              StoredArray]) -> FileLayout:
    """The layout of an open file; `array` makes the entry of one data set. State of the training is
    left out.
    """
    groups: list[StoredGroup] = []
    arrays: list[StoredArray] = []

    def visit(path: str, item: Any) -> None:
        if path.split("/", maxsplit=1)[0] in OPTIMIZER_GROUPS:
            return
        attributes = tuple(_attribute(item, name) for name in item.attrs)
        if isinstance(item, h5py.Group):
            groups.append(StoredGroup(item.name, attributes))
        else:
            arrays.append(array(item, attributes))

    kept = (name for name in file.attrs if name != COMPILE_ATTRIBUTE)
    groups.append(StoredGroup("/", tuple(_attribute(file, name) for name in kept)))
    file.visititems(visit)
    return FileLayout(tuple(groups), tuple(arrays))


def _attribute(item: Any, name: str) -> StoredAttribute:
    identity = item.attrs.get_id(name)
    value = item.attrs[name]
    if h5py.check_string_dtype(identity.dtype) is not None and identity.dtype.kind == "O":
        return StoredAttribute(
            name, "text",
            _as_text(value) if identity.shape == () else tuple(map(_as_text, value)))
    return StoredAttribute(name, identity.dtype.str, _plain(value))


def _as_text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> AttributeValue:
    array = np.asarray(value)
    if array.ndim > 1:
        raise SaveError(f"an attribute of shape {array.shape} in a Keras file is not known")
    items = [
        _as_text(item) if isinstance(item, bytes) else item for item in array.reshape(-1).tolist()
    ]
    return tuple(items) if array.ndim else items[0]
