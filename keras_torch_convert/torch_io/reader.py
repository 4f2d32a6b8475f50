"""Reading the PyTorch side: modules, state dicts and files become one thing, a Source.

Files are mapped, never loaded whole, told apart by their content, and no code in them is ever run;
neither PyTorch nor safetensors is needed for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Union

from ..errors import SourceError
from ..spec.source import Order, Source, SourceTensor
from ..util.text import join_names, shorten
from .adapters import CONFIG, is_adapter_folder, merged
from .folder import config_note, read_config, weights_in
from .foreign import foreign_file, foreign_object, foreign_path
from .live_tensor import is_torch_module
from .mapped_file import FilePath, MappedFile, located, reading
from .module import read_module
from .named_source import named_source
from .npz import is_npz, open_npz
from .plugin_readers import read_by_plugin
from .pth import Checkpoint, open_legacy_file, open_torch_zip
from .remote import RemotePath
from .renaming import renamed
from .safetensors import looks_like_safetensors, open_safetensors
from .state_dict import read_checkpoint, read_state_dict, stored_tensors
from .wrappers import Unwrapped
from .zip_archive import open_zip

__all__ = ["Order", "Source", "SourceTensor", "read"]

FileKind = Literal["zip", "safetensors", "index", "pickle"]
AnyPath = Union[str, "os.PathLike[str]", RemotePath]
_ZIP_START = b"PK\x03\x04"
# Anything that begins like this is a pickle: protocol 2 to 5, or an opening of the text protocols.
_PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(", b"c", b"}", b"]", b"L",
                  b"I")
# Some million names; the reference implementation has the same limit for its own headers.
_LARGEST_INDEX = 100_000_000


def read(source: Any, *, wrapper: str | None = None, rename: Mapping[str, str] | None = None,
         adapter: AnyPath | None = None) -> Source:
    """Read named tensors, in order and lazily, from a PyTorch module, a state dict or a file.

    Nothing is changed, the module's mode included. A mapped file must stay as it is while arrays
    read from it are in use.

    Args:
        source: A torch.nn.Module (what torch.export gives too), a mapping of names to tensors,
            arrays or numbers (possibly wrapped, as in {"state_dict": ...}), the path of a .pt,
            .pth, .bin, .ckpt, .tar, .safetensors, .safetensors.index.json or .npz file, told apart
            by content, or of a folder with such files, or the address of one of these
            ("hf://owner/repo@revision/file"), from which only what is used is fetched.
        wrapper: The part of a checkpoint that holds the weights, such as "model_ema": a key of it,
            or the beginning of names, where several networks stand in one list. By default
            "model", "state_dict", "module", "net" and the like are tried in this order, and moving
            averages are taken only when there is nothing else.
        rename: Beginnings of names to exchange, old to new: {"backbone": ""} cuts "backbone.".
        adapter: The folder of a LoRA adapter that PEFT saved, to merge into the weights as they
            are read.

    Returns:
        The tensors by name. What wrappers add to names ("module", "_orig_mod", those of FSDP and
        activation checkpoints) is removed, in front and in the middle. What was chosen stands in
        `wrapper`, `prefix` and `notes`.

    Raises:
        SourceError: There are no weights to read.
        UnsafeFileError: The pickle in a file names something that only an attack would, or a
            weight needs foreign code; nothing is run in either case.

    Example:
        >>> source = ktc.read("model.pth")
        >>> source["head.weight"].shape
        (10, 8)
    """
    if adapter is not None:
        folder = located(adapter)
        with reading(folder):
            return merged(read(source, wrapper=wrapper, rename=rename), folder, _adapter_in(folder))
    if rename:
        return renamed(read(source, wrapper=wrapper), rename)
    if isinstance(source, Source) and wrapper is None:
        return source
    if type(source).__name__ == "ExportedProgram":  # of torch.export, with the module inside
        source = source.module()
    # On its torch backend a Keras model is a torch module too.
    if fault := foreign_object(source):
        raise SourceError(fault)
    if is_torch_module(source):
        _check_no_wrapper(wrapper, f"module {type(source).__name__}")
        return read_module(source)
    if isinstance(source, Mapping):
        return read_state_dict(source, wrapper)
    if isinstance(source, (str, os.PathLike, RemotePath)):
        path = located(source)
        with reading(path):
            return _read_file(path, wrapper)
    raise SourceError("expected a torch module, a state dict, or the path of a file, got "
                      f"{shorten(repr(source), 100)} of type {type(source).__name__}")


def _read_file(path: FilePath, wrapper: str | None) -> Source:
    if fault := foreign_path(path):
        raise SourceError(f"{path} {fault}")
    if path.is_dir():
        return _read_folder(path, wrapper)
    file = MappedFile.open(path)
    try:
        kind = _file_kind(file)
    except SourceError:
        # Another package may know what we do not.
        if not isinstance(path, Path) or (state := read_by_plugin(path, file.data[:512])) is None:
            raise
        return replace(read_state_dict(state, wrapper), origin=str(path))
    if kind == "index":
        return _read_index(file, wrapper)
    found = _open(file, kind)
    if isinstance(found, Checkpoint):
        return read_checkpoint(found, wrapper)
    return _plain_source(path, list(found.values()), wrapper, kind == "safetensors")


def _plain_source(path: FilePath, tensors: list[SourceTensor], wrapper: str | None,
                  sorted_format: bool) -> Source:
    """Return what a file or a set of shards holds that has nothing but tensors."""
    if not tensors:
        raise SourceError(f"{path} holds no tensors")
    return named_source(tensors, origin=str(path), unwrapped=Unwrapped(None, network=wrapper),
                        sorted_format=sorted_format, folder=path if path.is_dir() else path.parent)


def _adapter_in(folder: FilePath) -> dict[str, SourceTensor]:
    """Return the tensors of an adapter under their full names."""
    # An address on the web is no folder, and yet may have files in it.
    if not (folder / CONFIG).is_file():
        raise SourceError(f"{folder}: adapter= is the folder that PEFT saved, with {CONFIG} in it")
    files = [path for suffix in ("safetensors", "bin")
             if (path := folder / f"adapter_model.{suffix}").is_file()]  # yapf: disable
    if not files:
        raise SourceError(f"{folder}: no adapter_model.safetensors in it, as PEFT saves it")
    return _shard(files[0])


def _read_folder(folder: FilePath, wrapper: str | None) -> Source:
    if is_adapter_folder(folder):
        return _read_with_base(folder, wrapper)
    return _read_weights_in(folder, wrapper)


def _read_with_base(folder: FilePath, wrapper: str | None) -> Source:
    """Read an adapter merged into its base: the weights that lie in the same folder, or those that
    it names, where that is a path.
    """
    named = str(read_config(folder, CONFIG).get("base_model_name_or_path") or "")
    beside = [
        folder / f"{stem}{suffix}" for stem in ("model", "pytorch_model")
        for suffix in (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json")
    ]
    if any(path.is_file() for path in beside):
        base = _read_weights_in(folder, wrapper)
    elif named and Path(named).exists() and Path(named).resolve() != Path(str(folder)).resolve():
        base = _read_file(Path(named), wrapper)
    else:
        raise SourceError(
            f"{folder} is a LoRA adapter alone, which only changes the weights of another model "
            f"({named or 'its configuration names none'}): give "
            f"ktc.read('the model', adapter={str(folder)!r}) or --adapter")
    return merged(base, folder, _adapter_in(folder))


def _read_weights_in(folder: FilePath, wrapper: str | None) -> Source:
    files = weights_in(folder)
    note = config_note(read_config(folder))
    if len(files) == 1:
        source = _read_file(files[0], wrapper)
    else:
        source = _read_shards(folder, {file.name: None for file in files}, wrapper)
    return replace(
        source, notes=(f"weights read from {join_names(file.name for file in files)}",
                       *filter(None, (note,)), *source.notes))


def _open(file: MappedFile, kind: FileKind) -> Checkpoint | dict[str, SourceTensor]:
    """Return what a file holds, the tensors by name where it holds nothing else."""
    if kind == "pickle":
        return open_legacy_file(file)
    if kind == "zip":
        archive = open_zip(file)
        return open_npz(archive) if is_npz(archive) else open_torch_zip(archive)
    return open_safetensors(file)


def _check_no_wrapper(wrapper: str | None, where: str) -> None:
    if wrapper is not None:
        raise SourceError(f"{where}: no weights under wrapper {wrapper!r}; this source has no "
                          "wrappers, leave wrapper out")


def _file_kind(file: MappedFile) -> FileKind:
    """Return the format of a file, whatever its suffix.

    Raises SourceError, with what the file looks like, when it holds no PyTorch weights.
    """
    if looks_like_safetensors(file):
        return "safetensors"
    start = file.data[:512]
    if fault := foreign_file(file.path, start, file.data[-8:]):
        raise SourceError(f"{file.path} {fault}")
    if start.startswith(_ZIP_START):
        return "zip"
    if file.path.suffix == ".safetensors":
        return "safetensors"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        return "index"
    if start.startswith(_PICKLE_STARTS):
        return "pickle"
    raise SourceError(
        f"{file.path} is no file that PyTorch, safetensors or NumPy wrote (begins with "
        f"{start[:8]!r}); download it again, or name the checkpoint itself")


def _read_index(file: MappedFile, wrapper: str | None) -> Source:
    """Read a checkpoint in several files, listed by an index such as model.safetensors.index.json.

    The tensors come in the order of the files and, within each, in its own.
    """
    names_in: dict[str, set[str] | None] = {}
    for name, shard_name in _weight_map(file).items():
        wanted = names_in.setdefault(shard_name, set())
        assert wanted is not None
        wanted.add(name)
    return _read_shards(file.path, names_in, wrapper)


def _read_shards(path: FilePath, names_in: Mapping[str, set[str] | None],
                 wrapper: str | None) -> Source:
    """Read shards that lie in a folder, or beside their index, with the names that each must hold
    (None: any).
    """
    folder = path if path.is_dir() else path.parent
    tensors: list[SourceTensor] = []
    order_lost = False
    for shard_name, wanted in names_in.items():
        # A shard lies beside its index: a path would let the index read any file.
        if Path(shard_name).name != shard_name or shard_name in (".", ".."):
            raise SourceError(
                f"{path}: shard {shorten(repr(shard_name), 100)} is not a plain file name")
        with reading(folder / shard_name):
            by_name = _shard(folder / shard_name)
        order_lost = order_lost or shard_name.endswith(".safetensors")
        if wanted is not None and wanted != by_name.keys():
            differing = join_names(sorted(wanted ^ by_name.keys()), 4)
            raise SourceError(f"{path}: index and shard {shard_name!r} disagree about {differing}")
        tensors.extend(by_name.values())
    if order_lost:
        tensors.sort(key=lambda tensor: tensor.name)
    return _plain_source(path, tensors, wrapper, order_lost)


def _shard(path: FilePath) -> dict[str, SourceTensor]:
    """Return the tensors of a shard under their full names."""
    file = MappedFile.open(path)
    kind = _file_kind(file)
    if kind == "index":
        raise SourceError(f"{path} is an index of shards, expected a shard")
    found = _open(file, kind)
    if isinstance(found, Checkpoint):
        return {tensor.name: tensor for tensor in stored_tensors(found, None)[0]}
    return found


def _weight_map(file: MappedFile) -> Mapping[str, str]:
    if file.size > _LARGEST_INDEX:
        raise SourceError(
            f"{file.path}: {file.size} bytes of JSON, expected at most {_LARGEST_INDEX}; not an "
            "index of shards?")
    try:
        content: Any = json.loads(file.data[:].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file.path} is not valid JSON ({shorten(str(error), 200)})") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if (not isinstance(weight_map, dict) or not weight_map
            or not all(isinstance(name, str) for name in weight_map.values())):
        raise SourceError(
            f"{file.path}: a JSON file without a weight_map from names to shard files; name the "
            "checkpoint itself")
    return weight_map
