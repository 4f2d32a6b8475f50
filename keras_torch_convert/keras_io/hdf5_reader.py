"""HDF5 files that somebody else made: what is in them, looked at before a value is read.

HDF5 can do more than Keras asks of it: values in other files, links into them, types whose size
shows only when they are read, chunks that unpack to any size. What Keras does not write is refused
by name, and what a file may take is bounded by its own size. Format: "HDF5 File Format
Specification 3.0", https://docs.hdfgroup.org/hdf5/v1_14/_f_m_t3.html.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil, prod
from typing import IO, Any

import h5py
import numpy as np

from ..spec.file_layout import AttributeValue, FileLayout, StoredArray, StoredAttribute, StoredGroup
from ..util.file_limits import most_unpacked
from ..util.text import shorten

# How the formats keep the state of training, which is no part of a model converted for use.
_OPTIMIZER_GROUPS = ("optimizer_weights", "optimizer")
_COMPILE_ATTRIBUTE = "training_config"
_MOST_LEVELS = 100
# HDF5 itself keeps no larger attribute in an object's header, and Keras makes no other.
_LARGEST_ATTRIBUTE = 1 << 16
_LARGEST_OPAQUE = 16
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
# Deflate makes at most 1032 bytes of one, and HDF5 unpacks a chunk whatever its size is to be.
_LARGEST_PACKED_CHUNK = 1 << 18
# Where HDF5 looks each of them up from the first one on.
_MOST_CHUNKS = 1 << 13
# Of an object's header: the messages that matter, and what no header reaches.
_CONTINUATION, _ATTRIBUTE = 0x10, 0x0C
_LARGEST_BLOCK, _MOST_BLOCKS = 1 << 24, 1 << 12
_LINKS = {
    h5py.h5l.TYPE_SOFT: "a soft link to another name",
    h5py.h5l.TYPE_EXTERNAL: "an external link into another file"
}
_TYPES = {
    h5py.h5t.COMPOUND: "compound", h5py.h5t.VLEN: "variable-length",
    h5py.h5t.REFERENCE: "reference", h5py.h5t.ARRAY: "array", h5py.h5t.TIME: "time",
    h5py.h5t.BITFIELD: "bit field"
}


class UnreadableError(Exception):
    """Something in a file that cannot be read, or is not to be; says what and what to do."""


def chunk_sizes(name: str, item: Any) -> list[int]:
    """Return the stored bytes of each chunk of a data set, which h5py's lower level has open."""
    sizes: list[int] = []
    if hasattr(item, "chunk_iter"):
        item.chunk_iter(lambda info: sizes.append(info.size))
        return sizes
    # Of h5py that was built with an HDF5 before 1.12.3.
    count = item.get_num_chunks()
    if count > _MOST_CHUNKS:
        raise UnreadableError(
            f"{name} has {count} chunks, at most {_MOST_CHUNKS} are read with HDF5 "
            f"{h5py.version.hdf5_version}; rewrite the file with `h5repack -l CONTI`")
    return [item.get_chunk_info(number).size for number in range(count)]


@dataclass(slots=True)
class Hdf5File:
    """An open HDF5 file.

    Attributes:
        file: What h5py has opened.
        data: The same bytes, from the first one on.
        size: How many these are.
        start: Where they begin in the file at a path, None when they were unpacked.
    """

    file: h5py.File
    data: IO[bytes]
    size: int
    start: int | None = 0
    room: int = 0
    heaps: dict[int, dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.room = most_unpacked(self.size)

    def open_array(self, path: str) -> Any:
        """Return the low-level data set at a path, whose values can be read.

        Raises UnreadableError for one that reaches out of the file or takes too much.
        """
        item: Any = self.file.id
        above = ""
        for name in path.strip("/").split("/"):
            above += f"/{name}"
            _check_link(above, item.links.get_info(name.encode("utf-8")).type)
            item = h5py.h5o.open(item, name.encode("utf-8"))
        self._bytes_of(path, item)
        return item

    def layout(self) -> FileLayout:
        """Return the groups and arrays, without values and without the state of training.

        Raises UnreadableError for anything in it that `open_array` refuses.
        """
        root = self.file
        kept = (name for name in root.attrs if name != _COMPILE_ATTRIBUTE)
        groups = [StoredGroup("/", tuple(self._attribute(root, name) for name in kept))]
        arrays: list[StoredArray] = []
        for path, item in self._objects(root.id, "", 0, set()):
            if isinstance(item, h5py.h5g.GroupID):
                groups.append(StoredGroup(path, self._attributes(h5py.Group(item))))
            else:
                self._take(path, self._bytes_of(path, item))
                found = h5py.Dataset(item)
                arrays.append(
                    StoredArray(path, found.shape, found.dtype.str, "", self._attributes(found)))
        return FileLayout(tuple(groups), tuple(arrays))

    def _objects(self, group: Any, above: str, level: int,
                 seen: set[int]) -> Iterator[tuple[str, Any]]:
        """Yield what is below a group, in the order of names, as h5py's `visititems` does."""
        links: list[tuple[bytes, Any]] = []
        # The list grows, and None lets h5py go on.
        group.links.iterate(lambda name, info: links.append((name, (info.type, info.u))), info=True)
        if level > _MOST_LEVELS:
            raise UnreadableError(f"{_named(above)} is more than {_MOST_LEVELS} groups deep")
        for name, (link, address) in links:
            path = f"{above}/{_text(name)}"
            if not above and _text(name) in _OPTIMIZER_GROUPS:
                continue
            _check_link(path, link)
            if address in seen:
                raise UnreadableError(f"{_named(path)} is another name of something that has one")
            seen.add(address)
            item = h5py.h5o.open(group, name)
            if not isinstance(item, (h5py.h5g.GroupID, h5py.h5d.DatasetID)):
                raise UnreadableError(f"{_named(path)} is neither a group nor a data set")
            yield path, item
            if isinstance(item, h5py.h5g.GroupID):
                yield from self._objects(item, path, level + 1, seen)

    def _take(self, what: str, count: int) -> None:
        """Count bytes that are, or will be, read for something."""
        self.room -= count
        if self.room < 0:
            raise UnreadableError(
                f"{_named(what)} takes more than the file can hold: its {self.size} bytes may "
                f"unpack to {most_unpacked(self.size)}")

    def _take_texts(self, where: str, item: Any, name: bytes) -> None:
        for length, heap, number in _text_references(self.data, item, name):
            self._take(where, length)
            if length and heap not in self.heaps:
                self.heaps[heap] = _heap_sizes(self.data, heap)
            if length and self.heaps[heap].get(number) != length:
                raise UnreadableError(f"{where} holds a text that is not in the file")

    def _bytes_of(self, path: str, item: Any) -> int:
        """Return how many bytes reading a data set takes; check first where these come from."""
        name = _named(path)
        if not isinstance(item, h5py.h5d.DatasetID):
            raise UnreadableError(f"{name} is no data set")
        # In this order: even the shape of a virtual data set is read from other files.
        plist = item.get_create_plist()
        storage = plist.get_layout()
        if plist.get_external_count():
            raise UnreadableError(f"{name} has its values in another file (external storage)")
        if storage == h5py.h5d.VIRTUAL:
            raise UnreadableError(f"{name} is a virtual data set, made of other files")
        _check_type(name, item.get_type(), variable_text=False)
        if item.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            raise UnreadableError(f"{name} has no shape")
        size = int(prod(item.shape) * item.dtype.itemsize)
        if not size:
            return 0
        if storage == h5py.h5d.CHUNKED:
            return self._bytes_of_chunks(name, item, plist)
        if storage == h5py.h5d.CONTIGUOUS:
            offset = item.get_offset()
            if offset is None:
                raise UnreadableError(f"{name} holds no values: none were ever written")
            if offset + size > self.size or item.get_storage_size() != size:
                raise UnreadableError(f"{name} takes {size} bytes from byte {offset} on, the file "
                                      f"has {self.size}; it is cut short or damaged")
        return size

    def _bytes_of_chunks(self, name: str, item: Any, plist: Any) -> int:
        for number in range(plist.get_nfilters()):
            code, _, _, text = plist.get_filter(number)
            if code not in _FILTERS or not h5py.h5z.filter_avail(code):
                raise UnreadableError(
                    f"{name} is packed by filter {code} ({shorten(repr(text), 40)}), which is not "
                    "read here; unpack the file with `h5repack -f NONE old.h5 new.h5`")
        chunk = plist.get_chunk()
        expected = prod(ceil(extent / step) for extent, step in zip(item.shape, chunk, strict=True))
        size = int(expected * prod(chunk) * item.dtype.itemsize)
        if size > self.room:
            return size
        stored = chunk_sizes(name, item)
        if len(stored) != expected:
            raise UnreadableError(f"{name} lacks {expected - len(stored)} of its {expected} chunks")
        if plist.get_nfilters() and max(stored) > _LARGEST_PACKED_CHUNK:
            raise UnreadableError(
                f"{name} is packed in chunks of up to {max(stored)} bytes, at most "
                f"{_LARGEST_PACKED_CHUNK} are read; unpack the file with `h5repack -f NONE old.h5 "
                "new.h5`")
        return size

    def _attributes(self, item: Any) -> tuple[StoredAttribute, ...]:
        return tuple(self._attribute(item, name) for name in item.attrs)

    def _attribute(self, item: Any, name: str) -> StoredAttribute:
        where = f"{_named(item.name)}: attribute {_named(name)}"
        identity = item.attrs.get_id(name)
        stored_type = identity.get_type()
        _check_type(where, stored_type, variable_text=True)
        space = identity.get_space()
        if space.get_simple_extent_type() == h5py.h5s.NULL or space.get_simple_extent_ndims() > 1:
            raise UnreadableError(f"{where} is no single value and no list")
        count = space.get_simple_extent_npoints()
        size = count * stored_type.get_size()
        if size > _LARGEST_ATTRIBUTE:
            raise UnreadableError(f"{where} takes {size} bytes, at most {_LARGEST_ATTRIBUTE} are "
                                  "read")
        if stored_type.get_class() == h5py.h5t.STRING and stored_type.is_variable_str():
            if count:
                self._take_texts(where, item.id, name.encode("utf-8"))
            value = item.attrs[name]
            return StoredAttribute(
                name, "text",
                as_text(value) if identity.shape == () else tuple(map(as_text, value)))
        self._take(where, size)
        return StoredAttribute(name, identity.dtype.str, _plain(item.attrs[name]))


def _check_link(path: str, link: int) -> None:
    if link != h5py.h5l.TYPE_HARD:
        raise UnreadableError(f"{_named(path)} is {_LINKS.get(link, 'a link of an unknown kind')}; "
                              "Keras's files have none")


def _check_type(name: str, stored_type: Any, *, variable_text: bool) -> None:
    """Refuse a type whose values are no plain numbers or texts; complex numbers are plain."""
    number = stored_type.get_class()
    fault = _TYPES.get(number, "")
    if number == h5py.h5t.COMPOUND and stored_type.get_nmembers() == 2:
        fault = "" if stored_type.dtype.kind == "c" else fault
    if number == h5py.h5t.STRING and stored_type.is_variable_str() and not variable_text:
        fault = "variable-length text"
    if number == h5py.h5t.OPAQUE and stored_type.get_size() > _LARGEST_OPAQUE:
        fault = f"opaque {stored_type.get_size()}-byte"
    if fault or (number == h5py.h5t.OPAQUE and stored_type.dtype.kind != "V"):
        raise UnreadableError(f"{name} is of a type that holds no plain numbers "
                              f"({fault or 'opaque'})")


def _plain(value: Any) -> AttributeValue:
    array = np.asarray(value)
    items = [
        as_text(item) if isinstance(item, bytes) else item for item in array.reshape(-1).tolist()
    ]
    return tuple(items) if array.ndim else items[0]


def as_text(value: Any) -> str:
    """Return a text of a file, which h5py gives as bytes or as str."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _text(name: bytes) -> str:
    return name.decode("utf-8")


def _named(name: str) -> str:
    return shorten(name if name.isprintable() else repr(name), 120)


def _text_references(data: IO[bytes], item: Any, name: bytes) -> list[tuple[int, int, int]]:
    """Return length, heap and number in the heap of each text of an attribute.

    Any number of them may be one and the same text, and HDF5 reads all at once: so they are looked
    up in the object's header. Raises UnreadableError for another form than Keras's files have.
    """
    address = h5py.h5o.get_info(item).addr
    version, size = struct.unpack("<B7xI4x", _read(data, address, 16))
    blocks = [(address + 16, size)]
    found: list[tuple[int, int, int]] = []
    for start, size in blocks if version == 1 else ():
        block, position = _read(data, start, size), 0
        while position + 8 <= len(block):
            kind, length = struct.unpack_from("<2H", block, position)
            body = block[position + 8:position + 8 + length]
            position += 8 + length
            if kind == _CONTINUATION and len(blocks) < _MOST_BLOCKS:
                blocks.append(struct.unpack_from("<2Q", body))
            elif kind == _ATTRIBUTE:
                found += _references_in(body, name)
    if not found:
        raise UnreadableError(f"attribute {name!r:.80} is kept as no Keras keeps it; save the file "
                              "again with Keras")
    return found


def _references_in(body: bytes, name: bytes) -> list[tuple[int, int, int]]:
    """Return the references in an attribute message, [] when it has another name."""
    sizes = list(struct.unpack_from("<3H", body, 2))
    start = 9 if body[0] == 3 else 8
    if body[start:start + sizes[0]].split(b"\0")[0] != name:
        return []
    if body[0] == 1:
        sizes = [-(-size // 8) * 8 for size in sizes]
    texts = body[start + sum(sizes):]
    return list(struct.iter_unpack("<IQI", texts[:len(texts) // 16 * 16]))


def _heap_sizes(data: IO[bytes], address: int) -> dict[int, int]:
    """Return the sizes of the objects in a global heap by their numbers.

    HDF5 looks for the next object for ever where the size of free space is 0.
    """
    magic, size = struct.unpack("<8sQ", _read(data, address, 16))
    sizes: dict[int, int] = {}
    position = 16
    while position + 16 <= size:
        number, length = struct.unpack("<H6xQ", _read(data, address + position, 16))
        step = 16 + -(-length // 8) * 8 if number else length
        if step < 16 or step > size - position:
            break
        sizes[number] = length
        position += step
    if magic != b"GCOL\1\0\0\0" or position + 16 <= size:
        raise UnreadableError(f"the texts in the heap at byte {address} are damaged")
    return sizes


def _read(data: IO[bytes], start: int, size: int) -> bytes:
    data.seek(start)
    found = data.read(size) if size <= _LARGEST_BLOCK else b""
    if len(found) < size:
        raise UnreadableError(f"the {size} bytes from byte {start} on are not in the file")
    return found
