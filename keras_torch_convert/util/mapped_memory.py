"""A file mapped into memory, and how to find the mapping behind an array."""

from __future__ import annotations

import mmap
import os
from bisect import bisect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError


class MappedMemory(mmap.mmap):
    """A mapped file that knows how else its bytes are reached.

    Small arrays are read faster than a mapping is touched page by page, and the pages of large ones
    are given back, so that they count as nobody's memory.

    Attributes:
        path: The name of the file, for messages.
        descriptor: The file, open for reading.
        address: Where byte 0 is in memory.
    """

    path: str
    descriptor: int
    address: int

    @classmethod
    def of(cls, descriptor: int, path: str) -> MappedMemory:
        """Map an open file for reading."""
        mapping = cls(descriptor, 0, access=mmap.ACCESS_READ)
        mapping.path = path
        mapping.descriptor = os.dup(descriptor)
        mapping.address = np.frombuffer(mapping, np.uint8).ctypes.data
        return mapping

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)

    def window(self, first: int, end: int) -> tuple[MappedMemory, int]:
        """Return memory with these bytes of the file in it, and where they begin there."""
        return self, first

    def whole(self) -> MappedMemory:
        """Return all bytes."""
        return self

    def expect(self, first: int, end: int) -> None:
        """Note that these bytes will be read, which changes nothing here."""

    def check_size(self, cause: BaseException | None = None) -> None:
        """Raise SourceError when the file is shorter than it was when it was mapped."""
        size = os.fstat(self.descriptor).st_size
        if size < len(self):
            raise SourceError(
                f"{self.path}: the file was cut while it was read: it had {len(self)} "
                f"bytes, now it has {size}") from cause

    def give_back(self, array: npt.NDArray[Any]) -> None:
        """Let the system have the pages in which the elements of an array lie; nothing is lost."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.madvise(mmap.MADV_DONTNEED, *self._span(array))

    def read_ahead(self, array: npt.NDArray[Any]) -> None:
        """Have the system read the elements of an array in the order of the file."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, *self._span(array), os.POSIX_FADV_WILLNEED)

    def _span(self, array: npt.NDArray[Any]) -> tuple[int, int]:
        """Return the first byte of the pages in which an array lies, and how many bytes."""
        steps = [
            (length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True)
        ]
        first = array.ctypes.data - self.address
        start = (first + sum(step for step in steps if step < 0)) & -mmap.PAGESIZE
        return start, first + sum(step for step in steps if step > 0) + array.itemsize - start


def mapping_of(array: npt.NDArray[Any]) -> MappedMemory | None:
    """The mapped file in which the elements of an array lie, None when they lie elsewhere."""
    base: Any = array
    # What NumPy puts between a strided view and its array has a `base` too, but is no array.
    while not isinstance(base,
                         (MappedMemory, memoryview)) and getattr(base, "base", None) is not None:
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, MappedMemory) else None


def lie_in_files(arrays: Iterable[npt.NDArray[Any]]) -> bool:
    """Return whether an array lies in a mapped file, which others may cut, or may do so: whoever
    mapped it, and also where the system does not tell.
    """
    try:
        lines = Path("/proc/self/maps").read_bytes().splitlines()
    except OSError:
        return True
    # Ascending; an inode other than 0 is a file's.
    ranges = [[int(end, 16) for end in fields[0].split(b"-")]
              for fields in map(bytes.split, lines) if fields[4] != b"0"]
    starts = [start for start, _ in ranges]
    for array in arrays:
        address = array.__array_interface__["data"][0]
        index = bisect(starts, address) - 1
        if index >= 0 and address < ranges[index][1]:
            return True
    return False


@contextmanager
def cuts_noticed(*arrays: npt.NDArray[Any]) -> Iterator[None]:
    """Raise SourceError in place of OSError when a file in which arrays lie was cut meanwhile.

    The kernels of `_core` end with OSError then; NumPy's own reading would end the process.
    """
    mappings = [mapping for mapping in map(mapping_of, arrays) if mapping is not None]
    for mapping in mappings:
        mapping.check_size()
    try:
        yield
    except OSError as error:
        for mapping in mappings:
            mapping.check_size(error)
        raise
