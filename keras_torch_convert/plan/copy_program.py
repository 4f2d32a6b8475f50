"""Data movement as strided copies: any nesting of permutations, reshapes, slices and
concatenations, in one pass over memory.

A movement is a list of regions. A region is a set of counters, each of which walks along one axis
of a base array (what the movement takes from) and along one axis of the result. To cut an axis into
several only cuts counters, so that every region stays a strided view on both sides: one call of the
copy kernel each. To exchange the two sides is the inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..spec.tensor_spec import Shape
from .coverage import AxisEntries, coverage
from .expressions import (Concat, Expression, Overlay, Permute, Reshape, Slice, SliceScatter,
                          Tensor, operands_of)

# A movement in more pieces than this is no layout of a layer, and would copy element by element.
_MOST_REGIONS = 100_000


@dataclass(frozen=True, slots=True)
class LoopAxis:
    """Counts from 0 to `count` - 1; one step is `base_step` entries along `base_axis` and `step`
    entries along `axis` of the result.
    """

    count: int
    base_axis: int
    base_step: int
    axis: int
    step: int


@dataclass(frozen=True, slots=True)
class CopyRegion:
    """Part of base number `base`, from the entry `base_start` on, that goes to the result from the
    entry `start` on.
    """

    base: int
    base_start: tuple[int, ...]
    start: tuple[int, ...]
    counters: tuple[LoopAxis, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(counter.count for counter in self.counters)

    def base_view(self, base: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The region's elements in the base, one axis for each counter."""
        steps = base.strides
        start = sum([index * step for index, step in zip(self.base_start, steps, strict=True)])
        strides = [steps[counter.base_axis] * counter.base_step for counter in self.counters]
        return _core.strided_view(base, start, [counter.count for counter in self.counters],
                                  strides)

    def base_entries(self) -> tuple[AxisEntries, ...]:
        """For each axis of the base the entries that the region takes."""
        return _by_axis(self.base_start,
                        [(one.base_axis, one.count, one.base_step) for one in self.counters])

    def entries(self) -> tuple[AxisEntries, ...]:
        """For each axis of the result the entries that the region fills."""
        return _by_axis(self.start, [(one.axis, one.count, one.step) for one in self.counters])

    def view(self, result: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The region's elements in the result, one axis for each counter."""
        steps = result.strides
        start = sum([index * step for index, step in zip(self.start, steps, strict=True)])
        strides = [steps[counter.axis] * counter.step for counter in self.counters]
        return _core.strided_view(result, start, [counter.count for counter in self.counters],
                                  strides)


def _by_axis(start: tuple[int, ...], counters: Sequence[tuple[int, int,
                                                              int]]) -> tuple[AxisEntries, ...]:
    return tuple((first, tuple((count, step) for one, count, step in counters if one == axis))
                 for axis, first in enumerate(start))


@dataclass(frozen=True, slots=True)
class CopyProgram:
    """A compiled movement: the result's shape, the bases (expressions that are no movement) and
    what goes where.
    """

    shape: Shape
    bases: tuple[Expression, ...]
    regions: tuple[CopyRegion, ...]

    def of(self, *bases: Expression) -> CopyProgram:
        """The same movement of other bases of the same shapes."""
        return CopyProgram(self.shape, bases, self.regions)

    def in_order(self) -> CopyProgram:
        """The same with the counters of each region from the slowest to the fastest in the result.
        """
        return CopyProgram(self.shape, self.bases,
                           tuple([self._ordered(region) for region in self.regions]))

    def is_one_view(self) -> bool:
        """Whether the result is, in C order, the `base_view` of its only region; asked of a layout
        whose counters are in order.
        """
        if len(self.regions) != 1:
            return False
        following = prod(self.shape)
        for counter in self.regions[0].counters:
            following //= counter.count
            if self._distance(counter) != following:
                return False
        return following == 1

    def _ordered(self, region: CopyRegion) -> CopyRegion:
        counters = tuple(sorted(region.counters, key=self._distance, reverse=True))
        return CopyRegion(region.base, region.base_start, region.start, counters)

    def _distance(self, counter: LoopAxis) -> int:
        """Entries of the result, in C order, from one count to the next."""
        return counter.step * prod(self.shape[counter.axis + 1:])


def compile_layout(expression: Expression, shape_of: Callable[[Expression], Shape]) -> CopyProgram:
    """Follow the movements of `expression` down to its bases, of which `shape_of` gives the shapes.
    Counters are in order.

    Raises ValueError when a step does not fit: a permutation that does not name every axis once, a
    reshape that is no exact split or merge of axes, a slice beyond its axis, a concatenation of
    unequal arrays, or when an entry has no value or two.
    """
    if isinstance(expression, Permute) and isinstance(expression.operand,
                                                      Tensor):  # nearly every weight
        return _permuted_tensor(shape_of(expression.operand),
                                expression.perm).of(expression.operand)
    layout = _compiled(expression, shape_of)
    if _has_gaps(expression):
        _check_coverage(layout)
    return layout.in_order()


@lru_cache(maxsize=1024)
def _permuted_tensor(shape: Shape, perm: tuple[int, ...]) -> CopyProgram:
    """The layout of any tensor of that shape: a net has many weights, of few shapes."""
    return _permuted(_whole(Tensor(""), shape), perm).in_order()


def moved_shape(expression: Expression, shape_of: Callable[[Expression], Shape]) -> Shape:
    """The shape alone, of an array that may have entries without values. Raises ValueError as
    compile_layout does.
    """
    return _compiled(expression, shape_of).shape


def _has_gaps(expression: Expression) -> bool:
    return isinstance(expression,
                      (SliceScatter, Overlay)) or (isinstance(expression,
                                                              (Permute, Reshape, Slice, Concat))
                                                   and any(map(_has_gaps, operands_of(expression))))


def _check_coverage(layout: CopyProgram) -> None:
    found = coverage(layout.shape, [region.entries() for region in layout.regions])
    if found.twice:
        raise ValueError("two values would go to one entry")
    size = prod(layout.shape)
    if found.covered != size:
        raise ValueError(
            f"{size - found.covered} of {size} entries of an array of shape {layout.shape} have "
            "no values")


def _compiled(
        expression: Expression,
        shape_of: Callable[[Expression],
                           Shape]) -> CopyProgram:  # # one branch for each kind of node
    match expression:
        case Permute():
            operand = _compiled(expression.operand, shape_of)
            return _permuted(operand, expression.perm)
        case Reshape():
            operand = _compiled(expression.operand, shape_of)
            return _reshaped(operand, expression.shape)
        case Slice():
            operand = _compiled(expression.operand, shape_of)
            return _sliced(operand, expression)
        case Concat():
            return _concatenated([_compiled(operand, shape_of) for operand in expression.operands],
                                 expression.axis)
        case SliceScatter():
            operand = _compiled(expression.operand, shape_of)
            return _placed(operand, expression)
        case Overlay():
            return _merged([_compiled(operand, shape_of) for operand in expression.operands])
        case _:
            return _whole(expression, shape_of(expression))


def _whole(base: Expression, shape: Shape) -> CopyProgram:
    counters = tuple(
        [LoopAxis(extent, axis, 1, axis, 1) for axis, extent in enumerate(shape) if extent != 1])
    nowhere = (0,) * len(shape)
    return CopyProgram(shape, (base,), () if 0 in shape else
                       (CopyRegion(0, nowhere, nowhere, counters),))


def _permuted(operand: CopyProgram, perm: tuple[int, ...]) -> CopyProgram:
    if sorted(perm) != list(range(len(operand.shape))):
        raise ValueError(
            f"the permutation {perm} does not name each axis of shape {operand.shape} once")
    # Of nearly every weight: written out, where replace() and generators would take most of the
    # time of a check.
    regions = [
        CopyRegion(
            region.base, region.base_start, tuple([region.start[axis] for axis in perm]),
            tuple([
                LoopAxis(one.count, one.base_axis, one.base_step, perm.index(one.axis), one.step)
                for one in region.counters
            ])) for region in operand.regions
    ]
    return CopyProgram(tuple([operand.shape[axis] for axis in perm]), operand.bases, tuple(regions))


def _sliced(operand: CopyProgram, step: Slice) -> CopyProgram:
    axis, shape = step.axis, operand.shape
    if not 0 <= axis < len(shape) or not 0 <= step.start <= step.stop <= shape[axis]:
        raise ValueError(
            f"entries {step.start} to {step.stop} of axis {axis} do not lie within shape {shape}")
    regions = [
        part for region in operand.regions for part in _within(region, axis, step.start, step.stop)
    ]
    moved = tuple(
        replace(region, start=_put(region.start, axis, region.start[axis] - step.start))
        for region in regions)
    return CopyProgram(_put(shape, axis, step.stop - step.start), operand.bases, _bounded(moved))


def _within(region: CopyRegion, axis: int, start: int, stop: int) -> Iterator[CopyRegion]:
    """The parts of a region whose entries along `axis` lie between `start` and `stop`."""
    own = [counter for counter in region.counters if counter.axis == axis]
    first = region.start[axis]
    last = first + sum(counter.step * (counter.count - 1) for counter in own)
    if first >= start and last < stop:
        yield region
    elif last >= start and first < stop:
        widest = max(own, key=lambda counter: counter.step)
        rest = last - first - widest.step * (widest.count - 1)
        # With this counter at `low` to `high` all entries lie inside; just outside of that some
        # may.
        low = max(0, -(-(start - first) // widest.step))
        high = min(widest.count, (stop - 1 - first - rest) // widest.step + 1)
        if low < high:
            yield _part(region, widest, low, high)
        else:
            high = low = min(max(low, 0), widest.count)
        for index in (*range(low), *range(high, widest.count)) if rest else ():
            lowest = first + index * widest.step
            if lowest < stop and lowest + rest >= start:
                yield from _within(_part(region, widest, index, index + 1), axis, start, stop)


def _part(region: CopyRegion, counter: LoopAxis, low: int, high: int) -> CopyRegion:
    """The region with one counter counting from `low` to `high` - 1 only."""
    base_axis, axis = counter.base_axis, counter.axis
    narrowed = (
        replace(one, count=high - low) if one is counter else one for one in region.counters)
    return CopyRegion(
        region.base,
        _put(region.base_start, base_axis, region.base_start[base_axis] + low * counter.base_step),
        _put(region.start, axis, region.start[axis] + low * counter.step),
        tuple(one for one in narrowed if one.count != 1))


def _concatenated(operands: Sequence[CopyProgram], axis: int) -> CopyProgram:
    if not operands:
        raise ValueError("a concatenation needs at least one operand")
    first = operands[0].shape
    if not 0 <= axis < len(first):
        raise ValueError(f"arrays of shape {first} cannot be concatenated along axis {axis}")
    others = [
        operand.shape
        for operand in operands if _put(operand.shape, axis, 0) != _put(first, axis, 0)
    ]
    if others:
        raise ValueError(
            f"arrays of shapes {first} and {others[0]} cannot be concatenated along axis {axis}")
    placed = []
    offset = 0
    extent = sum(operand.shape[axis] for operand in operands)
    for operand in operands:
        placed.append(_placed(operand, SliceScatter(operand.bases[0], axis, offset, extent)))
        offset += operand.shape[axis]
    return _merged(placed)


def _placed(operand: CopyProgram, step: SliceScatter) -> CopyProgram:
    axis, shape = step.axis, operand.shape
    if not 0 <= axis < len(shape) or not 0 <= step.start <= step.start + shape[axis] <= step.extent:
        raise ValueError(
            f"an array of shape {shape} has no place at {step.start} of {step.extent} entries "
            f"along axis {axis}")
    regions = (replace(region, start=_put(region.start, axis, region.start[axis] + step.start))
               for region in operand.regions)
    return CopyProgram(_put(shape, axis, step.extent), operand.bases, tuple(regions))


def _merged(operands: Sequence[CopyProgram]) -> CopyProgram:
    shapes = {operand.shape for operand in operands}
    if len(shapes) != 1:
        raise ValueError(f"arrays of shapes {sorted(shapes)} cannot be merged into one")
    bases: dict[Expression, int] = {}
    regions: list[CopyRegion] = []
    for operand in operands:
        numbers = [bases.setdefault(base, len(bases)) for base in operand.bases]
        regions += (replace(region, base=numbers[region.base]) for region in operand.regions)
    return CopyProgram(operands[0].shape, tuple(bases), _bounded(regions))


def _reshaped(operand: CopyProgram, shape: Shape) -> CopyProgram:
    check_reshape(operand.shape, shape)
    regions = (
        part for region in operand.regions for part in _on_other_axes(region, operand.shape, shape))
    return CopyProgram(shape, operand.bases, _bounded(regions))


def check_reshape(old: Shape, new: Shape) -> None:
    """Raise ValueError unless the axes of `new` are exact splits or merges of those of `old`."""
    if 0 in old and 0 in new:
        return
    if prod(old) != prod(new):
        raise ValueError(f"a reshape from {old} to {new} changes the number of elements")
    for smaller, larger in zip(*_boundaries(old, new), strict=True):
        if larger % smaller:
            raise ValueError(f"a reshape from {old} to {new} is no exact split or merge of axes")


def _boundaries(old: Shape, new: Shape) -> tuple[list[int], list[int]]:
    """Neighboring strides of the two shapes together: exact when each divides the next."""
    strides = sorted({*_strides(old), *_strides(new), prod(old)})
    return strides[:-1], strides[1:]


def _strides(shape: Shape) -> list[int]:
    """Elements from one entry to the next, by axis, in C order."""
    return [prod(shape[axis + 1:]) for axis in range(len(shape))]


def _on_other_axes(region: CopyRegion, old: Shape, new: Shape) -> Iterator[CopyRegion]:
    """The region in an array of another shape: its counters in elements of C order, then along the
    new axes.
    """
    strides = _strides(old)
    flat = tuple(
        replace(counter, axis=0, step=counter.step * strides[counter.axis])
        for counter in region.counters)
    start = sum(index * stride for index, stride in zip(region.start, strides, strict=True))
    yield from _spread(replace(region, start=(start,), counters=flat), new)


def _spread(region: CopyRegion, shape: Shape) -> Iterator[CopyRegion]:
    """A region of the flat array as regions of an array of `shape`, cut wherever a counter would
    leave its axis.
    """
    strides = _strides(shape)
    start = [
        region.start[0] // stride % max(extent, 1)
        for stride, extent in zip(strides, shape, strict=True)
    ]
    highest = list(start)
    counters = []
    for counter in sorted(region.counters, key=lambda counter: counter.step):
        axis = next(axis for axis, stride in enumerate(strides)
                    if stride <= counter.step and (shape[axis] > 1))
        stride = strides[axis]
        if counter.step % stride:
            yield from _one_by_one(region, counter, shape)
            return
        step = counter.step // stride
        if highest[axis] + step * (counter.count - 1) >= shape[axis]:
            yield from _cut(region, counter, shape, axis, highest[axis])
            return
        highest[axis] += step * (counter.count - 1)
        counters.append(replace(counter, axis=axis, step=step))
    order = {(counter.base_axis, counter.base_step): index
             for index, counter in enumerate(region.counters)}
    counters.sort(key=lambda counter: order[counter.base_axis, counter.base_step])
    yield replace(region, start=tuple(start), counters=tuple(counters))


def _cut(region: CopyRegion, counter: LoopAxis, shape: Shape, axis: int,
         highest: int) -> Iterator[CopyRegion]:
    """The region with one counter cut where it would leave its axis, of which `highest` is the last
    entry taken by finer counters.
    """
    extent, stride = shape[axis], prod(shape[axis + 1:])
    step, row = counter.step // stride, stride * extent
    inside = -(-(extent - highest) // step)  # so many steps stay on the axis
    in_row = row // counter.step if row % counter.step == 0 else 0
    if in_row and inside >= in_row and counter.count % in_row == 0:
        outer = replace(counter, count=counter.count // in_row,
                        base_step=counter.base_step * in_row, step=row)
        inner = replace(counter, count=in_row)
        parts = [
            one for old in region.counters for one in ((outer, inner) if old is counter else (old,))
        ]
        yield from _spread(replace(region, counters=tuple(one for one in parts if one.count != 1)),
                           shape)
    else:
        middle = counter.count - counter.count % in_row if in_row and inside >= in_row else inside
        yield from _spread(_part(region, counter, 0, middle), shape)
        yield from _spread(_part(region, counter, middle, counter.count), shape)


def _one_by_one(region: CopyRegion, counter: LoopAxis, shape: Shape) -> Iterator[CopyRegion]:
    for index in range(counter.count):
        yield from _spread(_part(region, counter, index, index + 1), shape)


def _bounded(regions: Iterable[CopyRegion]) -> tuple[CopyRegion, ...]:
    result = []
    for region in regions:
        result.append(region)
        if len(result) > _MOST_REGIONS:
            raise ValueError(
                f"the movement falls into more than {_MOST_REGIONS} pieces, so it is no layout "
                "of an array")
    return tuple(result)


def _put(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1:])


def move(layout: CopyProgram, bases: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The values in the layout, of bases that all have one type: a new array in C order that shares
    no memory with them.
    """
    result = np.empty(layout.shape, bases[0].dtype)
    for region in layout.regions:
        _core.copy_strided(region.base_view(bases[region.base]), region.view(result))
    return result
