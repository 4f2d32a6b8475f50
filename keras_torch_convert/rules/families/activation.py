"""Activations with parameters."""

from __future__ import annotations

from ...plan.expressions import Fill, Multiply, Reshape, Tensor
from ...plan.recipe import Assignment
from ...spec.layer_groups import TorchLayer
from ...spec.target import TargetLayer
from .. import remedies
from ..rule import Rule, raw_parameter, raw_rule

_NAME = "parametric relu"


def assign_prelu(torch_layer: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """Assign the slopes, repeated where Keras keeps one for each position.

    It is the same function, as long as it is not trained on.
    """
    if len(torch_layer.tensors) != 1 or len(layer.variables) != 1:
        raise remedies.count_refusal(torch_layer, layer, torch_layer.tensors[1:])
    tensor, variable = torch_layer.tensors[0], layer.variables[0]
    shape, slopes = variable.shape, tensor.size
    expression = raw_parameter(Tensor(tensor.name), tensor.shape, shape)
    if expression is not None:
        return (Assignment(variable.key, expression, raw_rule(_NAME, tensor.shape, shape)),)
    axes = [axis for axis, extent in enumerate(shape) if extent == slopes > 1]
    if sum(extent != 1 for extent in tensor.shape) > 1 or (slopes > 1 and not axes):
        raise remedies.refusal(
            torch_layer, layer, f"{slopes} slopes for an alpha of shape {shape}",
            f"give alpha with {remedies.own_transfer(layer)} when this is the pair you mean")
    if len(axes) > 1:
        raise remedies.refusal(
            torch_layer, layer,
            f"{slopes} slopes, one for each channel, and alpha {shape} has several axes of that "
            "size", f"build the Keras layer with shared_axes={list(range(1, len(shape)))} "
            "(channels last), so that it keeps one for each channel too")
    spread = Reshape(Tensor(tensor.name),
                     tuple(slopes if axis in axes else 1 for axis in range(len(shape))))
    shared = [axis + 1 for axis in range(len(shape)) if axis not in axes]
    kept = "one slope" if slopes == 1 else "one slope for each channel"
    note = (f"'{variable.display_name}' {shape}: PyTorch keeps {kept}, which is repeated; "
            f"shared_axes={shared} would keep as many as PyTorch does")
    return (Assignment(variable.key, Multiply((spread, Fill(1.0, shape))),
                       f"{_NAME}: {kept}, repeated", note=note),)


RULES = (Rule(
    _NAME, ("PReLU",),
    "torch.nn.PReLU has one slope (1,) or one for each channel (C,). keras.layers.PReLU has alpha "
    "over all axes but the batch, of size 1 where shared_axes says so, channels last. Where Keras "
    "keeps more slopes than PyTorch, each gets the one that PyTorch uses there",
    back="bit for bit; slopes that were repeated must still be equal", assign=assign_prelu),)
