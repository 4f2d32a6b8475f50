"""Data movement as strided copies: any nesting of permutations, reshapes, slices and
concatenations, in one pass over memory.

A movement is a list of regions. A region is a set of counters, each of which walks along one axis
of a base array (what the movement takes from) and along one axis of the result. To cut an axis into
several only cuts counters, so that every region stays a strided view on both sides: one call of the
copy kernel each. To exchange the two sides is the inverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..spec.tensor_spec import Shape
from .coverage import AxisEntries

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
    bases: tuple[Any, ...]
    regions: tuple[CopyRegion, ...]

    def of(self, *bases: Any) -> CopyProgram:
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


def whole(base: Any, shape: Shape) -> CopyProgram:
    """Take a base as it is."""
    counters = tuple(
        [LoopAxis(extent, axis, 1, axis, 1) for axis, extent in enumerate(shape) if extent != 1])
    nowhere = (0,) * len(shape)
    return CopyProgram(shape, (base,), () if 0 in shape else
                       (CopyRegion(0, nowhere, nowhere, counters),))


def permuted(operand: CopyProgram, perm: tuple[int, ...], shape: Shape) -> CopyProgram:
    """Reorder the axes of the result: axis i is axis `perm[i]` of the operand."""
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
    return CopyProgram(shape, operand.bases, tuple(regions))


def sliced(operand: CopyProgram, axis: int, start: int, stop: int, shape: Shape) -> CopyProgram:
    """Keep the entries `start` to `stop` of one axis."""
    regions = (replace(part, start=_put(part.start, axis, part.start[axis] - start))
               for region in operand.regions for part in _within(region, axis, start, stop))
    return CopyProgram(shape, operand.bases, _bounded(regions))


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
