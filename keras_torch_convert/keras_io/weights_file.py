"""Keras's weight files, read with plain h5py: the legacy .h5, .weights.h5, the one inside a .keras
archive, and shards under an index.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import ConversionError, SaveError, SourceError
from ..spec.file_layout import ArchiveMember, AttributeValue, FileLayout, StoredArray, StoredGroup
from ..torch_io.mapped_file import FOREIGN_ERRORS, MappedFile
from ..torch_io.zip_archive import STORED, ZipArchive, open_zip
from ..util.file_limits import most_unpacked, read_text
from ..util.text import shorten
from .hdf5_reader import Hdf5File, UnreadableError, as_text

SUFFIXES = (".weights.h5", ".keras", ".hdf5", ".h5")
INDEX_SUFFIX = ".weights.json"
WEIGHTS_IN_ARCHIVE = "model.weights.h5"
_HDF5_START, _ZIP_START = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
# Far more than the configuration of any model takes.
_LARGEST_MEMBER = 1 << 26


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
def reading(named: object, error_type: type[ConversionError] = SourceError,
            alone: bool = True) -> Iterator[None]:
    """Turn what a Keras file can make h5py, zlib and Python raise into an `error_type`.

    `named` begins the message: the file's path, or what else it is known by. Where it is not read
    `alone`, a SourceError is that of the checkpoint beside it.
    """
    try:
        yield
    except SourceError as error:
        if not alone or error_type is SourceError:
            raise
        raise error_type(str(error)) from error
    except ConversionError:
        raise
    except UnreadableError as error:
        raise error_type(f"{named} cannot be read as a Keras file: {error}") from error
    except (*FOREIGN_ERRORS, zipfile.BadZipFile) as error:
        raise error_type(f"{named} cannot be read as a Keras file, it is damaged: "
                         f"{type(error).__name__}: {shorten(str(error), 200)}") from error


@contextmanager
def open_weights(path: Path, error_type: type[ConversionError] = SourceError,
                 named: str = "") -> Iterator[Hdf5File]:
    """Open the HDF5 file at `path`, or the one inside an archive there, without a copy of it.

    Raises an `error_type` for what cannot be read, also while the block reads it. `named` is what
    messages call the file, its path unless it is given.
    """
    named = named or str(path)
    with ExitStack() as stack:
        with reading(named, error_type):
            opened = _opened(path, stack)
        with reading(named, error_type, alone=False):
            yield opened


def _opened(path: Path, stack: ExitStack) -> Hdf5File:
    mapped = MappedFile.open(path)
    file = stack.enter_context(path.open("rb"))
    if file.read(len(_HDF5_START)) == _HDF5_START:
        return Hdf5File(stack.enter_context(h5py.File(path, "r")), file, mapped.size)
    archive = _archive(mapped)
    if WEIGHTS_IN_ARCHIVE not in archive.members:
        raise UnreadableError(f"it is an archive without {WEIGHTS_IN_ARCHIVE}")
    start: int | None = None
    data: IO[bytes]
    if archive.members[WEIGHTS_IN_ARCHIVE].method == STORED:
        start, end = archive.span(WEIGHTS_IN_ARCHIVE)
        data = cast(IO[bytes], io.BufferedReader(_Window(file, start, end - start)))
    else:
        data = io.BytesIO(archive.read(WEIGHTS_IN_ARCHIVE, most_unpacked(mapped.size)))
    size = data.seek(0, io.SEEK_END)
    data.seek(0)
    return Hdf5File(stack.enter_context(h5py.File(data, "r")), data, size, start)


def _archive(mapped: MappedFile) -> ZipArchive:
    start = mapped.data[:len(_HDF5_START)]
    if not start.startswith(_ZIP_START):
        raise UnreadableError(f"it begins with {start!r}, neither HDF5 nor a .keras archive does; "
                              "download or save it again")
    return open_zip(mapped)


def read_members(path: Path,
                 error_type: type[ConversionError] = SourceError) -> tuple[ArchiveMember, ...]:
    """Return the members of a .keras archive but its weights.

    Raises an `error_type` for an archive that cannot be read, or holds anything but text.
    """
    with reading(path, error_type):
        archive = _archive(MappedFile.open(path))
        members = []
        room = _LARGEST_MEMBER
        for name in archive.members:
            if name == WEIGHTS_IN_ARCHIVE:
                continue
            data = archive.read(name, room)
            room -= len(data)
            try:
                members.append(ArchiveMember(name, data.decode("utf-8")))
            except UnicodeDecodeError as error:
                raise UnreadableError(
                    f"it holds {shorten(repr(name), 100)}, which is no text: only Keras can write "
                    "it") from error
        return tuple(members)


def model_config(path: Path) -> tuple[Any, str]:
    """Return the configuration of the model in a .h5 or .keras file, and the version of Keras.

    None and "" are what a file does not tell. Raises SourceError for a Keras file that cannot be
    read.
    """
    with open_weights(path) as opened:
        stated: dict[str, Any] = dict(attributes_of(opened.layout())["/"])
        mapped = MappedFile.open(path)
        if mapped.data[:4] == _ZIP_START:
            archive = open_zip(mapped)
            stated = json.loads(archive.read("metadata.json", _LARGEST_MEMBER))
            stated["model_config"] = archive.read("config.json", _LARGEST_MEMBER).decode()
        return json.loads(stated.get("model_config", "null")), str(stated.get("keras_version", ""))


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """What stands in a Keras file or in all shards under an index; `files` by an array's path."""

    layout: FileLayout
    files: Mapping[str, Path]

    def read(self, name: str, error_type: type[ConversionError]) -> npt.NDArray[Any]:
        """Return the values of an array, from a file that is open only meanwhile."""
        with open_weights(self.files[name], error_type) as opened:
            return np.asarray(h5py.Dataset(opened.open_array(name))[()])


def read_stored(path: Path, error_type: type[ConversionError] = SourceError) -> StoredWeights:
    """Read the layout of the file at `path`, or of all shards together.

    Raises an `error_type` for a file that cannot be read.
    """
    groups: dict[str, StoredGroup] = {}
    arrays: dict[str, StoredArray] = {}
    files: dict[str, Path] = {}
    for part in _parts(path, error_type):
        with open_weights(part, error_type) as opened:
            found = opened.layout()
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
    return [as_text(text) for part in parts for text in part]


def attributes_of(layout: FileLayout) -> dict[str, dict[str, AttributeValue]]:
    """Return the attributes of each group by its path."""
    found = {}
    for group in layout.groups:
        found[group.path] = {one.name: one.value for one in group.attributes}
    return found


def shard_names(path: Path) -> tuple[str, ...]:
    """Return the files of this set that an index lists; () without an index that can be read."""
    entries = [
        name for names in _part_of_index(path, "weight_map").values()
        for name in (names if isinstance(names, list) else [names])
    ]
    return tuple(dict.fromkeys(name for name in entries if is_shard_of(path, name)))


def checksums_of_shards(path: Path) -> dict[str, str]:
    """Return our checksum of each file of this set, as its index states it; {} when it states none.
    """
    stated = _part_of_index(path, "metadata", "checksum")
    return {name: str(checksum) for name, checksum in stated.items() if is_shard_of(path, name)}


def _part_of_index(path: Path, *keys: str) -> dict[str, Any]:
    try:
        content: Any = json.loads(read_text(path, SourceError, "an index of shards"))
        for key in keys:
            content = content[key]
        return dict(content)
    except (SourceError, OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}


def is_shard_of(path: Path, name: object) -> bool:
    """Return whether a name is that of a shard beside an index, and of its set."""
    return (isinstance(name, str) and name.startswith(f"{index_base(path)}_")
            and name.endswith(".weights.h5") and Path(name).name == name and name.isprintable())


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
