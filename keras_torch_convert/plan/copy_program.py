"""Data movement as strided copies: any nesting of permutations, reshapes, slices and
concatenations, in one pass over memory.

A program is a list of regions. A region is a set of loops, each of which walks along one axis of a
base array (what the program takes from) and along one axis of the result. To cut an axis into
several only cuts loops, so that every region stays a strided view on both sides: one call of the
copy kernel each. To exchange the two sides is the inverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..spec.tensor_spec import Shape
from .coverage import AxisEntries

Array = npt.NDArray[Any]
# A movement in more pieces than this is no layout of a layer, and would copy element by element.
_MOST_REGIONS = 100_000


@dataclass(frozen=True, slots=True)
class LoopAxis:
    """`count` steps, each of `base_step` entries along `base_axis` and `step` entries along `axis`
    of the result.
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
    loops: tuple[LoopAxis, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(loop.count for loop in self.loops)

    def base_view(self, base: Array) -> Array:
        """Return the region's elements in the base, one axis for each loop."""
        return _view(base, self.base_start, self._base_loops())

    def view(self, result: Array) -> Array:
        """Return the region's elements in the result, one axis for each loop."""
        return _view(result, self.start, self._loops())

    def base_entries(self) -> tuple[AxisEntries, ...]:
        """Return for each axis of the base the entries that the region takes."""
        return _by_axis(self.base_start, self._base_loops())

    def entries(self) -> tuple[AxisEntries, ...]:
        """Return for each axis of the result the entries that the region fills."""
        return _by_axis(self.start, self._loops())

    def in_box(self, shape: Shape, grain: Shape) -> tuple[list[tuple[int, int]], CopyRegion]:
        """Return the range of entries along each axis of a base of `shape` that the region takes,
        from a multiple of `grain` on, and the region as one of that box alone.
        """
        box = []
        for (first, loops), extent, step in zip(self.base_entries(), shape, grain, strict=True):
            last = first + sum(stride * (count - 1) for count, stride in loops)
            box.append((first - first % step, min(last - last % step + step, extent)))
        start = tuple(first - low for first, (low, _) in zip(self.base_start, box, strict=True))
        return box, replace(self, base_start=start)

    def as_base(self, target: Array, shape: Shape) -> Array | None:
        """Return an array with an axis for each loop as one of the base's `shape`, without a copy;
        None where it is none, or the region not all of the base.
        """
        strides = []
        for axis, extent in enumerate(shape):
            covered, first = 1, target.itemsize
            for step, count, stride in sorted(
                (loop.base_step, loop.count, stride)
                    for loop, stride in zip(self.loops, target.strides, strict=True)
                    if loop.base_axis == axis):
                first = stride if covered == 1 else first
                if step != covered or stride != covered * first:
                    return None
                covered *= count
            if covered != extent:
                return None
            strides.append(first)
        view: Array = _core.strided_view(target, 0, shape, strides)
        return view

    def _base_loops(self) -> list[_Loop]:
        return [(loop.base_axis, loop.count, loop.base_step) for loop in self.loops]

    def _loops(self) -> list[_Loop]:
        return [(loop.axis, loop.count, loop.step) for loop in self.loops]


# Axis, count and step on one side.
_Loop = tuple[int, int, int]


def _view(array: Array, start: tuple[int, ...], loops: list[_Loop]) -> Array:
    steps = array.strides
    offset = sum([index * step for index, step in zip(start, steps, strict=True)])
    return _core.strided_view(array, offset, [count for _, count, _ in loops],
                              [steps[axis] * step for axis, _, step in loops])


def _by_axis(start: tuple[int, ...], loops: list[_Loop]) -> tuple[AxisEntries, ...]:
    return tuple((first, tuple((count, step) for one, count, step in loops if one == axis))
                 for axis, first in enumerate(start))


@dataclass(frozen=True, slots=True)
class CopyProgram:
    """The result's shape, the bases (expressions that are no movement), and what goes where."""

    shape: Shape
    bases: tuple[Any, ...]
    regions: tuple[CopyRegion, ...]

    def of(self, *bases: Any) -> CopyProgram:
        """Return the same program for other bases of the same shapes."""
        return CopyProgram(self.shape, bases, self.regions)

    def in_order(self) -> CopyProgram:
        """Return the program with the loops of each region from the slowest in the result to the
        fastest.
        """
        regions = [
            CopyRegion(one.base, one.base_start, one.start,
                       tuple(sorted(one.loops, key=self._distance, reverse=True)))
            for one in self.regions
        ]
        return CopyProgram(self.shape, self.bases, tuple(regions))

    def is_one_view(self) -> bool:
        """Return whether the result is, in C order, the `base_view` of its only region; the loops
        must be in order.
        """
        if len(self.regions) != 1:
            return False
        following = prod(self.shape)
        for loop in self.regions[0].loops:
            following //= loop.count
            if self._distance(loop) != following:
                return False
        return following == 1

    def _distance(self, loop: LoopAxis) -> int:
        """Return the entries of the result, in C order, from one step to the next."""
        return loop.step * prod(self.shape[loop.axis + 1:])


def whole(base: Any, shape: Shape) -> CopyProgram:
    """Take a base as it is."""
    loops = tuple(
        [LoopAxis(extent, axis, 1, axis, 1) for axis, extent in enumerate(shape) if extent != 1])
    zeros = (0,) * len(shape)
    regions = () if 0 in shape else (CopyRegion(0, zeros, zeros, loops),)
    return CopyProgram(shape, (base,), regions)


def permuted(operand: CopyProgram, perm: tuple[int, ...], shape: Shape) -> CopyProgram:
    """Reorder the axes of the result: axis i is axis `perm[i]` of the operand."""
    # Of nearly every weight: written out, where replace() and generators would take most of the
    # time of a check.
    regions = [
        CopyRegion(
            region.base, region.base_start, tuple([region.start[axis] for axis in perm]),
            tuple([
                LoopAxis(one.count, one.base_axis, one.base_step, perm.index(one.axis), one.step)
                for one in region.loops
            ])) for region in operand.regions
    ]
    return CopyProgram(shape, operand.bases, tuple(regions))


def sliced(operand: CopyProgram, axis: int, start: int, stop: int, shape: Shape) -> CopyProgram:
    """Keep the entries `start` to `stop` of one axis."""
    regions = (replace(part, start=_put(part.start, axis, part.start[axis] - start))
               for region in operand.regions for part in _within(region, axis, start, stop))
    return CopyProgram(shape, operand.bases, _bounded(regions))


def _within(region: CopyRegion, axis: int, start: int, stop: int) -> Iterator[CopyRegion]:
    """Yield the parts of a region whose entries along `axis` lie between `start` and `stop`."""
    own = [loop for loop in region.loops if loop.axis == axis]
    first = region.start[axis]
    last = first + sum(loop.step * (loop.count - 1) for loop in own)
    if first >= start and last < stop:
        yield region
    elif last >= start and first < stop:
        widest = max(own, key=lambda loop: loop.step)
        rest = last - first - widest.step * (widest.count - 1)
        # With this loop at `low` to `high` all entries lie inside; just outside of that some
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


def _part(region: CopyRegion, loop: LoopAxis, low: int, high: int) -> CopyRegion:
    """Return the region with the steps `low` to `high` - 1 of one loop only."""
    base_axis, axis = loop.base_axis, loop.axis
    narrowed = (replace(one, count=high - low) if one is loop else one for one in region.loops)
    return CopyRegion(
        region.base,
        _put(region.base_start, base_axis, region.base_start[base_axis] + low * loop.base_step),
        _put(region.start, axis, region.start[axis] + low * loop.step),
        tuple(one for one in narrowed if one.count != 1))


def split(region: CopyRegion, size: int) -> Iterator[CopyRegion]:
    """Yield parts of at most `size` elements that follow each other along the first loops."""
    if region.size <= size:
        yield region
        return
    loop = region.loops[0]
    step = max(1, size // (region.size // loop.count))
    for low in range(0, loop.count, step):
        yield from split(_part(region, loop, low, min(low + step, loop.count)), size)


def scattered(operand: CopyProgram, axis: int, start: int, shape: Shape) -> CopyProgram:
    """Move the operand along one axis of a larger array; nothing goes to the other entries."""
    regions = (replace(region, start=_put(region.start, axis, region.start[axis] + start))
               for region in operand.regions)
    return CopyProgram(shape, operand.bases, tuple(regions))


def overlaid(operands: Sequence[CopyProgram]) -> CopyProgram:
    """Join operands of one shape that go to different entries."""
    bases: dict[Any, int] = {}
    regions: list[CopyRegion] = []
    for operand in operands:
        numbers = [bases.setdefault(base, len(bases)) for base in operand.bases]
        regions += (replace(region, base=numbers[region.base]) for region in operand.regions)
    return CopyProgram(operands[0].shape, tuple(bases), _bounded(regions))


def reshaped(operand: CopyProgram, shape: Shape) -> CopyProgram:
    """Give the result another shape, which `check_reshape` allows."""
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
    """Return neighboring strides of both shapes together: exact when each divides the next."""
    strides = sorted({*_strides(old), *_strides(new), prod(old)})
    return strides[:-1], strides[1:]


def _strides(shape: Shape) -> list[int]:
    """Return the elements from one entry to the next, by axis, in C order."""
    return [prod(shape[axis + 1:]) for axis in range(len(shape))]


def _on_other_axes(region: CopyRegion, old: Shape, new: Shape) -> Iterator[CopyRegion]:
    """Yield the region in an array of another shape: its loops in elements of C order, then along
    the new axes.
    """
    strides = _strides(old)
    flat = tuple(
        replace(loop, axis=0, step=loop.step * strides[loop.axis]) for loop in region.loops)
    start = sum(index * stride for index, stride in zip(region.start, strides, strict=True))
    yield from _spread(replace(region, start=(start,), loops=flat), new)


def _spread(region: CopyRegion, shape: Shape) -> Iterator[CopyRegion]:
    """Yield a region of the flat array as regions of an array of `shape`, cut wherever a loop would
    leave its axis.
    """
    strides = _strides(shape)
    start = [
        region.start[0] // stride % max(extent, 1)
        for stride, extent in zip(strides, shape, strict=True)
    ]
    highest = list(start)
    loops = []
    for loop in sorted(region.loops, key=lambda loop: loop.step):
        axis = next(axis for axis, stride in enumerate(strides)
                    if stride <= loop.step and (shape[axis] > 1))
        stride = strides[axis]
        if loop.step % stride:
            for index in range(loop.count):
                yield from _spread(_part(region, loop, index, index + 1), shape)
            return
        step = loop.step // stride
        if highest[axis] + step * (loop.count - 1) >= shape[axis]:
            yield from _cut(region, loop, shape, axis, highest[axis])
            return
        highest[axis] += step * (loop.count - 1)
        loops.append(replace(loop, axis=axis, step=step))
    yield replace(region, start=tuple(start), loops=tuple(loops))


def _cut(region: CopyRegion, loop: LoopAxis, shape: Shape, axis: int,
         highest: int) -> Iterator[CopyRegion]:
    """Yield the region with one loop cut where it would leave its axis; finer loops reach up to its
    entry `highest`.
    """
    extent, stride = shape[axis], prod(shape[axis + 1:])
    step, row = loop.step // stride, stride * extent
    inside = -(-(extent - highest) // step)  # so many steps stay on the axis
    in_row = row // loop.step if row % loop.step == 0 else 0
    if in_row and inside >= in_row and loop.count % in_row == 0:
        outer = replace(loop, count=loop.count // in_row, base_step=loop.base_step * in_row,
                        step=row)
        inner = replace(loop, count=in_row)
        parts = [one for old in region.loops for one in ((outer, inner) if old is loop else (old,))]
        yield from _spread(replace(region, loops=tuple(one for one in parts if one.count != 1)),
                           shape)
    else:
        middle = loop.count - loop.count % in_row if in_row and inside >= in_row else inside
        yield from _spread(_part(region, loop, 0, middle), shape)
        yield from _spread(_part(region, loop, middle, loop.count), shape)


def _bounded(regions: Iterable[CopyRegion]) -> tuple[CopyRegion, ...]:
    found = tuple(islice(regions, _MOST_REGIONS + 1))
    if len(found) > _MOST_REGIONS:
        raise ValueError(
            f"the movement falls into more than {_MOST_REGIONS} pieces, so it is no layout of an "
            "array")
    return found


def _put(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1:])


def move(program: CopyProgram, bases: Sequence[Array], into: Array | None = None) -> Array:
    """Run a program on bases that all have one dtype.

    Returns `into`, or without it a new array in C order, which shares no memory with them.
    """
    result = np.empty(program.shape, bases[0].dtype) if into is None else into
    for region in program.regions:
        _core.copy_strided(region.base_view(bases[region.base]), region.view(result))
    return result
