"""A Keras file written from its layout and from values that are asked for one by one: no Keras, no
model in memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import SaveError
from ..spec.file_layout import ArchiveMember, FileLayout, TargetLayout
from ..util.atomic_file import temporary_path
from ..util.hash_workers import HashWorkers
from ..util.values_at_offsets import ValueStream, reserve, write_all
from .archive import ArchiveFrame, archive_frame
from .hdf5_header import Hdf5Header, make_hdf5_header
from .keras_save import check_path, flush_folder
from .verify_written import Values, compare_with_values
from .weights_file import is_legacy, suffix_of


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that has its name; `digests` by algorithm, `size` in bytes."""

    path: Path
    size: int
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WritingOptions:
    """How a file is written: `verify` reads it back, `digests` are names that hashlib knows,
    `durable` flushes it, `written` gets numbers of bytes.
    """

    verify: bool = True
    digests: tuple[str, ...] = ("md5", "sha256")
    durable: bool = True
    written: Callable[[int], None] = lambda count: None


def file_layout(layout: TargetLayout, path: Path) -> FileLayout:
    """The layout of the HDF5 file (or of all shards together) for the suffix of `path`. Raises
    SaveError when there is none.
    """
    found = layout.legacy if is_legacy(path) else layout.weights
    if found is None or (path.suffix == ".keras" and not layout.members):
        raise SaveError(
            f"how a file like {path.name} looks is not known: neither the plan nor the template "
            "has it, or Keras cannot save this model so")
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
    with written_aside(arrays, members, values, path, options) as aside:
        return aside.commit(path)


@dataclass(frozen=True, slots=True)
class AtomicFile:
    """A finished file under its temporary name."""

    temporary: Path
    digests: Mapping[str, str]
    durable: bool

    def commit(self, path: Path) -> WrittenFile:
        """Give the file its name in the same folder, in one step; an existing one is replaced and
        leaves its mode.

        A symbolic link keeps pointing where it did: the file behind it is the one replaced.
        """
        destination = path.resolve()
        size = self.temporary.stat().st_size
        if destination.exists():
            shutil.copymode(destination, self.temporary)
        os.replace(self.temporary, destination)
        if self.durable:
            flush_folder(destination.parent)
        return WrittenFile(path, size, self.digests)


@contextmanager
def written_aside(arrays: FileLayout, members: tuple[ArchiveMember, ...] | None,
                  values: Mapping[str, Values], path: Path, options: WritingOptions,
                  compare: Callable[[Path], None] | None = None) -> Iterator[AtomicFile]:
    """A file with these arrays (with `members`: in an archive) beside `path`, which is gone after
    the block unless it took a name. Errors as in `write_file`.

    `compare` reads it back in place of `compare_with_values`. The check sums are computed
    meanwhile.
    """
    skeleton = make_hdf5_header(arrays)
    frame = None if members is None else archive_frame(members, skeleton.size)
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in options.digests}
    temporary = temporary_path(path)
    try:
        with temporary.open("xb", buffering=0) as file:
            updates = [one.update for one in hashes.values()]
            with _written(file, temporary, skeleton, frame, values, updates, options.written):
                if options.durable:
                    os.fsync(file.fileno())
                if compare is not None:
                    compare(temporary)
                elif options.verify:
                    compare_with_values(temporary, arrays, values)
        yield AtomicFile(temporary, {name: one.hexdigest() for name, one in hashes.items()},
                         options.durable)
    except OSError as error:
        raise error if isinstance(
            error, SaveError) else SaveError(f"cannot save to {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _written(file: IO[bytes], path: Path, skeleton: Hdf5Header, frame: ArchiveFrame | None,
             values: Mapping[str, Values], updates: Sequence[Callable[[memoryview], object]],
             written: Callable[[int], None]) -> Iterator[None]:
    """Write the whole file; while inside, the check sums are still being computed."""
    descriptor = file.fileno()
    if frame is None:
        reserve(descriptor, skeleton.size)
        with HashWorkers(path, 0, skeleton.size, updates) as followers:
            _write_pieces(descriptor, skeleton, 0, values, followers.advance, written)
            followers.advance(skeleton.size)
            yield
        return
    start, end = frame.weights_start, frame.weights_start + skeleton.size
    tail = frame.after(0)
    reserve(descriptor, end + len(tail))
    write_all(descriptor, frame.before, 0)
    crc = _Crc()
    with HashWorkers(path, start, end, [crc.update]) as followers:
        _write_pieces(descriptor, skeleton, start, values, followers.advance, written)
    write_all(descriptor, crc.value.to_bytes(4, "little"), frame.crc_position)
    write_all(descriptor, frame.after(crc.value), end)
    # The check sum stands before the values it is of, so hashes can only begin when it is known.
    with HashWorkers(path, 0, end + len(tail), updates) as followers:
        followers.advance(end + len(tail))
        yield


def _write_pieces(descriptor: int, skeleton: Hdf5Header, start: int, values: Mapping[str, Values],
                  final: Callable[[int], None], written: Callable[[int], None]) -> None:
    stream = ValueStream(descriptor, written)
    for piece in skeleton.pieces:
        if isinstance(piece.content, bytes):
            # Structure, which no progress counts.
            write_all(descriptor, piece.content, start + piece.start)
        elif not piece.content.key:
            stream.write_bytes(piece.content.values, start + piece.start)
        else:
            array = values[piece.content.key]()
            if array.nbytes != piece.size:
                raise SaveError(
                    f"{piece.content.path} takes {piece.size} bytes in the file, its values take "
                    f"{array.nbytes}")
            stream.write(array, start + piece.start)
        final(start + piece.start + piece.size)


class _Crc:
    """The check sum of a zip member."""
    def __init__(self) -> None:
        self.value = 0

    def update(self, block: memoryview) -> None:
        self.value = zlib.crc32(block, self.value)
