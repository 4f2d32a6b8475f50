"""One torch layer onto one Keras layer: which rule applies, and the Assignments that follow."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PairError, TransferError
from ..plan.derived_tensors import in_source_terms
from ..plan.expressions import CallbackOutput, LayerCallback, UserCall
from ..plan.recipe import Assignment
from ..spec.layer_groups import TorchLayer
from ..spec.roles import as_registered
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer
from . import remedies
from .assign_tensors import assign_tensors, assignment_of, may_fill
from .callbacks import callback_operands
from .families.convolution import with_padding_note
from .families.equivalent_layers import as_keras_kind
from .families.flattened import in_keras_order
from .families.parametrized import with_effective_weights
from .registry import rule_for


def assign_pairs(pairs: Sequence[tuple[TorchLayer, TargetLayer]],
                 calls_of: Sequence[tuple[UserCall, ...]] | None = None) -> tuple[Assignment, ...]:
    """Make the Assignments of many pairs.

    Args:
        pairs: Torch layers with their Keras layers.
        calls_of: The callbacks of each pair.

    Raises:
        TransferError: Some pairs do not fit; it lists the problems of all.
    """
    assignments: list[Assignment] = []
    problems: list[str] = []
    for (torch_layer, layer), calls in zip(pairs, calls_of or [()] * len(pairs), strict=True):
        try:
            assignments.extend(assign_layer(torch_layer, layer, calls))
        except TransferError as error:
            problems.extend(error.problems)
    if problems:
        raise TransferError.of(problems, remedies.LISTS)
    return tuple(assignments)


def assign_layer(torch_layer: TorchLayer, layer: TargetLayer,
                 calls: tuple[UserCall, ...] = ()) -> tuple[Assignment, ...]:
    """Say where each variable of a Keras layer gets its values.

    Reads shapes and names, no values. A layer made of several others is served only when each of
    its variables has exactly one tensor that fits.

    Args:
        torch_layer: The torch layer that belongs to it.
        layer: The Keras layer.
        calls: Callbacks of the user. They decide everything, and get the arrays that
            keras_cv_attention_models would give them. Without any the rule of the layer's class
            applies.

    Returns:
        One Assignment for each variable, in their order.

    Raises:
        TransferError: The two do not fit; it has one problem.
    """
    if calls:
        assignments = _assign_callbacks(torch_layer, layer, calls)
        return in_source_terms(assignments, torch_layer.tensors)
    leaf = _sole_leaf(layer)
    derived = as_keras_kind(with_effective_weights(torch_layer, layer), leaf)
    try:
        assignments = in_source_terms(_assign(derived, layer), derived.tensors)
    except PairError as error:
        # The reason that a person would give is that of the most basic rule that fails.
        if (basic := remedies.kind_refusal(torch_layer, layer)) is not None:
            raise basic from error
        raise
    return with_padding_note(in_keras_order(assignments, layer, torch_layer), torch_layer, leaf)


def _assign(torch_layer: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    rule = rule_for(layer)
    if rule is not None and rule.assign is not None:
        return rule.assign(torch_layer, layer)
    if rule is not None and rule.unlike_torch:
        raise remedies.refusal(
            torch_layer, layer,
            f"Keras stores {rule.unlike_torch} in another layout than PyTorch and there is no "
            f"rule for {layer.class_name}", "give the arrays that set_weights of this layer takes "
            f"with {remedies.own_transfer(layer)}")
    if not layer.children:
        return assign_tensors(torch_layer, layer, rule)
    if (leaf := _sole_leaf(layer)) is not layer:
        return _assign(torch_layer, leaf)
    return _assign_only_fits(torch_layer, layer)


def _sole_leaf(layer: TargetLayer) -> TargetLayer:
    """Return the only layer inside a wrapper, the layer itself otherwise."""
    return layer.children[0] if len(layer.children) == 1 and _keys(
        layer.children[0]) == _keys(layer) else layer


def _assign_callbacks(torch_layer: TorchLayer, layer: TargetLayer,
                      calls: tuple[UserCall, ...]) -> tuple[Assignment, ...]:
    try:
        operands = callback_operands(layer, as_registered(torch_layer.tensors))
    except ValueError as error:
        raise remedies.refusal(torch_layer, layer, str(error),
                               "check that this is the pair you mean") from error
    callback = LayerCallback(layer.display_name, operands, calls, len(layer.variables))
    rule = "additional_transfer " + ", ".join(call.key for call in calls)
    return tuple(
        Assignment(variable.key, CallbackOutput(callback, index), rule)
        for index, variable in enumerate(layer.variables))


def _assign_only_fits(torch_layer: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """Assign a layer made of several: each variable has one tensor that fits, none is used twice.
    """
    remedy = (f"list its leaf layers one by one with expand_nested=True, or give the arrays of "
              f"'{layer.name}' with {remedies.own_transfer(layer)}")
    assignments: dict[str, Assignment] = {}
    used: list[SourceTensor] = []
    for leaf in layer.children:
        rule = rule_for(leaf)
        if rule is not None and rule.unlike_torch:
            raise remedies.refusal(torch_layer, layer,
                                   f"it holds a {leaf.class_name}, for which there is no rule",
                                   remedy)
        for variable in leaf.variables:
            fits = [(tensor, assignment)
                    for tensor in torch_layer.tensors if may_fill(tensor, variable) and (
                        assignment := assignment_of(tensor, variable, rule)) is not None]
            if len(fits) != 1 or any(fits[0][0] is tensor for tensor in used):
                raise remedies.refusal(
                    torch_layer, layer,
                    (f"it is made of {len(layer.children)} layers, and {len(fits)} tensors fit "
                     f"'{variable.display_name}' {variable.shape}"), remedy)
            used.append(fits[0][0])
            assignments[variable.key] = fits[0][1]
    if len(used) != len(torch_layer.tensors) or set(assignments) != _keys(layer):
        raise remedies.count_refusal(torch_layer, layer, (), remedy=remedy)
    return tuple(assignments[variable.key] for variable in layer.variables)


def _keys(layer: TargetLayer) -> set[str]:
    return {variable.key for variable in layer.variables}
