"""Normalizations: scale, offset and statistics told apart by their roles, and what one side is
built without.
"""

from __future__ import annotations

from collections.abc import Set
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
_OPTIONS = {"main": "scale", "offset": "center"}
_STATISTICS = {"mean", "variance"}
# A scale of several axes: (C, H, W) of an NCHW map is Keras's (H, W, C).
_CHANNELS_LAST = {
    2: AxisPattern("channel length", "length channel"),
    3: AxisPattern("channel height width", "height width channel"),
    4: AxisPattern("channel depth height width", "depth height width channel")
}


def assign_normalization(torch_layer: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """Assign the variables of a normalization.

    A scale or offset that one side is built without counts as 1 or 0.
    """
    rule = next(_RULE_OF_CLASS[name] for name in layer.class_names if name in _RULE_OF_CLASS)
    placed, unplaced = _by_role(torch_layer, layer)
    pairs = list(zip(placed, layer.variables, strict=True))
    missing = {role_of(variable.name) for tensor, variable in pairs if tensor is None}
    extra = {role_of(tensor.name) for tensor in unplaced}
    _check_statistics(torch_layer, layer, missing, extra)
    if not missing | extra <= NEUTRAL.keys():
        raise remedies.count_refusal(torch_layer, layer, unplaced)
    assignments = [
        _filled(variable, rule)
        if tensor is None else _moved(torch_layer, layer, tensor, variable, rule)
        for tensor, variable in pairs
    ]
    constants = tuple(_constant(tensor, layer) for tensor in unplaced)
    return (*assignments[:-1], replace(assignments[-1], constants=constants))


def _by_role(torch_layer: TorchLayer,
             layer: TargetLayer) -> tuple[list[SourceTensor | None], list[SourceTensor]]:
    """Return a tensor for each variable, None where PyTorch has none, and the other tensors."""
    roles = [role_of(tensor.name) for tensor in torch_layer.tensors]
    wanted = [role_of(variable.name) for variable in layer.variables]
    if None in (*roles, *wanted) or any(len(set(own)) < len(own) for own in (roles, wanted)):
        # Names say nothing, so only complete sets can be told apart, by their order.
        placed, unplaced = in_layer_order(torch_layer.tensors, layer.variables)
        if unplaced or None in placed:
            raise remedies.count_refusal(torch_layer, layer, unplaced,
                                         ", and names do not tell which is which")
        return placed, unplaced
    by_role = dict(zip(roles, torch_layer.tensors, strict=True))
    return ([by_role.get(role) for role in wanted],
            [tensor for role, tensor in by_role.items() if role not in wanted])


def _check_statistics(torch_layer: TorchLayer, layer: TargetLayer, missing: Set[str | None],
                      extra: Set[str | None]) -> None:
    if missing >= _STATISTICS:
        raise remedies.refusal(
            torch_layer, layer,
            "the torch layer keeps no running statistics (track_running_stats=False, or it is no "
            "batch normalization): in evaluation it normalizes by the batch at hand, Keras by its "
            "moving_mean and moving_variance, so no values make the two equal",
            "export it with track_running_stats=True, use GroupNormalization for a group or "
            f"instance normalization, or give the statistics with {remedies.own_transfer(layer)}")
    if extra & _STATISTICS:
        raise remedies.refusal(
            torch_layer, layer, "the torch layer normalizes by running statistics in evaluation, "
            f"{layer.class_name} by those of its input",
            "use BatchNormalization, which computes the same as a BatchNorm or an InstanceNorm "
            "with track_running_stats=True does in evaluation")


def _moved(torch_layer: TorchLayer, layer: TargetLayer, tensor: SourceTensor,
           variable: TargetVariable, rule: Rule) -> Assignment:
    check_role(torch_layer, layer, tensor, variable)
    shape = variable.shape
    raw = raw_parameter(Tensor(tensor.name), tensor.shape, shape)
    axes = _CHANNELS_LAST.get(len(shape)) if _holds_channels(layer) else None
    if axes is not None and axes.torch_shape(shape) == tensor.shape:
        if raw is not None and sum(extent > 1 for extent in shape) > 1:
            perm = (*range(1, len(shape)), 0)
            raise remedies.refusal(
                torch_layer, layer,
                f"'{tensor.name}' {tensor.shape} is normalized over several axes of one size, so "
                "nothing tells whether its channels come first or last",
                f"give the arrays with additional_transfer={{'{layer.name}': lambda weights: "
                f"[weight.transpose{perm} for weight in weights]}} for a torch model with channels "
                "first, or with 'lambda weights: weights' for channels last")
        return Assignment(variable.key, axes.expression(Tensor(tensor.name), shape),
                          f"{rule.name}: {axes}")
    if raw is None:
        wanted = f"{shape} or {axes.torch_shape(shape)}" if axes else ""
        raise remedies.shape_refusal(torch_layer, layer, tensor, variable, wanted=wanted)
    return Assignment(variable.key, raw, raw_rule(rule.name, tensor.shape, shape))


def _holds_channels(layer: TargetLayer) -> bool:
    """Return whether the layer normalizes over its last axis, the channels, and others."""
    axes = layer.settings.get("axis")
    if not isinstance(axes, tuple) or len(axes) < 2:
        return False
    ndim = layer.settings.get("input_rank")
    return -1 in axes or ndim is None or ndim - 1 in axes


def _filled(variable: TargetVariable, rule: Rule) -> Assignment:
    value = NEUTRAL[str(role_of(variable.name))]
    note = (f"'{variable.display_name}' is filled with {value:g}: the torch layer has no "
            "counterpart of it")
    return Assignment(variable.key, Fill(value, variable.shape),
                      f"{rule.name}: PyTorch has none, so {value:g}", note=note)


def _constant(tensor: SourceTensor, layer: TargetLayer) -> Constant:
    role = str(role_of(tensor.name))
    option = _OPTIONS[role]
    built = f"is built with {option}=False ({option}=True would hold it)"
    if role == "offset" and "RMSNormalization" in layer.class_names:
        built = "has no offset"
    return Constant(Tensor(tensor.name), NEUTRAL[role], f"'{layer.display_name}' {built}")


RULES = (
    Rule(
        "batch normalization", ("BatchNormalization", "SyncBatchNormalization"),
        "torch.nn.BatchNorm1d, 2d, 3d and SyncBatchNorm: weight, bias, running_mean, "
        "running_var. Keras: gamma, beta, moving_mean, moving_variance. affine=False is gamma 1 "
        "and beta 0. With scale=False every weight must be exactly 1, with center=False every "
        "bias exactly 0", assign=assign_normalization),
    Rule(
        "layer normalization", ("LayerNormalization",),
        "torch.nn.LayerNorm: weight, bias of normalized_shape, (channel, height, width) for a "
        "whole map. Keras: gamma, beta over its axes, (height, width, channel). Without weight or "
        "bias as in batch normalization", assign=assign_normalization),
    Rule(
        "group normalization", ("GroupNormalization",),
        "torch.nn.GroupNorm, and torch.nn.InstanceNorm1d, 2d, 3d as groups=-1: weight, bias, one "
        "for each channel. Keras: gamma, beta. Without weight or bias as in batch normalization",
        assign=assign_normalization),
    Rule("root mean square normalization", ("RMSNormalization",),
         "torch.nn.RMSNorm: weight. Keras: scale. elementwise_affine=False is scale 1",
         assign=assign_normalization))
_RULE_OF_CLASS = {name: rule for rule in RULES for name in rule.class_names}
