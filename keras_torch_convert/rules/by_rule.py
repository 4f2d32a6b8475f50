"""One torch layer onto a Keras layer that owns its variables itself, by the rule of its kind."""

from __future__ import annotations

from ..plan.expressions import Expression
from ..plan.recipe import Assignment
from ..spec.layer_groups import TorchLayer, last_part
from ..spec.roles import in_layer_order, role_of
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer, TargetVariable
from . import remedies
from .bias_tables import table
from .experts import bank
from .rule import Rule, order_is_unproven, raw_parameter


def by_rule(stack: TorchLayer, layer: TargetLayer, rule: Rule | None) -> tuple[Assignment, ...]:
    """Tensors find their variables by role, and move as the rule says; without a rule all are raw
    parameters. TransferError when they do not fit.
    """
    placed, unplaced = in_layer_order(stack.tensors, layer.variables)
    if unplaced or any(tensor is None for tensor in placed):
        remedy = remedies.on_count(stack.tensors, layer, unplaced)
        main = layer.variables[0]
        if all(moved(tensor, main, rule) is None for tensor in stack.tensors):
            remedy = remedies.on_strangers(_expected(main, rule) or main.shape, layer)
        raise remedies.refusal(stack, layer, remedies.counts(stack.tensors, layer), remedy)
    assignments = []
    for tensor, variable in zip(placed, layer.variables, strict=True):
        assert tensor is not None
        roles = role_of(tensor.name), role_of(variable.name)
        if rule is not None and None not in roles and roles[0] != roles[1]:
            raise remedies.refusal(
                stack, layer,
                f"'{tensor.name}' would go to {variable.name}, by its name it is something else",
                remedies.on_count(stack.tensors, layer, [tensor]))
        expression = moved(tensor, variable, rule)
        if expression is None:
            expected = _expected(variable, rule)
            raise remedies.refusal(
                stack, layer,
                (f"{variable.name} needs a torch tensor of shape {expected or variable.shape}, "
                 f"got '{tensor.name}' of shape {tensor.shape}"),
                remedies.on_shape(stack.layer, tensor, expected, variable.shape, layer))
        assignments.append(assignment(tensor, variable, rule, expression))
    return tuple(assignments)


def moved(tensor: SourceTensor, variable: TargetVariable, rule: Rule | None) -> Expression | None:
    """The tensor in the layout of the variable, None when its shape does not fit the rule."""
    movement = rule.movements.get(last_part(variable.name)) if rule else None
    if movement is None:
        as_it_stands = raw_parameter(tensor.name, tensor.shape, variable.shape)
        if as_it_stands is None and (laid_out := table(tensor, variable)
                                     or bank(tensor, variable)) is not None:
            return laid_out[0]
        return as_it_stands
    if movement.torch_shape(variable.shape) != tensor.shape:
        return None
    return movement.expression(tensor.name, variable.shape)


def _expected(variable: TargetVariable, rule: Rule | None) -> tuple[int, ...] | None:
    movement = rule.movements.get(last_part(variable.name)) if rule else None
    return movement.torch_shape(variable.shape) if movement else None


def assignment(tensor: SourceTensor, variable: TargetVariable, rule: Rule | None,
               expression: Expression) -> Assignment:
    """The Assignment of a tensor that fits, with what the rule says and what it leaves open."""
    movement = rule.movements.get(last_part(variable.name)) if rule else None
    if rule is not None and movement is not None:
        return Assignment(variable.key, expression,
                          f"{rule.name}: {movement.torch} -> {movement.keras}")
    laid_out = table(tensor, variable) or bank(tensor, variable)
    if laid_out is not None and laid_out[0] == expression:
        return Assignment(variable.key, expression, laid_out[1])
    same = "moved as it stands" if tensor.shape == variable.shape else "axes of size 1 aside, moved as it stands"
    doubt = ""
    if order_is_unproven(variable.shape):
        doubt = (
            f"'{variable.display_name}' {variable.shape} is moved as it stands from "
            f"'{tensor.name}': "
            "the shape would be the same if it were transposed, so only equal outputs can prove it")
    return Assignment(variable.key, expression, f"{rule.name if rule else 'raw parameter'}: {same}",
                      doubt)


def may_be(tensor: SourceTensor, variable: TargetVariable) -> bool:
    """False when the names of both sides are known and of different roles."""
    roles = role_of(tensor.name), role_of(variable.name)
    return None in roles or roles[0] == roles[1]
