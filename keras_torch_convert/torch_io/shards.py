"""Checkpoints in several files, listed by an index (`model.safetensors.index.json`: {"weight_map":
{name: file}}).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..spec.source import Source, SourceTensor
from ..util.text import join_names
from .mapped_file import MappedFile
from .state_dict import named_source

# Some million names; the reference implementation has the same limit for its own headers.
_LARGEST_INDEX = 100_000_000


def read_index(file: MappedFile, read_file: Callable[[Path], Source]) -> Source:
    """The tensors of all shards, in the order of the files and, within each, in its own."""
    path = file.path
    weight_map = _weight_map(file)
    tensors: list[SourceTensor] = []
    order_lost = False
    for shard_name in dict.fromkeys(weight_map.values()):
        # A shard lies beside its index: a path would let the index read any file.
        if Path(shard_name).name != shard_name or shard_name in (".", ".."):
            raise SourceError(f"{path}: shard {shard_name[:100]!r} is not a plain file name")
        shard = read_file(path.parent / shard_name)
        order_lost = order_lost or shard.order == "sorted by name" or shard_name.endswith(
            ".safetensors")
        by_full_name = {shard.prefix + name: tensor for name, tensor in shard.items()}
        wanted = {name for name, place in weight_map.items() if place == shard_name}
        if wanted != by_full_name.keys():
            differing = join_names(sorted(wanted ^ by_full_name.keys()), 4)
            raise SourceError(f"{path}: index and shard {shard_name!r} disagree about {differing}")
        tensors.extend(replace(tensor, name=name) for name, tensor in by_full_name.items())
    if order_lost:
        tensors.sort(key=lambda tensor: tensor.name)
    source = named_source(tensors, origin=str(path), sorted_format=order_lost)
    return replace(source, path=path)


def _weight_map(file: MappedFile) -> Mapping[str, str]:
    if file.size > _LARGEST_INDEX:
        raise SourceError(
            f"{file.path}: {file.size} bytes of JSON, expected at most {_LARGEST_INDEX}; not an "
            "index of shards?")
    try:
        content: Any = json.loads(bytes(file.data[:]).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file.path}: no valid JSON ({str(error)[:200]})") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if (not isinstance(weight_map, dict) or not weight_map
            or not all(isinstance(name, str) for name in weight_map.values())):
        raise SourceError(
            f"{file.path}: a JSON file without a weight_map from names to shard files; name the "
            "checkpoint itself")
    return weight_map
