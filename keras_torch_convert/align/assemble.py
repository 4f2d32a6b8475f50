"""From pairs of layers to the Plan: where every way of aligning by layers ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..plan import Plan
from ..read.target import Target, TargetLayer
from ..transfer.callbacks import calls_for
from ..transfer.layer import assign_pairs

if TYPE_CHECKING:
    from ..collect import Stack


def plan_of_pairs(
    pairs: Sequence[tuple[Stack, TargetLayer]],
    target: Target,
    additional_transfer: Mapping[Any, Callable[[list[Any]], Any]],
    *,
    dropped: Mapping[str, str],
    kept: Mapping[str, str],
) -> Plan:
    """The Plan that fills each Keras layer of `pairs` from its torch layer.

    `dropped` are the names of tensors that a rule leaves out, `kept` the places of variables that keep their values, each
    with the rule in words. Raises TransferError listing all pairs that do not fit.
    """
    order = {place: index for index, place in enumerate(target.variables)}
    assignments = assign_pairs(pairs, [calls_for(layer, additional_transfer) for _, layer in pairs])
    assigned = {assignment.place for assignment in assignments}
    return Plan(
        tuple(sorted(assignments, key=lambda assignment: order[assignment.place])),
        dropped,
        {place: rule for place, rule in kept.items() if place not in assigned},
        tuple((stack.layer, layer.label) for stack, layer in pairs),
        tuple(constant for assignment in assignments for constant in assignment.constants),
        {tensor.name: tensor.as_kind() for stack, _ in pairs for tensor in stack.tensors},
        {place: variable.as_kind() for place, variable in target.variables.items() if place in assigned},
    )
