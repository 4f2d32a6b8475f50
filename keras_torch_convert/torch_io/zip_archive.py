"""The members of a zip file and where their bytes lie, so that stored ones can be mapped instead of
read.

Only the directory is trusted to name members, and only as far as the local headers agree. Nothing
is unpacked here. Layout: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3 (zip64).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from ..errors import SourceError
from .mapped_file import MappedFile
from .pickle_values import short

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 0xFFFF
_FULL16 = 0xFFFF
_FULL32 = 0xFFFFFFFF
_ENCRYPTED = 0x1 | 0x40
_UTF8_NAME = 0x800
STORED = 0
DEFLATED = 8
# Deflate cannot do better than about 1032 to 1: a member that claims more lies about its size.
_HIGHEST_RATIO = 1040


@dataclass(frozen=True, slots=True)
class Member:
    """One file in the archive. `header` is the offset of its local header; sizes are in bytes."""

    name: str
    method: int
    flags: int
    packed_size: int
    size: int
    header: int
    crc: int


@dataclass(frozen=True, slots=True, eq=False)
class ZipArchive:
    """The directory of a zip file. Names are relative, without '..', and each is there once."""

    file: MappedFile
    members: dict[str, Member]
    directory: int = field(repr=False)

    def span(self, name: str) -> tuple[int, int]:
        """Return first byte and end of a member's data, which must not be compressed."""
        member = self.members[name]
        if member.method != STORED or member.packed_size != member.size:
            raise SourceError(
                f"{self.file.path}: member {short(name)} is compressed, expected it stored as "
                "torch.save does; load the file and save it again with PyTorch")
        return self.packed_span(name)

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a member, unpacked and compared with its check sum.

        Raises SourceError when it is damaged, or takes more than `most` bytes.
        """
        member, where = self.members[name], f"{self.file.path}: member {short(name)}"
        self.check_method(name)
        if member.size > most:
            raise SourceError(f"{where} takes {member.size} bytes, at most {most} are read")
        first, end = self.packed_span(name)
        data = self.file.data[first:end]
        if member.method == DEFLATED:
            # One byte more than expected would show data that the directory does not own up to.
            data = inflated(data, member.size + 1, where)
        if len(data) != member.size:
            raise SourceError(f"{where} unpacks to {len(data)} bytes, expected {member.size}; the "
                              "file is damaged")
        if zlib.crc32(data) != member.crc:
            raise SourceError(f"{where} does not fit its check sum; the file is damaged")
        return data

    def check_method(self, name: str) -> None:
        """Refuse a member that is packed in an unknown way, or to less than is possible."""
        member = self.members[name]
        if member.method not in (
                STORED, DEFLATED) or member.size > (member.packed_size + 1) * _HIGHEST_RATIO:
            raise self.file.damaged(f"member {short(name)} is stored in an unknown or impossible "
                                    "way")

    def packed_span(self, name: str) -> tuple[int, int]:
        """Return first byte and end of a member's data in the file, compressed or not."""
        member = self.members[name]
        path = self.file.path
        if member.flags & _ENCRYPTED:
            raise SourceError(f"{path}: member {short(name)} is encrypted; decrypt the file first")
        # The local header's extra field has a length of its own (PyTorch pads there to align the
        # data).
        header = self.file.data[member.header:member.header + _LOCAL.size]
        if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
            raise self.file.damaged(
                f"member {short(name)} has no local header where the directory says")
        method, name_length, extra_length = (_LOCAL.unpack(header)[index] for index in (3, 9, 10))
        start = member.header + _LOCAL.size
        local_name = self.file.data[start:start + name_length]
        if method != member.method or _decoded(local_name, member.flags) != name:
            raise self.file.damaged(f"member {short(name)} and its local header disagree")
        start += name_length + extra_length
        if start + member.packed_size > self.directory:
            raise self.file.damaged(f"member {short(name)} runs into the zip directory")
        return start, start + member.packed_size


def inflated(packed: bytes, most: int, where: str) -> bytes:
    """Return at most `most` bytes of what deflated data holds. Raises SourceError."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)
    except zlib.error as error:
        raise SourceError(f"{where}: damaged compressed data: {error}") from error


def open_zip(file: MappedFile) -> ZipArchive:
    """Read the directory of a zip file, zip64 too. SourceError says what is damaged or unsafe."""
    count, directory_size, directory = _find_directory(file)
    block = file.data[directory:directory + directory_size]
    members: dict[str, Member] = {}
    position = 0
    for _ in range(count):
        member, position = _read_entry(file, block, position)
        if member.name in members:
            raise file.damaged(f"member {short(member.name)} is there twice")
        members[member.name] = member
        file.data.expect(member.header, member.header + _LOCAL.size + len(member.name))
    if position != len(block):
        raise file.damaged(f"the zip directory holds more than its {count} members")
    return ZipArchive(file, members, directory)


def _find_directory(file: MappedFile) -> tuple[int, int, int]:
    """Return the number of members, the size of the directory in bytes, and its offset."""
    tail_start = max(0, file.size - _END.size - _LONGEST_COMMENT)
    tail = file.data[tail_start:]
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > len(tail):
        raise SourceError(
            f"{file.path}: a zip file without its directory at the end: cut short; download it "
            "again")
    end_position = tail_start + found
    _, disk, directory_disk, _, count, size, offset, _ = _END.unpack_from(tail, found)
    directory_end = end_position
    # PyTorch writes the zip64 records even when nothing needs them.
    located = _unpack(file, _END64_LOCATOR, end_position - _END64_LOCATOR.size, b"PK\x06\x07")
    if located is not None:
        end64 = _unpack(file, _END64, located[2], b"PK\x06\x06")
        if end64 is None:
            raise file.damaged("the zip64 directory is missing")
        directory_end = located[2]
        if _FULL16 in (disk, count) or _FULL32 in (size, offset):
            disk, directory_disk, _, count, size, offset = end64[4:]
    if disk or directory_disk:
        raise SourceError(
            f"{file.path} is one part of a zip file in several parts; join them first")
    if offset + size != directory_end or count * _ENTRY.size > size:
        raise file.damaged("the zip directory is not where the file says")
    return count, size, offset


def _unpack(file: MappedFile, layout: struct.Struct, position: int,
            signature: bytes) -> tuple[int, ...] | None:
    """Return the fields of a record, None when it is not there."""
    if position < 0 or position + layout.size > file.size:
        return None
    fields = layout.unpack(file.data[position:position + layout.size])
    return fields if fields[0] == signature else None


def _read_entry(file: MappedFile, block: bytes, position: int) -> tuple[Member, int]:
    """Return the member described at `position` of the directory, and the position after it."""
    if position + _ENTRY.size > len(block) or block[position:position + 4] != b"PK\x01\x02":
        raise SourceError(f"{file.path}: the zip directory is damaged")
    fields = _ENTRY.unpack_from(block, position)
    flags, method, packed_size, size = fields[3], fields[4], fields[8], fields[9]
    name_length, extra_length, comment_length, disk, header = (*fields[10:14], fields[16])
    start = position + _ENTRY.size
    end = start + name_length + extra_length + comment_length
    if end > len(block) or disk not in (0, _FULL16):
        raise SourceError(f"{file.path}: the zip directory is damaged")
    name = _decoded(block[start:start + name_length], flags)
    _check_name(file, name)
    if _FULL32 in (packed_size, size, header):
        extra = block[start + name_length:start + name_length + extra_length]
        size, packed_size, header = _zip64_sizes(file, name, extra, (size, packed_size, header))
    if header + _LOCAL.size + packed_size > file.size:
        raise file.damaged(f"member {short(name)} of {packed_size} bytes does not fit in the file")
    return Member(name, method, flags, packed_size, size, header, fields[7]), end


def _zip64_sizes(file: MappedFile, name: str, extra: bytes,
                 fields: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the fields with those that overflowed 32 bits taken from the zip64 extra field."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            values = list(
                struct.unpack_from(f"<{min(length, len(extra) - position - 4) // 8}Q", extra,
                                   position + 4))
            wide = [values.pop(0) if field == _FULL32 and values else field for field in fields]
            return wide[0], wide[1], wide[2]
        position += 4 + length
    if fields[2] == _FULL32 or fields[0] == _FULL32:
        raise file.damaged(f"member {short(name)} lacks its zip64 sizes")
    return fields


def _decoded(name: bytes, flags: int) -> str:
    return name.decode("utf-8" if flags & _UTF8_NAME else "cp437", errors="replace")


def _check_name(file: MappedFile, name: str) -> None:
    # An honest writer makes no names that would leave the folder if the archive were unpacked.
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith(
        ("/", "\\")) or ".." in parts or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise SourceError(
            f"{file.path}: unsafe member name {short(name)} in the zip file; do not trust this "
            "file")
