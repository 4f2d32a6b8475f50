"""A file mapped into memory, and how to find the mapping behind an array."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt


class MappedMemory(mmap.mmap):
    """A mapped file that knows how else its bytes are reached: by `descriptor`, open for reading,
    byte 0 being at `address` in memory.

    Reading is faster than touching a mapping page by page, and the pages count as nobody's memory.
    """

    descriptor: int
    address: int

    @classmethod
    def of(cls, descriptor: int) -> MappedMemory:
        """Map an open file for reading."""
        mapping = cls(descriptor, 0, access=mmap.ACCESS_READ)
        mapping.descriptor = os.dup(descriptor)
        mapping.address = np.frombuffer(mapping, np.uint8).ctypes.data
        return mapping

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


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
