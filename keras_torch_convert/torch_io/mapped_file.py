"""A file mapped into memory for reading, and strided views on the values in it."""

from __future__ import annotations

import math
import stat
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..spec.dtypes import NUMPY_TYPES, native
from ..spec.source import SourceTensor
from ..util.mapped_memory import MappedMemory

# NumPy 1 stops at 32 axes; no layer of a net comes near.
_MOST_AXES = 32
# A view may repeat the elements of its storage (stride 0): beyond this many bytes it is taken for a
# bomb.
_MOST_REPEATED_BYTES = 1 << 26


@dataclass(frozen=True, slots=True, eq=False)
class MappedFile:
    """A regular, non-empty file, mapped read-only. Arrays made from `data` keep the mapping alive.
    """

    path: Path
    data: MappedMemory = field(repr=False)
    size: int

    @classmethod
    def open(cls, path: Path) -> MappedFile:
        """Map the file; SourceError when it is missing, a directory, not a regular file, empty or
        unreadable.
        """
        try:
            # A named pipe would block in open(), so the kind is looked at first.
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise SourceError(
                    f"{path}: is a directory, expected a file; name the checkpoint file inside it")
            if not stat.S_ISREG(mode):
                raise SourceError(f"{path}: is not a regular file")
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if size == 0:
                    raise SourceError(f"{path}: the file is empty; download or copy it again")
                return cls(path, MappedMemory.of(file.fileno()), size)
        except FileNotFoundError as error:
            raise SourceError(f"{path}: there is no such file") from error
        except (OSError, ValueError) as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{path}: cannot be opened: {error}") from error


@dataclass(slots=True, eq=False)
class StoredTensor:
    """Where the values of one tensor lie in a file: `shape` and `strides` count elements, `start`
    bytes from its beginning.

    `first` and `end` bound the storage in the file that the tensor may read, in bytes.
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

    def source_tensor(self, name: str) -> SourceTensor:
        """The tensor under its name, checked against its storage; nothing is read yet."""
        fault = self._fault()
        if fault:
            raise SourceError(f"{self.file.path}: tensor {name!r}: {fault}")
        # The step along an axis of one element is arbitrary, and must not tell tied tensors apart.
        strides = tuple([
            step if extent > 1 else 0 for extent, step in zip(self.shape, self.strides, strict=True)
        ])
        identity = (self.file, self.start, strides, self.dtype, self.conjugate, self.negative)
        return SourceTensor(name, self.shape, self.dtype, partial(_values, self), identity,
                            self.kind)

    def _fault(self) -> str | None:
        """What is wrong with the description, None when the tensor lies within its storage."""
        if self.dtype not in NUMPY_TYPES:
            return f"type {self.dtype} cannot be read; convert the tensor to float32 with PyTorch"
        if len(self.shape) > _MOST_AXES:
            return f"{len(self.shape)} axes, expected at most {_MOST_AXES}"
        size = math.prod(self.shape)
        item_size = NUMPY_TYPES[self.dtype].itemsize
        reach = sum(
            [(extent - 1) * step for extent, step in zip(self.shape, self.strides, strict=True)])
        needed = self.start + (reach + 1) * item_size - self.first
        available = self.end - self.first
        if size and (self.start < self.first or needed > available):
            return (f"shape {self.shape} needs {needed} bytes of a storage of {available}; the "
                    "file is damaged")
        if size * item_size > max(available, _MOST_REPEATED_BYTES):
            return f"shape {self.shape} repeats a storage of {available} bytes too often"
        return None


def _values(stored: StoredTensor) -> npt.NDArray[Any]:
    """The values as a read-only view of the mapping, or as an array of their own where they must be
    computed.
    """
    dtype = NUMPY_TYPES[stored.dtype]
    if stored.big_endian:
        dtype = dtype.newbyteorder(">")
    if 0 in stored.shape:
        array = np.empty(stored.shape, dtype)
    else:
        strides = tuple(stride * dtype.itemsize for stride in stored.strides)
        array = np.ndarray(stored.shape, dtype, buffer=stored.file.data, offset=stored.start,
                           strides=strides)
    array = native(array)
    if stored.conjugate:
        array = np.conjugate(array)
    if stored.negative:
        array = np.negative(array)
    array = np.asarray(array)
    array.flags.writeable = False
    return array


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of an array of this shape in C order."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
