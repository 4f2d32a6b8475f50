"""What all expression nodes have in common, and the two that have no operands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import get_annotations
from typing import Any, ClassVar

from ...spec.tensor_spec import Shape

Shapes = Sequence[Shape]
# Operands, each with the values that it must have.
OperandValues = Iterator[tuple["Expression", "Expression"]]
# The nodes by their names in a plan file; a class enters itself when it is defined.
NODES: dict[str, type[Expression]] = {}


class Expression:
    """How the values of one array come from the tensors of the source: a node of a small tree.

    A node is a frozen dataclass below `Movement` or `Computation`, and knows everything about its
    step. Its fields are operands (Expression or tuple[Expression, ...]) and settings; a plan file
    holds them under `NAME`, in their order, as their types say.
    """

    __slots__ = ()
    NAME = ""
    _operand_fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._operand_fields = tuple(
            name for name, kind in get_annotations(cls).items() if "Expression" in kind)
        # A dataclass with slots is made twice, and the second class counts.
        if cls.NAME:
            NODES[cls.NAME] = cls

    def children(self) -> tuple[Expression, ...]:
        """Return the operands in order."""
        found: tuple[Expression, ...] = ()
        for name in self._operand_fields:
            value = getattr(self, name)
            found += value if isinstance(value, tuple) else (value,)
        return found

    def with_children(self, change: Callable[[Expression], Expression]) -> Expression:
        """Return the node with each operand replaced by what `change` makes of it."""
        node: Any = self
        changed = {}
        for name in self._operand_fields:
            value = getattr(self, name)
            changed[name] = tuple(map(change, value)) if isinstance(value, tuple) else change(value)
        return replace(node, **changed) if changed else self

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the shape for operands of `shapes`. Raises ValueError when they do not fit."""
        raise NotImplementedError

    def loss(self) -> str:
        """Say why values cannot be had back from the result, "" when they can."""
        return ""

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield what operands must be for the result to be `value`: (operand, its values).

        A value with gaps (see `SliceScatter`) is the part of an operand that is known. Raises
        ValueError when there is no inverse.
        """
        raise ValueError(f"{type(self).__name__} cannot be inverted")


@dataclass(frozen=True, slots=True)
class Tensor(Expression):
    """A source tensor as it stands in the source."""

    name: str


@dataclass(frozen=True, slots=True)
class Fill(Expression):
    """One value everywhere, for what has no counterpart on the other side, such as the bias of a
    layer built without.
    """

    NAME = "fill"
    value: float
    shape: tuple[int, ...]

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the shape that it was given."""
        return self.shape


def tensors_of(expression: Expression) -> tuple[str, ...]:
    """Return the names of the source tensors that an expression reads, in order of first use."""
    if isinstance(expression, Tensor):
        return (expression.name,)
    children = expression.children()
    if len(children) == 1:  # nearly always, and asked often
        return tensors_of(children[0])
    return tuple(dict.fromkeys(name for child in children for name in tensors_of(child)))


def substituted(expression: Expression, by_name: Mapping[str, Expression]) -> Expression:
    """Return the expression with other expressions in the places of the tensors `by_name`."""
    if isinstance(expression, Tensor):
        return by_name.get(expression.name, expression)
    return expression.with_children(lambda child: substituted(child, by_name))
