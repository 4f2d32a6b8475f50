"""One function in layers of two kinds, such as a convolution that is a matrix product."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from ...keras_io.flattened import torch_order
from ...plan.derived_tensors import DerivedTensor, derive
from ...plan.expressions import (Concat, Expression, Fill, Multiply, Reshape, Scale, Slice, Tensor,
                                 WeightStandardization)
from ...spec.layer_groups import TorchLayer, last_part
from ...spec.source import SourceTensor
from ...spec.target import TargetLayer
from ...spec.tensor_spec import Shape
from ..rule import Rule
from .convolution import CONVOLUTIONS, ONE_KERNEL, spatial_shape

_DENSE = ("Dense", "EinsumDense")
_TRANSPOSED = tuple(f"{name}Transpose" for name in CONVOLUTIONS)
# timm's weight-standardized convolutions: (weight - mean) / sqrt(var + eps) for each output
# channel, then gain * scale where there is one.
_STANDARDIZED = ("StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame")

CONDITIONAL_RULES = (
    Rule(
        "weight-standardized convolution", ("Conv2D",),
        "timm.layers.StdConv2d and ScaledStdConv2d compute with (weight - mean) / sqrt(variance + "
        "eps) for each output channel, times gain * scale. A Keras layer that does not "
        "standardize gets the result", lossless=False,
        back="an equal function: the kernel as weight, its deviation as gain; refused for kernels "
        "that no standardized weight can be"),
    Rule(
        "grouped transposed convolution", ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
        "torch.nn.ConvTranspose*d with groups has a weight (in, out / groups, ...). Keras has no "
        "groups there, so its kernel gets zeros between the groups",
        back="bit for bit; refused unless all values between the groups are zeros"),
    Rule(
        "linear layer as convolution, or the reverse",
        ("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D"),
        "torch.nn.Linear (out, in) and a Conv*d of size 1 (out, in, 1, ...) both multiply the "
        "channels by a matrix. A Conv*d as large as its input is a linear layer on the flattened "
        "map; one whose stride is its size (patch embedding) is one on each flattened patch"))


def as_keras_kind(torch_layer: TorchLayer, layer: TargetLayer) -> TorchLayer:
    """Bring the weight into the form of the Keras layer's kind, where PyTorch's is another.

    A convolution of size 1 is a linear layer and the reverse, one as large as the flattened map (or
    patch) is a linear layer, one over the whole map is a linear layer on the flattened map. A
    grouped transposed convolution, which Keras lacks, is one with blocks of zeros.
    """
    kernel = next((variable for variable in layer.variables if variable.name == "kernel"), None)
    weight = _named(torch_layer, "weight")
    class_name = next((class_name for class_name in layer.class_names
                       if class_name in (*_DENSE, *CONVOLUTIONS, *_TRANSPOSED)), None)
    if layer.children or kernel is None or weight is None or class_name is None:
        return torch_layer
    if (standardized := _standardized(torch_layer, weight, layer)) is not None:
        torch_layer = _without_gain(_with_weight(torch_layer, weight, standardized))
        weight = standardized
    shape, rule = _reshaped(weight.shape, kernel.shape, class_name, layer)
    if shape is not None:
        reshaped = derive(weight.name, Reshape(Tensor(weight.name), shape), (weight,), rule)
        return _with_weight(torch_layer, weight, reshaped)
    if class_name in _TRANSPOSED and len(weight.shape) == len(kernel.shape):
        outputs, per_group = kernel.shape[-2], weight.shape[1]
        groups = outputs // per_group if per_group and outputs % per_group == 0 else 1
        if groups > 1 and weight.shape[0] == kernel.shape[-1] and weight.shape[0] % groups == 0:
            rule = (f"transposed convolution of {groups} groups, which Keras lacks: zeros between "
                    "the groups")
            blocks = derive(weight.name, _blocks(weight, groups), (weight,), rule)
            return _with_weight(torch_layer, weight, blocks)
    return torch_layer


def _named(torch_layer: TorchLayer, last: str) -> SourceTensor | None:
    return next((tensor for tensor in torch_layer.tensors if last_part(tensor.name) == last), None)


def _with_weight(torch_layer: TorchLayer, weight: SourceTensor,
                 derived: DerivedTensor) -> TorchLayer:
    tensors = tuple(derived if one is weight else one for one in torch_layer.tensors)
    return replace(torch_layer, tensors=tensors)


def _reshaped(torch: Shape, keras: Shape, class_name: str,
              layer: TargetLayer) -> tuple[Shape | None, str]:
    """Return the shape of PyTorch's weight in a layer of the Keras kind, None where it has it."""
    if class_name in _DENSE and len(torch) > 2:
        if prod(torch[2:]) == 1:
            return torch[:2], "a convolution of size 1 is a linear layer"
        if class_name == "Dense" and _is_whole_input(torch[1:], layer):
            matrix = torch[0], prod(torch[1:])
            return matrix, "a convolution over its whole input is a linear layer"
    if class_name in CONVOLUTIONS and len(torch) == 2:
        spatial, settings = keras[:-2], layer.settings
        if prod(spatial) == 1:
            return (*torch, *spatial), "a linear layer is a convolution of size 1"
        over_all = (settings.get("padding") == "valid" and settings.get("groups", 1) <= 1
                    and spatial_shape(layer) == spatial)
        if over_all and torch[1] == prod(keras[:-1]):
            kernel = torch[0], keras[-2], *spatial
            return kernel, "a linear layer on a flattened map is a convolution over all of it"
    return None, ""


def _is_whole_input(torch: Shape, layer: TargetLayer) -> bool:
    """Return True when a weight's axes (channel, height, width) are what Keras gets flattened."""
    runs = layer.settings.get("flattened") or (layer.settings.get("patches", ()),)
    if len(runs) != 1:
        return False
    sizes = tuple(runs[0][axis][1] for axis in torch_order(runs[0]))
    return sizes == tuple(extent for extent in torch if extent != 1)


def _blocks(weight: SourceTensor, groups: int) -> Expression:
    """Spread (in, out / groups, ...) to (in, out, ...), with zeros between the groups."""
    inputs, per_group, *spatial = weight.shape
    rows = inputs // groups

    def block(group: int) -> Expression:
        zeros = [(number * per_group, Fill(0.0, (rows, number * per_group, *spatial)))
                 for number in (group, groups - group - 1)]
        before, after = ([fill] if extent else [] for extent, fill in zeros)
        own = Slice(Tensor(weight.name), 0, group * rows, (group + 1) * rows)
        return Concat((*before, own, *after), 1)

    return Concat(tuple(map(block, range(groups))), 0)


def _standardized(torch_layer: TorchLayer, weight: SourceTensor,
                  layer: TargetLayer) -> DerivedTensor | None:
    """Return the weight that torch computes with, for a Keras layer that does not standardize."""
    module: Any = torch_layer.modules.get(weight.name.rpartition(".")[0])
    if type(module).__name__ not in _STANDARDIZED or layer.class_name not in ONE_KERNEL:
        return None
    expression: Expression = WeightStandardization(Tensor(weight.name), 0, float(module.eps))
    gain = _named(torch_layer, "gain")
    if gain is not None:
        expression = Multiply((expression, Scale(Tensor(gain.name), float(module.scale))))
    return derive(
        weight.name, expression, (weight,) if gain is None else (weight, gain),
        f"weight standardization of {type(module).__name__}, as the Keras layer has none")


def _without_gain(torch_layer: TorchLayer) -> TorchLayer:
    tensors = tuple(tensor for tensor in torch_layer.tensors if last_part(tensor.name) != "gain")
    return replace(torch_layer, tensors=tensors)
