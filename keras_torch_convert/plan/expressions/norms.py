"""Nodes for the weights of torch.nn.utils.weight_norm and spectral_norm, there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...spec.tensor_spec import Shape
from ...util.text import join_names
from .computation import Computation, check_axis, norm_shape, other_axes
from .movement import Reshape
from .node import Expression, OperandValues, Shapes

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Norm(Computation):
    """The Euclidean norm of the operand over all axes but `axis`, which are kept with size 1; None:
    over all, a scalar of shape ().
    """

    NAME = "norm"
    LOSS = "the norm, rounded"
    operand: Expression
    axis: int | None

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the shape with 1 along all other axes."""
        check_axis(shapes[0], self.axis)
        return norm_shape(shapes[0], self.axis)

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Sum squares in float64 and round the root."""
        return _norm(operands[0], self.axis).astype(operands[0].dtype)


@dataclass(frozen=True, slots=True)
class WeightNorm(Computation):
    """torch.nn.utils.weight_norm: magnitude * direction / |direction|, the norm over all axes but
    `axis` (None: over all).

    `magnitude` has the direction's rank with size 1 in every axis but `axis`, or no more than one
    axis larger than 1; it counts along `axis`.
    """

    NAME = "norm_weight"
    LOSS = (
        "weight norm: the effective weight alone is kept, and back it is the direction with its "
        "own norm as magnitude")
    direction: Expression
    magnitude: Expression
    axis: int | None

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the direction's shape."""
        direction, magnitude = shapes
        check_axis(direction, self.axis)
        if (prod(magnitude) != prod(norm_shape(direction, self.axis))
                or sum(extent > 1 for extent in magnitude) > 1):
            raise ValueError(f"a magnitude of shape {magnitude} does not belong to a direction of "
                             f"shape {direction} and axis {self.axis}")
        return direction

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Multiply by the quotient of magnitude and norm."""
        direction, magnitude = operands
        norm = _norm(direction, self.axis)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = magnitude.reshape(norm.shape).astype(np.float64) / norm
            return np.asarray(direction * _factor(factor, direction.dtype))

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the value as direction and its norm as magnitude."""
        yield self.direction, value
        yield self.magnitude, Reshape(Norm(value, self.axis), shapes[1])


@dataclass(frozen=True, slots=True)
class SpectralNormWeight(Computation):
    """torch.nn.utils.spectral_norm in evaluation: weight / (left . M right), M the weight as a
    matrix with axis `axis` as its rows.

    `left` (rows,) and `right` (columns,) are the buffers in which torch keeps its estimates of the
    singular vectors.
    """

    NAME = "spectral_norm_weight"
    LOSS = (
        "spectral norm: the effective weight alone is kept, and back it has singular vectors of "
        "its own, right until it is trained on")
    weight: Expression
    left: Expression
    right: Expression
    axis: int = 0

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the weight's shape."""
        weight, *vectors = shapes
        rows, columns = _matrix_shape(weight, self.axis)
        if vectors != [(rows,), (columns,)]:
            raise ValueError(f"singular vectors of shapes {join_names(vectors)} do not belong to a "
                             f"matrix of {(rows, columns)}")
        return weight

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Divide by the estimate of the largest singular value."""
        weight, left, right = operands
        matrix = _matrix(weight, self.axis)
        sigma = left.astype(np.float64) @ matrix @ right.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(weight / _factor(sigma, weight.dtype))

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the value as weight, with singular vectors for which it stays itself."""
        yield self.weight, value
        yield self.left, SingularVector(value, "left", self.axis)
        yield self.right, SingularVector(value, "right", self.axis)


@dataclass(frozen=True, slots=True)
class SingularVector(Computation):
    """Leading "left" or "right" singular vector of the operand as a matrix with axis `axis` as its
    rows.

    The left one is divided by the singular value, so that `SpectralNormWeight` of the operand and
    its two vectors is the operand.
    """

    NAME = "singular_vector"
    LOSS = "a singular vector, rounded"
    operand: Expression
    side: Literal["left", "right"]
    axis: int = 0

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the number of rows, or of columns."""
        return (_matrix_shape(shapes[0], self.axis)[self.side == "right"],)

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Decompose in float64."""
        left, values, right = np.linalg.svd(_matrix(operands[0], self.axis), full_matrices=False)
        vector = left[:, 0] / values[0] if self.side == "left" else right[0]
        return np.asarray(vector, operands[0].dtype)


def _norm(array: Array, axis: int | None) -> Array:
    squares = np.square(array, dtype=np.float64)
    others = None if axis is None else other_axes(array.ndim, axis)
    return np.asarray(np.sqrt(squares.sum(others, keepdims=axis is not None)))


def _factor(factor: Array, dtype: np.dtype[Any]) -> Array:
    """Return a factor in the dtype of what it multiplies; what its own rounding cannot tell from 1
    is 1, so that an inverted norm changes no bit.
    """
    return np.where(np.abs(factor - 1) <= np.finfo(dtype).eps, 1, factor).astype(dtype)


def _matrix_shape(shape: Shape, axis: int) -> tuple[int, int]:
    check_axis(shape, axis)
    return shape[axis], prod(shape[:axis] + shape[axis + 1:])


def _matrix(array: Array, axis: int) -> Array:
    """Return the array in float64 with one axis as rows."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.float64)
