"""Values into a file at known offsets: moved into one small reused buffer, written from there.

A fresh page costs more than the copy, so no array of a tensor's size is made: the target's order is cut into slabs, each of
which is permuted into the buffer and written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core

SCRATCH_BYTES = 2**20
# Contiguous values are written from where they lie in portions of this size, so that progress and interrupts come through.
DIRECT_BYTES = 8 * 2**20
# The innermost runs of a slab are cut no shorter than a cache line's worth of rows.
ROWS_TOGETHER = 16


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
    """Give the file its size, with its blocks where the file system can: writing is faster and a full disk is known before any work."""
    os.ftruncate(descriptor, size)
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            # Some file systems cannot; a full disk is another matter.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


class ValueWriter:
    """Writes strided arrays in C order at offsets of one file; `written` is told the number of bytes after each step."""

    def __init__(self, descriptor: int, written: Callable[[int], None]) -> None:
        """`descriptor` is open for writing; the buffer is made once."""
        self.descriptor = descriptor
        self.written = written
        self.scratch = np.empty(SCRATCH_BYTES, np.uint8)

    def write(self, values: npt.NDArray[Any], offset: int) -> None:
        """Write all values, in C order, from `offset` on."""
        if values.flags.c_contiguous:
            self.write_bytes(values.reshape(-1).view(np.uint8).data, offset)
        elif values.nbytes <= SCRATCH_BYTES:
            self._write_slab(values, offset)
        else:
            self._write_slabs(values, offset)

    def write_bytes(self, data: Any, offset: int) -> None:
        """Write bytes as they are."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), DIRECT_BYTES):
            part = view[start : start + DIRECT_BYTES]
            write_all(self.descriptor, part, offset + start)
            self.written(len(part))

    def _write_slab(self, values: npt.NDArray[Any], offset: int) -> None:
        buffer = self.scratch[: values.nbytes].view(values.dtype).reshape(values.shape)
        _core.copy_strided(values, buffer)
        write_all(self.descriptor, self.scratch[: values.nbytes], offset)
        self.written(values.nbytes)

    def _write_slabs(self, values: npt.NDArray[Any], offset: int) -> None:
        if self._is_spatial(values):
            self._write_across(values, offset)
            return
        row = values[0].nbytes
        rows = SCRATCH_BYTES // row
        if rows > ROWS_TOGETHER:
            rows -= rows % ROWS_TOGETHER
        if rows == 0:
            for index in range(values.shape[0]):
                self.write(values[index], offset + index * row)
            return
        for start in range(0, values.shape[0], rows):
            self._write_slab(values[start : start + rows], offset + start * row)

    @staticmethod
    def _is_spatial(values: npt.NDArray[Any]) -> bool:
        """True for (few, rows, columns) where the few are neighbours in the source: a kernel's spatial axes in front."""
        if values.ndim != 3:
            return False
        few, rows, columns = values.shape
        fits = few * ROWS_TOGETHER * columns * values.itemsize <= SCRATCH_BYTES
        return 1 < few <= 64 and abs(values.strides[0]) < abs(values.strides[1]) and fits and rows > ROWS_TOGETHER

    def _write_across(self, values: npt.NDArray[Any], offset: int) -> None:
        """Slabs that take a few rows of every plane, so that each part of the source is read once."""
        few, rows, columns = values.shape
        row = columns * values.itemsize
        together = SCRATCH_BYTES // (few * row)
        together -= together % ROWS_TOGETHER
        for start in range(0, rows, together):
            part = values[:, start : start + together]
            buffer = self.scratch[: part.nbytes].view(values.dtype).reshape(part.shape)
            _core.copy_strided(part, buffer)
            for plane in range(few):
                write_all(self.descriptor, buffer[plane], offset + (plane * rows + start) * row)
            self.written(part.nbytes)


def merged_axes(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same elements in the same C order with as few axes as their strides allow."""
    shape: list[int] = []
    strides: list[int] = []
    for extent, stride in zip(values.shape, values.strides, strict=True):
        if extent == 1:
            continue
        if shape and strides[-1] == stride * extent:
            shape[-1], strides[-1] = shape[-1] * extent, stride
        else:
            shape.append(extent)
            strides.append(stride)
    return np.lib.stride_tricks.as_strided(values, shape, strides, writeable=False)
