"""PyTorch's own files (.pt, .pth, .bin, .ckpt, .tar), read without PyTorch and without running
anything.

Since PyTorch 1.6 a file is a zip archive: `data.pkl` describes the objects, `data/0`, `data/1`, ...
are the storages. Before, it was a row of pickles (magic number, version, facts of the machine, the
objects, the keys of the storages) followed by the storages, each with its length in front. Both are
mapped, and tensors are views on the storages where they lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import SourceError
from ..spec.dtypes import NUMPY_TYPES
from ..util.text import join_names
from .mapped_file import MappedFile, StoredTensor
from .pickle_reader import PickleReader
from .pickle_values import PickledTensor, Placeholder, Storage, StorageType
from .zip_archive import ZipArchive

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# A description of tensors this long would be of some ten million of them.
_LONGEST_PICKLE = 1 << 30
_LENGTH = struct.Struct("<q")
_QUANTIZED_BYTES = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}

# First byte and end of a storage in the file.
Locate = Callable[[Storage], tuple[int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a PyTorch file holds: plain data with tensors described in it, and how to find those in
    the file.
    """

    file: MappedFile
    content: Any = field(repr=False)
    foreign: tuple[str, ...]
    locate: Locate = field(repr=False)
    big_endian: bool = False

    def stored(self, tensor: PickledTensor) -> StoredTensor:
        """Where a described tensor lies in the file; SourceError when its storage is not there."""
        first, end = self.locate(tensor.storage)
        item_size = NUMPY_TYPES[tensor.dtype].itemsize if tensor.dtype in NUMPY_TYPES else 1
        return StoredTensor(self.file, tensor.dtype, tensor.shape, tensor.strides,
                            first + tensor.offset * item_size, first, end, self.big_endian,
                            tensor.conjugate, tensor.negative, tensor.kind)


def open_torch_zip(archive: ZipArchive) -> Checkpoint:
    """A file of PyTorch 1.6 or later. SourceError for TorchScript and for zip files of other
    programs.
    """
    file = archive.file
    root = _root_folder(archive)
    if f"{root}/constants.pkl" in archive.members or any(
            name.startswith(f"{root}/code/") for name in archive.members):
        raise SourceError(
            f"{file.path}: is a TorchScript archive, which holds a program; load it with "
            "torch.jit.load and pass the "
            "module or its state_dict()")
    big_endian = _is_big_endian(archive, root)

    def locate(storage: Storage) -> tuple[int, int]:
        name = f"{root}/data/{storage.key}"
        if name not in archive.members:
            raise SourceError(
                f"{file.path}: storage {storage.key!r} is missing; the file is damaged")
        first, end = archive.span(name)
        if _byte_count(storage) > end - first:
            raise SourceError(
                f"{file.path}: storage {storage.key!r} has {end - first} bytes, expected "
                f"{_byte_count(storage)}; the file is damaged")
        return first, first + _byte_count(storage)

    pickle_first, pickle_end = archive.span(f"{root}/data.pkl")
    _check_pickle_size(file, pickle_end - pickle_first)
    reader = PickleReader(bytes(file.data[pickle_first:pickle_end]), str(file.path), _zip_storage)
    content, _ = reader.load()
    return Checkpoint(file, content, tuple(reader.foreign), locate, big_endian)


def _root_folder(archive: ZipArchive) -> str:
    """The one folder at the top of the archive that holds data.pkl."""
    roots = [
        name.removesuffix("/data.pkl")
        for name in archive.members if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if len(roots) == 1:
        return roots[0]
    if any(name in archive.members for name in ("model.weights.h5", "config.json")):
        raise SourceError(f"{archive.file.path}: is a Keras file, expected PyTorch weights")
    raise SourceError(
        f"{archive.file.path}: a zip file that torch.save did not write (no data.pkl in it, but "
        f"{join_names(archive.members, 4, empty='nothing')}); "
        "unpack it if the checkpoint is inside")


def _is_big_endian(archive: ZipArchive, root: str) -> bool:
    name = f"{root}/byteorder"
    if name not in archive.members:
        return False
    first, end = archive.span(name)
    order = bytes(archive.file.data[first:min(end, first + 16)])
    if order not in (b"little", b"big"):
        raise SourceError(
            f"{archive.file.path}: byte order {order!r} is unknown; the file is damaged")
    return order == b"big"


def _zip_storage(reference: Any) -> Storage:
    match reference:
        case ("storage", StorageType() as kind, str() as key, str() as location, int() as
              count) if count >= 0:
            return Storage(key, kind.dtype, count, location)
    raise SourceError("a storage is described wrongly")


def _byte_count(storage: Storage) -> int:
    if storage.dtype is None:
        return storage.count
    if storage.dtype in NUMPY_TYPES:
        return storage.count * NUMPY_TYPES[storage.dtype].itemsize
    return storage.count * _QUANTIZED_BYTES.get(storage.dtype, 1)


def _check_pickle_size(file: MappedFile, size: int) -> None:
    if size > _LONGEST_PICKLE:
        raise SourceError(
            f"{file.path}: the description of the objects takes {size} bytes, expected at most "
            f"{_LONGEST_PICKLE}")


def open_legacy_file(file: MappedFile) -> Checkpoint:
    """A file of PyTorch before 1.6 (or saved with the old format), or a plain pickle of NumPy
    arrays.
    """
    storages: dict[str, Storage] = {}
    reader = PickleReader(file.data, str(file.path),
                          lambda reference: _legacy_storage(reference, storages))
    content, position = reader.load()
    spans: dict[str, tuple[int, int]] = {}
    if content == _LEGACY_MAGIC:
        version, position = reader.load(position)
        if version != _LEGACY_PROTOCOL:
            raise SourceError(
                f"{file.path}: version {str(version)[:20]} of the old PyTorch format is unknown")
        _, position = reader.load(position)
        content, position = reader.load(position)
        keys, position = reader.load(position)
        spans = _legacy_spans(file, keys, storages, position)
    elif isinstance(content, int):
        raise SourceError(f"{file.path}: is not a PyTorch file (wrong magic number)")

    def locate(storage: Storage) -> tuple[int, int]:
        root = storage.root or storage
        if root.key not in spans:
            raise SourceError(f"{file.path}: storage {root.key!r} is missing; the file is damaged")
        first, end = spans[root.key]
        item_size = NUMPY_TYPES[storage.dtype].itemsize if storage.dtype in NUMPY_TYPES else 1
        first += storage.offset * item_size
        if first + _byte_count(storage) > end:
            raise SourceError(
                f"{file.path}: storage {storage.key!r} does not fit in the one it views; the "
                "file is damaged")
        return first, first + _byte_count(storage)

    return Checkpoint(file, content, tuple(reader.foreign), locate)


def _legacy_storage(reference: Any, storages: dict[str, Storage]) -> Any:
    match reference:
        case ("module", module_class, *_):
            return module_class
        case ("storage", StorageType() as kind, (str() | int()) as key, str() as location, int() as
              count, view) if (count >= 0):
            root = storages.setdefault(str(key), Storage(str(key), kind.dtype, count, location))
            if view is None:
                return root
            match view:
                case (view_key, int() as offset, int() as
                      view_count) if offset >= 0 and view_count >= 0:
                    return Storage(str(view_key), kind.dtype, view_count, location, root, offset)
    raise SourceError("a storage is described wrongly")


def _legacy_spans(file: MappedFile, keys: Any, storages: dict[str, Storage],
                  position: int) -> dict[str, tuple[int, int]]:
    """Where each storage lies: they follow each other in the order of `keys`."""
    spans: dict[str, tuple[int, int]] = {}
    if not isinstance(keys, list):
        raise SourceError(f"{file.path}: the list of storages is damaged")
    for key in map(str, keys):
        storage = storages.get(key)
        if storage is None or key in spans:
            raise SourceError(
                f"{file.path}: storage {key[:40]!r} belongs to no tensor, or is there twice; the "
                "file is damaged")
        if position + _LENGTH.size > file.size:
            raise SourceError(f"{file.path}: cut short before storage {key!r}; download it again")
        (count,) = _LENGTH.unpack_from(file.data, position)
        position += _LENGTH.size
        if count != storage.count:
            raise SourceError(
                f"{file.path}: storage {key!r} has {count} elements, expected {storage.count}; "
                "the file is damaged")
        if position + _byte_count(storage) > file.size:
            raise SourceError(f"{file.path}: cut short in storage {key!r}; download it again")
        spans[key] = (position, position + _byte_count(storage))
        position += _byte_count(storage)
    return spans


def check_is_mapping(checkpoint: Checkpoint) -> dict[Any, Any]:
    """The content as a dictionary; SourceError says what else it is and what to do."""
    content, path = checkpoint.content, checkpoint.file.path
    if isinstance(content, dict):
        return content
    if isinstance(content, Placeholder):
        raise whole_object_error(path, content)
    if isinstance(content, PickledTensor):
        raise SourceError(f"{path}: holds a single tensor without a name, expected a state dict")
    raise SourceError(
        f"{path}: holds a {type(content).__name__}, expected a state dict (names to tensors)")


def whole_object_error(where: object, value: Placeholder) -> SourceError:
    """The error for a pickled module or other object where weights are expected."""
    return SourceError(
        f"{where}: holds a whole object of class {value.name}, whose code is not run here; load "
        "it with PyTorch where its "
        "code is installed, and pass the module or its state_dict()")
