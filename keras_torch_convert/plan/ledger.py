"""One status for every tensor and every variable, and what a strict conversion refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ..spec.dtypes import INDEX_TYPES
from ..spec.layer_groups import last_part
from ..spec.roles import role_of
from ..spec.source import Source, SourceTensor
from ..spec.target import Target, TargetVariable
from .expressions import Tensor, tensors_of
from .plan import Plan
from .recipe import Assignment

Status = Literal["used", "skipped", "left over", "set", "kept", "unset"]
SOURCE_STATUSES: tuple[Status, ...] = ("used", "skipped", "left over")
TARGET_STATUSES: tuple[Status, ...] = ("set", "kept", "unset")
INCOMPLETE: tuple[Status, ...] = ("left over", "unset")


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The status of one source tensor or one target variable.

    A source tensor is "used", "skipped" (by `rule`) or "left over"; a target variable is "set",
    "kept" (by `rule`) or "unset". `partner` names the other side, "" when there is none;
    `parameters` is the number of elements.
    """

    side: Literal["source", "target"]
    name: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    status: Status
    rule: str = ""
    partner: str = ""


def make_ledger(
    plan: Plan, source: Source, target: Target,
    equal: Mapping[str, str] = MappingProxyType({})) -> tuple[LedgerEntry, ...]:
    """Return all tensors in the source's order, then all variables in the target's.

    `equal` names for a tensor that the Plan does not mention another one with the very same values.
    """
    variables = target.variables
    assigned: dict[str, Assignment] = {}
    uses: dict[str, dict[str, str]] = {}
    for assignment in plan.assignments:
        key = target.aliases.get(assignment.key, assignment.key)
        again = assigned.setdefault(key, assignment).expression != assignment.expression
        variable = variables.get(key)
        for name in tensors_of(assignment.expression) if variable else ():
            uses.setdefault(
                name,
                {})[variable.display_name if variable else ""] = assignment.rule + (" (tied)" if
                                                                                    again else "")
    tied = {name: group for group in source.tied for name in group}
    return (*(_status_of_tensor(tensor, plan, tied.get(tensor.name,
                                                       ()), equal.get(tensor.name, ""), uses)
              for tensor in source.tensors.values()),
            *(_status_of_variable(variable, plan, target, assigned.get(variable.key))
              for variable in variables.values()), *map(_status_of_adapter, target.adapters))


def _status_of_tensor(  # one return for each status
        tensor: SourceTensor, plan: Plan, twins: Sequence[str], equal: str,
        uses: Mapping[str, Mapping[str, str]]) -> LedgerEntry:
    def entry(status: Status, rule: str = "", partner: str = "") -> LedgerEntry:
        return LedgerEntry("source", tensor.display_name or tensor.name, tensor.shape, tensor.dtype,
                           tensor.size, status, rule, partner)

    if tensor.name in uses:
        used = uses[tensor.name]
        return entry("used", "; ".join(dict.fromkeys(used.values())), ", ".join(used))
    if tensor.name in plan.dropped:
        return entry("skipped", plan.dropped[tensor.name])
    constant = next((one for one in plan.constants if tensor.name in tensors_of(one.expression)),
                    None)
    if constant is not None:
        is_whole = isinstance(constant.expression, Tensor)
        return entry(
            "skipped",
            f"{constant.value:g} everywhere: {constant.rule}" if is_whole else constant.rule)
    twin = next((name for name in twins if name in uses), None)
    if twin is not None:
        return entry("used", f"tied with '{twin}'", ", ".join(uses[twin]))
    if equal in uses:
        return entry("used", f"the same values as '{equal}'", ", ".join(uses[equal]))
    if tensor.dtype in INDEX_TYPES and tensor.kind != "parameter":
        return entry("skipped", "whole numbers: a counter or an index, not a weight")
    return entry("left over")


def _status_of_adapter(variable: TargetVariable) -> LedgerEntry:
    return LedgerEntry("target", variable.display_name, variable.shape, variable.dtype,
                       variable.size, "kept", "an adapter of Keras's enable_lora keeps its values")


def _status_of_variable(variable: TargetVariable, plan: Plan, target: Target,
                        assignment: Assignment | None) -> LedgerEntry:
    def entry(status: Status, rule: str = "", partner: str = "") -> LedgerEntry:
        return LedgerEntry("target", variable.display_name, variable.shape, variable.dtype,
                           variable.size, status, rule, partner)

    if assignment is not None:
        return entry("set", assignment.rule, ", ".join(tensors_of(assignment.expression)))
    if variable.key in plan.kept:
        return entry("kept", plan.kept[variable.key])
    if target.framework == "torch" and variable.dtype in INDEX_TYPES and not variable.trainable:
        return entry("kept", "whole numbers: a counter or an index, not a weight")
    return entry("unset")


def leftover_problems(ledger: Iterable[LedgerEntry], target: Target,
                      strict: bool | str) -> list[str]:
    """Return a problem for each tensor left over (strict=True) and each variable unset (strict=True
    or "target").
    """
    if target.framework == "torch":
        return _leftovers_of_the_reverse(ledger, strict)
    layer_of = {
        variable.display_name: layer.name for layer in target.layers for variable in layer.variables
    }
    problems = []
    for entry in ledger:
        if entry.status == "left over" and strict is True:
            problems.append(
                f"torch tensor '{entry.name}' {entry.shape} is left over: when that is meant, "
                f"say so {_how_to_skip(entry.name)}, "
                'or let all leftovers of torch be with strict="target"')
        elif entry.status == "unset" and strict:
            problems.append(
                f"Keras variable '{entry.name}' {entry.shape} gets no values: when it is to keep "
                "its own, say so with "
                f"keep_layers=['{layer_of[entry.name]}'], or let all leftovers be with strict=False"
            )
    return problems


def _how_to_skip(name: str) -> str:
    """How a tensor is left out. By its last part only where that is no name of a weight, which
    every layer has.
    """
    last = last_part(name)
    layer = name[:-len(last) - 1]
    if not layer or role_of(last) is None:
        return f"with skip_weights=['{last}']"
    return (f"with skip_layers=['{layer}'] (in the classic functions and ktc.align(..., "
            "mapping=...))")


def _leftovers_of_the_reverse(ledger: Iterable[LedgerEntry], strict: bool | str) -> list[str]:
    remedy = ("when that is meant, say so where the plan is made (keep_layers and skip_layers of "
              "ktc.align(..., mapping=...)), or let all leftovers be with strict=False")
    return [
        f"Keras variable '{entry.name}' {entry.shape} is left over: {remedy}" if entry.status
        == "left over" else f"torch tensor '{entry.name}' {entry.shape} gets no values: {remedy}"
        for entry in ledger
        if (entry.status == "left over" and strict is True) or (entry.status == "unset" and strict)
    ]
