"""What a user's callbacks do to arrays, read off what they do to numbers: most only move values.

The callbacks are called on arrays that hold the numbers of their own elements, once counted upwards
from 1, once as negative numbers in a scrambled order. What comes back tells for each value of the
result which element it is; both numberings must tell the same, so that neither sorting, clipping
nor chance can fool us. A result that is a regular movement becomes Permute, Reshape, Slice and
Concat; the executor still compares it with what the callbacks made of the real values before it is
trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..spec.tensor_spec import Shape
from .copy_program import move
from .expressions import (Concat, Expression, Fill, Permute, Reshape, Slice, Tensor,
                          compile_program, substituted)

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]
# Shape and dtype of an array that callbacks get.
ArraySpec = tuple[Shape, np.dtype[Any]]

# A movement of more pieces along one axis is no layout any more; nested at most so deep.
_MOST_PIECES = 64
_MOST_LEVELS = 3
_MOST_PERMUTED_AXES = 5


@dataclass(frozen=True, slots=True)
class _Operand:
    """One array that the callbacks get, as a tensor, and the numbers of its elements."""

    tensor: Tensor
    numbers: Numbers


def trace_callbacks(call: Callable[[list[Array]], Sequence[Array]], operands: Sequence[Expression],
                    kinds: Sequence[ArraySpec]) -> tuple[Expression | None, ...]:
    """Call the user's callbacks twice on numbered arrays.

    What the callbacks raise on numbers goes through to the caller, for whom it means that they look
    at values.

    Args:
        call: Runs the callbacks on a list of arrays.
        operands: The expressions of these arrays.
        kinds: Their shapes and dtypes; where a dtype cannot hold all numbers the array is float64.

    Returns:
        What each array that the callbacks return is made of, None where it is no regular movement.
    """
    count = sum(prod(shape) for shape, _ in kinds)
    upwards = np.arange(1, count + 1, dtype=np.int64)
    scrambled = -1 - (np.arange(count, dtype=np.int64) * _coprime(count) + count // 3) % max(
        count, 1)
    results = call(_numbered(upwards, kinds))
    others = call(_numbered(scrambled, kinds))
    if len(results) != len(others):
        return (None,) * len(results)
    back = np.empty(count + 1, np.int64)
    back[-scrambled] = np.arange(count)
    known = [
        _Operand(Tensor(str(index)), numbers)
        for index, numbers in enumerate(_split(upwards - 1, [shape for shape, _ in kinds]))
    ]
    named = {str(index): operand for index, operand in enumerate(operands)}
    found = [
        _traced(result, other, back, known) for result, other in zip(results, others, strict=True)
    ]
    return tuple(None if one is None else substituted(one, named) for one in found)


def _split(numbers: Numbers, shapes: Sequence[Shape]) -> list[Numbers]:
    bounds = np.cumsum([prod(shape) for shape in shapes])[:-1]
    return [
        part.reshape(shape) for part, shape in zip(np.split(numbers, bounds), shapes, strict=True)
    ]


def _numbered(numbers: Numbers, kinds: Sequence[ArraySpec]) -> list[Array]:
    parts = _split(numbers, [shape for shape, _ in kinds])
    return [
        part.astype(dtype if _holds(dtype, len(numbers)) else np.float64)
        for part, (_, dtype) in zip(parts, kinds, strict=True)
    ]


def _holds(dtype: np.dtype[Any], count: int) -> bool:
    """Return whether the dtype holds every integer from -count to count exactly."""
    if dtype.kind == "f":
        return bool(count <= 2**(np.finfo(dtype).nmant + 1))
    return dtype.kind == "i" and bool(count <= np.iinfo(dtype).max)


def _coprime(count: int) -> int:
    """Return a step that visits each of `count` numbers once and leaves no neighbors together."""
    step = max(1, int(count * 0.618))
    while np.gcd(step, max(count, 1)) != 1:
        step += 1
    return step


def _traced(result: Array, other: Array, back: Numbers,
            operands: Sequence[_Operand]) -> Expression | None:
    """Return the expression of one result, given what came back for both numberings."""
    if result.shape != other.shape or result.dtype.kind not in "fiu" or not result.size:
        return None
    if (result == other).all():
        value = result.reshape(-1)[0]
        one_value = (result == value).all() and np.isfinite(value)
        return Fill(float(value), result.shape) if one_value else None
    count = len(back) - 1
    if not (_are_numbers(result, 1, count) and _are_numbers(other, -count, -1)):
        return None
    elements = result.astype(np.int64) - 1
    if not np.array_equal(back[-other.astype(np.int64)], elements):
        return None
    expression = _movement(elements, operands, _MOST_LEVELS)
    if expression is None or not np.array_equal(_gathered(expression, operands), elements):
        return None
    return expression


def _are_numbers(array: Array, least: int, most: int) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(((array >= least) & (array <= most) & (np.floor(array) == array)).all())


def _gathered(expression: Expression, operands: Sequence[_Operand]) -> Numbers:
    """Return what the expression makes of the numbers of the elements."""
    arrays: dict[Expression, Numbers] = {one.tensor: one.numbers for one in operands}
    program = compile_program(expression, lambda tensor: arrays[tensor].shape)
    return move(program, [arrays[tensor] for tensor in program.bases])


def _movement(elements: Numbers, operands: Sequence[_Operand], levels: int) -> Expression | None:
    """Return an expression for the elements with these numbers, in this shape.

    None means that they do not follow each other like those of an array. What is irregular only
    here and there shows when the result is checked.
    """
    first = elements.flat[0]
    operand = next(
        one for one in reversed(operands) if one.numbers.size and one.numbers.flat[0] <= first)
    loops = _loops(elements)
    found = None if loops is None else _of_one_operand(elements, loops, operand)
    if found is not None or levels == 0:
        return found
    for axis, extent in enumerate(elements.shape):
        cuts = _cuts(elements, axis)
        if not cuts or len(cuts) >= _MOST_PIECES:
            continue
        parts: list[Expression] = []
        for start, stop in pairwise([0, *cuts, extent]):
            piece = _movement(elements.take(range(start, stop), axis), operands, levels - 1)
            if piece is None:
                break
            parts.append(piece)
        else:
            return Concat(tuple(parts), axis)
    return None


# Count, elements from one to the next, and axis of the result; of each axis the slowest first.
_Loop = tuple[int, int, int]


def _loops(elements: Numbers) -> list[_Loop] | None:
    """Return the loops that make up the elements, None when an element is no sum of what each axis
    contributes.
    """
    start = elements.flat[0]
    total = np.full((), start, np.int64)
    loops: list[_Loop] = []
    for axis in range(elements.ndim):
        line = np.moveaxis(elements, axis, 0).reshape(elements.shape[axis], -1)[:, 0] - start
        total = total[..., None] + line
        loops += [(count, step, axis) for count, step in _radices(line)]
    return loops if np.array_equal(total, elements) else None


def _radices(line: Numbers) -> list[tuple[int, int]]:
    """Return counts and steps of one axis, the slowest first, from the offsets of its entries."""
    found: list[tuple[int, int]] = []
    while len(line) > 1:
        steps = np.diff(line)
        step = int(steps[0])
        run = len(line) if (steps == step).all() else int(np.argmax(steps != step)) + 1
        while len(line) % run:
            run -= 1
        if run == 1:
            return [(len(line), 0), *found]  # no loop at all, which a step of 0 says
        found.insert(0, (run, step))
        line = line[::run]
    return found


def _of_one_operand(elements: Numbers, loops: Sequence[_Loop],
                    operand: _Operand) -> Expression | None:
    """Return the loops over one operand as a reshape that gives each its own axis, slices, a
    permutation, and the reshape to the result; None when they are no such thing.
    """
    numbers, tensor = operand.numbers, operand.tensor
    if elements.size == numbers.size and np.array_equal(elements.ravel(), numbers.ravel()):
        return _reshaped(tensor, numbers.shape, elements.shape)
    if elements.ndim == numbers.ndim <= _MOST_PERMUTED_AXES:
        for perm in permutations(range(numbers.ndim)):
            if np.array_equal(numbers.transpose(perm), elements):
                return Permute(tensor, perm)
    if any(step <= 0 for _, step, _ in loops):
        return None
    axes: list[int] = []
    taken: list[tuple[int, int]] = []
    rest, start = numbers.size, int(elements.flat[0] - numbers.flat[0])
    order = sorted(range(len(loops)), key=lambda index: -loops[index][1])
    for index in order:
        count, step, _ = loops[index]
        if rest % step or start // step + count > rest // step:
            return None
        axes.append(rest // step)
        taken.append((start // step, start // step + count))
        start, rest = start % step, step
    if rest > 1:
        axes.append(rest)
        taken.append((start, start + 1))
    result = _reshaped(tensor, numbers.shape, tuple(axes))
    for axis, (first, stop) in enumerate(taken):
        if (first, stop) != (0, axes[axis]):
            result = Slice(result, axis, first, stop)
    perm = (*(order.index(index) for index in range(len(loops))), *range(len(loops), len(axes)))
    if perm != tuple(range(len(perm))):
        result = Permute(result, perm)
    return _reshaped(result, tuple(taken[axis][1] - taken[axis][0] for axis in perm),
                     elements.shape)


def _reshaped(expression: Expression, old: Shape, new: Shape) -> Expression:
    return expression if old == new else Reshape(expression, new)


def _cuts(elements: Numbers, axis: int) -> list[int]:
    """Return where along an axis the elements stop following each other: other steps than the
    usual one, everywhere when it is not upwards.
    """
    lines = np.moveaxis(elements, axis, 0).reshape(elements.shape[axis], -1)
    if len(lines) < 2:
        return []
    values, counts = np.unique(np.diff(lines[:, 0]), return_counts=True)
    usual = values[np.argmax(counts)]
    if usual <= 0 or counts.max() == 1:
        return list(range(1, len(lines)))
    regular = (np.diff(lines, axis=0) == usual).all(axis=1)
    return [int(cut) + 1 for cut in np.flatnonzero(~regular)]
