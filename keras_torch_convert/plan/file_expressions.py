"""Expressions of a Plan as JSON and back: a tensor by its name, everything else as a list that
begins with what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import TransferError
from .expressions import NODES, CallbackOutput, Expression, LayerCallback, Tensor, UserCall
from .file_entries import Entry

Calls = Mapping[str, Callable[[list[Any]], list[Any]]]
_EXPRESSIONS = tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """What every tensor's name continues, and the user's callbacks by their keys."""

    prefix: str
    calls: Calls


@cache
def _field_types(node: type[Any]) -> dict[str, Any]:
    """Return the types of a node's fields, which say how they stand in a file."""
    hints = get_type_hints(node)
    return {one.name: hints[one.name] for one in fields(node)}


def expression_as_json(expression: Expression, prefix: str) -> Any:
    """Return the expression as text, numbers and lists; all names of tensors begin with `prefix`,
    which is left out.
    """
    if isinstance(expression, Tensor):
        return expression.name[len(prefix):]
    if isinstance(expression, CallbackOutput):
        callback = expression.callback
        operands = [expression_as_json(operand, prefix) for operand in callback.operands]
        keys = [call.key for call in callback.calls]
        return ["callback", callback.layer, operands, keys, callback.count, expression.index]
    node: Any = type(expression)
    values = [
        _as_json(getattr(expression, name), kind, prefix)
        for name, kind in _field_types(node).items()
    ]
    return [expression.NAME, *values]


def _as_json(value: Any, kind: Any, prefix: str) -> Any:
    if kind is Expression:
        return expression_as_json(value, prefix)
    if kind == _EXPRESSIONS:
        return [expression_as_json(operand, prefix) for operand in value]
    if isinstance(value, tuple):
        return [int(extent) for extent in value]
    return kind(value) if kind in (int, float) else value


def read_expression(entry: Entry, names: Names) -> Expression:
    """Return the expression that an entry of a file describes.

    Raises PlanError for unknown steps and for values of another kind.
    """
    if isinstance(entry.value, str):
        return Tensor(names.prefix + entry.value)
    items = entry.items()
    if not items:
        raise entry.error("the name of a tensor, or a step and what it works on")
    name, *values = items
    if name.value == "callback":
        return _read_callback(entry, names)
    if name.text() not in NODES:
        raise name.error(f"one of the steps {', '.join((*NODES, 'callback'))}")
    node: Any = NODES[name.text()]
    kinds = _field_types(node).values()
    entry.items(1 + len(kinds))
    result: Expression = node(
        *(_read(value, kind, names) for value, kind in zip(values, kinds, strict=True)))
    return result


def _read(entry: Entry, kind: Any, names: Names) -> Any:
    if kind is Expression:
        return read_expression(entry, names)
    if kind == _EXPRESSIONS:
        operands = tuple(read_expression(operand, names) for operand in entry.items())
        if not operands:
            raise entry.error("at least one operand")
        return operands
    if kind == tuple[int, int]:
        rows, columns = entry.items(2)
        return rows.whole(1), columns.whole(1)
    if get_origin(kind) is Literal:
        if entry.value not in get_args(kind):
            raise entry.error(" or ".join(f'"{choice}"' for choice in get_args(kind)))
        return entry.value
    if kind == int | None and entry.value is None:
        return None
    readers = {tuple[int, ...]: entry.shape, float: entry.number, bool: entry.truth}
    return readers.get(kind, entry.whole)()


def _read_callback(entry: Entry, names: Names) -> CallbackOutput:
    _, layer, operands, keys, count, index = entry.items(6)
    callback = LayerCallback(
        layer.text(), tuple(read_expression(operand, names) for operand in operands.items()),
        tuple(
            UserCall(key.text(),
                     names.calls.get(key.text()) or _not_given(key.text()))
            for key in keys.items()), count.whole(1))
    if index.whole() >= callback.count:
        raise index.error(f"a number below {callback.count}")
    return CallbackOutput(callback, index.whole())


def _not_given(key: str) -> Callable[[list[Any]], list[Any]]:
    """What stands in for a function that no file can hold."""
    def refuse(_: list[Any]) -> list[Any]:
        raise TransferError(
            f"the plan needs the function additional_transfer[{key}], which a file cannot hold: "
            "load it with "
            f"Plan.load(path, additional_transfer={{{key}: ...}})")

    return refuse
