"""Keras's weight files, read with plain h5py: the legacy .h5, .weights.h5, the one inside a .keras
archive, and shards under an index.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import ConversionError, SaveError, SourceError
from ..spec.file_layout import AttributeValue, FileLayout, StoredArray, StoredAttribute, StoredGroup

SUFFIXES = (".weights.h5", ".keras", ".hdf5", ".h5")
INDEX_SUFFIX = ".weights.json"
WEIGHTS_IN_ARCHIVE = "model.weights.h5"
# How the formats keep the state of training, which is no part of a model converted for use.
_OPTIMIZER_GROUPS = ("optimizer_weights", "optimizer")
_COMPILE_ATTRIBUTE = "training_config"
# Fixed part of a zip member's local header, of which only the lengths of name and extra field
# matter here.
_LOCAL_HEADER = struct.Struct("<26xHH")
# What h5py, zipfile and json raise for a file that they cannot read.
_FOREIGN_ERRORS = (OSError, KeyError, ValueError, RuntimeError, OverflowError, EOFError,
                   struct.error, zlib.error, zipfile.BadZipFile)


def suffix_of(path: Path) -> str:
    """Return the format's suffix. Raises SaveError for any other name."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return suffix
    raise SaveError(f"cannot save to {path}: expected a name ending in .h5, .weights.h5 or .keras")


def is_legacy(path: Path) -> bool:
    """Return whether the name is that of a whole-model .h5 file, not one of the newer formats."""
    return path.suffix in (".h5", ".hdf5") and not path.name.endswith(".weights.h5")


@contextmanager
def reading(named: object, error_type: type[ConversionError] = SourceError) -> Iterator[None]:
    """Turn what h5py, zipfile and json raise for a damaged file into an `error_type`.

    `named` begins the message: the file's path, or what else it is known by.
    """
    try:
        yield
    except ConversionError:
        raise
    except _FOREIGN_ERRORS as error:
        raise error_type(f"{named} cannot be read as a Keras file: "
                         f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class OpenWeights:
    """An open HDF5 file that begins at byte `start` of its file, None when it was unpacked."""

    file: h5py.File
    start: int | None = 0


@contextmanager
def open_weights(path: Path, error_type: type[ConversionError] = SourceError,
                 named: str = "") -> Iterator[OpenWeights]:
    """Open the HDF5 file at `path`, or the one inside an archive there, without a copy of it.

    Raises an `error_type` for what cannot be read, also while the block reads it. `named` is what
    messages call the file, its path unless it is given.
    """
    with reading(named or path, error_type):
        if not zipfile.is_zipfile(path):
            with h5py.File(path, "r") as opened:
                yield OpenWeights(opened)
            return
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            member = archive.getinfo(WEIGHTS_IN_ARCHIVE)
            if member.compress_type != zipfile.ZIP_STORED:
                with h5py.File(io.BytesIO(archive.read(member)), "r") as opened:
                    yield OpenWeights(opened, None)
                return
            file.seek(member.header_offset)
            name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
            window = io.BufferedReader(_Window(file, start, member.file_size))
            with h5py.File(window, "r") as opened:
                yield OpenWeights(opened, start)


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """What stands in a Keras file or in all shards under an index; `files` by an array's path."""

    layout: FileLayout
    files: Mapping[str, Path]

    def read(self, name: str, error_type: type[ConversionError]) -> npt.NDArray[Any]:
        """Return the values of an array, from a file that is open only meanwhile."""
        with open_weights(self.files[name], error_type) as opened:
            return np.asarray(opened.file[name][()])


def read_stored(path: Path, error_type: type[ConversionError] = SourceError) -> StoredWeights:
    """Read the layout of the file at `path`, or of all shards together.

    Raises an `error_type` for a file that cannot be read.
    """
    groups: dict[str, StoredGroup] = {}
    arrays: dict[str, StoredArray] = {}
    files: dict[str, Path] = {}
    for part in _parts(path, error_type):
        with open_weights(part, error_type) as opened:
            found = read_layout(opened.file)
        for group in found.groups:
            # Where a layer is cut Keras writes its name into one of the shards only.
            if group.path not in groups or group.attributes:
                groups[group.path] = group
        arrays |= {array.path: array for array in found.arrays}
        files |= {array.path: part for array in found.arrays}
    return StoredWeights(FileLayout(tuple(groups.values()), tuple(arrays.values())), files)


def _parts(path: Path, error_type: type[ConversionError]) -> list[Path]:
    if not path.name.endswith(INDEX_SUFFIX):
        return [path]
    names = shard_names(path)
    if not names:
        raise error_type(f"{path} is no index of Keras's sharded weights")
    return [path.with_name(name) for name in names]


def read_layout(file: h5py.File) -> FileLayout:
    """Return the layout of an open file, without values and without the state of training."""
    kept = (name for name in file.attrs if name != _COMPILE_ATTRIBUTE)
    groups = [StoredGroup("/", tuple(_attribute(file, name) for name in kept))]
    arrays: list[StoredArray] = []

    def visit(path: str, item: Any) -> None:
        if path.split("/", maxsplit=1)[0] in _OPTIMIZER_GROUPS:
            return
        attributes = tuple(_attribute(item, name) for name in item.attrs)
        if isinstance(item, h5py.Group):
            groups.append(StoredGroup(item.name, attributes))
        else:
            arrays.append(StoredArray(item.name, item.shape, item.dtype.str, "", attributes))

    file.visititems(visit)
    return FileLayout(tuple(groups), tuple(arrays))


def _attribute(item: Any, name: str) -> StoredAttribute:
    identity = item.attrs.get_id(name)
    value = item.attrs[name]
    if h5py.check_string_dtype(identity.dtype) is not None and identity.dtype.kind == "O":
        texts = _as_text(value) if identity.shape == () else tuple(map(_as_text, value))
        return StoredAttribute(name, "text", texts)
    return StoredAttribute(name, identity.dtype.str, _plain(value))


def _plain(value: Any) -> AttributeValue:
    array = np.asarray(value)
    if array.ndim > 1:
        raise ValueError(f"an attribute of shape {array.shape} is in no file of Keras's")
    items = [
        _as_text(item) if isinstance(item, bytes) else item for item in array.reshape(-1).tolist()
    ]
    return tuple(items) if array.ndim else items[0]


def name_list(attributes: Mapping[str, Any], name: str) -> list[str]:
    """Return a list of names among the attributes of a group.

    Keras cuts a long one into `name0`, `name1`, ...
    """
    if name in attributes:
        parts = [attributes[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in attributes:
            parts.append(attributes[f"{name}{len(parts)}"])
    return [_as_text(text) for part in parts for text in part]


def attributes_of(layout: FileLayout) -> dict[str, dict[str, AttributeValue]]:
    """Return the attributes of each group by its path."""
    found = {}
    for group in layout.groups:
        found[group.path] = {one.name: one.value for one in group.attributes}
    return found


def _as_text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def shard_names(path: Path) -> tuple[str, ...]:
    """Return the files of this set that an index lists; () without an index that can be read."""
    try:
        content = json.loads(path.read_bytes())
        entries = [
            name for names in content["weight_map"].values()
            for name in (names if isinstance(names, list) else [names]) if isinstance(name, str)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    base = f"{index_base(path)}_"
    return tuple(
        dict.fromkeys(
            name for name in entries
            if Path(name).name == name and name.startswith(base) and name.endswith(".weights.h5")))


def sha256_of_shards(path: Path) -> dict[str, str]:
    """Return the sha256 of each file of a set, as its index states it.

    Raises SaveError for an index that states none.
    """
    try:
        stated = json.loads(path.read_bytes())["metadata"]["sha256"]
        return {str(name): str(digest) for name, digest in stated.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SaveError(f"{path} is no index that states the sha256 of its shards") from error


def index_base(path: Path) -> str:
    """Return what the names of an index and of its shards begin with."""
    return path.name[:-len(INDEX_SUFFIX)]


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
