"""LoRA adapters of PEFT, merged into the weights of their base as these are read.

A folder of PEFT has adapter_config.json and adapter_model.safetensors (or .bin). For a weight W
with the matrices A (rank x in) and B (out x rank) the merged weight is W + scale * B A, with scale
alpha / rank, or alpha / sqrt(rank) for rank-stabilized adapters (Hu et al. 2021, arXiv:2106.09685;
Kalajdzievski 2023, arXiv:2312.03732).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..plan.casting import cast
from ..spec.source import Source, SourceTensor
from ..util.text import join_names, plural
from .folder import read_config
from .mapped_file import FilePath

Array = npt.NDArray[Any]
CONFIG = "adapter_config.json"
_FRONT = "base_model.model."
_PART = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.default)?(?:\.weight)?")
_BIAS_OF_B = re.compile(r"\.lora_B(\.default)?\.bias$")
_SAVED = re.compile(r"\.modules_to_save(\.default)?(?=\.)|\.original_module(?=\.)")
_OTHERS = re.compile(r"lora_magnitude_vector|\.lora_(?:up|down|mid)\.|\.hada_|\.lokr_|\.ia3_|"
                     r"\.vera_|\.oft_|\.boft_|lora_unet_|lora_te")
# What changes how matrices are merged, and is not done here.
_UNKNOWN = ("use_dora", "use_qalora", "layer_replication", "trainable_token_indices", "use_bdlora",
            "alora_invocation_tokens", "target_parameters", "arrow_config")
_ADVICE = ("merge it where it was made (merge_and_unload of peft), save the merged model, and give "
           "that")


@dataclass(frozen=True, slots=True)
class Matrices:
    """The two matrices of one weight, and what their product is multiplied by."""

    first: SourceTensor
    second: SourceTensor
    scale: float
    transposed: bool
    is_table: bool


def is_adapter_folder(path: FilePath) -> bool:
    """Return whether a path is a folder of PEFT without the weights of a model."""
    return path.is_dir() and (path / CONFIG).is_file()


def merged(base: Source, folder: FilePath, tensors: Mapping[str, SourceTensor]) -> Source:
    """Return the base with the adapter in a folder merged into it.

    The sum is made when a tensor is read, one tensor at a time.

    Args:
        base: The weights of the model that the adapter was made for.
        folder: The folder of PEFT.
        tensors: The tensors of the adapter, under the names in its file.

    Raises:
        SourceError: The adapter is of another kind, changes nothing, or does not belong to the
            base.
    """
    config = read_config(folder, CONFIG)
    _check_kind(folder, config, tensors)
    pairs, plain = _sorted(folder, tensors)
    wanted = {f"{name}.weight": () for name in pairs}
    names = _names_in_base(base, folder, [*wanted, *plain])
    changes: dict[str, Matrices | SourceTensor] = {
        names[name]: tensor for name, tensor in plain.items()
    }
    for module, both in pairs.items():
        name = names[f"{module}.weight"]
        matrices = _matrices(folder, config, module, *both)
        _check_shape(folder, base[name], matrices)
        changes[name] = matrices
    if not any(second.read().any() for _, second in pairs.values()) and not plain:
        raise SourceError(f"{folder}: every lora_B is zero, so the adapter changes nothing: was it "
                          "saved before it was trained?")
    _check_saved_modules(folder, config, plain)
    tied = {name: group for group in base.tied for name in group}
    result = dict(base.tensors)
    for name, change in changes.items():
        for one in tied.get(name, (name,)):
            result[one] = _changed(base[one], change)
    note = (f"adapter {folder} merged into {plural(len(pairs), 'weight')}" +
            (f", {plural(len(plain), 'tensor')} replaced" if plain else ""))
    return replace(base, tensors=result, origin=f"{base.origin} with {folder}",
                   notes=(*base.notes, note))


def _check_kind(folder: FilePath, config: Mapping[str, Any],
                tensors: Mapping[str, SourceTensor]) -> None:
    if not config:
        raise SourceError(
            f"{folder}: an adapter without {CONFIG}, which has the scale (lora_alpha) "
            "of its matrices; give the folder that PEFT saved")
    kind = str(config.get("peft_type", "")).upper()
    other = next((name for name in tensors if _OTHERS.search(name)), "")
    unknown = [name for name in _UNKNOWN if config.get(name)]
    if kind != "LORA" or unknown or other:
        what = f"of kind {kind or 'unknown'}" if kind != "LORA" else (
            f"with {join_names(unknown)}" if unknown else f"of another package ('{other}')")
        raise SourceError(f"{folder}: an adapter {what}, which is not merged here: {_ADVICE}")
    for name in ("lora_alpha", "r"):
        if not isinstance(config.get(name), (int, float)) or not config[name]:
            raise SourceError(f"{folder}: {CONFIG} has no {name}, or zero, so the adapter would "
                              "change nothing; give the folder that PEFT saved")


def _sorted(
    folder: FilePath, tensors: Mapping[str, SourceTensor]
) -> tuple[dict[str, tuple[SourceTensor, SourceTensor]], dict[str, SourceTensor]]:
    """Return both matrices by the name of their module, and tensors that replace those of the base,
    by name.
    """
    parts: dict[str, dict[str, SourceTensor]] = {}
    plain: dict[str, SourceTensor] = {}
    for full, tensor in tensors.items():
        name = full.removeprefix(_FRONT)
        match = _PART.fullmatch(name)
        if match is not None:
            parts.setdefault(match[1], {})[match[3]] = tensor
        elif _BIAS_OF_B.search(name):
            raise SourceError(f"{folder}: the adapter has biases of its own (lora_bias, '{full}'), "
                              f"which are not merged here: {_ADVICE}")
        elif ".lora_" in name:
            raise SourceError(f"{folder}: '{full}' is no matrix of PEFT's LoRA: {_ADVICE}")
        else:
            plain[_SAVED.sub("", name).replace(".base_layer.", ".")] = tensor
    alone = [name for name, both in parts.items() if len(both) == 1]
    if alone:
        raise SourceError(f"{folder}: only one of both matrices is there for "
                          f"{join_names(alone, 3, quoted=True)}; save the adapter again")
    if not parts and not plain:
        raise SourceError(f"{folder}: no tensors of an adapter in it")
    return {name: (both["A"], both["B"]) for name, both in parts.items()}, plain


def _names_in_base(base: Source, folder: FilePath, wanted: list[str]) -> dict[str, str]:
    """Return the names of the base by those that the adapter gives them."""
    missing = [name for name in wanted if name not in base]
    if not missing:
        return {name: name for name in wanted}
    found = _at_another_beginning(base, wanted)
    if found is None:
        raise SourceError(
            f"{folder}: the adapter changes {join_names(missing, 3, quoted=True)}, which "
            f"{base.origin} does not have ({len(missing)} of {len(wanted)}): is it the adapter of "
            "another model? If only names begin otherwise, give "
            "read(base, rename={'old beginning': 'new'}, adapter=...)")
    return found


def _at_another_beginning(base: Source, wanted: list[str]) -> dict[str, str] | None:
    """Return the names with one beginning put in front or cut off, None where none fits."""
    first = wanted[0]
    fronts = [name.removesuffix(first) for name in base if name.endswith(f".{first}")]
    parts = first.split(".")
    cut = [".".join(parts[:count]) + "." for count in range(1, len(parts))]
    ways = [{name: f"{front}{name}" for name in wanted} for front in fronts]
    ways += [{name: name.removeprefix(front) for name in wanted} for front in cut]
    fitting = [names for names in ways if base.keys() >= set(names.values())]
    return fitting[0] if len(fitting) == 1 else None


def _matrices(folder: FilePath, config: Mapping[str, Any], module: str, first: SourceTensor,
              second: SourceTensor) -> Matrices:
    rank = _by_pattern(config.get("rank_pattern"), module, config["r"])
    alpha = _by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
    if first.shape[0] != rank or second.shape[1:2] != (rank,):
        raise SourceError(
            f"{folder}: {CONFIG} gives '{module}' the rank {rank}, its matrices have the shapes "
            f"{first.shape} and {second.shape}: they do not belong together")
    scale = alpha / (sqrt(rank) if config.get("use_rslora") else rank)
    # An embedding's table has a row for each token, as fan_in_fan_out has one for each input.
    embedding = "lora_embedding_" in first.name
    transposed = embedding or bool(config.get("fan_in_fan_out"))
    return Matrices(first, second, scale, transposed, embedding)


def _by_pattern(patterns: Any, module: str, usual: float) -> float:
    """Return the value of the first pattern that the end of a module's name matches."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return usual


def _delta(one: Matrices) -> Array:
    """Return what is added to the weight, in float32 as PEFT does it."""
    first, second = _as_float32(one.first), _as_float32(one.second)
    if first.ndim > 2:
        second = second.reshape(second.shape[:2])
        delta = np.tensordot(second, first, axes=(1, 0))
    else:
        delta = second @ first
    result: Array = np.float32(one.scale) * (delta.T if one.transposed else delta)
    return result


def _check_shape(folder: FilePath, weight: SourceTensor, one: Matrices) -> None:
    shape = (one.second.shape[0], *one.first.shape[1:])
    shape = shape[::-1] if one.transposed else shape
    if shape != weight.shape:
        hint = " (fan_in_fan_out says otherwise)" if shape[::-1] == weight.shape else ""
        raise SourceError(
            f"{folder}: the adapter changes '{weight.name}' in the shape {shape}, the "
            f"base has {weight.shape}{hint}: it belongs to another base")


def _check_saved_modules(folder: FilePath, config: Mapping[str, Any],
                         plain: Mapping[str, SourceTensor]) -> None:
    absent = [
        name for name in config.get("modules_to_save") or ()
        if not any(re.search(rf"(^|\.){re.escape(name)}\.", one) for one in plain)
    ]
    if absent:
        raise SourceError(f"{folder}: {CONFIG} says that {join_names(absent, quoted=True)} were "
                          "trained and saved whole, but they are not there; save the adapter again")


def _changed(weight: SourceTensor, change: Matrices | SourceTensor) -> SourceTensor:
    storage = None if weight.storage is None else ("merged", *weight.storage)
    if isinstance(change, SourceTensor):
        return replace(change, name=weight.name, kind=weight.kind, storage=storage)
    return replace(weight, view=Merged(weight, change), storage=storage)


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Reads a weight with both matrices merged into it: its `SourceTensor.view`."""

    weight: SourceTensor
    matrices: Matrices

    def __call__(self) -> Array:
        """Return the sum, a new array."""
        weight, one = self.weight, self.matrices
        # PEFT rounds the product first: to the type of the matrices, that of a table to its own.
        dtype = weight.dtype if one.is_table else one.first.dtype
        delta = cast(_delta(one), "float32", dtype, weight.name)
        total = _as_float32(weight) + cast(delta, dtype, "float32", weight.name)
        result = cast(total, "float32", weight.dtype, weight.name)
        result.flags.writeable = False
        return result


def _as_float32(tensor: SourceTensor) -> Array:
    return cast(tensor.read(), tensor.dtype, "float32", tensor.name)
