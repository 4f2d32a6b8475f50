"""Expressions that take tensors apart and bring them together: slices, joined tensors and sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..plan import Add, CallbackOutput, Expression, Permute, Reshape, Slice, Tensor
from .movement import compile_layout
from .rule import Shape


def combined_shape(expression: Expression, shapes: Mapping[str, Shape]) -> Shape:
    """Shape of the result. ValueError when the operands' shapes do not allow it."""
    if isinstance(expression, Tensor):
        return shapes[expression.name]
    if isinstance(expression, CallbackOutput):
        raise ValueError("what a callback returns cannot be part of a slice, a sum or a joined tensor")
    if isinstance(expression, (Permute, Reshape)):
        inner = combined_shape(expression.operand, shapes)
        step = (
            Permute(Tensor(""), expression.perm)
            if isinstance(expression, Permute)
            else Reshape(Tensor(""), expression.shape)
        )
        return compile_layout(step, inner).shape
    if isinstance(expression, Slice):
        return _sliced(combined_shape(expression.operand, shapes), expression)
    inners = [combined_shape(operand, shapes) for operand in expression.operands]
    if isinstance(expression, Add):
        return np.broadcast_shapes(*inners)
    return _joined(inners, expression.axis)


def _sliced(shape: Shape, piece: Slice) -> Shape:
    if not (0 <= piece.axis < len(shape) and 0 <= piece.start < piece.stop <= shape[piece.axis]):
        raise ValueError(f"elements {piece.start} to {piece.stop} of axis {piece.axis} do not exist in shape {shape}")
    return (*shape[: piece.axis], piece.stop - piece.start, *shape[piece.axis + 1 :])


def _joined(shapes: list[Shape], axis: int) -> Shape:
    first = shapes[0]
    if not 0 <= axis < len(first) or any(
        (*shape[:axis], *shape[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]) or len(shape) != len(first)
        for shape in shapes
    ):
        raise ValueError(f"tensors of shapes {shapes} cannot be joined along axis {axis}")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def combined(expression: Expression, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The values of an expression, given those of its tensors: an array in C order. Shapes were checked before."""
    return np.ascontiguousarray(_value(expression, arrays))


def _value(expression: Expression, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if isinstance(expression, Tensor):
        return arrays[expression.name]
    if isinstance(expression, Permute):
        return _value(expression.operand, arrays).transpose(expression.perm)
    if isinstance(expression, Reshape):
        return _value(expression.operand, arrays).reshape(expression.shape)
    if isinstance(expression, Slice):
        index = (slice(None),) * expression.axis + (slice(expression.start, expression.stop),)
        return _value(expression.operand, arrays)[index]
    if isinstance(expression, CallbackOutput):
        raise ValueError("what a callback returns cannot be part of a slice, a sum or a joined tensor")
    operands = [_value(operand, arrays) for operand in expression.operands]
    if isinstance(expression, Add):
        total = operands[0]
        for operand in operands[1:]:
            total = total + operand
        return total
    return np.concatenate(operands, axis=expression.axis)
