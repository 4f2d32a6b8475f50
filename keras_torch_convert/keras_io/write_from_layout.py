"""A Keras file written from its layout and from values that are asked for one by one: no Keras, no
model in memory.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .. import _core
from ..errors import SaveError
from ..spec.file_layout import ArchiveMember, FileLayout, StoredArray, TargetLayout
from ..util.atomic_file import AtomicFile
from ..util.hash_workers import Digests, HashWorkers
from ..util.values_at_offsets import ValueStream, checksum_text, reserve, write_all
from .archive import ArchiveFrame, archive_frame
from .hdf5_header import Hdf5Header, make_hdf5_header
from .keras_save import check_path
from .verify_written import Values, compare_with_checksums
from .weights_file import is_legacy, suffix_of

# The disk begins to work while the rest is written.
_FLUSHED_TOGETHER = 8 * 2**20


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written and compared.

    Attributes:
        path: The file, as the caller named it.
        size: Its size in bytes.
        digests: Checksums in hexadecimal by algorithm.
        notes: Sentences for the report.
        checksum: Our own, of a whole HDF5 file, where it was asked for.
    """

    path: Path
    size: int
    digests: Mapping[str, str]
    notes: tuple[str, ...] = ()
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class WritingOptions:
    """How a file is written: `verify` reads it back, `digests` are names that hashlib knows (None
    for md5 and sha256, but none of shards), `durable` flushes it, `written` gets numbers of bytes,
    `checksum` asks for our own.
    """

    verify: bool = True
    digests: tuple[str, ...] | None = None
    durable: bool = True
    written: Callable[[int], None] = lambda count: None
    checksum: bool = False

    @property
    def file_digests(self) -> tuple[str, ...]:
        """The digests of one file, or of an index of shards."""
        return ("md5", "sha256") if self.digests is None else self.digests


def file_layout(layout: TargetLayout, path: Path) -> FileLayout:
    """The layout of the HDF5 file (or of all shards together) for the suffix of `path`. Raises
    SaveError when there is none.
    """
    found = layout.legacy if is_legacy(path) else layout.weights
    if found is None or (path.suffix == ".keras" and not layout.members):
        raise SaveError(
            f"how a file like {path.name} looks is not known: neither the plan nor the template "
            "has it, or Keras cannot save this model so; without a model a family knows "
            ".weights.h5 and .weights.json alone: others hold its configuration, so give template=")
    return found


def write_file(layout: TargetLayout, values: Mapping[str, Values], path: Path,
               options: WritingOptions) -> WrittenFile:
    """Write the file under a temporary name in the same folder, compare it with the values, and
    give it its name.

    `values` has an entry for every place of the layout. On any error, an interrupt included,
    nothing is left behind and an existing file is as it was. Raises SaveError for what cannot be
    written, and when what was written reads back different.
    """
    check_path(path)
    arrays = file_layout(layout, path)
    members = layout.members if suffix_of(path) == ".keras" else None
    with AtomicFile(path, durable=options.durable) as new:
        written = write_arrays(new, arrays, members, values, options)
        new.commit()
    return written


def write_arrays(new: AtomicFile, arrays: FileLayout, members: tuple[ArchiveMember, ...] | None,
                 values: Mapping[str, Values], options: WritingOptions,
                 compare: Callable[[Path], None] | None = None) -> WrittenFile:
    """Write these arrays, with `members` into an archive, under the temporary name of a new file.

    `compare` reads the file back in place of `compare_with_checksums`; the digests are computed
    meanwhile. Raises SaveError as `write_file` does.
    """
    header = make_hdf5_header(arrays)
    frame = None if members is None else archive_frame(members, header.size)
    digests = Digests(options.file_digests)
    with new.open() as file:
        with _written(file, new.temporary, header, frame, values, digests.updates,
                      options) as checksums:
            if compare is not None:
                compare(new.temporary)
            elif options.verify:
                compare_with_checksums(new.temporary, arrays, checksums)
            if options.durable:
                # Here and not only at the end: the checksums take as long.
                os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    checksum = checksum_text(sum(checksums.values()), size) if options.checksum else ""
    return WrittenFile(new.path, size, digests.hexdigests(), checksum=checksum)


@contextmanager
def _written(file: IO[bytes], path: Path, header: Hdf5Header, frame: ArchiveFrame | None,
             values: Mapping[str, Values], updates: Sequence[Callable[[memoryview], object]],
             options: WritingOptions) -> Iterator[dict[str, int]]:
    """Write the whole file, and give the arrays' checksums by path, with that of all else as "";
    while inside, the digests are still being computed.
    """
    descriptor = file.fileno()
    if frame is None:
        reserve(descriptor, header.size)
        with HashWorkers(path, 0, header.size, updates) as workers:
            checksums = _write_pieces(descriptor, header, 0, values, workers.advance, options)
            workers.advance(header.size)
            yield checksums
        return
    start, end = frame.weights_start, frame.weights_start + header.size
    tail = frame.after(0)
    reserve(descriptor, end + len(tail))
    write_all(descriptor, frame.before, 0)
    crc = _Crc()
    with HashWorkers(path, start, end, [crc.update]) as workers:
        checksums = _write_pieces(descriptor, header, start, values, workers.advance, options)
    write_all(descriptor, crc.value.to_bytes(4, "little"), frame.crc_position)
    write_all(descriptor, frame.after(crc.value), end)
    # The check sum stands before the values it is of, so hashes can only begin when it is known.
    with HashWorkers(path, 0, end + len(tail), updates) as workers:
        workers.advance(end + len(tail))
        yield checksums


def _write_pieces(descriptor: int, header: Hdf5Header, start: int, values: Mapping[str, Values],
                  final: Callable[[int], None], options: WritingOptions) -> dict[str, int]:
    stream = ValueStream(descriptor, options.written)
    checksums = {"": 0}
    flushed = start
    for piece in header.pieces:
        position = start + piece.start
        if isinstance(piece.content, StoredArray) and piece.content.key:
            array = values[piece.content.key]()
            if array.nbytes != piece.size:
                raise SaveError(
                    f"{piece.content.path} takes {piece.size} bytes in the file, its values take "
                    f"{array.nbytes}")
            checksums[piece.content.path] = stream.write(array, position, options.verify
                                                         or options.checksum)
        else:
            if isinstance(piece.content, bytes):
                # Structure, which no progress counts.
                write_all(descriptor, piece.content, position)
            else:
                stream.write_bytes(piece.content.values, position)
            if options.checksum:
                checksums[""] += stream.checksum(position, piece.size)
        end = position + piece.size
        final(end)
        if options.durable and (end - flushed >= _FLUSHED_TOGETHER or piece is header.pieces[-1]):
            _core.begin_flush((descriptor, flushed), end - flushed)
            flushed = end
    return checksums


class _Crc:
    """The check sum of a zip member."""
    def __init__(self) -> None:
        self.value = 0

    def update(self, block: memoryview) -> None:
        self.value = zlib.crc32(block, self.value)
