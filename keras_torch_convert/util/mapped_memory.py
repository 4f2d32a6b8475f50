"""A file mapped into memory, and how to find the mapping behind an array.

Somebody may cut a file while it is mapped: whoever touches a page that is gone is ended by a
signal. Only the kernels of `_core` touch pages, under their guard; all else reads the file.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import SourceError

# What is read at once where a few bytes are wanted.
_BLOCK = 1 << 16


class MappedMemory(mmap.mmap):
    """A mapped file that knows how else its bytes are reached.

    Small arrays are read faster than a mapping is touched page by page, and the pages of large ones
    are given back, so that they count as nobody's memory. `[]` and `find` read the file too.

    Attributes:
        path: The name of the file, for messages.
        descriptor: The file, open for reading.
        address: Where byte 0 is in memory.
    """

    path: str
    descriptor: int
    address: int
    _block: tuple[int, bytes] = 0, b""

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

    @overload  # type: ignore[override]
    def __getitem__(self, index: int, /) -> int:
        ...

    @overload
    def __getitem__(self, index: slice, /) -> bytes:
        ...

    def __getitem__(self, index: int | slice, /) -> int | bytes:
        if not hasattr(os, "pread"):  # there a file cannot be cut while it is mapped
            return super().__getitem__(index)
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return self._read(start, stop)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._read(index, index + 1)[0]

    def find(self, wanted: bytes, start: int = 0) -> int:  # type: ignore[override]
        """Return the first position from `start` on where these bytes stand, -1 for none."""
        for position in range(start, len(self), _BLOCK):
            found = self[position:position + _BLOCK + len(wanted) - 1].find(wanted)
            if found >= 0:
                return position + found
        return -1

    def _read(self, start: int, stop: int) -> bytes:
        first, block = self._block
        if not first <= start <= stop <= first + len(block):
            first, block = start, self._from_file(start, max(stop, start + _BLOCK))
            if stop - start <= _BLOCK:
                self._block = first, block
        return block[start - first:stop - first]

    def _from_file(self, start: int, stop: int) -> bytes:
        parts, stop = [], min(stop, len(self))
        while start < stop:
            part = os.pread(self.descriptor, stop - start, start)
            if not part:
                self.check_size()
                raise SourceError(f"{self.path}: cannot be read at byte {start}")
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

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


def in_memory(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array that anybody may read: itself, or a read-only copy of one in a mapped file.

    Raises SourceError when the file was cut.
    """
    if mapping_of(array) is None:
        return array
    copy = np.empty(array.shape, array.dtype)
    is_complex = array.dtype.kind == "c"
    parts = [(array.real, copy.real), (array.imag, copy.imag)] if is_complex else [(array, copy)]
    with cuts_noticed(array):
        for values, target in parts:
            _core.copy_strided(values, target)
    copy.flags.writeable = False
    return copy


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
