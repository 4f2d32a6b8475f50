"""An HDF5 file without its values: h5py makes it, and says where the values of each data set
belong.

Data sets are contiguous, allocated early and never filled, so that HDF5 writes nothing but its own
structures, a few kilobytes whatever the size of the model: the rest of the temporary file is a
hole. A file object of Python's in its place takes no disk, but is called a dozen times for each
data set, where HDF5 itself puts neighboring writes together: half as much time again. The values
are written later, at the offsets that h5py gives.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from ..errors import SaveError
from ..spec.file_layout import FileLayout, StoredArray, StoredAttribute, StoredGroup
from ..util.leftovers import remove_leftovers, temporary_path

# HDF5's own structures lie together in blocks of this size, between which values lie.
METADATA_BLOCK = 2**16
# A zoo converts many checkpoints of one architecture, one after the other: all but the first find
# their header here.
_HEADERS_KEPT = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the file, from byte `start` on: bytes that are known, or the values of one data
    set.
    """

    start: int
    size: int
    content: bytes | StoredArray


@dataclass(frozen=True, slots=True)
class Hdf5Header:
    """A whole file as pieces in the order of their offsets, without gaps or overlaps; `size` in
    bytes.
    """

    pieces: tuple[Piece, ...]
    size: int


@lru_cache(maxsize=_HEADERS_KEPT)
def make_hdf5_header(layout: FileLayout) -> Hdf5Header:
    """Build the structures of the file, once for a layout: the same layout gives the same bytes.
    Raises SaveError when h5py refuses it.
    """
    try:
        path = temporary_path(Path(tempfile.gettempdir(), "keras_torch_convert.h5"))
        remove_leftovers(path.parent)
        with _scratch_file(path) as (file, made):
            builder = _Builder(file)
            for group in layout.groups:
                builder.group(group)
            found = [(offset, array)
                     for array in layout.arrays if (offset := builder.array(array)) is not None]
            file.close()
            size = os.fstat(made.fileno()).st_size
            return Hdf5Header(tuple(_pieces(made, size, found)), size)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, SaveError):
            raise
        raise SaveError(
            f"the file's structure cannot be made: {type(error).__name__}: {error}") from error


@contextmanager
def _scratch_file(path: Path) -> Iterator[tuple[h5py.File, IO[bytes]]]:
    """A new HDF5 file, and the same file to read: it loses its name at once, where the system can
    do that, so that little is left when the process is killed.
    """
    try:
        with h5py.File(path, "x", meta_block_size=METADATA_BLOCK) as file, \
                path.open("rb", buffering=0) as made:
            if os.name == "posix":
                path.unlink()
            yield file, made
    finally:
        path.unlink(missing_ok=True)


def byte_size(array: StoredArray) -> int:
    """Bytes that the values take in the file."""
    return prod(array.shape) * np.dtype(array.dtype).itemsize


class _Builder:
    """Makes groups, attributes and data sets through h5py's lower level: its upper one takes three
    times as long.
    """
    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        self.links.set_create_intermediate_group(True)
        self.links.set_char_encoding(h5py.h5t.CSET_UTF8)
        self.creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        self.creation.set_layout(h5py.h5d.CONTIGUOUS)
        self.creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        self.creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        self.creation.set_obj_track_times(False)
        self.groups = {"/"}

    def group(self, group: StoredGroup) -> None:
        """Make a group with its attributes, and the groups above it that are not there yet."""
        path = group.path.encode("utf-8")
        made = h5py.h5g.open(self.file.id, path) if group.path in self.groups else None
        if made is None:
            made = h5py.h5g.create(self.file.id, path, self.links)
            above = group.path
            while above and above not in self.groups:
                self.groups.add(above)
                above = above.rpartition("/")[0]
        for attribute in group.attributes:
            _write_attribute(made, attribute)

    def array(self, array: StoredArray) -> int | None:
        """Make a data set; where its values belong, None when it has none."""
        space = h5py.h5s.create_simple(array.shape) if array.shape else h5py.h5s.create(
            h5py.h5s.SCALAR)
        stored_type = h5py.h5t.py_create(np.dtype(array.dtype), logical=True)
        made = h5py.h5d.create(self.file.id, array.path.encode("utf-8"), stored_type, space,
                               self.creation, self.links)
        for attribute in array.attributes:
            _write_attribute(made, attribute)
        if not byte_size(array):
            return None
        offset: int | None = made.get_offset()
        if offset is None:
            raise SaveError(f"HDF5 has not allocated {array.path}")
        return offset


def _write_attribute(item: Any, attribute: StoredAttribute) -> None:
    value: Any = attribute.value
    if attribute.dtype == "text":
        # Variable length is what h5py's upper level is good at, and what a file has few of.
        owner = h5py.Group(item) if isinstance(item, h5py.h5g.GroupID) else h5py.Dataset(item)
        owner.attrs.create(attribute.name,
                           list(value) if isinstance(value, tuple) else value,
                           dtype=h5py.string_dtype())
        return
    dtype = np.dtype(attribute.dtype)
    if dtype.kind == "S":
        value = [text.encode("utf-8") for text in value] if isinstance(
            value, tuple) else value.encode("utf-8")
    values = np.array(value, dtype)
    stored_type = h5py.h5t.py_create(dtype, logical=True)
    space = h5py.h5s.create_simple(values.shape) if values.shape else h5py.h5s.create(
        h5py.h5s.SCALAR)
    made = h5py.h5a.create(item, attribute.name.encode("utf-8"), stored_type, space)
    if values.size:
        made.write(values)


def _pieces(file: IO[bytes], size: int, arrays: list[tuple[int, StoredArray]]) -> Iterator[Piece]:
    def known(start: int, end: int) -> Piece:
        file.seek(start)
        content = file.read(end - start)
        if len(content) != end - start:
            raise SaveError(f"the file's structure cannot be read back from byte {start} on")
        return Piece(start, end - start, content)

    position = 0
    for offset, array in sorted(arrays, key=lambda entry: entry[0]):
        if offset < position or offset + byte_size(array) > size:
            raise SaveError(f"HDF5 gave {array.path} bytes that belong to others")
        if offset > position:
            yield known(position, offset)
        yield Piece(offset, byte_size(array), array)
        position = offset + byte_size(array)
    if size > position:
        yield known(position, size)
