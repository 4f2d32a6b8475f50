"""Normalizations: scale, offset and statistics told apart by their roles, and what one side is
built without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...plan.expressions import Fill, Tensor
from ...plan.recipe import Assignment, Constant
from ...spec.layer_groups import TorchLayer
from ...spec.roles import in_layer_order, role_of
from ...spec.source import SourceTensor
from ...spec.target import TargetLayer, TargetVariable
from .. import remedies
from ..assign_tensors import check_role
from ..rule import AxisPattern, Rule, raw_parameter, raw_rule

# A layer built without scale or offset multiplies by 1 or adds 0.
NEUTRAL = {"main": 1.0, "offset": 0.0}
_BUILT_WITH = {
    "main": "scale=False (scale=True would hold it)",
    "offset": "center=False (center=True would hold it)"
}

# A scale of several axes: (C, H, W) of an NCHW map is Keras's (H, W, C), and so in fewer or more
# dimensions.
CHANNELS_MOVED = {
    2: AxisPattern("channel length", "length channel"),
    3: AxisPattern("channel height width", "height width channel"),
    4: AxisPattern("channel depth height width", "depth height width channel")
}


def assign_normalization(stack: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """The variables of a normalization; a scale or offset that one side is built without counts as
    1 or 0.
    """
    rule = next(_RULE_OF_CLASS[name] for name in layer.class_names if name in _RULE_OF_CLASS)
    placed, unplaced = _by_role(stack, layer)
    missing = [
        variable for variable, tensor in zip(layer.variables, placed, strict=True) if tensor is None
    ]
    _check_statistics(stack, layer, missing, unplaced)
    if any(role_of(variable.name) not in NEUTRAL for variable in missing) or any(
            role_of(tensor.name) not in NEUTRAL for tensor in unplaced):
        raise remedies.refusal(
            stack, layer, f"{len(stack.tensors)} tensors for {len(layer.variables)} variables",
            remedies.on_count(stack.tensors, layer, unplaced))
    assignments = [
        _filled(variable, rule) if tensor is None else _moved(stack, layer, tensor, variable, rule)
        for tensor, variable in zip(placed, layer.variables, strict=True)
    ]
    constants = tuple(_constant(tensor, layer) for tensor in unplaced)
    assignments[-1] = replace(assignments[-1], constants=constants)
    return tuple(assignments)


def _by_role(stack: TorchLayer,
             layer: TargetLayer) -> tuple[list[SourceTensor | None], list[SourceTensor]]:
    """One tensor for each variable (None: PyTorch has none), and the tensors without variable."""
    roles = [role_of(tensor.name) for tensor in stack.tensors]
    wanted = [role_of(variable.name) for variable in layer.variables]
    if None in roles or None in wanted or len(set(roles)) < len(roles) or len(
            set(wanted)) < len(wanted):
        # Names say nothing, so only complete sets can be told apart, by their order.
        placed, unplaced = in_layer_order(stack.tensors, layer.variables)
        if unplaced or None in placed:
            raise remedies.refusal(
                stack, layer,
                (f"{len(stack.tensors)} tensors for {len(layer.variables)} variables, and names "
                 "do not tell which is which"), remedies.on_count(stack.tensors, layer, unplaced))
        return placed, unplaced
    by_role = dict(zip(roles, stack.tensors, strict=True))
    return [by_role.get(role) for role in wanted], [
        tensor for role, tensor in zip(roles, stack.tensors, strict=True) if role not in wanted
    ]


def _check_statistics(stack: TorchLayer, layer: TargetLayer, missing: Sequence[TargetVariable],
                      unplaced: Sequence[SourceTensor]) -> None:
    statistics = ("mean", "variance")
    if all(role in [role_of(variable.name) for variable in missing] for role in statistics):
        raise remedies.refusal(
            stack, layer,
            "the torch layer keeps no running statistics (track_running_stats=False, or it is no "
            "batch normalization): in evaluation it "
            "normalizes by the batch at hand, Keras by its moving_mean and moving_variance, so "
            "no values make the two equal",
            "export it with track_running_stats=True, use GroupNormalization for a group or "
            "instance normalization, "
            f"or give the statistics with additional_transfer={{'{layer.name}': ...}}")
    if any(role_of(tensor.name) in statistics for tensor in unplaced):
        raise remedies.refusal(
            stack, layer,
            (f"the torch layer normalizes by running statistics in evaluation, {layer.class_name} "
             "by those of its input"),
            "use BatchNormalization, which computes the same as a BatchNorm or an InstanceNorm "
            "with track_running_stats=True does in evaluation")


def _moved(stack: TorchLayer, layer: TargetLayer, tensor: SourceTensor, variable: TargetVariable,
           rule: Rule) -> Assignment:
    check_role(stack, layer, tensor, variable)
    as_it_stands = raw_parameter(Tensor(tensor.name), tensor.shape, variable.shape)
    moved = CHANNELS_MOVED.get(len(variable.shape)) if _holds_channels(layer) else None
    fits = moved is not None and moved.torch_shape(variable.shape) == tensor.shape
    if moved is not None and fits and as_it_stands is not None and sum(
            extent > 1 for extent in variable.shape) > 1:
        raise remedies.refusal(
            stack, layer,
            (f"'{tensor.name}' {tensor.shape} is normalized over several axes of one size, so "
             "nothing tells whether its channels come first or last"),
            f"give the arrays with additional_transfer={{'{layer.name}': lambda weights: "
            "[weight.transpose"
            f"({', '.join(map(str, (*range(1, len(variable.shape)), 0)))}) for weight in "
            "weights]} for a torch model with channels first, "
            "or with 'lambda weights: weights' for channels last")
    if moved is not None and fits:
        rule_in_words = f"{rule.name}: {moved.torch} -> {moved.keras}"
        return Assignment(variable.key, moved.expression(Tensor(tensor.name), variable.shape),
                          rule_in_words)
    if as_it_stands is None:
        expected = moved.torch_shape(variable.shape) if moved else variable.shape
        raise remedies.refusal(
            stack, layer,
            (f"{variable.name} needs a torch tensor of shape "
             f"{variable.shape}{f' or {expected}' if moved else ''}, got '{tensor.name}' of shape "
             f"{tensor.shape}"), remedies.on_shape(stack.layer, tensor, None, variable.shape,
                                                   layer))
    return Assignment(variable.key, as_it_stands, raw_rule(rule.name, tensor.shape, variable.shape))


def _holds_channels(layer: TargetLayer) -> bool:
    """Whether the layer normalizes over its last axis, which holds the channels, together with
    others: told by its axes and the rank of its input.
    """
    axes = layer.settings.get("axis")
    if not isinstance(axes, tuple) or len(axes) < 2:
        return False
    rank = layer.settings.get("input_rank")
    return -1 in axes or rank is None or rank - 1 in axes


def _filled(variable: TargetVariable, rule: Rule) -> Assignment:
    value = NEUTRAL[str(role_of(variable.name))]
    return Assignment(
        variable.key, Fill(value,
                           variable.shape), f"{rule.name}: PyTorch has none, so {value:g}", note=
        f"'{variable.display_name}' is filled with {value:g}: the torch layer has no counterpart "
        "of it")


def _constant(tensor: SourceTensor, layer: TargetLayer) -> Constant:
    role = str(role_of(tensor.name))
    built = ("has no offset" if role == "offset" and "RMSNormalization" in layer.class_names else
             f"is built with {_BUILT_WITH[role]}")
    return Constant(Tensor(tensor.name), NEUTRAL[role], f"'{layer.display_name}' {built}")


RULES = (
    Rule(
        "batch normalization", ("BatchNormalization", "SyncBatchNormalization"),
        "torch.nn.BatchNorm1d, 2d, 3d and SyncBatchNorm: weight, bias, running_mean, "
        "running_var; Keras: gamma, beta, moving_mean, moving_variance; affine=False is gamma 1, "
        "beta 0; scale=False, center=False want weights of exactly 1, biases of exactly 0",
        assign=assign_normalization),
    Rule(
        "layer normalization", ("LayerNormalization",),
        "torch.nn.LayerNorm: weight, bias of normalized_shape, (channel, height, width) for a "
        "whole map; Keras: gamma, beta over its axes, (height, width, channel); without weight or "
        "bias as in batch normalization", assign=assign_normalization),
    Rule(
        "group normalization", ("GroupNormalization",),
        "torch.nn.GroupNorm, and torch.nn.InstanceNorm1d, 2d, 3d as groups=-1: weight, bias, one "
        "for each channel; Keras: gamma, beta; without weight or bias as in batch normalization",
        assign=assign_normalization),
    Rule("root mean square normalization", ("RMSNormalization",),
         "torch.nn.RMSNorm: weight; Keras: scale; elementwise_affine=False is scale 1",
         assign=assign_normalization))
_RULE_OF_CLASS = {name: rule for rule in RULES for name in rule.class_names}
