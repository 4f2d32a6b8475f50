"""One torch layer onto one Keras layer: which rule applies, and the Assignments that follow from
it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import TransferError
from ..plan.derived_tensors import without_stand_ins
from ..plan.expressions import CallbackOutput, LayerCallback, UserCall
from ..plan.recipe import Assignment
from ..spec.layer_groups import TorchLayer
from ..spec.roles import as_registered
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer
from . import attention, remedies
from .by_rule import assignment, by_rule, may_be, moved
from .classic_defaults import callback_operands
from .flatten import in_keras_order
from .other_kind import as_keras_kind, with_padding_note
from .parametrized import with_effective_weights
from .registry import assigner_for, laid_out_otherwise, rule_for


def assign_layer(stack: TorchLayer, layer: TargetLayer,
                 calls: tuple[UserCall, ...] = ()) -> tuple[Assignment, ...]:
    """Where each variable of `layer` gets its values from, given that `stack` is its torch layer.

    With `calls` the callbacks decide everything: they get what keras_cv_attention_models would give
    them. Without, the rule of the layer's kind applies. A layer made of several others is served
    only when each of its variables has exactly one tensor that fits. Reads shapes and names, no
    values. Raises TransferError with one problem.
    """
    if calls:
        return _by_callbacks(stack, layer, calls)
    seen = as_keras_kind(with_effective_weights(stack, layer), _sole_leaf(layer))
    assignments = without_stand_ins(_assigned(seen.stack, layer), seen.stand_ins)
    return with_padding_note(in_keras_order(assignments, layer, stack), stack, _sole_leaf(layer))


def _assigned(stack: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """By the assigner or rule of the layer's kind."""
    if (assigner := assigner_for(layer)) is not None:
        return assigner(stack, layer)
    if set(attention.KINDS) & set(layer.class_names):
        return _by_attention(stack, layer)
    if (otherwise := laid_out_otherwise(layer)) is not None:
        raise remedies.refusal(
            stack, layer,
            (f"Keras stores {otherwise} in another layout than PyTorch and there is no rule for "
             f"{layer.class_name}"), "give the arrays that set_weights of this layer takes with "
            f"additional_transfer={{'{layer.name}': ...}}")
    if not layer.children:
        return by_rule(stack, layer, rule_for(layer))
    if (leaf := _sole_leaf(layer)) is not layer:
        return _assigned(stack, leaf)
    return _by_only_fit(stack, layer)


def _by_attention(stack: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """Query, key, value and output one by one."""
    assignments: dict[str, Assignment] = {}
    for seen, child in attention.attention_parts(stack, layer):
        for one in without_stand_ins(by_rule(seen.stack, child, rule_for(child)), seen.stand_ins):
            assignments[one.key] = one
    return tuple(assignments[variable.key] for variable in layer.variables)


def _sole_leaf(layer: TargetLayer) -> TargetLayer:
    """The only layer inside a wrapper, the layer itself otherwise."""
    return layer.children[0] if len(layer.children) == 1 and _places(
        layer.children[0]) == _places(layer) else layer


def _by_callbacks(stack: TorchLayer, layer: TargetLayer,
                  calls: tuple[UserCall, ...]) -> tuple[Assignment, ...]:
    try:
        operands = callback_operands(layer, as_registered(stack.tensors))
    except ValueError as error:
        raise remedies.refusal(stack, layer, str(error),
                               "check that this is the pair you mean") from error
    callback = LayerCallback(layer.display_name, operands, calls, len(layer.variables))
    rule = "additional_transfer " + ", ".join(call.key for call in calls)
    return tuple(
        Assignment(variable.key, CallbackOutput(callback, index), rule)
        for index, variable in enumerate(layer.variables))


def _by_only_fit(stack: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """A layer made of several: each variable must have one tensor that fits, by kind of its leaf
    layer, shape and role, and no tensor two places.
    """
    assignments: dict[str, Assignment] = {}
    used: list[SourceTensor] = []
    for leaf in layer.children:
        if laid_out_otherwise(leaf) is not None:
            raise remedies.refusal(stack, layer,
                                   f"it holds a {leaf.class_name}, for which there is no rule",
                                   _expand(layer))
        rule = rule_for(leaf)
        for variable in leaf.variables:
            fits = [
                tensor for tensor in stack.tensors
                if may_be(tensor, variable) and moved(tensor, variable, rule) is not None
            ]
            if len(fits) != 1 or any(fits[0] is tensor for tensor in used):
                raise remedies.refusal(
                    stack, layer,
                    (f"it is made of {len(layer.children)} layers, and {len(fits)} tensors fit "
                     f"'{variable.display_name}' {variable.shape}"), _expand(layer))
            expression = moved(fits[0], variable, rule)
            assert expression is not None
            used.append(fits[0])
            assignments[variable.key] = assignment(fits[0], variable, rule, expression)
    if len(used) != len(stack.tensors) or set(assignments) != _places(layer):
        raise remedies.refusal(stack, layer, remedies.counts(stack.tensors, layer), _expand(layer))
    return tuple(assignments[variable.key] for variable in layer.variables)


def _places(layer: TargetLayer) -> set[str]:
    return {variable.key for variable in layer.variables}


def _expand(layer: TargetLayer) -> str:
    return ("list its leaf layers one by one with expand_nested=True, or give the arrays of "
            f"'{layer.name}' with "
            f"additional_transfer={{'{layer.name}': ...}}")


def assign_pairs(pairs: Sequence[tuple[TorchLayer, TargetLayer]],
                 calls_of: Sequence[tuple[UserCall, ...]] | None = None) -> tuple[Assignment, ...]:
    """The Assignments of many pairs; `calls_of` has the callbacks of each pair. Raises one
    TransferError with the problems of all pairs.
    """
    assignments: list[Assignment] = []
    problems: list[str] = []
    for (stack, layer), calls in zip(pairs, calls_of or [()] * len(pairs), strict=True):
        try:
            assignments.extend(assign_layer(stack, layer, calls))
        except TransferError as error:
            problems.extend(error.problems)
    if problems:
        raise TransferError.of(problems, remedies.LISTS)
    return tuple(assignments)
