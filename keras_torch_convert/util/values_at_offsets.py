"""Values into a file at known offsets, through one small reused buffer.

A fresh page costs more than the copy, so no array of a tensor's size is made: an array is read,
permuted, widened and written part by part (csrc/stream).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from .mapped_memory import MappedMemory, cuts_noticed, in_memory, mapping_of

# Room for a part of a large array, and for some of it in a wider type.
BUFFER_BYTES = 9 * 2**20
# Arrays from this size on are read straight from their mapping, whose pages are given back.
LARGE_BYTES = 2**20
# Larger arrays whose axes move go through memory of this size: the parts of a mapping that their
# order of axes jumps through would all count as memory of this process.
STAGED_BYTES = 64 * 2**20
# So much of a mapping is read before its pages are given back.
_SLAB_BYTES = 32 * 2**20
# What the checksum of a file has its size multiplied by: no simple fraction of 2^64.
_ODD = 0x9E3779B97F4A7C15
# What `Widened` may hold.
HALVES = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Widened:
    """Half-precision values that a file holds as float32.

    Attributes:
        values: float16, or the bits of bfloat16 as uint16.
        dtype: "float16" or "bfloat16".
    """

    values: npt.NDArray[Any]
    dtype: str

    @property
    def nbytes(self) -> int:
        """The number of bytes as float32."""
        return 4 * self.values.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        with cuts_noticed(self.values):
            return np.asarray(_core.cast(self.values, self.dtype, "float32")[0], dtype)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Values that are computed piece by piece when they are wanted.

    Attributes:
        nbytes: The bytes of all.
        make: Gives the pieces, which follow each other in C order.
    """

    nbytes: int
    make: Callable[[], Iterator[npt.NDArray[Any]]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(np.concatenate([piece.ravel() for piece in self.make()]), dtype)


# What a stream takes.
Streamed = npt.NDArray[Any] | Widened | Pieces


def write_all(descriptor: int, data: Any, offset: int) -> None:
    """Write bytes at an offset, however many calls the system needs."""
    view = memoryview(data).cast("B")
    while view:
        written = _write_at(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _pwrite(descriptor: int, view: memoryview, offset: int) -> int:
    return os.pwrite(descriptor, view, offset)


def _seek_and_write(descriptor: int, view: memoryview, offset: int) -> int:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, view)


_write_at = _pwrite if hasattr(os, "pwrite") else _seek_and_write


def reserve(descriptor: int, size: int) -> None:
    """Give the file its size, with its blocks where the file system can: writing is faster and a
    full disk is known before any work.
    """
    os.ftruncate(descriptor, size)
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            # Some file systems cannot; a full disk is another matter.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


class ValueStream:
    """Strided arrays and one file that holds their values in C order."""
    def __init__(self, descriptor: int, written: Callable[[int], None] | None = None) -> None:
        """Take an open file.

        Args:
            descriptor: The file, open for what is asked of it.
            written: Gets the number of bytes after each part.
        """
        self.descriptor = descriptor
        self.written = written
        self.buffer: Any = np.empty(BUFFER_BYTES, np.uint8)

    def write(self, values: Streamed, offset: int, summed: bool = False) -> int:
        """Write all values, in C order, from `offset` on.

        Returns the checksum of what was written, 0 unless it is to be `summed`. Raises SourceError
        when the file that the values are read from is cut meanwhile.
        """
        sums = (one for piece, start in _pieces(values, offset)
                for one in self._stream(_core.write_values, piece, start, summed))
        return int(sum(sums) % 2**64)

    def holds(self, values: Streamed, offset: int) -> bool:
        """Return whether just these bits stand in the file from `offset` on. Raises as `write`."""
        return all(one for piece, start in _pieces(values, offset)
                   for one in self._stream(_core.holds_values, piece, start))

    def checksum(self, offset: int, size: int) -> int:
        """Return the checksum of `size` bytes of the file from `offset` on, as `write` gives it."""
        # In steps, between which an interrupt is noticed.
        sums = (_core.checksum_of_file((self.descriptor, offset + start),
                                       min(_SLAB_BYTES, size - start), self.buffer)
                for start in range(0, size, _SLAB_BYTES))
        return sum(sums) % 2**64

    def _stream(self, function: Callable[..., Any], values: npt.NDArray[Any] | Widened, offset: int,
                *more: bool) -> Iterator[Any]:
        widened = None
        if isinstance(values, Widened):
            values, widened = values.values, values.dtype
        mapping = mapping_of(values)
        if mapping is not None and values.nbytes > STAGED_BYTES and not values.flags.c_contiguous:
            mapping.read_ahead(values)
            for start, part in _staged(values, mapping):
                target = self.descriptor, offset + start * (2 if widened else 1)
                yield function(part, None, target, self.buffer, self.written, widened, *more)
            return
        origin = None if mapping is None else (mapping.descriptor, mapping.address)
        with cuts_noticed(values):
            try:
                yield function(values, origin, (self.descriptor, offset), self.buffer, self.written,
                               widened, *more)
            finally:
                if mapping is not None and values.nbytes >= LARGE_BYTES:
                    mapping.give_back(values)

    def write_bytes(self, data: bytes, offset: int) -> None:
        """Write bytes as they are."""
        write_all(self.descriptor, data, offset)
        if self.written is not None:
            self.written(len(data))


def checksum_of(path: Path) -> str:
    """Return the checksum of a whole file, which guards against accidents, as text."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        return checksum_text(ValueStream(file.fileno()).checksum(0, size), size)


def checksum_text(checksum: int, size: int) -> str:
    """Return the checksum of a file's bytes, to which zeros at its end add nothing, and its size as
    one text.
    """
    return f"{(checksum + size * _ODD) % 2**64:016x}"


def _staged(values: npt.NDArray[Any],
            mapping: MappedMemory) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield an array of a mapping in parts in C order, in memory that is used again, each with the
    number of bytes before it.
    """
    row = values.nbytes // len(values)
    if row > STAGED_BYTES:
        for index, inner in enumerate(values):
            yield from ((index * row + start, part) for start, part in _staged(inner, mapping))
        return
    count = STAGED_BYTES // row
    room = np.empty((count, *values.shape[1:]), values.dtype)
    slowest = int(np.argmax(np.abs(values.strides)))
    slab = max(1, _SLAB_BYTES // max(1, abs(values.strides[slowest])))
    for start in range(0, len(values), count):
        source = np.moveaxis(values[start:start + count], slowest, 0)
        part = room[:len(values) - start]
        target = np.moveaxis(part, slowest, 0)
        for first in range(0, len(source), slab):
            with cuts_noticed(values):
                _core.copy_strided(source[first:first + slab], target[first:first + slab])
            mapping.give_back(source[first:first + slab])
        yield start * row, part


def _pieces(values: Streamed, offset: int) -> Iterator[tuple[npt.NDArray[Any] | Widened, int]]:
    for piece in values.make() if isinstance(values, Pieces) else (values,):
        yield piece, offset
        offset += piece.nbytes


def same_bits(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    """Return whether two arrays have one shape and the same bits, NaN payloads and zeros included.
    """
    first, second = in_memory(np.asarray(first)), in_memory(np.asarray(second))
    if first.shape != second.shape or first.dtype.itemsize != second.dtype.itemsize:
        return False
    return bool(np.array_equal(_bits(first), _bits(second)))


def _bits(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    width = array.dtype.itemsize
    return np.ascontiguousarray(array).reshape(-1).view(f"u{width}" if width in
                                                        {1, 2, 4, 8} else np.uint8)
