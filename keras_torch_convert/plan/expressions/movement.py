"""Nodes that only move data. Nested in any way they compile to strided copies straight into the
result, one for each region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from ...spec.tensor_spec import Shape
from ..copy_program import (CopyProgram, check_reshape, overlaid, permuted, reshaped, scattered,
                            sliced, whole)
from ..coverage import coverage
from .node import Expression, OperandValues, Shapes, Tensor


class Movement(Expression):
    """A node that moves the values of its operands."""

    __slots__ = ()

    def program(self, operands: Sequence[CopyProgram], shape: Shape) -> CopyProgram:
        """Return the copies that give the result, of `shape`, for operands compiled before."""
        raise NotImplementedError

    def loss(self) -> str:
        """Say why the operands' values cannot be had back."""
        return next((why for child in self.children() if (why := child.loss())), "")


@dataclass(frozen=True, slots=True)
class Permute(Movement):
    """The operand with its axes reordered: result axis i is operand axis `perm[i]`, as in
    numpy.transpose.
    """

    NAME = "permute"
    operand: Expression
    perm: tuple[int, ...]

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the extents reordered."""
        (shape,) = shapes
        if sorted(self.perm) != list(range(len(shape))):
            raise ValueError(
                f"the permutation {self.perm} does not name each axis of shape {shape} once")
        return tuple([shape[axis] for axis in self.perm])

    def program(self, operands: Sequence[CopyProgram], shape: Shape) -> CopyProgram:
        """Reorder the axes of the regions."""
        return permuted(operands[0], self.perm, shape)

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the inverse permutation."""
        inverse = tuple(self.perm.index(axis) for axis in range(len(self.perm)))
        yield self.operand, Permute(value, inverse)


@dataclass(frozen=True, slots=True)
class Reshape(Movement):
    """The operand in another shape, in C order: exact splits and merges of axes, or axes of size 1
    added or dropped.
    """

    NAME = "reshape"
    operand: Expression
    shape: tuple[int, ...]

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the new shape."""
        check_reshape(shapes[0], self.shape)
        return self.shape

    def program(self, operands: Sequence[CopyProgram], shape: Shape) -> CopyProgram:
        """Cut the regions along the new axes."""
        return reshaped(operands[0], shape)

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the reshape to the old shape."""
        yield self.operand, Reshape(value, shapes[0])


@dataclass(frozen=True, slots=True)
class Slice(Movement):
    """Entries `start` to `stop` (exclusive, both counted from 0 upwards) of one axis of the
    operand; the axis stays.
    """

    NAME = "slice"
    operand: Expression
    axis: int
    start: int
    stop: int

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the shape with fewer entries along the axis."""
        (shape,) = shapes
        if not (0 <= self.axis < len(shape) and 0 <= self.start <= self.stop <= shape[self.axis]):
            raise ValueError(f"entries {self.start} to {self.stop} of axis {self.axis} do not lie "
                             f"within shape {shape}")
        return _resized(shape, self.axis, self.stop - self.start)

    def program(self, operands: Sequence[CopyProgram], shape: Shape) -> CopyProgram:
        """Keep the parts of the regions that lie inside."""
        return sliced(operands[0], self.axis, self.start, self.stop, shape)

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the part of the operand that the slice is."""
        extent = shapes[0][self.axis]
        everything = (self.start, self.stop) == (0, extent)
        yield (self.operand,
               value if everything else SliceScatter(value, self.axis, self.start, extent))


@dataclass(frozen=True, slots=True)
class Concat(Movement):
    """The operands one after the other along an axis that all have, as in numpy.concatenate; all
    other axes are equal.
    """

    NAME = "concat"
    operands: tuple[Expression, ...]
    axis: int

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the shape with the sum of the extents along the axis."""
        if not shapes:
            raise ValueError("a concatenation needs at least one operand")
        first = shapes[0]
        if not 0 <= self.axis < len(first):
            raise ValueError(f"arrays of shape {first} cannot be concatenated along axis "
                             f"{self.axis}")
        rest = _resized(first, self.axis, 0)
        other = next((one for one in shapes if _resized(one, self.axis, 0) != rest), None)
        if other is not None:
            raise ValueError(f"arrays of shapes {first} and {other} cannot be concatenated along "
                             f"axis {self.axis}")
        return _resized(first, self.axis, sum([shape[self.axis] for shape in shapes]))

    def program(self, operands: Sequence[CopyProgram], shape: Shape) -> CopyProgram:
        """Move the regions of each operand behind those of the one before."""
        placed, start = [], 0
        for operand in operands:
            placed.append(scattered(operand, self.axis, start, shape))
            start += operand.shape[self.axis]
        return overlaid(placed)

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield a slice for each operand."""
        start = 0
        for operand, shape in zip(self.operands, shapes, strict=True):
            stop = start + shape[self.axis]
            yield operand, Slice(value, self.axis, start, stop)
            start = stop


@dataclass(frozen=True, slots=True)
class SliceScatter(Movement):
    """The inverse of a slice: the operand as the entries from `start` on of an axis of `extent`
    entries. The others are gaps, which have no values: see `Overlay`.
    """

    NAME = "place"
    operand: Expression
    axis: int
    start: int
    extent: int

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the shape with `extent` entries along the axis."""
        (shape,) = shapes
        if not (0 <= self.axis < len(shape) and 0 <= self.start <= self.extent - shape[self.axis]):
            raise ValueError(f"an array of shape {shape} has no place at {self.start} of "
                             f"{self.extent} entries along axis {self.axis}")
        return _resized(shape, self.axis, self.extent)

    def program(self, operands: Sequence[CopyProgram], shape: Shape) -> CopyProgram:
        """Move the regions along the axis."""
        return scattered(operands[0], self.axis, self.start, shape)

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the slice."""
        stop = self.start + shapes[0][self.axis]
        yield self.operand, Slice(value, self.axis, self.start, stop)


@dataclass(frozen=True, slots=True)
class Overlay(Movement):
    """Operands of one shape that each have values for some entries: together one for every entry,
    none twice.
    """

    NAME = "merge"
    operands: tuple[Expression, ...]

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the one shape of all operands."""
        if len(set(shapes)) != 1:
            raise ValueError(f"arrays of shapes {sorted(set(shapes))} cannot be merged into one")
        return shapes[0]

    def program(self, operands: Sequence[CopyProgram], shape: Shape) -> CopyProgram:
        """Join the regions."""
        return overlaid(operands)

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Yield the value for each operand, which takes its part."""
        for operand in self.operands:
            yield operand, value


def may_have_gaps(expression: Expression) -> bool:
    """Return whether some entries may be without a value, or have two."""
    return isinstance(
        expression, (SliceScatter, Overlay)) or (isinstance(expression, Movement)
                                                 and any(map(may_have_gaps, expression.children())))


def compile_program(expression: Expression, shape_of: Callable[[Expression], Shape]) -> CopyProgram:
    """Follow the movements down to their bases: expressions that are no `Movement`.

    Args:
        expression: What to compile.
        shape_of: Gives the shape of a base.

    Returns:
        The copies, the counters of each region in order.

    Raises:
        ValueError: A step does not fit its operands, or an entry has no value, or two.
    """
    if isinstance(expression, Permute) and isinstance(expression.operand, Tensor):
        # Nearly every weight.
        shape = shape_of(expression.operand)
        return _permuted_tensor(shape, expression.perm).of(expression.operand)
    if isinstance(expression, Tensor):
        return _whole_tensor(shape_of(expression)).of(expression)
    program = _compiled(expression, shape_of)
    if may_have_gaps(expression):
        _check_coverage(program)
    return program.in_order()


@lru_cache(maxsize=1024)
def _permuted_tensor(shape: Shape, perm: tuple[int, ...]) -> CopyProgram:
    """Return the program of any tensor of that shape: a net has many weights, of few shapes."""
    tensor = Tensor("")
    return _compiled(Permute(tensor, perm), lambda _: shape).in_order()


@lru_cache(maxsize=1024)
def _whole_tensor(shape: Shape) -> CopyProgram:
    return whole(Tensor(""), shape).in_order()


def _compiled(expression: Expression, shape_of: Callable[[Expression], Shape]) -> CopyProgram:
    if not isinstance(expression, Movement):
        return whole(expression, shape_of(expression))
    operands = [_compiled(child, shape_of) for child in expression.children()]
    return expression.program(operands, expression.result_shape([one.shape for one in operands]))


def _check_coverage(program: CopyProgram) -> None:
    found = coverage(program.shape, [region.entries() for region in program.regions])
    if found.twice:
        raise ValueError("two values would go to one entry")
    size = prod(program.shape)
    if found.covered != size:
        raise ValueError(
            f"{size - found.covered} of {size} entries of an array of shape {program.shape} have "
            "no values")


def _resized(shape: Shape, axis: int, extent: int) -> Shape:
    return (*shape[:axis], extent, *shape[axis + 1:])
