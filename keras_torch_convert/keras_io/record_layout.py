"""Reads off, from files that Keras itself saves, how the weights of a model lie in them.

For the time of one save every variable holds a marker, a value that no other has; whatever data set
holds the marker afterward holds the variable. Nothing of Keras's own way through a model is
repeated here. A model that was made without values, on torch's meta device, saves one element for
each variable; its shape is the variable's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SaveError
from ..spec.dtypes import numpy_dtype
from ..spec.file_layout import ArchiveMember, FileLayout, StoredArray, TargetLayout
from ..spec.target import Target, TargetVariable
from ..util.text import plural
from .hdf5_reader import Hdf5File
from .keras_private import tensor_held
from .keras_save import check_path, write_with_keras
from .model import read_target
from .model_writer import transaction
from .values import is_without_values, read_values, torch_tensor
from .weights_file import open_weights, read_members

# Keras stores the time of saving; a file of the same weights is to have the same bytes.
PINNED_DATE = "1980-01-01@00:00:00"
# What a layout may hold of values that no Plan sets, such as the constants of a layer that prepares
# pictures.
MOST_OWN_BYTES = 1 << 20
# Bits of 1.0: a marker is the number's position among the floats from there on, so never NaN,
# infinite or subnormal.
_ONE = {"float16": 0x3C00, "bfloat16": 0x3F80, "float32": 0x3F800000, "float64": 0x3FF0000000000000}


def record_layout(model: Any, assigned: Collection[str] | None = None) -> TargetLayout:
    """Return how the files of a Keras model look, each as far as Keras can save it.

    These are the legacy .h5, the .weights.h5 and the .keras archive. The model is restored bit for
    bit, also after an error. Optimizer and compile settings are left out.

    Args:
        model: The model, or its Target.
        assigned: The keys that the Plan gives values to, None for all. Of other variables the
            layout holds the model's own values, if these are small together (MOST_OWN_BYTES).

    Raises:
        SaveError: The model can be saved in no format, or a data set cannot be told from another
            by its marker.
    """
    target = model if isinstance(model, Target) else read_target(model)
    own = _own_values(target, set(target.variables) if assigned is None else assigned)
    layout = TargetLayout(target.framework, _version_of(target))
    problems = []
    with tempfile.TemporaryDirectory() as folder, _marked(target) as markers:
        for suffix in (".h5", ".keras", ".weights.h5"):
            path = Path(folder) / f"layout{suffix}"
            try:
                if suffix == ".weights.h5" and layout.weights is not None:
                    continue  # a .keras archive holds the same
                check_path(path, target)
                write_with_keras(target, path, suffix)
            except SaveError as error:
                problems.append(str(error))
                continue
            with open_weights(path, SaveError) as opened:
                file = _read_file(opened, markers, own, target)
            layout = replace(layout, legacy=file) if suffix == ".h5" else replace(
                layout, weights=file)
            if suffix == ".keras":
                layout = replace(layout, members=_read_members(path))
            # Each is as large as the model: never two of them at a time.
            path.unlink()
    if layout.legacy is None and layout.weights is None:
        raise SaveError("; ".join(problems))
    return layout


class _RollbackError(Exception):
    """Leaves the transaction, so that the model's own values return."""


@contextmanager
def _marked(target: Target) -> Iterator[dict[bytes, str]]:
    """While inside, each variable of the model holds its marker; yields the keys by marker."""
    with suppress(_RollbackError), ExitStack() as stack, transaction(target) as writer:
        markers: dict[bytes, str] = {}
        for index, variable in enumerate(target.variables.values()):
            if is_without_values(target, variable.variable):
                marker = _marker(replace(variable, shape=(1,)), index)
                stack.enter_context(tensor_held(variable.variable, torch_tensor(marker)))
            else:
                marker = _marker(variable, index)
                writer.write(variable, marker)
            if marker.size and markers.setdefault(_identity(marker), variable.key) != variable.key:
                raise SaveError(
                    f"{variable.display_name} ({variable.dtype}) cannot be told from other "
                    "variables in a file: too many of this type")
        yield markers
        raise _RollbackError


def _marker(variable: TargetVariable, index: int) -> npt.NDArray[Any]:
    dtype = numpy_dtype(variable.dtype)
    if dtype == np.bool_:
        return np.full(variable.shape, index % 2, dtype)
    bits = np.dtype(f"u{dtype.itemsize}")
    number = (_ONE.get(variable.dtype, 0) + index) % 2**(8 * dtype.itemsize)
    if variable.dtype in ("float16", "bfloat16") and index >= 0x3C00:
        raise SaveError(
            f"a model of more than {0x3C00} variables of {variable.dtype} has no markers for all "
            "of them")
    return np.full(variable.shape, number, bits).view(dtype)


def _identity(array: npt.NDArray[Any]) -> bytes:
    """Return what tells markers apart: the first value, the type's size and the shape."""
    first = np.asarray(array).reshape(-1)[:1]
    return b"%d %r %b" % (array.dtype.itemsize, array.shape, first.tobytes())


def _own_values(target: Target, assigned: Collection[str]) -> dict[str, bytes]:
    """Return the values of variables that no Plan sets by key, none when they are too many."""
    others = [
        variable for variable in target.variables.values()
        if variable.key not in assigned and not is_without_values(target, variable.variable)
    ]
    if sum(variable.size * numpy_dtype(variable.dtype).itemsize
           for variable in others) > MOST_OWN_BYTES:
        return {}
    return {
        variable.key: np.asarray(read_values(target, variable.variable)).tobytes()
        for variable in others
    }


def _read_file(opened: Hdf5File, markers: dict[bytes, str], own: Mapping[str, bytes],
               target: Target) -> FileLayout:
    layout = opened.layout()
    arrays = tuple(
        _marked_array(array, opened.file[array.path][()], markers, own, target)
        for array in layout.arrays)
    missing = set(markers.values()) - {array.key for array in arrays}
    if missing:
        raise SaveError(
            f"Keras leaves {plural(len(missing), 'variable')} out of its files, {min(missing)} "
            "among them")
    return FileLayout(layout.groups, arrays)


def _marked_array(array: StoredArray, values: npt.NDArray[Any], markers: dict[bytes, str],
                  own: Mapping[str, bytes], target: Target) -> StoredArray:
    values = np.asarray(values)
    key = markers.get(_identity(values), "") if values.size else ""
    if key and values.tobytes() != values.reshape(-1)[:1].tobytes() * values.size:
        key = ""
    kept = own.get(key, b"")
    if not key:
        # The state of a random generator is another one in each instance of the model, and none of
        # the weights.
        random = "seed_generator" in array.path
        kept = bytes(values.nbytes) if random else values.tobytes()
    shape = target.variables[key].shape if key else array.shape
    return replace(array, key=key, shape=shape, values=kept)


def _read_members(path: Path) -> tuple[ArchiveMember, ...]:
    members = []
    for member in read_members(path, SaveError):
        if not member.name.endswith(".json"):
            raise SaveError(
                f"a .keras archive of this model holds {member.name}, which only Keras can write")
        content = json.loads(member.text)
        if member.name == "metadata.json":
            content["date_saved"] = PINNED_DATE
        if member.name == "config.json":
            content.pop("compile_config", None)
        members.append(ArchiveMember(member.name, json.dumps(_with_counted_ids(content, {}))))
    return tuple(members)


def _with_counted_ids(content: Any, numbers: dict[int, int]) -> Any:
    """Return the config with its shared objects counted from 1 on.

    Keras writes their addresses in memory, other ones in each process.
    """
    if isinstance(content, list):
        return [_with_counted_ids(item, numbers) for item in content]
    if not isinstance(content, dict):
        return content
    return {
        key:
            numbers.setdefault(value,
                               len(numbers) + 1) if key == "shared_object_id"
            and isinstance(value, int) else _with_counted_ids(value, numbers)
        for key, value in content.items()
    }


def _version_of(target: Target) -> str:
    import importlib

    return str(importlib.import_module(target.framework).__version__)
