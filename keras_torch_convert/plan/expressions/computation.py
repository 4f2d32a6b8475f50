"""Nodes that compute new values: sums, products, multiples, and standardized weights.

All compute in float32 or, where an operand is wider, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...spec.tensor_spec import Shape
from ...util.text import join_names
from .movement import Reshape
from .node import Expression, Fill, OperandValues, Shapes

Array = npt.NDArray[Any]
# Mean and variance of a weight that was standardized and rounded to float32, as fractions of its
# deviation.
_STANDARDIZED_WITHIN = 1e-5


class Computation(Expression):
    """A node that computes new values; what it gives can be moved again."""

    __slots__ = ()
    LOSS = "a computed weight: only its value is kept"

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Return the values for operands that all are float32 or all float64, in the same dtype.

        Raises ValueError for values that the step does not know.
        """
        raise NotImplementedError

    def loss(self) -> str:
        """Say why the operands' values cannot be had back."""
        return self.LOSS


@dataclass(frozen=True, slots=True)
class Add(Computation):
    """The sum of operands of one shape: the two biases of a torch LSTM gate, which Keras keeps as
    one.
    """

    NAME = "add"
    LOSS = (
        "biases were added: the sum alone is kept, and back it is the first of them, the others "
        "are zeros")
    operands: tuple[Expression, ...]

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the one shape of all operands."""
        if len(set(shapes)) != 1:
            raise ValueError(f"arrays of shapes {join_names(shapes)} cannot be added")
        return shapes[0]

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Add from the first to the last."""
        return _folded(np.add, operands)

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the sum as the first operand and zeros as the others."""
        yield self.operands[0], value
        for operand, shape in zip(self.operands[1:], shapes[1:], strict=True):
            yield operand, Fill(0.0, shape)


@dataclass(frozen=True, slots=True)
class Scale(Computation):
    """The operand times a number."""

    NAME = "scale"
    LOSS = "values times a number, rounded"
    operand: Expression
    factor: float

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the operand's shape."""
        return shapes[0]

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Multiply."""
        return np.asarray(operands[0] * operands[0].dtype.type(self.factor))

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the quotient."""
        if self.factor == 0:
            yield from Computation.invert(self, value, shapes)
        yield self.operand, Scale(value, 1 / self.factor)


@dataclass(frozen=True, slots=True)
class Multiply(Computation):
    """The product of operands of one rank; axes of size 1 are repeated, as NumPy does it (a gain
    for each output channel).
    """

    NAME = "multiply"
    operands: tuple[Expression, ...]

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the larger extent along each axis."""
        if len({len(shape) for shape in shapes}) != 1 or any(
                len(set(extents) - {1}) > 1 for extents in zip(*shapes, strict=True)):
            raise ValueError(f"arrays of shapes {join_names(shapes)} cannot be multiplied")
        return tuple(max(extents) for extents in zip(*shapes, strict=True))

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Multiply from the first to the last."""
        return _folded(np.multiply, operands)

    def loss(self) -> str:
        """Say why the operands' values cannot be had back."""
        if (repeated := self._repeated()) is not None:
            return repeated.loss()
        return self.LOSS if self._gain() is None else WeightStandardization.LOSS

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the operand that is only repeated, or a standardized weight and its gain."""
        of_operand = dict(zip(self.operands, shapes, strict=True))
        if (repeated := self._repeated()) is not None:
            yield repeated, Unrepeated(value, of_operand[repeated])
        elif (gained := self._gain()) is not None:
            weight, gain = gained
            yield weight.weight, Unstandardized(value, weight.axis, weight.epsilon, True)
            deviation = StdDev(value, weight.axis, weight.epsilon)
            yield (gain.operand, Reshape(Scale(deviation, 1 / gain.factor), of_operand[gain]))
        else:
            yield from Computation.invert(self, value, shapes)

    def _repeated(self) -> Expression | None:
        """Return the operand that is only repeated, by multiplying it with ones."""
        others = [one for one in self.operands if not (isinstance(one, Fill) and one.value == 1)]
        return others[0] if len(others) == 1 else None

    def _gain(self) -> tuple[WeightStandardization, Scale] | None:
        """Return a standardized weight and its scaled gain, when that is what is multiplied."""
        match self.operands:
            case (WeightStandardization() as weight, Scale() as gain) if gain.factor != 0:
                return weight, gain
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Unrepeated(Computation):
    """The inverse of a repetition: the operand with one entry along the axes where `shape` has size
    1. Along these all of its values must be equal.
    """

    NAME = "unrepeated"
    operand: Expression
    shape: tuple[int, ...]

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the smaller shape."""
        if len(self.shape) != len(shapes[0]) or any(
                extent not in (1, whole)
                for extent, whole in zip(self.shape, shapes[0], strict=True)):
            raise ValueError(f"an array of shape {shapes[0]} is no repetition of one of shape "
                             f"{self.shape}")
        return self.shape

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Take the first of each repetition. Raises ValueError when another one differs."""
        (repeated,) = operands
        once = repeated[tuple(slice(0, extent) for extent in self.shape)]
        others = int(np.count_nonzero(repeated != once))
        if others:
            raise ValueError(f"the torch layer keeps an array of shape {self.shape} that is "
                             f"repeated: {others} of {repeated.size} values differ from "
                             "the first of their repetition, so it cannot hold them")
        return once

    def loss(self) -> str:
        """Say why the operand's values cannot be had back."""
        return self.operand.loss()


@dataclass(frozen=True, slots=True)
class WeightStandardization(Computation):
    """Weight standardization: (weight - mean) / sqrt(variance + epsilon), both over all axes but
    `axis`, the variance without Bessel's correction.
    """

    NAME = "standardized_weight"
    LOSS = ("weight standardization: the standardized weight alone is kept, and back it is the "
            "weight, its deviation the gain")
    weight: Expression
    axis: int
    epsilon: float

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the weight's shape."""
        check_axis(shapes[0], self.axis)
        return shapes[0]

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Standardize each entry of the axis."""
        (weight,) = operands
        mean, deviation = _mean_and_deviation(weight, self.axis, self.epsilon)
        return ((weight - mean) / deviation).astype(weight.dtype)

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield a weight that is standardized to the value."""
        yield self.weight, Unstandardized(value, self.axis, self.epsilon, False)


@dataclass(frozen=True, slots=True)
class Unstandardized(Computation):
    """A weight that `WeightStandardization` makes the operand of, when `gained` up to a factor for
    each entry of `axis`, which a `StdDev` restores.

    Only what has mean 0 over all axes but `axis`, and without gain variance 1, is a standardized
    weight.
    """

    NAME = "unstandardized"
    LOSS = "a weight to be standardized, rounded"
    operand: Expression
    axis: int
    epsilon: float
    gained: bool

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the operand's shape."""
        check_axis(shapes[0], self.axis)
        return shapes[0]

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Scale to the variance that is standardized away. Raises ValueError for other weights."""
        (array,) = operands
        mean, deviation = _mean_and_deviation(array, self.axis, self.epsilon)
        kept = np.abs(mean) <= _STANDARDIZED_WITHIN * deviation
        result = array
        if not self.gained:
            # With variance v a weight s * array has the variance s**2 v, and is standardized to the
            # array when s**2 v + epsilon = s**2.
            missing = 1 - (np.square(deviation) - self.epsilon)
            kept &= missing >= -_STANDARDIZED_WITHIN
            factor = np.sqrt(self.epsilon / np.maximum(missing, self.epsilon * 1e-6))
            result = (array * factor).astype(array.dtype)
        bad = kept.size - int(np.count_nonzero(kept))
        if bad:
            wanted = "a mean of 0" if self.gained else "a mean of 0 and a variance of at most 1"
            raise ValueError(
                "the torch layer standardizes its weight, so each output channel of the kernel "
                f"must have {wanted}: {bad} of {kept.size} have not")
        return result


@dataclass(frozen=True, slots=True)
class StdDev(Computation):
    """sqrt(variance + epsilon) of the operand over all axes but `axis`, which are kept with size 1.
    """

    NAME = "deviation"
    LOSS = "the deviation, rounded"
    operand: Expression
    axis: int
    epsilon: float

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the shape with 1 along all other axes."""
        check_axis(shapes[0], self.axis)
        return norm_shape(shapes[0], self.axis)

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Compute it in float64 and round."""
        deviation = _mean_and_deviation(operands[0], self.axis, self.epsilon)[1]
        return deviation.astype(operands[0].dtype)


@dataclass(frozen=True, slots=True)
class InverseStdDev(Computation):
    """1 / sqrt(operand + epsilon), of the variance of a norm."""

    NAME = "inverse_deviation"
    LOSS = "a norm folded into the layer before it"
    operand: Expression
    epsilon: float

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the operand's shape."""
        return shapes[0]

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Compute it in float64 and round. Raises ValueError for a negative variance."""
        variance = operands[0].astype(np.float64) + self.epsilon
        if bool((variance <= 0).any()):
            raise ValueError("a variance is negative, so it has no root")
        return (1 / np.sqrt(variance)).astype(operands[0].dtype)


def _mean_and_deviation(array: Array, axis: int, epsilon: float) -> tuple[Array, Array]:
    """Return mean and sqrt(variance + epsilon) over all axes but one, in float64."""
    others = other_axes(array.ndim, axis)
    wide = array.astype(np.float64)
    mean = wide.mean(others, keepdims=True)
    return mean, np.sqrt(np.square(wide - mean).mean(others, keepdims=True) + epsilon)


def _folded(function: np.ufunc, operands: Sequence[Array]) -> Array:
    result = operands[0]
    with np.errstate(over="ignore"):  # whoever asked counts what is not finite
        for operand in operands[1:]:
            result = function(result, operand)
    return result


def norm_shape(shape: Shape, axis: int | None) -> Shape:
    """Return the shape of a norm over all axes but one, which are kept with size 1."""
    return () if axis is None else tuple(
        extent if index == axis else 1 for index, extent in enumerate(shape))


def other_axes(ndim: int, axis: int) -> tuple[int, ...]:
    """Return all axes but one."""
    return tuple(index for index in range(ndim) if index != axis)


def check_axis(shape: Shape, axis: int | None) -> None:
    """Raise ValueError for an axis that an array of `shape` does not have."""
    if axis is not None and not 0 <= axis < len(shape):
        raise ValueError(f"an array of shape {shape} has no axis {axis}")
