"""A torch layer as a rule wants to see it: stand-ins take the place of tensors, and know what they
stand for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from ..spec.layer_groups import TorchLayer
from ..spec.source import SourceTensor
from ..spec.tensor_spec import Shape
from .expressions import Expression, Tensor, tensors_of, with_operands
from .recipe import Assignment


@dataclass(frozen=True, slots=True)
class StandIn:
    """What a stand-in is computed from, and the sentence that says so."""

    expression: Expression
    rule: str
    doubt: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A stack with stand-ins among its tensors; `stand_ins` are by their names."""

    stack: TorchLayer
    stand_ins: Mapping[str, StandIn] = field(default_factory=dict)


def replaced(seen: Seen, tensor: SourceTensor, shape: Shape, one: StandIn) -> Seen:
    """`seen` with a stand-in of `shape` under the name of `tensor`, which it is made of; what
    `tensor` itself stands for goes into it.
    """
    before = seen.stand_ins.get(tensor.name)
    if before is not None:
        one = StandIn(substituted(one.expression, {tensor.name: before.expression}),
                      _joined(before.rule, one.rule), _joined(before.doubt, one.doubt),
                      _joined(before.note, one.note))
    made = stand_in_tensor(tensor.name, shape, tensor)
    tensors = tuple(made if other is tensor else other for other in seen.stack.tensors)
    stack = TorchLayer(seen.stack.layer, tensors, seen.stack.modules)
    return Seen(stack, {**seen.stand_ins, tensor.name: one})


def stand_in_tensor(name: str, shape: Shape, like: SourceTensor) -> SourceTensor:
    """A tensor of the stack that is none of the source: it has a name, a shape and the type of
    `like`, and no values.
    """
    def without_values() -> npt.NDArray[Any]:
        raise AssertionError(f"'{name}' stands for other tensors and has no values of its own")

    return SourceTensor(name, shape, like.dtype, without_values)


def without_stand_ins(assignments: Sequence[Assignment],
                      stand_ins: Mapping[str, StandIn]) -> tuple[Assignment, ...]:
    """The assignments in terms of the source's own tensors, with what each stand-in has to say."""
    if not stand_ins:
        return tuple(assignments)
    expressions = {name: one.expression for name, one in stand_ins.items()}
    result = []
    for assignment in assignments:
        used = [stand_ins[name] for name in tensors_of(assignment.expression) if name in stand_ins]
        constants = tuple(
            replace(constant, expression=substituted(constant.expression, expressions))
            for constant in assignment.constants)
        changed = replace(assignment, expression=substituted(assignment.expression, expressions),
                          constants=constants)
        for one in used:
            changed = replace(changed, rule=_joined(one.rule, changed.rule),
                              doubt=_joined(changed.doubt,
                                            one.doubt), note=_joined(changed.note, one.note))
        result.append(changed)
    return tuple(result)


def substituted(expression: Expression, expressions: Mapping[str, Expression]) -> Expression:
    """The expression with the tensors named in `expressions` replaced. What a callback gets is left
    alone.
    """
    if isinstance(expression, Tensor):
        return expressions.get(expression.name, expression)
    return with_operands(expression, lambda operand: substituted(operand, expressions))


def _joined(*texts: str) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
