"""Expressions of a Plan as JSON and back: a tensor by its name, everything else as a list that
begins with what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache, partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import PlanError, TransferError
from .expressions import NODES, CallbackOutput, Expression, LayerCallback, Tensor, UserCall
from .json_values import (UnexpectedError, each, items, number, part, positive, shape, text, truth,
                          whole)

Calls = Mapping[str, Callable[[list[Any]], list[Any]]]
# What is deeper or larger is no layout of a layer. Recursion ends far below Python's own limit.
MOST_LEVELS = 64
MOST_STEPS = 65_536
_EXPRESSIONS = tuple[Expression, ...]


@cache
def _field_types(node: Any) -> dict[str, Any]:
    """Return the types of a node's fields, which say how they stand in a file."""
    hints = get_type_hints(node)
    return {one.name: hints[one.name] for one in fields(node)}


def expression_as_json(expression: Expression, prefix: str, level: int = 0) -> Any:
    """Return an expression as text, numbers and lists.

    Args:
        expression: The expression.
        prefix: How the names of all its tensors begin, which is left out.
        level: How many steps it stands inside.

    Raises:
        PlanError: It is nested deeper than a file may be.
    """
    def inside(one: Expression) -> Any:
        return expression_as_json(one, prefix, level + 1)

    if level > MOST_LEVELS:
        raise PlanError(f"a plan with an expression of more than {MOST_LEVELS} steps inside each "
                        "other cannot be saved")
    if isinstance(expression, Tensor):
        return expression.name[len(prefix):]
    if isinstance(expression, CallbackOutput):
        callback = expression.callback
        keys = [call.key for call in callback.calls]
        return [
            "callback", callback.layer, [inside(one) for one in callback.operands], keys,
            callback.count, expression.index
        ]
    result: list[Any] = [expression.NAME]
    node: Any = type(expression)
    for name, kind in _field_types(node).items():
        value = getattr(expression, name)
        if kind is Expression:
            result.append(inside(value))
        elif kind == _EXPRESSIONS:
            result.append([inside(one) for one in value])
        elif isinstance(value, tuple):
            result.append([int(extent) for extent in value])
        else:
            result.append(kind(value) if kind in (int, float) else value)
    return result


class ExpressionReader:
    """Reads expressions of a plan file.

    Args:
        prefix: What the name of every tensor continues.
        calls: The user's callbacks by their keys in words.
    """
    def __init__(self, prefix: str, calls: Calls) -> None:
        self.prefix, self.calls = prefix, calls
        self.level = self.steps = 0

    def read(self, value: Any) -> Expression:
        """Return the expression that a value describes. Raises UnexpectedError."""
        self.steps = self.steps + 1 if self.level else 0
        if type(value) is str:
            return Tensor(self.prefix + value)
        if not items(value):
            raise UnexpectedError("the name of a tensor, or a step and what it works on", value)
        if self.level == MOST_LEVELS or self.steps > MOST_STEPS:
            raise UnexpectedError(
                f"at most {MOST_STEPS} steps, {MOST_LEVELS} of them inside each other", value)
        self.level += 1
        result = self._callback(value) if value[0] == "callback" else self._node(value)
        self.level -= 1
        return result

    def _node(self, value: list[Any]) -> Expression:
        node: Any = part(value, 0, _node_class)
        readers = _field_readers(node)
        items(value, 1 + len(readers), 1 + len(readers))
        arguments = [
            part(value, index, partial(read, self)) for index, read in enumerate(readers, 1)
        ]
        result: Expression = node(*arguments)
        return result

    def several(self, value: Any) -> tuple[Expression, ...]:
        """Return the operands of a step that takes any number of them. Raises UnexpectedError."""
        if not items(value):
            raise UnexpectedError("at least one operand", value)
        return tuple(each(value, self.read))

    def _callback(self, value: list[Any]) -> CallbackOutput:
        items(value, 6, 6)
        count = part(value, 4, positive)
        callback = LayerCallback(part(value, 1, text),
                                 tuple(part(value, 2, lambda operands: each(operands, self.read))),
                                 tuple(part(value, 3, lambda keys: each(keys, self._call))), count)
        return CallbackOutput(callback, part(value, 5, lambda index: whole(index, 0, count - 1)))

    def _call(self, value: Any) -> UserCall:
        key = text(value)
        return UserCall(key, self.calls.get(key) or _not_given(key))


_FieldReader = Callable[[ExpressionReader, Any], Any]
_READERS: dict[Any, _FieldReader] = {
    Expression: ExpressionReader.read, _EXPRESSIONS: ExpressionReader.several,
    tuple[int, ...]: lambda _, value: shape(value),
    tuple[int, int]: lambda _, value: tuple(each(items(value, 2, 2), positive)),
    int: lambda _, value: whole(value), int | None: lambda _, value: None
                                                    if value is None else whole(value),
    float: lambda _, value: number(value), bool: lambda _, value: truth(value)
}


@cache
def _field_readers(node: Any) -> tuple[_FieldReader, ...]:
    return tuple(
        _choice_reader(get_args(kind)) if get_origin(kind) is Literal else _READERS[kind]
        for kind in _field_types(node).values())


def _choice_reader(choices: tuple[str, ...]) -> _FieldReader:
    def read(_: ExpressionReader, value: Any) -> Any:
        if value not in choices:
            raise UnexpectedError(" or ".join(f'"{choice}"' for choice in choices), value)
        return value

    return read


def _node_class(value: Any) -> type[Expression]:
    if text(value) not in NODES:
        raise UnexpectedError(f"one of the steps {', '.join((*NODES, 'callback'))}", value)
    return NODES[value]


def _not_given(key: str) -> Callable[[list[Any]], list[Any]]:
    """Return what stands in for a function that no file can hold."""
    def refuse(_: list[Any]) -> list[Any]:
        raise TransferError(
            f"the plan needs the function additional_transfer[{key}], which a file cannot hold: "
            f"load it with Plan.load(path, additional_transfer={{{key}: ...}})")

    return refuse
