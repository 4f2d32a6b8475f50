"""What a user's functions return for a layer: the one node that a plan file cannot hold whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ...spec.tensor_spec import Shape
from .node import Expression, OperandValues, Shapes

NO_WAY_BACK = ("a user's callback cannot be inverted; use the rules of the layers, or say it with "
               "steps of a Plan")


@dataclass(frozen=True, slots=True)
class UserCall:
    """One entry of `additional_transfer`: the key as the user gave it (in words) and the function.
    """

    key: str
    function: Callable[[list[Any]], list[Any]] = field(compare=False)


@dataclass(frozen=True, slots=True)
class LayerCallback:
    """The user's calls on one layer, chained in dictionary order: the first gets the operands as a
    list of fresh arrays, the last one returns `count`.
    """

    layer: str
    operands: tuple[Expression, ...]
    calls: tuple[UserCall, ...]
    count: int


@dataclass(frozen=True, slots=True)
class CallbackOutput(Expression):
    """Array number `index` of those that the callbacks of a layer return."""

    callback: LayerCallback
    index: int

    def children(self) -> tuple[Expression, ...]:
        """Return what the callback gets."""
        return self.callback.operands

    def with_children(self, change: Callable[[Expression], Expression]) -> Expression:
        """Return the output of a callback that gets other operands."""
        operands = tuple(map(change, self.callback.operands))
        return replace(self, callback=replace(self.callback, operands=operands))

    def result_shape(self, shapes: Shapes) -> Shape:
        """Raise ValueError."""
        raise ValueError("what a callback returns has no shape before it is called")

    def loss(self) -> str:
        """Say that there is no way back."""
        return "a user's callback cannot be inverted"

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Raise ValueError."""
        raise ValueError(NO_WAY_BACK)


def needs_callback(expression: Expression) -> bool:
    """Return whether some part of the expression is what a user's callback returns."""
    return isinstance(expression, CallbackOutput) or any(
        needs_callback(child) for child in expression.children())


def describe_key(key: Any) -> str:
    """Return a key as the report shows it: a name ending in quotes, a class by its name."""
    if isinstance(key, tuple):
        return "(" + ", ".join(describe_key(part) for part in key) + ")"
    return key.__name__ if isinstance(key, type) else repr(key)
