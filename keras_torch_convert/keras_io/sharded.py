"""Keras 3's sharded weights: an index, model.weights.json, and files model_....weights.h5 that each
hold some of the arrays.

Keras opens shard 0 before it looks into the index, so that file always has this name; here it is an
empty HDF5 file. The others carry the beginning of their sha256 in their names: a new set never
touches the files of an old one, and the index, renamed last, is the switch.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py

from ..errors import SaveError
from ..spec.file_layout import FileLayout
from ..util.atomic_file import AtomicFile, write_atomically
from .hdf5_header import byte_size
from .verify_written import Values
from .weights_file import index_base, shard_names
from .write_from_layout import WritingOptions, WrittenFile, write_arrays

GIGABYTE = 1024**3  # Keras's own unit for max_shard_size
_NAME_DIGITS = 16


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """One finished shard: its name, size in bytes, sha256, and the groups whose arrays it holds."""

    name: str
    size: int
    sha256: str
    groups: tuple[str, ...]


def shards_of(file: FileLayout, max_shard_size: float) -> tuple[FileLayout, ...]:
    """The file cut into files of at most `max_shard_size` GB of values each, in order. Raises
    SaveError when one array is larger.
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


def write_shard(file: FileLayout, number: int, values: Mapping[str, Values], path: Path,
                options: WritingOptions) -> WrittenShard:
    """Write shard `number` (from 0) of the set with the index `path`, under a name that tells its
    contents. Errors as in `write_file`.
    """
    with AtomicFile(path, durable=options.durable) as new:
        written = write_arrays(new, file, None, values, replace(options, digests=("sha256",)))
        digest = written.digests["sha256"]
        name = f"{index_base(path)}_{number + 1:05}_{digest[:_NAME_DIGITS]}.weights.h5"
        new.commit(name)
    groups = tuple(dict.fromkeys(array.path.rpartition("/")[0] for array in file.arrays))
    return WrittenShard(name, written.size, digest, groups)


def write_index(path: Path, shards: Sequence[WrittenShard], digests: Sequence[str]) -> WrittenFile:
    """Write the index, which makes the shards the set of this name, and remove what an older set
    had of its own. The digests are the index's.
    """
    weight_map: dict[str, Any] = {}
    for shard in shards:
        for group in shard.groups:
            weight_map.setdefault(group, []).append(shard.name)
    content = {
        "metadata": {
            "total_size": sum(shard.size for shard in shards),
            "sha256": {shard.name: shard.sha256 for shard in shards}
        }, "weight_map": {
            group: names[0] if len(names) == 1 else names for group, names in weight_map.items()
        }
    }
    data = json.dumps(content, indent=4, sort_keys=True).encode("utf-8")
    first, old = path.with_name(f"{index_base(path)}_00000.weights.h5"), shard_names(path)
    if not first.exists():
        _write_empty(first)
    write_atomically(path, data)
    # Only now: until the index was renamed it told of these.
    if first.name in old:
        _write_empty(first)
    for name in set(old) - {shard.name for shard in shards} - {first.name}:
        path.with_name(name).unlink(missing_ok=True)
    remove_unlisted(path)
    found = {name: hashlib.new(name, data, usedforsecurity=False).hexdigest() for name in digests}
    return WrittenFile(path, content["metadata"]["total_size"] + len(data), found)


def write_sharded(file: FileLayout, max_shard_size: float, values: Mapping[str, Values], path: Path,
                  options: WritingOptions) -> WrittenFile:
    """Write all shards and the index `path`. On any error, an interrupt included, an old set is as
    it was and nothing of the new one is left.
    """
    shards: list[WrittenShard] = []
    try:
        for number, part in enumerate(shards_of(file, max_shard_size)):
            shards.append(write_shard(part, number, values, path, options))
        return write_index(path, shards, options.digests)
    except BaseException:
        remove_unlisted(path)
        raise


def remove_unlisted(path: Path) -> None:
    """Remove shards with names of ours that the index `path` does not list, such as those of a
    writer that was killed.
    """
    name = re.compile(
        rf"{re.escape(index_base(path))}_[0-9]{{5}}_[0-9a-f]{{{_NAME_DIGITS}}}\.weights\.h5")
    listed = shard_names(path)
    for found in path.resolve().parent.iterdir():
        if name.fullmatch(found.name) and found.name not in listed:
            found.unlink(missing_ok=True)


def _write_empty(path: Path) -> None:
    content = io.BytesIO()
    with h5py.File(content, "w"):
        pass
    write_atomically(path, content.getvalue())
