"""A file mapped into memory for reading, and strided views on the values in it."""

from __future__ import annotations

import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Union

import numpy as np
import numpy.typing as npt

from ..errors import ConversionError, SourceError
from ..spec.dtypes import NUMPY_TYPES, native
from ..spec.source import SourceTensor
from ..util.mapped_memory import MappedMemory, in_memory
from ..util.text import shorten
from .pickle_values import short
from .remote import RemoteBytes, RemotePath, is_address

FilePath = Union[Path, RemotePath]

_SIGNED = ("float64", "float32", "float16", "bfloat16", "complex64", "complex128")
# A view may repeat the elements of its storage (stride 0): beyond this many bytes it is taken for a
# bomb.
_MOST_REPEATED_BYTES = 1 << 26

# What damaged contents can make Python and NumPy raise, beside what the readers look for.
FOREIGN_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
                  RuntimeError, MemoryError, EOFError, struct.error, zlib.error)


def located(path: Any) -> FilePath:
    """Return where a path or an address leads. Raises SourceError for what fsspec does not know."""
    if isinstance(path, RemotePath):
        return path
    text = os.fsdecode(path)
    return RemotePath.of(text) if is_address(text) else Path(text)


def local(path: FilePath) -> Path | None:
    """Return the path of a file on this machine."""
    return path if isinstance(path, Path) else None


@contextmanager
def reading(path: FilePath) -> Iterator[None]:
    """Turn what a damaged PyTorch file at `path` makes Python and NumPy raise into a SourceError.
    """
    try:
        yield
    except ConversionError:
        raise
    except FOREIGN_ERRORS as error:
        raise SourceError(f"{path}: the file is damaged: {type(error).__name__}: "
                          f"{shorten(str(error), 200)}") from error


@dataclass(frozen=True, slots=True, eq=False)
class MappedFile:
    """A regular, non-empty file, mapped read-only, or a remote one; arrays made of `data` keep the
    mapping alive.
    """

    path: FilePath
    data: MappedMemory | RemoteBytes = field(repr=False)
    size: int

    def damaged(self, fault: str) -> SourceError:
        """Return the error for something in the file that makes no sense."""
        return SourceError(f"{self.path}: {fault}; the file is damaged")

    @classmethod
    def open(cls, path: FilePath) -> MappedFile:
        """Map a file. Raises SourceError unless it is a regular file with something in it."""
        if isinstance(path, RemotePath):
            data = path.open()
            if not len(data):
                raise SourceError(f"{path}: the file is empty; download or copy it again")
            return cls(path, data, len(data))
        try:
            # A named pipe would block in open(), so the kind is looked at first.
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise SourceError(
                    f"{path} is a directory, expected a file; name the checkpoint file inside it")
            if not stat.S_ISREG(mode):
                raise SourceError(f"{path} is not a regular file")
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if size == 0:
                    raise SourceError(f"{path}: the file is empty; download or copy it again")
                return cls(path, MappedMemory.of(file.fileno(), str(path)), size)
        except FileNotFoundError as error:
            raise SourceError(f"{path}: there is no such file") from error
        except (OSError, ValueError) as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{path}: cannot be opened: {error}") from error


@dataclass(slots=True, eq=False)
class StoredTensor:
    """Where the values of one tensor lie in a file.

    `shape` and `strides` count elements, `start` bytes of the file. `first` and `end` bound the
    storage that the tensor may read, in bytes.
    """

    file: MappedFile = field(repr=False)
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    first: int
    end: int
    big_endian: bool = False
    conjugate: bool = False
    negative: bool = False
    kind: Literal["parameter", "buffer", "unknown"] = "unknown"

    def __post_init__(self) -> None:
        # The step along an axis of one element is arbitrary, and must not tell tied tensors apart.
        self.strides = tuple([
            step if extent > 1 else 0 for extent, step in zip(self.shape, self.strides, strict=True)
        ])

    def source_tensor(self, name: str) -> SourceTensor:
        """Return the tensor under its name, checked against its storage; nothing is read yet."""
        fault = self._fault()
        if fault:
            raise SourceError(f"{self.file.path}: tensor {short(name)}: {fault}")
        identity = (self.file, self.start, self.strides, self.dtype, self.conjugate, self.negative)
        return SourceTensor(name, self.shape, self.dtype, partial(_values, self), identity,
                            self.kind, expect=partial(self.file.data.expect, *self.span()))

    def span(self) -> tuple[int, int]:
        """Return first byte and end of what is read; meaningless when nothing is."""
        reach = sum(
            [(extent - 1) * step for extent, step in zip(self.shape, self.strides, strict=True)])
        return self.start, self.start + (reach + 1) * NUMPY_TYPES[self.dtype].itemsize

    def _fault(self) -> str | None:
        """Return what is wrong with the description, None when it fits the storage."""
        if self.dtype not in NUMPY_TYPES:
            return f"type {self.dtype} cannot be read; convert the tensor to float32 with PyTorch"
        if ((self.negative and self.dtype not in _SIGNED)
                or (self.conjugate and not self.dtype.startswith("complex"))):
            return f"type {self.dtype} cannot be negated or conjugated; the file is damaged"
        size = math.prod(self.shape)
        item_size = NUMPY_TYPES[self.dtype].itemsize
        needed = self.span()[1] - self.first
        available = self.end - self.first
        if size and (self.start < self.first or needed > available):
            return (f"shape {self.shape} needs {needed} bytes of a storage of {available}; the "
                    "file is damaged")
        if size * item_size > max(available, _MOST_REPEATED_BYTES):
            return f"shape {self.shape} repeats a storage of {available} bytes too often"
        return None


def _values(stored: StoredTensor) -> npt.NDArray[Any]:
    """Return a read-only view of the mapping, or an array where values must be computed."""
    dtype = NUMPY_TYPES[stored.dtype]
    if stored.big_endian:
        dtype = dtype.newbyteorder(">")
    if 0 in stored.shape:
        array = np.empty(stored.shape, dtype)
    else:
        strides = tuple(stride * dtype.itemsize for stride in stored.strides)
        buffer, start = stored.file.data.window(*stored.span())
        array = np.ndarray(stored.shape, dtype, buffer=buffer, offset=start, strides=strides)
    if stored.big_endian or stored.conjugate or stored.negative:
        array = native(in_memory(array))
    if stored.conjugate:
        array = np.conjugate(array)
    if stored.negative:
        # bfloat16 comes as its bits, of which the first is the sign.
        array = array ^ np.uint16(0x8000) if stored.dtype == "bfloat16" else np.negative(array)
    array = np.asarray(array)
    array.flags.writeable = False
    return array


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of an array of this shape in C order."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
