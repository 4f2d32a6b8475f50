"""One torch layer onto a Keras layer that owns its variables itself: one tensor for each."""

from __future__ import annotations

from ..plan.expressions import Tensor
from ..plan.recipe import Assignment
from ..spec.layer_groups import TorchLayer, last_part
from ..spec.roles import in_layer_order, role_of
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer, TargetVariable
from ..spec.tensor_spec import Shape
from . import remedies
from .families.linear import bank_of_experts
from .families.position_tables import bias_table
from .rule import AxisPattern, Rule, order_is_unproven, raw_parameter, raw_rule


def assign_tensors(torch_layer: TorchLayer, layer: TargetLayer,
                   rule: Rule | None) -> tuple[Assignment, ...]:
    """Find a tensor for each variable by its role, and move it as the rule says.

    Args:
        torch_layer: The tensors; shapes and names are read, no values.
        layer: A Keras layer that owns its variables itself.
        rule: The axes of the variables; with None all are raw parameters.

    Raises:
        TransferError: They do not fit.
    """
    placed, unplaced = in_layer_order(torch_layer.tensors, layer.variables)
    if unplaced or any(tensor is None for tensor in placed):
        main, remedy = layer.variables[0], ""
        if all(assignment_of(tensor, main, rule) is None for tensor in torch_layer.tensors):
            remedy = remedies.on_no_fit(_expected(main, rule) or main.shape, layer)
        raise remedies.count_refusal(torch_layer, layer, unplaced, remedy=remedy)
    assignments = []
    for tensor, variable in zip(placed, layer.variables, strict=True):
        assert tensor is not None
        if rule is not None:
            check_role(torch_layer, layer, tensor, variable)
        assignment = assignment_of(tensor, variable, rule)
        if assignment is None:
            raise remedies.shape_refusal(torch_layer, layer, tensor, variable,
                                         _expected(variable, rule))
        assignments.append(assignment)
    return tuple(assignments)


def check_role(torch_layer: TorchLayer, layer: TargetLayer, tensor: SourceTensor,
               variable: TargetVariable) -> None:
    """Raise TransferError when the names say that tensor and variable are different things."""
    if not may_fill(tensor, variable):
        raise remedies.refusal(
            torch_layer, layer,
            f"'{tensor.name}' would go to {variable.name}, by its name it is something else",
            remedies.on_count(torch_layer, layer, [tensor]))


def may_fill(tensor: SourceTensor, variable: TargetVariable) -> bool:
    """Return False when the names of both sides are known and of different roles."""
    roles = role_of(tensor.name), role_of(variable.name)
    return None in roles or roles[0] == roles[1]


def assignment_of(tensor: SourceTensor, variable: TargetVariable,
                  rule: Rule | None) -> Assignment | None:
    """Return the tensor moved into the layout of the variable, None when its shape does not fit."""
    axes = _axes_of(variable, rule)
    if rule is not None and axes is not None:
        if axes.torch_shape(variable.shape) != tensor.shape:
            return None
        return Assignment(variable.key, axes.expression(Tensor(tensor.name), variable.shape),
                          f"{rule.name}: {axes}")
    raw = raw_parameter(Tensor(tensor.name), tensor.shape, variable.shape)
    known_table = bias_table(tensor, variable) or bank_of_experts(tensor, variable)
    if known_table is not None and raw in (None, known_table[0]):
        return Assignment(variable.key, *known_table)
    if raw is None:
        return None
    doubt = ""
    if order_is_unproven(variable.shape):
        doubt = (f"'{variable.display_name}' {variable.shape} is moved as it stands from "
                 f"'{tensor.name}': the shape would be the same if it were transposed, so only "
                 "equal outputs can prove it")
    name = rule.name if rule else "raw parameter"
    return Assignment(variable.key, raw, raw_rule(name, tensor.shape, variable.shape), doubt)


def _axes_of(variable: TargetVariable, rule: Rule | None) -> AxisPattern | None:
    return rule.axes.get(last_part(variable.name)) if rule else None


def _expected(variable: TargetVariable, rule: Rule | None) -> Shape | None:
    axes = _axes_of(variable, rule)
    return axes.torch_shape(variable.shape) if axes else None
