"""Tensors that rules use as if the source had them: a part of a fused tensor, several tensors as
one, a weight computed from others.

A `DerivedTensor` stands among the tensors of a `TorchLayer`. Rules use it by its name, and
`in_source_terms` puts its expression in the place of the name once the assignments are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from ..errors import AlignmentError
from ..spec.source import SourceTensor
from ..spec.tensor_spec import Shape
from .evaluation import shape_of
from .expressions import Expression, substituted, tensors_of
from .recipe import Assignment


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DerivedTensor(SourceTensor):
    """A tensor with an expression over the source's own tensors, `made_of`, in place of values.

    `rule`, `doubt` and `note` are those of an `Assignment`, which gets them in addition to its own.
    """

    expression: Expression
    made_of: tuple[SourceTensor, ...]
    rule: str = ""
    doubt: str = ""
    note: str = ""


def derive(name: str, expression: Expression, tensors: Sequence[SourceTensor], rule: str = "",
           doubt: str = "", note: str = "", shape: Shape | None = None) -> DerivedTensor:
    """Return the tensor `name` with the values of `expression` over `tensors`.

    Args:
        name: A name that no other tensor of the layer has; its last part tells the role.
        expression: What it is computed from, by the names of `tensors`.
        tensors: Tensors that may be derived themselves. The first gives the dtype.
        rule: How it is computed, in words.
        doubt: What nothing proves about it, "" for nothing.
        note: What the report should say, "" for nothing.
        shape: Needed only for the output of a callback.
    """
    if shape is None:
        shape = shape_of(expression, {tensor.name: tensor.shape for tensor in tensors})
    derived = _derived(tensors)
    return DerivedTensor(name, shape, tensors[0].dtype, _without_values(name),
                         expression=_substituted(expression,
                                                 derived), made_of=tuple(own_tensors(tensors)),
                         rule=_joined(*(one.rule for one in derived.values()), rule), doubt=_joined(
                             *(one.doubt for one in derived.values()),
                             doubt), note=_joined(*(one.note for one in derived.values()), note))


def own_tensors(tensors: Iterable[SourceTensor]) -> Iterable[SourceTensor]:
    """Yield the source's own tensors that `tensors` are or are made of, each once."""
    found = {
        own.name: own for tensor in tensors
        for own in (tensor.made_of if isinstance(tensor, DerivedTensor) else (tensor,))
    }
    return found.values()


def in_source_terms(assignments: Iterable[Assignment],
                    tensors: Iterable[SourceTensor]) -> tuple[Assignment, ...]:
    """Return the assignments with the expression of each derived tensor in the place of its name,
    and with its rule, doubt and note.
    """
    derived = _derived(tensors)
    return tuple(_in_source_terms(one, derived) if derived else one for one in assignments)


def _in_source_terms(assignment: Assignment, derived: Mapping[str, DerivedTensor]) -> Assignment:
    used = [derived[name] for name in tensors_of(assignment.expression) if name in derived]
    return replace(
        assignment, expression=_substituted(assignment.expression, derived), rule=_joined(
            *(one.rule for one in used),
            assignment.rule), doubt=_joined(assignment.doubt, *(one.doubt for one in used)),
        note=_joined(assignment.note, *(one.note for one in used)), constants=tuple(
            replace(constant, expression=_substituted(constant.expression, derived))
            for constant in assignment.constants))


def _derived(tensors: Iterable[SourceTensor]) -> dict[str, DerivedTensor]:
    return {tensor.name: tensor for tensor in tensors if isinstance(tensor, DerivedTensor)}


def _substituted(expression: Expression, derived: Mapping[str, DerivedTensor]) -> Expression:
    return substituted(expression, {name: one.expression for name, one in derived.items()})


def _without_values(name: str) -> Callable[[], npt.NDArray[Any]]:
    def read() -> npt.NDArray[Any]:
        raise AlignmentError(
            f"'{name}' is computed from other tensors, so its values cannot decide where it goes")

    return read


def _joined(*texts: str) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
