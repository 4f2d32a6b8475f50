"""Activations with parameters."""

from __future__ import annotations

from ...plan.expressions import Expression, Fill, Multiply, Reshape, Tensor
from ...plan.recipe import Assignment
from ...spec.layer_groups import TorchLayer
from ...spec.target import TargetLayer
from .. import remedies
from ..rule import Rule, raw_parameter

_NAME = "parametric relu"


def assign_prelu(stack: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """The slopes, repeated where Keras keeps one for each place: the same function, as long as it
    is not trained on.
    """
    if len(stack.tensors) != 1 or len(layer.variables) != 1:
        raise remedies.refusal(
            stack, layer, f"{len(stack.tensors)} tensors for {len(layer.variables)} variables",
            remedies.on_count(stack.tensors, layer, stack.tensors[1:]))
    tensor, variable = stack.tensors[0], layer.variables[0]
    name = _NAME
    expression = raw_parameter(Tensor(tensor.name), tensor.shape, variable.shape)
    if expression is not None:
        return (Assignment(variable.key, expression,
                           f"{name}: axes of size 1 aside, moved as it stands"),)
    slopes = tensor.size
    axes = [axis for axis, extent in enumerate(variable.shape) if extent == slopes]
    if sum(extent != 1 for extent in tensor.shape) > 1 or (slopes > 1 and not axes):
        channels_axis = f"{slopes} slopes for an alpha of shape {variable.shape}"
        raise remedies.refusal(
            stack, layer, channels_axis,
            f"give alpha with additional_transfer={{'{layer.name}': ...}} when this is the pair "
            "you mean")
    if slopes > 1 and len(axes) > 1:
        shared = [axis + 1 for axis in range(len(variable.shape) - 1)]
        raise remedies.refusal(
            stack, layer,
            (f"{slopes} slopes, one for each channel, and alpha {variable.shape} has several axes "
             "of that size"),
            f"build the Keras layer with shared_axes={shared} (channels last), so that it keeps "
            "one for each channel too")
    spread = tuple(
        slopes if axis in axes[:1] and slopes > 1 else 1 for axis in range(len(variable.shape)))
    repeated: Expression = Multiply((Reshape(Tensor(tensor.name),
                                             spread), Fill(1.0, variable.shape)))
    shared = [axis + 1 for axis in range(len(variable.shape)) if spread[axis] == 1]
    kept = "one slope" if slopes == 1 else "one slope for each channel"
    return (Assignment(
        variable.key, repeated, f"{name}: {kept}, repeated",
        note=f"'{variable.display_name}' {variable.shape}: PyTorch keeps {kept}, which is "
        f"repeated; shared_axes={shared} would keep as many as PyTorch does"),)


RULES = (Rule(
    _NAME, ("PReLU",),
    "torch.nn.PReLU: one slope (1,) or one for each channel (C,); keras.layers.PReLU: alpha over "
    "all axes but the batch, of size 1 where shared_axes says so, channels last; where Keras keeps "
    "more slopes than PyTorch each of them gets the one that PyTorch uses there",
    back="bit for bit; slopes that were repeated must still be equal", assign=assign_prelu),)
