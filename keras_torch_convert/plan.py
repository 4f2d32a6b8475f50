"""The Plan: for every target variable the expression that gives its values, for everything left out the rule.

Every way of aligning ends in a Plan, and one executor (`transfer/executor.py`) applies it, whatever the target is.
An expression is a small tree. `Tensor`, `Permute` and `Reshape` only move data and compile to one strided copy; the conversion to the
variable's own type is part of that copy. `Slice`, `Concat` and `Add` take tensors apart and bring them together. `CallbackOutput` is opaque: one of the arrays that a user's callbacks returned for a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union


@dataclass(frozen=True, slots=True)
class Tensor:
    """A source tensor as it stands in the source."""

    name: str


@dataclass(frozen=True, slots=True)
class Permute:
    """The operand with its axes reordered: result axis i is operand axis `perm[i]`, as in numpy.transpose."""

    operand: Expression
    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reshape:
    """The operand in another shape, in C order: exact splits and merges of axes, or axes of size 1 added or dropped."""

    operand: Expression
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """The operand's elements `start` to `stop` (not included) along one axis."""

    operand: Expression
    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Concat:
    """The operands one behind the other along one axis."""

    operands: tuple[Expression, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of operands, broadcast as in NumPy."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class UserCall:
    """One entry of `additional_transfer`: the key as the user gave it (in words) and the function."""

    key: str
    function: Callable[[list[Any]], list[Any]] = field(compare=False)


@dataclass(frozen=True, slots=True)
class LayerCallback:
    """The user's calls on one layer, chained in dictionary order: the first gets the operands as a list of fresh arrays."""

    layer: str
    operands: tuple[Expression, ...]
    calls: tuple[UserCall, ...]
    count: int


@dataclass(frozen=True, slots=True)
class CallbackOutput:
    """Array number `index` of the `callback.count` arrays that the last call must return."""

    callback: LayerCallback
    index: int


Expression = Union[Tensor, Permute, Reshape, Slice, Concat, Add, CallbackOutput]


def base_of(expression: Expression) -> Tensor | Slice | Concat | Add | CallbackOutput:
    """What is at the bottom of a chain of permutations and reshapes."""
    while isinstance(expression, (Permute, Reshape)):
        expression = expression.operand
    return expression


def tensors_of(expression: Expression) -> tuple[str, ...]:
    """Names of the source tensors that an expression reads, in order of first use."""
    base = base_of(expression)
    if isinstance(base, Tensor):
        return (base.name,)
    if isinstance(base, Slice):
        return tensors_of(base.operand)
    operands = base.callback.operands if isinstance(base, CallbackOutput) else base.operands
    names = [name for operand in operands for name in tensors_of(operand)]
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where one target variable's values come from.

    `rule` says in words which convention applied, `doubt` what names and shapes cannot prove about it ("" when nothing is open).
    """

    place: str
    expression: Expression
    rule: str
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A deterministic recipe: the same models give the same Plan.

    `assignments` are in the target's order. `dropped` maps source names to the rule that leaves them out, `kept` maps
    places of target variables to the rule that lets them keep their own values. Whatever neither assigns nor excuses is
    left over, which the executor refuses when strict. `pairs` are the aligned layers, (torch layer, Keras layer), for display.
    """

    assignments: tuple[Assignment, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def portable(self) -> bool:
        """True when no opaque callback is needed to apply the Plan."""
        return not any(isinstance(base_of(assignment.expression), CallbackOutput) for assignment in self.assignments)

    @staticmethod
    def from_mapping(
        source: Any,
        target: Any,
        mapping: Mapping[str, str | Sequence[str]],
        *,
        skip_weights: Sequence[str] = ("num_batches_tracked",),
        additional_transfer: Mapping[Any, Callable[[list[Any]], list[Any]]] | None = None,
        skip_layers: Sequence[str] = (),
        keep_layers: Sequence[str] = (),
    ) -> Plan:
        """Align by hand: `mapping` gives for each Keras layer its torch layer, or the list of them when it holds several.

        `source` is a torch module, a state dict, the path of a checkpoint, or a Source; `target` a Keras model or a Target.
        A Keras layer goes by its name, a leaf layer inside another by its label ("block/conv"); a torch layer by its
        name without the last part ("layer1.0.conv1"), one tensor by its whole name ("cls_token"). Tensors whose last
        part is in `skip_weights` are left out, `additional_transfer` is that of the classic functions. `skip_layers` are
        torch layers to leave out, `keep_layers` Keras layers that keep their own values ("*" stands for any text).
        Every pair is checked as in any other conversion: raises AlignmentError for unknown names, with the nearest ones,
        and TransferError listing all pairs that do not fit.
        """
        from .align.by_hand import plan_from_mapping

        return plan_from_mapping(
            source,
            target,
            mapping,
            skip_weights=skip_weights,
            additional_transfer=additional_transfer or {},
            skip_layers=skip_layers,
            keep_layers=keep_layers,
        )
