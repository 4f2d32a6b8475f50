"""Values into a file at known offsets, through one small reused buffer.

A fresh page costs more than the copy, so no array of a tensor's size is made: an array is read,
permuted and written part by part (csrc/stream).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from .mapped_memory import mapping_of

# Room for the largest kernels of common nets, read whole, and for a part of them in the order of
# the target.
BUFFER_BYTES = 12 * 2**20


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
    """Strided arrays and one file that holds their values in C order; `written` is told the number
    of bytes after each part.
    """
    def __init__(self, descriptor: int, written: Callable[[int], None] | None = None) -> None:
        """`descriptor` is open for what is asked of it; the buffer is made once, and as large as
        what goes through it.
        """
        self.descriptor = descriptor
        self.written = written
        self.buffer = np.empty(BUFFER_BYTES, np.uint8)

    def write(self, values: npt.NDArray[Any], offset: int) -> None:
        """Write all values, in C order, from `offset` on."""
        _core.write_values(values, _origin(values), (self.descriptor, offset), self.buffer,
                           self.written)

    def holds(self, values: npt.NDArray[Any], offset: int) -> bool:
        """Whether just these bits stand in the file from `offset` on."""
        return _core.holds_values(values, _origin(values), (self.descriptor, offset), self.buffer,
                                  self.written)

    def write_bytes(self, data: bytes, offset: int) -> None:
        """Write bytes as they are."""
        write_all(self.descriptor, data, offset)
        if self.written is not None:
            self.written(len(data))


def same_bits(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    """Return whether two arrays have one shape and the same bits, NaN payloads and zeros included.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.dtype.itemsize != second.dtype.itemsize:
        return False
    return bool(np.array_equal(_bits(first), _bits(second)))


def _bits(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    width = array.dtype.itemsize
    return np.ascontiguousarray(array).reshape(-1).view(f"u{width}" if width in
                                                        {1, 2, 4, 8} else np.uint8)


def _origin(values: npt.NDArray[Any]) -> tuple[int, int] | None:
    """From which file, and mapped to which address, the values are read; None when they lie in
    memory.
    """
    mapping = mapping_of(values)
    return None if mapping is None else (mapping.descriptor, mapping.address)
