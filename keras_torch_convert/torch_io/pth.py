"""PyTorch's own files (.pt, .pth, .bin, .ckpt, .tar), read without PyTorch or running code.

Since PyTorch 1.6 a file is a zip archive: `data.pkl` describes the objects, `data/0`, `data/1`, ...
are the storages. Before, it was a row of pickles (magic number, version, facts about the machine,
the objects, the keys of the storages) followed by the storages, each after its length. Both are
mapped, and tensors are views of the storages where they lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import SourceError
from ..spec.dtypes import NUMPY_TYPES
from ..util.text import shorten_middle
from .foreign import TORCH_FIRST
from .mapped_file import MappedFile, StoredTensor
from .named_source import listed_names
from .pickle_reader import PickleReader
from .pickle_values import PickledTensor, Placeholder, Storage, StorageType, holds_tensors, short
from .zip_archive import ZipArchive

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# A description of tensors this long would be of some ten million of them.
_LONGEST_PICKLE = 1 << 30
_LENGTH = struct.Struct("<q")

# First byte and end of a storage in the file.
Locate = Callable[[Storage], tuple[int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a PyTorch file holds: plain data, tensors described in it, and how to find them."""

    file: MappedFile
    content: Any = field(repr=False)
    foreign: tuple[str, ...]
    locate: Locate = field(repr=False)
    big_endian: bool = False
    searched: set[int] = field(default_factory=set, repr=False)

    def holds_tensors(self, value: Any) -> bool:
        """Return whether a tensor is reachable from a part of the content."""
        return holds_tensors(value, self.searched)

    def stored(self, tensor: PickledTensor) -> StoredTensor:
        """Return where a described tensor lies; SourceError when its storage is not there."""
        first, end = self.locate(tensor.storage)
        start = first + tensor.offset * _item_size(tensor.dtype)
        return StoredTensor(self.file, tensor.dtype, tensor.shape, tensor.strides, start, first,
                            end, self.big_endian, tensor.conjugate, tensor.negative, tensor.kind)


def open_torch_zip(archive: ZipArchive) -> Checkpoint:
    """Open a file of PyTorch 1.6 or later.

    Raises SourceError for TorchScript and for zip files of other programs.
    """
    file = archive.file
    root = _root_folder(archive)
    if f"{root}/constants.pkl" in archive.members or any(
            name.startswith(f"{root}/code/") for name in archive.members):
        raise SourceError(
            f"{file.path} is a TorchScript archive, which holds a program; load it with "
            "torch.jit.load and pass the module or its state_dict()")

    def locate(storage: Storage) -> tuple[int, int]:
        name = f"{root}/data/{storage.key}"
        if name not in archive.members:
            raise _missing(file, storage)
        first, end = archive.span(name)
        return first, _end(file, storage, first, end)

    pickle_first, pickle_end = archive.span(f"{root}/data.pkl")
    if pickle_end - pickle_first > _LONGEST_PICKLE:
        raise SourceError(
            f"{file.path}: the description of the objects takes {pickle_end - pickle_first} bytes, "
            f"expected at most {_LONGEST_PICKLE}")
    storages = _Storages()
    reader = PickleReader(file.data[pickle_first:pickle_end], str(file.path), storages.refer)
    content, _ = reader.load()
    return Checkpoint(file, content, tuple(reader.foreign), locate, _is_big_endian(archive, root))


def _root_folder(archive: ZipArchive) -> str:
    """Return the one folder at the top of the archive that holds data.pkl."""
    roots = [
        name.removesuffix("/data.pkl")
        for name in archive.members if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if len(roots) == 1:
        return roots[0]
    if any(name in archive.members for name in ("model.weights.h5", "config.json")):
        raise SourceError(f"{archive.file.path} is a Keras file: {TORCH_FIRST}")
    raise SourceError(
        f"{archive.file.path}: a zip file that torch.save did not write (no data.pkl in it, but "
        f"{listed_names(list(archive.members))}); unpack it if the checkpoint is inside")


def _is_big_endian(archive: ZipArchive, root: str) -> bool:
    name = f"{root}/byteorder"
    if name not in archive.members:
        return False
    first, end = archive.span(name)
    order = archive.file.data[first:min(end, first + 16)]
    if order not in (b"little", b"big"):
        raise archive.file.damaged(f"byte order {order!r} is unknown")
    return order == b"big"


def open_legacy_file(file: MappedFile) -> Checkpoint:
    """Open a file of PyTorch before 1.6, or a plain pickle of NumPy arrays."""
    storages = _Storages(legacy=True)
    reader = PickleReader(file.data.whole(), str(file.path), storages.refer)
    content, position = reader.load()
    spans: dict[str, tuple[int, int]] = {}
    if content == _LEGACY_MAGIC:
        version, position = reader.load(position)
        if version != _LEGACY_PROTOCOL:
            raise SourceError(
                f"{file.path}: version {short(version)} of the old PyTorch format is unknown")
        _, position = reader.load(position)
        content, position = reader.load(position)
        keys, position = reader.load(position)
        spans = _legacy_spans(file, keys, storages.known, position)
    elif isinstance(content, int):
        raise SourceError(f"{file.path} is not a PyTorch file (wrong magic number)")

    def locate(storage: Storage) -> tuple[int, int]:
        root = storage.root or storage
        if root.key not in spans:
            raise _missing(file, root)
        first, end = spans[root.key]
        first += storage.offset * _item_size(storage.dtype)
        return first, _end(file, storage, first, end)

    return Checkpoint(file, content, tuple(reader.foreign), locate)


def _legacy_spans(file: MappedFile, keys: Any, storages: Mapping[str, Storage],
                  position: int) -> dict[str, tuple[int, int]]:
    """Return where each storage lies: they follow each other in the order of `keys`."""
    spans: dict[str, tuple[int, int]] = {}
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise SourceError(f"{file.path}: the list of storages is damaged")
    for key in map(str, keys):
        storage = storages.get(key)
        if storage is None or key in spans:
            raise file.damaged(f"storage {short(key)} belongs to no tensor, or is there twice")
        if position + _LENGTH.size > file.size:
            raise SourceError(
                f"{file.path}: cut short before storage {short(key)}; download it again")
        (count,) = _LENGTH.unpack(file.data[position:position + _LENGTH.size])
        position += _LENGTH.size
        if count != storage.count:
            raise file.damaged(
                f"storage {short(key)} has {count} elements, expected {short(storage.count)}")
        end = position + storage.count * _item_size(storage.dtype)
        if end > file.size:
            raise SourceError(f"{file.path}: cut short in storage {short(key)}; download it again")
        spans[key] = (position, end)
        position = end
    return spans


@dataclass(slots=True)
class _Storages:
    """Answers a pickle's references to storages; `known` are those met so far, by key."""

    legacy: bool = False
    known: dict[str, Storage] = field(default_factory=dict)

    def refer(self, reference: Any) -> Any:
        """Return the storage of a persistent id, in a legacy file also a module's class."""
        match reference:
            case ("module", module_class, *_) if self.legacy:
                return module_class
            case ("storage", StorageType() as kind, (str() | int()) as key, str() as
                  location, int() as count, *view) if count >= 0 and len(view) == self.legacy:
                found = Storage(str(key), kind.dtype, count, location)
                root = self.known.setdefault(found.key, found)
                if (root.dtype, root.count) != (found.dtype, found.count):
                    raise SourceError(f"storage {short(key)} is described in two ways")
                return _view(root, view[0]) if view and view[0] is not None else root
        raise SourceError("a storage is described wrongly")


def _view(root: Storage, view: Any) -> Storage:
    match view:
        case (key, int() as offset, int() as count) if offset >= 0 and count >= 0:
            return Storage(short(key), root.dtype, count, root.location, root, offset)
    raise SourceError("a storage is described wrongly")


def _item_size(dtype: str | None) -> int:
    if dtype in NUMPY_TYPES:
        return NUMPY_TYPES[dtype].itemsize
    return 4 if dtype == "qint32" else 1


def _end(file: MappedFile, storage: Storage, first: int, end: int) -> int:
    """Return the byte after a storage that lies within `first` to `end`."""
    needed = storage.count * _item_size(storage.dtype)
    if needed > end - first:
        raise file.damaged(
            f"storage {short(storage.key)} has {end - first} bytes, expected {short(needed)}")
    return first + needed


def _missing(file: MappedFile, storage: Storage) -> SourceError:
    return file.damaged(f"storage {short(storage.key)} is missing")


def check_is_mapping(checkpoint: Checkpoint) -> dict[Any, Any]:
    """Return the content as a dictionary; SourceError says what else it is and what to do."""
    content, path = checkpoint.content, checkpoint.file.path
    if isinstance(content, dict):
        return content
    if isinstance(content, Placeholder):
        raise whole_object_error(path, content)
    if isinstance(content, PickledTensor):
        raise SourceError(f"{path} holds a single tensor without a name, expected a state dict")
    raise SourceError(
        f"{path} holds a {type(content).__name__}, expected a state dict (names to tensors)")


def whole_object_error(where: object, value: Placeholder) -> SourceError:
    """Return the error for a pickled module or other object where weights are expected."""
    class_name = shorten_middle(value.name, 300)
    return SourceError(
        f"{where} holds a whole object of class {class_name}, whose code is not run here; load "
        "it with PyTorch where its code is installed, and pass the module or its state_dict()")
