"""A folder as a source: which of its files hold the weights, and what the others say about them.

Names of files are those of transformers, diffusers and PEFT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SourceError
from ..util.text import MOST_LINES, join_names, shorten
from .mapped_file import FilePath, MappedFile

_STEMS = ("model", "diffusion_pytorch_model", "adapter_model", "pytorch_model")
_INDEX = ".index.json"
# In order of preference.
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".npz")
_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)(\.\w+)")
_LARGEST_CONFIG = 10_000_000
_DEEPEST = 3


def weights_in(folder: FilePath) -> list[FilePath]:
    """Return the file with a folder's weights, its index of shards, or all shards without one.

    Raises SourceError when there are none, several, or not all shards.
    """
    entries: list[FilePath] = list(folder.iterdir())
    names = sorted(path.name for path in entries if path.is_file())
    for suffix in _SUFFIXES:
        known = [name for stem in _STEMS for name in (f"{stem}{suffix}", f"{stem}{suffix}{_INDEX}")
                 if name in names]  # yapf: disable
        if known:
            return [folder / known[0]]
        shards = [match for name in names
                  if (match := _SHARD.fullmatch(name)) and match[4] == suffix]  # yapf: disable
        others = [name for name in names if name.endswith((suffix, f"{suffix}{_INDEX}"))]
        indices = [name for name in others if name.endswith(_INDEX)]
        alone = indices or others
        if shards and not indices and len({(one[1], one[3]) for one in shards}) == 1:
            _check_all_shards(folder, shards)
            return [folder / one[0] for one in shards]
        if len(alone) > 1:
            found = join_names(alone, MOST_LINES, quoted=True)
            raise SourceError(f"{folder}: several files hold weights: {found}; give the path of "
                              "one")
        if alone:
            return [folder / alone[0]]
    inner = [str(path)[len(str(folder)) + 1:] for path in _folders_with_weights(folder)]
    hint = f"give one of its folders: {join_names(inner, quoted=True)}" if inner else (
        "name the checkpoint file itself")
    raise SourceError(f"{folder} is a directory without weight files; {hint}")


def _check_all_shards(folder: FilePath, shards: Sequence[re.Match[str]]) -> None:
    first, count = shards[0], int(shards[0][3])
    numbers = {int(one[2]) for one in shards}
    start = 0 if 0 in numbers else 1
    missing = [f"{first[1]}-{number:0{len(first[2])}}-of-{first[3]}{first[4]}"
               for number in range(start, start + count) if number not in numbers]  # yapf: disable
    if missing:
        raise SourceError(f"{folder}: {join_names(missing, 3, quoted=True)} of {count} shards "
                          "missing; download them")


def _folders_with_weights(folder: FilePath, depth: int = 1) -> list[FilePath]:
    found: list[FilePath] = []
    entries: list[FilePath] = list(folder.iterdir())
    for inner in sorted((path for path in entries if path.is_dir()), key=str):
        if any(path.name.endswith(_SUFFIXES[:2]) for path in inner.iterdir()):
            found.append(inner)
        elif depth < _DEEPEST:
            found += _folders_with_weights(inner, depth + 1)
    return found


def read_config(folder: FilePath, name: str = "config.json") -> Mapping[str, Any]:
    """Return a folder's configuration, {} where there is none. SourceError when it is damaged."""
    path = folder / name
    if not path.is_file():
        return {}
    file = MappedFile.open(path)
    if file.size > _LARGEST_CONFIG:
        raise SourceError(f"{path}: {file.size} bytes are too many for a configuration")
    try:
        config = json.loads(file.data[:].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON ({shorten(str(error), 200)})") from error
    return config if isinstance(config, dict) else {}


def config_note(config: Mapping[str, Any]) -> str:
    """Say which model a configuration describes, "" where it does not."""
    names = config.get("architectures")
    facts = [str(names[0])] if isinstance(names, list) and names else []
    facts += [str(config[key]) for key in ("model_type", "_class_name", "dtype", "torch_dtype")
              if isinstance(config.get(key), str)]  # yapf: disable
    return f"config.json describes {', '.join(dict.fromkeys(facts))}" if facts else ""
