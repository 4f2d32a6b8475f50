"""A .keras file: a zip archive of stored members, its dates pinned, the weights as its last member.

Where every member lies is known before a value is written; only the check sum of the weights is
patched in afterward. Format: PKWARE's APPNOTE 6.3, with the 64-bit fields only where a size or an
offset needs them.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from ..spec.file_layout import ArchiveMember
from .weights_file import WEIGHTS_IN_ARCHIVE

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_MOST_32 = 0xFFFFFFFF
_MIDNIGHT = 0
_FIRST_OF_1980 = 1 << 5 | 1
_UTF_8 = 1 << 11


@dataclass(frozen=True, slots=True)
class _Member:
    name: bytes
    start: int
    size: int
    crc: int

    def local_header(self) -> bytes:
        large = self.size >= _MOST_32
        extra = struct.pack("<2H2Q", 1, 16, self.size, self.size) if large else b""
        return _LOCAL.pack(b"PK\3\4", *self._shared_fields(large, extra)) + self.name + extra

    def central_header(self) -> bytes:
        large = self.size >= _MOST_32 or self.start >= _MOST_32
        extra = struct.pack("<2H3Q", 1, 24, self.size, self.size, self.start) if large else b""
        start = _MOST_32 if large else self.start
        version, *fields = self._shared_fields(large, extra)
        # Made by Unix, a regular file that its owner may write.
        made_by = 3 << 8 | version
        return _CENTRAL.pack(b"PK\1\2", made_by, version, *fields, 0, 0, 0, 0o100644 << 16,
                             start) + self.name + extra

    def _shared_fields(self, large: bool, extra: bytes) -> tuple[int, ...]:
        """What both headers say, in one order: the version that reads it, flags, method, date,
        check sum, sizes and lengths.
        """
        size = _MOST_32 if large else self.size
        return (45 if large else 20, _UTF_8, 0, _MIDNIGHT, _FIRST_OF_1980, self.crc, size, size,
                len(self.name), len(extra))


@dataclass(frozen=True, slots=True)
class ArchiveFrame:
    """What stands around the weights: `before` them from byte 0 on, and behind them what `after`
    gives.
    """

    before: bytes
    members: tuple[_Member, ...]
    weights_start: int
    weights_size: int

    @property
    def crc_position(self) -> int:
        """Where the check sum of the weights goes in their local header: four bytes, little-endian.
        """
        return self.members[-1].start + 14

    def after(self, crc: int) -> bytes:
        """The directory, once the weights' check sum is known; its length does not depend on that.
        """
        last = self.members[-1]
        members = (*self.members[:-1], _Member(last.name, last.start, last.size, crc))
        directory = b"".join(member.central_header() for member in members)
        start = self.weights_start + self.weights_size
        large = start >= _MOST_32 or any(member.size >= _MOST_32 for member in members)
        ends = b""
        if large:
            fields = (44, 45, 45, 0, 0, len(members), len(members), len(directory), start)
            ends = _END_64.pack(b"PK\6\6", *fields) + _LOCATOR_64.pack(
                b"PK\6\7", 0, start + len(directory), 1)
        count = len(members)
        ends += _END.pack(b"PK\5\6", 0, 0, count, count, len(directory),
                          _MOST_32 if large else start, 0)
        return directory + ends


def archive_frame(texts: tuple[ArchiveMember, ...], weights_size: int) -> ArchiveFrame:
    """Lay out an archive of these texts and of weights that take `weights_size` bytes."""
    before = b""
    members = []
    for text in texts:
        content = text.text.encode("utf-8")
        member = _Member(text.name.encode("utf-8"), len(before), len(content), zlib.crc32(content))
        before += member.local_header() + content
        members.append(member)
    weights = _Member(WEIGHTS_IN_ARCHIVE.encode(), len(before), weights_size, 0)
    before += weights.local_header()
    return ArchiveFrame(before, (*members, weights), len(before), weights_size)
