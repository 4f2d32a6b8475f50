"""Weights that are computed from several tensors: biases added, parametrized weights made whole."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..spec.tensor_spec import Shape
from ..util.text import join_names
from .expressions import (Add, Computation, Multiply, Norm, Resampled, Scale, SingularVector,
                          SpectralNormWeight, StdDev, Unrepeated, Unstandardized, WeightNorm,
                          WeightStandardization)
from .resampling import resampled_grid

Array = npt.NDArray[Any]
# Mean and variance of a weight that was standardized and rounded to float32, as fractions of its
# deviation.
_STANDARDIZED_WITHIN = 1e-5


def computed_shape(expression: Computation,
                   shapes: Sequence[Shape]) -> Shape:  # # one branch for each kind of node
    """Shape of what `expression` gives for operands of `shapes`. Raises ValueError when they do not
    go together.
    """
    first = shapes[0]
    match expression:
        case Scale():
            return first
        case Resampled():
            rows = expression.prefix + prod(expression.grid)
            if len(first) < 2 or first[-2] != rows:
                raise ValueError(
                    f"a table of shape {first} does not hold {expression.prefix} tokens and a "
                    f"grid of {expression.grid}")
            return (*first[:-2], expression.prefix + prod(expression.new_grid), first[-1])
        case Add():
            if len(set(shapes)) != 1:
                raise ValueError(f"arrays of shapes {join_names(shapes)} cannot be added")
            return first
        case Multiply():
            if len({len(shape) for shape in shapes}) != 1 or any(
                    len(set(extents) - {1}) > 1 for extents in zip(*shapes, strict=True)):
                raise ValueError(f"arrays of shapes {join_names(shapes)} cannot be multiplied")
            return tuple(max(extents) for extents in zip(*shapes, strict=True))
        case Norm():
            _check_axis(first, expression.axis)
            return _norm_shape(first, expression.axis)
        case WeightNorm():
            _check_axis(first, expression.axis)
            if (prod(shapes[1]) != prod(_norm_shape(first, expression.axis))
                    or sum(extent > 1 for extent in shapes[1]) > 1):
                raise ValueError(
                    f"a magnitude of shape {shapes[1]} does not belong to a direction of shape "
                    f"{first} and axis {expression.axis}")
            return first
        case WeightStandardization() | Unstandardized():
            _check_axis(first, expression.axis)
            return first
        case StdDev():
            _check_axis(first, expression.axis)
            return _norm_shape(first, expression.axis)
        case Unrepeated():
            if any(extent not in (1, whole)
                   for extent, whole in zip(expression.shape, first, strict=True)):
                raise ValueError(
                    f"an array of shape {first} is no repetition of one of shape {expression.shape}"
                )
            return expression.shape
        case SpectralNormWeight():
            _check_axis(first, expression.axis)
            rows, columns = _matrix_shape(first, expression.axis)
            if tuple(shapes[1:]) != ((rows,), (columns,)):
                raise ValueError(
                    f"singular vectors of shapes {join_names(shapes[1:])} do not belong to a "
                    f"matrix of {(rows, columns)}")
            return first
        case SingularVector():
            _check_axis(first, expression.axis)
            return (_matrix_shape(first, expression.axis)[expression.side == "right"],)


def computed(expression: Computation,
             operands: Sequence[Array]) -> Array:  # # one branch for each kind of node
    """The values of `expression`, of operands that all are float32 or all float64, in the same
    type; sums of squares are float64 inside.
    """
    first = operands[0]
    match expression:
        case Resampled():
            return resampled_grid(first, expression.prefix, expression.grid, expression.new_grid,
                                  expression.mode)
        case Scale():
            return np.asarray(first * first.dtype.type(expression.factor))
        case Add():
            return _folded(np.add, operands)
        case Multiply():
            return _folded(np.multiply, operands)
        case Norm():
            return _norm(first, expression.axis).astype(first.dtype)
        case WeightNorm():
            norm = _norm(first, expression.axis)
            magnitude = operands[1].reshape(norm.shape).astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(first * _factor(magnitude / norm, first.dtype))
        case WeightStandardization():
            mean, deviation = _mean_and_deviation(first, expression)
            return ((first - mean) / deviation).astype(first.dtype)
        case Unstandardized():
            return _unstandardized(first, expression)
        case StdDev():
            return _mean_and_deviation(first, expression)[1].astype(first.dtype)
        case Unrepeated():
            once = first[tuple(slice(0, extent) for extent in expression.shape)]
            others = int(np.count_nonzero(first != once))
            if others:
                raise ValueError(
                    f"the torch layer keeps an array of shape {expression.shape} that is "
                    f"repeated: {others} of {first.size} values differ from "
                    "the first of their repetition, so it cannot hold them")
            return once
        case SpectralNormWeight():
            matrix = _matrix(first, expression.axis).astype(np.float64)
            sigma = operands[1].astype(np.float64) @ matrix @ operands[2].astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(first / _factor(sigma, first.dtype))
        case SingularVector():
            left, values, right = np.linalg.svd(
                _matrix(first, expression.axis).astype(np.float64), full_matrices=False)
            vector = left[:, 0] / values[0] if expression.side == "left" else right[0]
            return np.asarray(vector, first.dtype)


def _factor(factor: Array, dtype: np.dtype[Any]) -> Array:
    """A factor in the type of what it multiplies; what its own rounding cannot tell from 1 is 1, so
    that an inverted norm changes no bit.
    """
    return np.where(np.abs(factor - 1) <= np.finfo(dtype).eps, 1, factor).astype(dtype)


def _mean_and_deviation(
        array: Array,
        about: WeightStandardization | Unstandardized | StdDev) -> tuple[Array, Array]:
    """Mean and sqrt(variance + epsilon) over all axes but the one of `about`, in float64."""
    others = _others(array.ndim, about.axis)
    wide = array.astype(np.float64)
    mean = wide.mean(others, keepdims=True)
    return mean, np.sqrt(np.square(wide - mean).mean(others, keepdims=True) + about.epsilon)


def _unstandardized(array: Array, about: Unstandardized) -> Array:
    mean, deviation = _mean_and_deviation(array, about)
    kept = np.abs(mean) <= _STANDARDIZED_WITHIN * deviation
    result = array
    if not about.gained:
        # With variance v a weight s * array has the variance s**2 v, and is standardized to the
        # array when s**2 v + epsilon = s**2.
        missing = 1 - (np.square(deviation) - about.epsilon)
        kept &= missing >= -_STANDARDIZED_WITHIN
        result = (array
                  * np.sqrt(about.epsilon / np.maximum(missing, about.epsilon * 1e-6))).astype(
                      array.dtype)
    bad = kept.size - int(np.count_nonzero(kept))
    if bad:
        wanted = "a mean of 0" if about.gained else "a mean of 0 and a variance of at most 1"
        raise ValueError(
            "the torch layer standardizes its weight, so each output channel of the kernel must "
            f"have {wanted}: {bad} of {kept.size} have not")
    return result


def _folded(function: np.ufunc, operands: Sequence[Array]) -> Array:
    result = operands[0]
    with np.errstate(over="ignore"):  # whoever asked counts what is not finite
        for operand in operands[1:]:
            result = function(result, operand)
    return result


def _norm(array: Array, axis: int | None) -> Array:
    squares = np.square(array, dtype=np.float64)
    return np.asarray(
        np.sqrt(squares.sum() if axis is
                None else squares.sum(_others(array.ndim, axis), keepdims=True)))


def _norm_shape(shape: Shape, axis: int | None) -> Shape:
    return () if axis is None else tuple(
        extent if index == axis else 1 for index, extent in enumerate(shape))


def _others(ndim: int, axis: int) -> tuple[int, ...]:
    return tuple(index for index in range(ndim) if index != axis)


def _matrix_shape(shape: Shape, axis: int) -> tuple[int, int]:
    return shape[axis], prod(shape[:axis] + shape[axis + 1:])


def _matrix(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _check_axis(shape: Shape, axis: int | None) -> None:
    if axis is not None and not 0 <= axis < len(shape):
        raise ValueError(f"an array of shape {shape} has no axis {axis}")
