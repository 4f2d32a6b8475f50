"""Reading the PyTorch side: modules, state dicts and files become one thing, a Source.

Files are mapped, never loaded whole, and no code in them is ever run; neither PyTorch nor
safetensors is needed for them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..spec.source import Order, Source, SourceTensor
from .file_kind import file_kind
from .live_tensor import is_torch_module
from .mapped_file import MappedFile
from .module import read_module
from .npz import is_npz, open_npz
from .pth import open_legacy_file, open_torch_zip
from .safetensors import open_safetensors
from .shards import read_index
from .state_dict import named_source, read_checkpoint, read_state_dict
from .zip_archive import open_zip

__all__ = ["Order", "Source", "SourceTensor", "read"]


def read(source: Any, *, wrapper: str | None = None) -> Source:
    """Named tensors, in order and read lazily, from a PyTorch module, a state dict or a file.

    `source` is a torch.nn.Module, a mapping of names to tensors, arrays or numbers (possibly
    wrapped, as in {"state_dict": ...}), or a path to a .pt, .pth, .bin, .ckpt, .tar, .safetensors,
    .safetensors.index.json or .npz file, told apart by content. `wrapper` chooses the part of a
    checkpoint that holds the weights ("model_ema"); by default model, state_dict, module, net and
    the like are tried in this order, and moving averages are taken only when there is nothing else.
    The prefixes "module." and "_orig_mod." are cut when all names carry them. Whatever was chosen
    is told in the result's `wrapper`, `prefix` and `notes`. Nothing is changed, the module's mode
    included.

    A mapped file must stay as it is while arrays read from it are in use.

    Raises SourceError when there are no weights to read, and UnsafeFileError when the pickle in a
    file names something that only an attack would, or a weight needs foreign code; nothing is run
    in either case.
    """
    if isinstance(source, Source) and wrapper is None:
        return source
    if is_torch_module(source):
        _check_no_wrapper(wrapper, f"module {type(source).__name__}")
        return read_module(source)
    if isinstance(source, Mapping):
        return read_state_dict(source, wrapper)
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(os.fsdecode(source)), wrapper)
    raise SourceError(
        f"cannot read weights from a {type(source).__name__}, expected a torch module, a state "
        "dict, or the path of a file")


def _read_file(path: Path, wrapper: str | None) -> Source:
    if str(path).startswith(("http:/", "https:/")):
        raise SourceError(f"{path}: is an address on the web; download the file and give its path")
    file = MappedFile.open(path)
    kind = file_kind(file)
    if kind == "pickle":
        return read_checkpoint(open_legacy_file(file), wrapper)
    if kind == "zip":
        archive = open_zip(file)
        if not is_npz(archive):
            return read_checkpoint(open_torch_zip(archive), wrapper)
        tensors = open_npz(archive)
    elif kind == "safetensors":
        tensors = open_safetensors(file)
    else:
        _check_no_wrapper(wrapper, str(path))
        return read_index(file, lambda shard: _read_file(shard, None))
    _check_no_wrapper(wrapper, str(path))
    if not tensors:
        raise SourceError(f"{path}: no tensors in it")
    found = named_source(list(tensors.values()), origin=str(path),
                         sorted_format=kind == "safetensors")
    return replace(found, path=path)


def _check_no_wrapper(wrapper: str | None, where: str) -> None:
    if wrapper is not None:
        raise SourceError(
            f"{where}: no weights under wrapper {wrapper!r}; this source has no wrappers, leave "
            "wrapper out")
