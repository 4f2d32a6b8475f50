"""A saved file against the model it was saved from, value by value, with plain h5py.

Every variable of the model must be found once with its exact bits. Keras's way through a model is
not walked again here: in the legacy format each list of names must give the values in the order
that a freshly built model reads; in the newer formats each layer is asked what it stores, and a
group of the file (by the layer's name, where the file has names) must hold just that. Each group
serves one layer.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import ConversionError, SaveError
from ..spec.target import Target, TargetLayer
from ..util.values_at_offsets import ValueStream
from .values import read_values
from .weight_order import default_legacy_order

WEIGHTS_IN_ARCHIVE = "model.weights.h5"
# Fixed part of a zip member's local header, of which only the lengths of name and extra field
# matter here.
LOCAL_HEADER = struct.Struct("<26xHH")

# Groups of a file by the name of the layer they belong to and by what arrays they hold.
Groups = dict[tuple[str | None, tuple[Any, ...]], list[Any]]


def compare_legacy_file(target: Target, path: Path) -> tuple[str, ...]:
    """Compare a whole-model .h5 file with the model. Raises SaveError on any difference; returns
    notes (none here).
    """
    with _unreadable_told(), h5py.File(path, "r") as file, path.open("rb", buffering=0) as opened:
        stream = ValueStream(opened.fileno())
        json.loads(file.attrs["model_config"])
        weights = file["model_weights"]
        listed = name_list(weights, "layer_names")
        names = [str(layer.name) for layer in target.model.layers]
        if listed != names:
            raise SaveError(
                f"the saved file lists other layers than the model: {listed} instead of {names}")
        found: set[int] = set()
        for layer in target.model.layers:
            variables = default_legacy_order(layer)
            _compare_list(target, weights[layer.name], variables, str(layer.name), stream)
            found.update(id(variable) for variable in variables)
        top_level = [leaf for leaf in target.leaves() if leaf.layer is target.model]
        own = [variable.variable for leaf in top_level for variable in leaf.variables]
        if own:
            _compare_list(target, weights["top_level_model_weights"], own, target.name, stream)
            found.update(id(variable) for variable in own)
    lost = [
        variable.display_name
        for variable in target.variables.values() if id(variable.variable) not in found
    ]
    if lost:
        raise SaveError(
            "a legacy .h5 file holds only the layers in model.layers, so these variables would "
            "be lost: "
            f"{', '.join(lost)}; save as .weights.h5")
    return ()


def compare_weights_file(target: Target, path: Path) -> tuple[str, ...]:
    """Compare a .weights.h5 file with the model. Raises SaveError on any difference.

    The notes returned name variables that a layer leaves out of its files by a saving method of its
    own.
    """
    with _unreadable_told(), h5py.File(path, "r") as opened:
        return _compare_opened(target, opened)


def _compare_opened(target: Target, opened: Any) -> tuple[str, ...]:
    notes: list[str] = []
    groups = _groups(opened)
    for owner in {id(leaf.layer): leaf for leaf in target.leaves()}.values():
        stored: dict[str, Any] = {}
        owner.layer.save_own_variables(stored)
        notes += _not_stored(target, owner, stored)
        if stored:
            values = {key: _as_array(target, value) for key, value in stored.items()}
            _take_group(groups, str(owner.layer.name), owner.display_name, values)
    return tuple(notes)


def compare_archive(target: Target, path: Path) -> tuple[str, ...]:
    """Compare a .keras archive with the model: check sums of all members, weights as in
    `compare_weights_file`.
    """
    with _unreadable_told(), zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        if broken is not None:
            raise SaveError(f"the saved archive is damaged: {broken} does not fit its check sum")
    with _unreadable_told(), open_weights(path) as file:
        return _compare_opened(target, file)


@contextmanager
def open_weights(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file at `path`, or the one inside an archive there; nothing of it is copied when it
    is stored as it is.
    """
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as opened:
            yield opened
        return
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        member = archive.getinfo(WEIGHTS_IN_ARCHIVE)
        if member.compress_type != zipfile.ZIP_STORED:
            with h5py.File(io.BytesIO(archive.read(member)), "r") as opened:
                yield opened
            return
        file.seek(member.header_offset)
        name_length, extra_length = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        start = member.header_offset + LOCAL_HEADER.size + name_length + extra_length
        with h5py.File(io.BufferedReader(_Window(file, start, member.file_size)), "r") as opened:
            yield opened


@contextmanager
def opened_weights(path: Path, error_type: type[ConversionError],
                   named: str) -> Iterator[h5py.File]:
    """The file of `open_weights`; what cannot be read as one is an `error_type` that calls it
    `named`.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_weights(path))
        except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            raise error_type(f"{named} cannot be read as a Keras file: {error}") from error
        yield file


def name_list(group: Any, name: str) -> list[str]:
    """A list of names among the attributes of a group; long ones are cut into `name0`, `name1`, ...
    by Keras.
    """
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
    return [
        text.decode("utf-8") if isinstance(text, bytes) else str(text) for part in parts
        for text in part
    ]


def _compare_list(target: Target, group: Any, variables: list[Any], layer: str,
                  stream: ValueStream) -> None:
    names = name_list(group, "weight_names")
    if len(names) != len(variables):
        raise SaveError(f"layer {layer}: the saved file lists {len(names)} weights, the model has "
                        f"{len(variables)}")
    for name, variable in zip(names, variables, strict=True):
        if not _holds(h5py.h5d.open(group.id, name.encode("utf-8")), read_values(target, variable),
                      stream):
            raise SaveError(
                f"layer {layer}: {name} reads back from the saved file with other values than "
                "the model has")


def _holds(found: Any, values: npt.NDArray[Any], stream: ValueStream) -> bool:
    """Whether a data set holds these bits; they are compared where they lie in the file, without an
    array of their size.
    """
    offset = found.get_offset()
    if found.shape != values.shape or found.dtype.itemsize != values.dtype.itemsize:
        return False
    if offset is None:
        # Without values, or in pieces.
        return _same(h5py.Dataset(found)[()], values)
    return stream.holds(values.view(f"u{values.dtype.itemsize}"), offset)


def _groups(file: Any) -> Groups:
    """All groups called `vars`, in natural order, by the layer's name (None in files of tf_keras)
    and their layout.
    """
    found: list[tuple[str, Any]] = []

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and path.rsplit("/", maxsplit=1)[-1] == "vars":
            found.append((path, item))

    file.visititems(visit)
    groups: Groups = {}
    for _, group in sorted(found, key=lambda entry: _natural(entry[0])):
        groups.setdefault((group.attrs.get("name"), _layout(group)), []).append(group)
    return groups


def _layout(arrays: Mapping[str, Any]) -> tuple[Any, ...]:
    # Type as size in bytes: HDF5 knows bfloat16 only as two opaque ones.
    return tuple(
        sorted((key, tuple(array.shape), array.dtype.itemsize) for key, array in arrays.items()))


def _take_group(groups: Groups, name: str, label: str, values: Mapping[str, Any]) -> None:
    """Find the group that holds these values and remove it, since it serves one layer only."""
    for key in ((name, _layout(values)), (None, _layout(values))):
        candidates = groups.get(key, [])
        for index, group in enumerate(candidates):
            if all(_same(group[entry][()], array) for entry, array in values.items()):
                del candidates[index]
                return
    named = any(name == known for (known, _), candidates in groups.items() if candidates)
    raise SaveError(
        f"layer {label}: its weights read back from the saved file with other values than the "
        "model has"
        if named else f"layer {label}: no group of the saved file holds the weights of this layer")


def _not_stored(target: Target, owner: TargetLayer, stored: Mapping[str, Any]) -> list[str]:
    """Variables that a layer's own saving method leaves out, as notes; an error when the method is
    Keras's plain one.
    """
    missing = [
        variable.display_name for variable in owner.variables
        if not any(value is variable.variable for value in stored.values()) and not any(
            _same(_as_array(target, value), read_values(target, variable.variable))
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
        "method of its own: "
        f"{', '.join(missing)}"
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


def _same(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    """Whether two arrays have one shape and the same bits; scalars of NumPy count as arrays."""
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.dtype.itemsize != second.dtype.itemsize:
        return False
    return bool(np.array_equal(_bits(first), _bits(second)))


def _bits(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    width = array.dtype.itemsize
    return np.ascontiguousarray(array).reshape(-1).view(f"u{width}" if width in
                                                        {1, 2, 4, 8} else np.uint8)


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Sort key in which `conv2d_10` comes after `conv2d_9`."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in re.split(r"(\d+)", path) if part]


@contextmanager
def _unreadable_told() -> Iterator[None]:
    try:
        yield
    except SaveError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise SaveError(
            f"the saved file cannot be read back: {type(error).__name__}: {error}") from error


class _Window(io.RawIOBase):
    """A stretch of an open file as a file of its own: the HDF5 file inside an uncompressed zip
    archive.
    """
    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        super().__init__()
        self.file, self.start, self.size, self.position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {
            io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size
        }[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self.size - self.position))
        self.file.seek(self.start + self.position)
        data = self.file.read(wanted)
        view[:len(data)] = data
        self.position += len(data)
        return len(data)
