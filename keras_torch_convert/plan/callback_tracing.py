"""What a user's callbacks do to arrays, read off what they do to numbers: most only move values.

The callbacks are called on arrays that hold the numbers of their own elements, once counted upwards
from 1, once as negative numbers in a scrambled order. What comes back tells for each value of the
result which element it is; both numberings must tell the same, so that neither sorting, clipping
nor chance can fool us. A result that is a regular movement becomes Permute, Reshape, Slice and
Concat; the executor still compares it with what the callbacks made of the real values before it is
trusted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .expressions import Concat, Expression, Fill, Permute, Reshape, Slice

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]

# A movement of more pieces along one axis is no layout any more; nested at most so deep.
_MOST_PIECES = 64
_MOST_LEVELS = 3


@dataclass(frozen=True, slots=True)
class _Operand:
    """One array that the callbacks get: its expression, its shape, and the number of its first
    element.
    """

    expression: Expression
    shape: tuple[int, ...]
    first: int

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Recording:
    """What each array that the callbacks return is made of: the expression, None where it is no
    regular movement.
    """

    outputs: tuple[Expression | None, ...]


def trace_callbacks(call: Callable[[list[Array]], Sequence[Array]], operands: Sequence[Expression],
                    kinds: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> Recording:
    """Call the user's callbacks twice on numbered arrays, and say what their results are made of.

    `kinds` are shape and type of each operand as the callbacks get it; where the type cannot hold
    all numbers the arrays are float64. What the callbacks raise on numbers goes through to the
    caller, for whom it means that they look at values.
    """
    known: list[_Operand] = []
    first = 0
    for expression, (shape, _) in zip(operands, kinds, strict=True):
        known.append(_Operand(expression, shape, first))
        first += prod(shape)
    upwards = np.arange(1, first + 1, dtype=np.int64)
    scrambled = -1 - (np.arange(first, dtype=np.int64) * _coprime(first) + first // 3) % max(
        first, 1)
    dtypes = [dtype if _holds(dtype, first) else np.dtype(np.float64) for _, dtype in kinds]
    results = call(_numbered(known, upwards, dtypes))
    others = call(_numbered(known, scrambled, dtypes))
    if len(results) != len(others):
        return Recording((None,) * len(results))
    back = np.empty(first + 1, np.int64)
    back[-scrambled] = np.arange(first)
    return Recording(
        tuple(
            _recorded(result, other, back, known)
            for result, other in zip(results, others, strict=True)))


def _numbered(operands: Sequence[_Operand], numbers: Numbers,
              dtypes: Sequence[np.dtype[Any]]) -> list[Array]:
    return [
        numbers[one.first:one.first + one.size].astype(dtype).reshape(one.shape)
        for one, dtype in zip(operands, dtypes, strict=True)
    ]


def _holds(dtype: np.dtype[Any], count: int) -> bool:
    """True when the type holds every whole number from -count to count exactly."""
    if dtype.kind == "f":
        return bool(count <= 2**(np.finfo(dtype).nmant + 1))
    return dtype.kind == "i" and bool(count <= np.iinfo(dtype).max)


def _coprime(count: int) -> int:
    """A step that visits each of `count` numbers once and leaves no neighbors together."""
    step = max(1, int(count * 0.618))
    while np.gcd(step, max(count, 1)) != 1:
        step += 1
    return step


def _recorded(result: Array, other: Array, back: Numbers,
              operands: Sequence[_Operand]) -> Expression | None:
    """The expression of one result, given what came back for both numberings."""
    if result.shape != other.shape or result.dtype.kind not in "fiu":
        return None
    if not result.size:
        return None
    if (result == other).all():
        value = result.reshape(-1)[0]
        return Fill(float(value),
                    result.shape) if (result == value).all() and np.isfinite(value) else None
    count = len(back) - 1
    if not (_are_numbers(result, 1, count) and _are_numbers(other, -count, -1)):
        return None
    elements = result.astype(np.int64) - 1
    if not np.array_equal(back[-other.astype(np.int64)], elements):
        return None
    try:
        expression = _movement(elements, operands, _MOST_LEVELS)
    except _IrregularError:
        return None
    return expression if np.array_equal(_gathered(expression, operands), elements) else None


def _are_numbers(array: Array, least: int, most: int) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(((array >= least) & (array <= most) & (np.floor(array) == array)).all())


class _IrregularError(Exception):
    """The elements do not follow each other like those of an array."""


def _movement(elements: Numbers, operands: Sequence[_Operand], levels: int) -> Expression:
    """The expression whose values are the elements with these numbers, in this shape."""
    counters = _counters(elements)
    if counters is not None:
        owner = next(
            one for one in reversed(operands) if one.first <= elements.flat[0] and one.size)
        try:
            return _of_one_operand(elements, counters, owner)
        except _IrregularError:
            if elements.ndim == 0:
                raise
    if levels == 0:
        raise _IrregularError
    for axis, extent in enumerate(elements.shape):
        cuts = _cuts(elements, axis)
        if not cuts or len(cuts) >= _MOST_PIECES:
            continue
        bounds = [0, *cuts, extent]
        try:
            parts = tuple(
                _movement(elements.take(range(start, stop), axis), operands, levels - 1)
                for start, stop in itertools.pairwise(bounds))
        except _IrregularError:
            continue
        return Concat(parts, axis)
    raise _IrregularError


# Along one axis of the result: (how many entries, elements from one to the next), the slowest
# first.
_Counters = list[list[tuple[int, int]]]


def _counters(elements: Numbers) -> _Counters | None:
    """For each axis the counters that make it up, None when the element is no sum of what each axis
    contributes.
    """
    start = int(elements.flat[0])
    total = np.full((), start, np.int64)
    counters: _Counters = []
    for axis in range(elements.ndim):
        line = np.moveaxis(elements, axis, 0).reshape(elements.shape[axis], -1)[:, 0] - start
        total = total[..., None] + line
        counters.append(_radices(line))
    return counters if np.array_equal(total, elements) else None


def _radices(line: Numbers) -> list[tuple[int, int]]:
    """Counters of one axis, the slowest first, from the offsets of its entries; what is irregular
    shows when the result is checked.
    """
    found: list[tuple[int, int]] = []
    while len(line) > 1:
        step = int(line[1] - line[0])
        run = len(line) if (np.diff(line)
                            == step).all() else int(np.argmax(np.diff(line) != step)) + 1
        while len(line) % run:
            run -= 1
        if run == 1:
            return [(len(line), 0), *found]  # no counter at all, which a step of 0 says
        found.insert(0, (run, step))
        line = line[::run]
    return found


def _of_one_operand(elements: Numbers, counters: _Counters, owner: _Operand) -> Expression:
    """Counters over one operand as a reshape that gives each its own axis, slices, a permutation,
    and the reshape to the result.
    """
    flat = [(count, step, axis) for axis, line in enumerate(counters) for count, step in line]
    if any(step <= 0 for _, step, _ in flat):
        raise _IrregularError
    order = sorted(range(len(flat)), key=lambda index: -flat[index][1])
    axes: list[int] = [
    ]  # extents of the operand with an axis for each counter, and one for what lies between
    taken: list[tuple[int, int]] = []
    position: dict[int, int] = {}
    rest, start = owner.size, int(elements.flat[0]) - owner.first
    for index in order:
        count, step, _ = flat[index]
        if rest % step:
            raise _IrregularError
        position[index] = len(axes)
        axes.append(rest // step)
        first = start // step
        if first + count > rest // step:
            raise _IrregularError
        taken.append((first, first + count))
        start, rest = start % step, step
    if rest > 1:
        axes.append(rest)
        taken.append((start, start + 1))
    result = _reshaped(owner.expression, owner.shape, tuple(axes), taken)
    perm = tuple(position[index] for index in range(len(flat)))
    perm = (*perm, *(axis for axis in range(len(axes)) if axis not in perm))
    if perm == tuple(range(len(axes))) or not flat:
        shape = tuple(stop - begin for begin, stop in taken)
    else:
        shape = tuple(taken[axis][1] - taken[axis][0] for axis in perm)
        result = Permute(result, perm)
    if not axes and owner.shape == elements.shape:
        return owner.expression
    return result if shape == elements.shape else _simpler(Reshape(result, elements.shape), owner)


def _reshaped(operand: Expression, shape: tuple[int, ...], axes: tuple[int, ...],
              taken: Sequence[tuple[int, int]]) -> Expression:
    result = operand if shape == axes else Reshape(operand, axes)
    for axis, (first, stop) in enumerate(taken):
        if (first, stop) != (0, axes[axis]):
            result = Slice(result, axis, first, stop)
    return result


def _simpler(expression: Reshape, owner: _Operand) -> Expression:
    """A permutation of the operand's own axes, where reshapes do no more than drop and add axes of
    size 1.
    """
    inner = expression.operand
    moved = inner.operand if isinstance(inner, Permute) else inner
    if isinstance(moved, Reshape) and moved.operand == owner.expression:
        if not isinstance(inner, Permute):
            return owner.expression if expression.shape == owner.shape else Reshape(
                owner.expression, expression.shape)
        kept = [axis for axis, extent in enumerate(owner.shape) if extent != 1]
        if moved.shape == tuple(owner.shape[axis] for axis in kept) and len(
                expression.shape) == len(owner.shape):
            ones = [axis for axis, extent in enumerate(owner.shape) if extent == 1]
            wanted = [kept[axis] for axis in inner.perm]
            if sorted(expression.shape) == sorted(owner.shape):
                perm = tuple(
                    (wanted if extent != 1 else ones).pop(0) for extent in expression.shape)
                if tuple(owner.shape[axis] for axis in perm) == expression.shape:
                    return owner.expression if perm == tuple(range(len(perm))) else Permute(
                        owner.expression, perm)
    return expression


def _cuts(elements: Numbers, axis: int) -> list[int]:
    """Where along an axis the elements stop following each other: other steps than the usual one,
    everywhere when it is not upwards.
    """
    lines = np.moveaxis(elements, axis, 0).reshape(elements.shape[axis], -1)
    if len(lines) < 2:
        return []
    steps = np.diff(lines[:, 0])
    values, counts = np.unique(steps, return_counts=True)
    usual = int(values[np.argmax(counts)])
    if usual <= 0 or counts.max() == 1:
        return list(range(1, len(lines)))
    regular = (np.diff(lines, axis=0) == usual).all(axis=1)
    return [int(cut) + 1 for cut in np.flatnonzero(~regular)]


def _gathered(expression: Expression, operands: Sequence[_Operand]) -> Numbers:
    """What the expression makes of the numbers of the elements."""
    for one in operands:
        if expression == one.expression:
            return np.arange(one.first, one.first + one.size).reshape(one.shape)
    match expression:
        case Permute():
            return np.transpose(_gathered(expression.operand, operands), expression.perm)
        case Reshape():
            return _gathered(expression.operand, operands).reshape(expression.shape)
        case Slice():
            operand = _gathered(expression.operand, operands)
            return operand.take(range(expression.start, expression.stop), expression.axis)
        case Concat():
            return np.concatenate([_gathered(operand, operands) for operand in expression.operands],
                                  expression.axis)
        case _:
            raise AssertionError(f"{type(expression).__name__} is no movement that is recorded")
