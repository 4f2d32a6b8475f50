"""Weights that PyTorch computes from others: weight_norm and spectral_norm, old and new, and any
parametrization of a live module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from ...plan.derived_tensors import DerivedTensor, derive
from ...plan.expressions import (CallbackOutput, LayerCallback, SpectralNormWeight, Tensor,
                                 UserCall, WeightNorm)
from ...spec.layer_groups import TorchLayer, last_part, owner_of_parametrized
from ...spec.source import SourceTensor
from ...spec.target import TargetLayer
from ...spec.tensor_spec import Shape
from .. import remedies
from ..rule import Rule

CONDITIONAL_RULES = (Rule(
    "parametrized weight", (), "torch.nn.utils.weight_norm: weight = g * v / |v|. "
    "torch.nn.utils.parametrizations.weight_norm calls g original0 and v original1. "
    "torch.nn.utils.spectral_norm: weight = weight_orig / (u . M v), with M its matrix. "
    "torch.nn.utils.parametrizations.spectral_norm calls them original, 0._u and 0._v",
    lossless=False,
    back="an equal function: the weight as direction, its norm as magnitude; singular vectors "
    "whose product with the weight is 1; other parametrizations are refused"),)


@dataclass(frozen=True, slots=True)
class _Group:
    """The tensors that one weight is computed from, by what they are ("original0", "0._u", ...)."""

    name: str
    tensors: Mapping[str, SourceTensor]


def with_effective_weights(torch_layer: TorchLayer, layer: TargetLayer) -> TorchLayer:
    """Put every parametrized weight in place of what it is computed from.

    Raises:
        TransferError: A parametrization is neither norm, and no module is at hand to evaluate it.
    """
    groups = _groups(torch_layer.tensors)
    if not groups:
        return torch_layer
    inside = {tensor.name for group in groups for tensor in group.tensors.values()}
    # Registered after the bias, but a weight all the same: it goes first.
    weights = [_effective(group, torch_layer, layer) for group in groups]
    others = [tensor for tensor in torch_layer.tensors if tensor.name not in inside]
    return replace(torch_layer, tensors=(*weights, *others))


def _groups(tensors: Sequence[SourceTensor]) -> list[_Group]:
    names = {tensor.name: tensor for tensor in tensors}
    groups: dict[str, dict[str, SourceTensor]] = {}
    for name, tensor in names.items():
        owner, rest = owner_of_parametrized(name)
        if rest:
            weight, _, part = rest.partition(".")
            groups.setdefault(f"{owner}.{weight}" if owner else weight, {})[part] = tensor
            continue
        stem, _, ending = name.rpartition("_")
        left, right = names.get(f"{stem}_u"), names.get(f"{stem}_v")
        if ending == "g" and right is not None and _norm_axes(tensor.shape, right.shape):
            groups[stem] = {"original0": tensor, "original1": right}
        elif ending == "orig" and left is not None and right is not None:
            groups[stem] = {"original": tensor, "0._u": left, "0._v": right}
    return [_Group(name, found) for name, found in groups.items()]


def _effective(group: _Group, torch_layer: TorchLayer, layer: TargetLayer) -> DerivedTensor:
    parts = group.tensors
    steps = _parametrizations(group, torch_layer)
    if steps is not None and not _is_known(steps):
        return _evaluated(group, steps)
    if set(parts) == {"original0", "original1"}:
        return _weight_norm(group, torch_layer, layer)
    if set(parts) == {"original", "0._u", "0._v"}:
        return _spectral_norm(group, torch_layer, layer)
    raise remedies.refusal(
        torch_layer, layer,
        f"'{group.name}' is parametrized in a way that its tensors {sorted(parts)} do not tell",
        "give the live module, which computes it, or make it plain by "
        "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')")


def _weight_norm(group: _Group, torch_layer: TorchLayer, layer: TargetLayer) -> DerivedTensor:
    magnitude, direction = group.tensors["original0"], group.tensors["original1"]
    axes = _norm_axes(magnitude.shape, direction.shape)
    if not axes:
        raise remedies.refusal(
            torch_layer, layer,
            f"'{magnitude.name}' {magnitude.shape} is no magnitude of '{direction.name}' "
            f"{direction.shape}",
            "weight_norm keeps one for each position of one axis, or one for all")
    axis = axes[0]
    over = "all axes" if axis is None else f"all axes but {axis}"
    expression = WeightNorm(Tensor(direction.name), Tensor(magnitude.name), axis)
    return derive(group.name, expression, (direction, magnitude),
                  f"weight norm: g * v / |v| over {over}")


def _norm_axes(magnitude: Shape, direction: Shape) -> list[int | None]:
    """Return the axes that the magnitudes may count along, None for one magnitude of all."""
    if magnitude == ():
        return [None]
    return [
        axis for axis, extent in enumerate(direction)
        if magnitude == (*[1] * axis, extent, *[1] * (len(direction) - axis - 1))
    ]


def _spectral_norm(group: _Group, torch_layer: TorchLayer, layer: TargetLayer) -> DerivedTensor:
    weight, left, right = (group.tensors[part] for part in ("original", "0._u", "0._v"))
    # Both sides of a transposed convolution may have one extent; torch takes its outputs, axis 1.
    wanted = 1 if any(name.endswith("Transpose") for name in layer.class_names) else 0
    size = prod(weight.shape)
    fitting = [
        axis for axis, extent in enumerate(weight.shape)
        if left.shape == (extent,) and right.shape == (size // max(extent, 1),)
    ]
    if not fitting:
        raise remedies.refusal(
            torch_layer, layer,
            f"'{left.name}' {left.shape} and '{right.name}' {right.shape} are no singular vectors "
            f"of '{weight.name}' {weight.shape}",
            "spectral_norm keeps one vector of the rows and one of the columns")
    axis = wanted if wanted in fitting else fitting[0]
    expression = SpectralNormWeight(Tensor(weight.name), Tensor(left.name), Tensor(right.name),
                                    axis)
    return derive(group.name, expression, (weight, left, right),
                  "spectral norm in evaluation: weight / (u . M v)")


def _parametrizations(group: _Group, torch_layer: TorchLayer) -> Any:
    """Return the live module that computes this weight, None when there is none."""
    module = torch_layer.modules.get(group.name.rpartition(".")[0])
    lists = getattr(module, "parametrizations", None)
    weight = last_part(group.name)
    return lists[weight] if lists is not None and weight in lists else None


def _is_known(steps: Any) -> bool:
    """Return True for PyTorch's own norms, alone: the steps of the Plan compute these."""
    names = [(type(step).__module__, type(step).__name__) for step in steps]
    module = "torch.nn.utils.parametrizations"
    return names in ([(module, "_WeightNorm")], [(module, "_SpectralNorm")])


def _evaluated(group: _Group, steps: Any) -> DerivedTensor:
    """Return what a copy of the parametrizations makes of its parameters in evaluation."""
    import torch

    twin = deepcopy(steps).eval()
    tensors = tuple(group.tensors.values())

    def compute(arrays: list[Any]) -> list[Any]:
        given = dict(zip(group.tensors, map(torch.from_numpy, arrays), strict=True))
        with torch.no_grad():
            weight = torch.func.functional_call(twin, given, ())
            return [weight.to(torch.float32).cpu().numpy()]

    with torch.no_grad():
        shape = tuple(twin().shape)
    names = ", ".join(type(step).__name__ for step in twin)
    call = UserCall(f"torch.nn.utils.parametrize ({names})", compute)
    callback = LayerCallback(group.name, tuple(Tensor(tensor.name) for tensor in tensors), (call,),
                             1)
    return derive(group.name, CallbackOutput(callback, 0), tensors,
                  f"parametrized by {names}: what the module computes", shape=shape)
