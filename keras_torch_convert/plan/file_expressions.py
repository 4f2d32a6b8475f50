"""Expressions of a Plan as JSON and back: a tensor by its name, everything else as a list that
begins with what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import TransferError
from .expressions import (Add, CallbackOutput, Concat, Expression, Fill, LayerCallback, Multiply,
                          Norm, Overlay, Permute, Resampled, Reshape, Scale, SingularVector, Slice,
                          SliceScatter, SpectralNormWeight, StdDev, Tensor, Unrepeated,
                          Unstandardized, UserCall, WeightNorm, WeightStandardization)
from .file_entries import Entry

Calls = Mapping[str, Callable[[list[Any]], list[Any]]]


@dataclass(frozen=True, slots=True)
class Names:
    """What every tensor's name continues, and the user's callbacks by their keys."""

    prefix: str
    calls: Calls


# What stands in a node of the Plan, field by field in the order of its data class.
_NODES: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    "permute": (Permute, ("expression", "shape")), "reshape": (Reshape, ("expression", "shape")),
    "slice": (Slice, ("expression", "whole", "whole", "whole")),
    "concat": (Concat, ("expressions", "whole")), "place":
        (SliceScatter, ("expression", "whole", "whole", "whole")),
    "merge": (Overlay, ("expressions",)), "fill": (Fill, ("number", "shape")), "add":
        (Add, ("expressions",)), "multiply": (Multiply, ("expressions",)), "scale":
            (Scale, ("expression", "number")), "norm_weight":
                (WeightNorm, ("expression", "expression", "axis")), "norm":
                    (Norm, ("expression", "axis")), "spectral_norm_weight":
                        (SpectralNormWeight, ("expression", "expression", "expression", "whole")),
    "singular_vector": (SingularVector, ("expression", "side", "whole")), "standardized_weight":
        (WeightStandardization, ("expression", "whole", "number")), "resampled":
            (Resampled, ("expression", "whole", "grid", "grid", "mode")), "unrepeated":
                (Unrepeated, ("expression", "shape")), "unstandardized":
                    (Unstandardized, ("expression", "whole", "number", "flag")), "deviation":
                        (StdDev, ("expression", "whole", "number"))
}
_CHOICES = {"side": ("left", "right"), "mode": ("bicubic", "bilinear")}
_NAMES = {node: name for name, (node, _) in _NODES.items()}


def expression_as_json(expression: Expression, prefix: str) -> Any:
    """The expression as text, numbers and lists; all names of tensors begin with `prefix`, which is
    left out.
    """
    if isinstance(expression, Tensor):
        return expression.name[len(prefix):]
    if isinstance(expression, CallbackOutput):
        callback = expression.callback
        operands = [expression_as_json(operand, prefix) for operand in callback.operands]
        keys = [call.key for call in callback.calls]
        return ["callback", callback.layer, operands, keys, callback.count, expression.index]
    name = _NAMES[type(expression)]
    values = (getattr(expression, field.name) for field in fields(expression))
    return [
        name, *(_as_json(value, kind, prefix)
                for value, kind in zip(values, _NODES[name][1], strict=True))
    ]


def _as_json(value: Any, kind: str, prefix: str) -> Any:
    match kind:
        case "expression":
            return expression_as_json(value, prefix)
        case "expressions":
            return [expression_as_json(operand, prefix) for operand in value]
        case "shape" | "grid":
            return [int(extent) for extent in value]
        case "number":
            return float(value)
        case "whole":
            return int(value)
        case _:
            return value


def read_expression(entry: Entry, names: Names) -> Expression:
    """The expression that an entry of a file describes. Raises PlanError for unknown steps and for
    values of another kind.
    """
    if isinstance(entry.value, str):
        return Tensor(names.prefix + entry.value)
    items = entry.items()
    if not items:
        raise entry.error("the name of a tensor, or a step and what it works on")
    name, *values = items
    if name.value == "callback":
        return _read_callback(entry, names)
    if name.text() not in _NODES:
        raise name.error(f"one of the steps {', '.join((*_NODES, 'callback'))}")
    node, kinds = _NODES[name.text()]
    entry.items(1 + len(kinds))
    result: Expression = node(
        *(_read(value, kind, names) for value, kind in zip(values, kinds, strict=True)))
    return result


def _read(entry: Entry, kind: str, names: Names) -> Any:  # # one branch for each kind
    match kind:
        case "expression":
            return read_expression(entry, names)
        case "expressions":
            operands = tuple(read_expression(operand, names) for operand in entry.items())
            if not operands:
                raise entry.error("at least one operand")
            return operands
        case "shape":
            return entry.shape()
        case "number":
            return entry.number()
        case "axis":
            return None if entry.value is None else entry.whole()
        case "grid":
            rows, columns = entry.items(2)
            return rows.whole(1), columns.whole(1)
        case "side" | "mode":
            if entry.value not in _CHOICES[kind]:
                raise entry.error(" or ".join(f'"{choice}"' for choice in _CHOICES[kind]))
            return entry.value
        case "flag":
            return entry.truth()
        case _:
            return entry.whole()


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
