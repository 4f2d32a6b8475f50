"""Keras 3's sharded weights: an index, model.weights.json, and files model_....weights.h5 that each
hold some of the arrays.

Keras opens shard 0 before it looks into the index, so that file always has this name; here it is an
empty HDF5 file. The names of the others hold the id of their run, a hash of its contents: a new set
never touches the files of another, and the index, renamed last, is the switch. Writers of one set
may run side by side: the switch happens under a lock, and only the shards that the replaced index
listed are removed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py

from ..errors import SaveError
from ..spec.file_layout import FileLayout
from ..util.atomic_file import AtomicFile, write_atomically
from ..util.file_limits import read_text
from ..util.file_lock import file_lock
from ..util.interrupts import deferred_sigint
from .hdf5_header import byte_size
from .verify_written import Values
from .weights_file import index_base, is_shard_of, shard_names
from .write_from_layout import WritingOptions, WrittenFile, write_arrays

GIGABYTE = 1024**3  # Keras's own unit for max_shard_size
_NAME_DIGITS = 16


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """One finished shard: its name, size in bytes, our checksum, the groups whose arrays it holds,
    and the digests that were asked for.
    """

    name: str
    size: int
    checksum: str
    groups: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict)


def shards_of(file: FileLayout, max_shard_size: float) -> tuple[FileLayout, ...]:
    """Cut a file into files of at most `max_shard_size` GB of values each, in order.

    Raises SaveError when one array is larger.
    """
    most = max_shard_size * GIGABYTE
    if not most > 0:
        raise SaveError(f"max_shard_size is in GB and must be positive, got {max_shard_size}")
    parts: list[list[Any]] = [[]]
    size = 0
    for array in file.arrays:
        if byte_size(array) > most:
            raise SaveError(f"{array.path} takes {byte_size(array) / GIGABYTE:.3g} GB, more than "
                            f"max_shard_size={max_shard_size:g}")
        size += byte_size(array)
        if size > most and parts[-1]:
            parts.append([])
            size = byte_size(array)
        parts[-1].append(array)
    return tuple(_shard(file, arrays) for arrays in parts)


def _shard(file: FileLayout, arrays: Sequence[Any]) -> FileLayout:
    needed = {"/"} | {above for array in arrays for above in _above(array.path)}
    return FileLayout(tuple(group for group in file.groups if group.path in needed), tuple(arrays))


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts))]


def write_sharded(file: FileLayout, max_shard_size: float, values: Mapping[str, Values], path: Path,
                  options: WritingOptions) -> WrittenFile:
    """Write all shards and the index `path`.

    On any error, an interrupt included, an old set is as it was and nothing of the new one is left.
    """
    with ExitStack() as stack:
        shards: list[tuple[AtomicFile, FileLayout, WrittenFile]] = []
        for part in shards_of(file, max_shard_size):
            new = stack.enter_context(AtomicFile(path, durable=options.durable))
            shards.append((new, part, _write_part(new, part, values, options)))
            new.prepare()
        checksums = "".join(written.checksum for _, _, written in shards)
        run = hashlib.sha256(checksums.encode()).hexdigest()
        finished = [
            _finished(_shard_name(path, number, run), part, written)
            for number, (_, part, written) in enumerate(shards)
        ]
        with _switching(path, finished):
            try:
                for (new, _, _), shard in zip(shards, finished, strict=True):
                    new.commit(shard.name)
                return _switch(path, finished, options.file_digests)
            except BaseException:
                _remove(path, {shard.name for shard in finished} - set(shard_names(path)))
                raise


def write_shard(file: FileLayout, number: int, values: Mapping[str, Values], path: Path,
                options: WritingOptions) -> WrittenShard:
    """Write one shard of a set with the index `path`, for `write_index` to come.

    Args:
        file: What the shard holds.
        number: Its number, from 0.
        values: The values by key.
        path: The index.
        options: As for `write_file`; errors, too, are as there.
    """
    with AtomicFile(path, durable=options.durable) as new:
        written = _write_part(new, file, values, options)
        shard = _finished(_shard_name(path, number, written.checksum), file, written)
        new.commit(shard.name)
    return shard


def write_index(path: Path, shards: Sequence[WrittenShard], digests: Sequence[str]) -> WrittenFile:
    """Write the index, which makes the shards the set of this name, and remove an older set's.

    The digests are the index's. Raises SaveError when a shard is gone.
    """
    with _switching(path, shards):
        for shard in shards:
            if not path.with_name(shard.name).is_file():
                raise SaveError(f"cannot save to {path}: another writer removed the shard "
                                f"{shard.name}; write it again")
        return _switch(path, shards, digests)


def _write_part(new: AtomicFile, part: FileLayout, values: Mapping[str, Values],
                options: WritingOptions) -> WrittenFile:
    return write_arrays(new, part, None, values,
                        replace(options, digests=options.digests or (), checksum=True))


def _shard_name(path: Path, number: int, identity: str) -> str:
    return f"{index_base(path)}_{number + 1:05}_{identity[:_NAME_DIGITS]}.weights.h5"


def _finished(name: str, part: FileLayout, written: WrittenFile) -> WrittenShard:
    groups = tuple(dict.fromkeys(array.path.rpartition("/")[0] for array in part.arrays))
    return WrittenShard(name, written.size, written.checksum, groups, written.digests)


@contextmanager
def _switching(path: Path, shards: Sequence[WrittenShard]) -> Iterator[None]:
    """Hold the lock of a set while another one takes its place.

    A file tells meanwhile which shards come and go: of a writer that is killed here the next one
    removes those that the index does not list.
    """
    pending = path.with_name(f".{path.name}.pending")
    with file_lock(path), deferred_sigint():
        if pending.exists():
            names = read_text(pending, SaveError, "names of shards").splitlines()
            _remove(path,
                    {name for name in names if is_shard_of(path, name)} - set(shard_names(path)))
        pending.write_text("\n".join({*(shard.name for shard in shards), *shard_names(path)}
                                     - {_first(path).name}))
        try:
            yield
        finally:
            pending.unlink()


def _first(path: Path) -> Path:
    return path.with_name(f"{index_base(path)}_00000.weights.h5")


def _switch(path: Path, shards: Sequence[WrittenShard], digests: Sequence[str]) -> WrittenFile:
    """Write the index over the old one, then remove what only that one listed."""
    weight_map: dict[str, Any] = {}
    for shard in shards:
        for group in shard.groups:
            weight_map.setdefault(group, []).append(shard.name)
    stated = {"checksum": {shard.name: shard.checksum for shard in shards}}
    for name in shards[0].digests:
        stated[name] = {shard.name: shard.digests[name] for shard in shards}
    content: dict[str, Any] = {
        "metadata": {"total_size": sum(shard.size for shard in shards), **stated}, "weight_map": {
            group: names[0] if len(names) == 1 else names for group, names in weight_map.items()
        }
    }
    data = json.dumps(content, indent=4, sort_keys=True).encode("utf-8")
    first, old = _first(path), shard_names(path)
    with ExitStack() as stack:
        if not first.exists():
            _write_empty(first)
            stack.callback(first.unlink)
        write_atomically(path, data)
        stack.pop_all()
    # Only now: until the index was renamed it told of these.
    if first.name in old:
        _write_empty(first)
    _remove(path, set(old) - {shard.name for shard in shards} - {first.name})
    found = {name: hashlib.new(name, data, usedforsecurity=False).hexdigest() for name in digests}
    return WrittenFile(path, content["metadata"]["total_size"] + len(data), found)


def remove_unlisted(path: Path) -> None:
    """Remove shards with names of ours that the index `path` does not list.

    Only for callers who know that nobody writes the set now.
    """
    name = re.compile(
        rf"{re.escape(index_base(path))}_[0-9]{{5}}_[0-9a-f]{{{_NAME_DIGITS}}}\.weights\.h5")
    found = {entry.name for entry in path.resolve().parent.iterdir() if name.fullmatch(entry.name)}
    _remove(path, found - set(shard_names(path)))


def _remove(path: Path, names: Iterable[str]) -> None:
    for name in names:
        path.with_name(name).unlink(missing_ok=True)


def _write_empty(path: Path) -> None:
    content = io.BytesIO()
    with h5py.File(content, "w"):
        pass
    write_atomically(path, content.getvalue())
