"""Awkward arrays for the tests of the C core: the same numbers in every layout that NumPy allows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]


def numbers(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Array:
    """Whole numbers below 100, exact in every type, different enough to notice an exchange."""
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def stepped(array: Array, steps: list[int]) -> Array:
    """A view that takes steps of its own along each axis; of no axis as well."""
    index: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
    view: Array = array[index]
    return view


def unaligned(array: Array) -> Array:
    """The same values one byte off every boundary."""
    memory = np.empty(array.nbytes + 1, np.uint8)
    moved = memory[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def with_gaps(array: Array) -> Array:
    """The same values as every other element along each axis of a larger array."""
    larger = np.zeros(tuple(2 * length for length in array.shape), array.dtype)
    view = stepped(larger, [2] * array.ndim)
    view[...] = array
    return view


def turned(array: Array) -> Array:
    """A view with every axis the other way round."""
    return stepped(array, [-1] * array.ndim)


def backwards(array: Array) -> Array:
    """The same values with every stride negative."""
    return turned(turned(array).copy())


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C order": lambda array: array.copy("C"), "Fortran order": lambda array: array.copy("F"),
    "unaligned": unaligned, "with gaps": with_gaps, "backwards": backwards
}

SHAPES: list[tuple[int, ...]] = [(), (1,), (7,), (0,), (3, 0, 5), (1, 1, 1), (16, 16), (33, 17),
                                 (64, 3, 7, 7), (20, 1, 5, 5), (5, 4, 3, 2, 3, 2)]

DTYPES = [
    "bool", "int8", "uint8", "int16", "float16", "float32", "int32", "float64", "int64",
    "longdouble"
]


@st.composite
def transposed_views(draw: st.DrawFn) -> Array:
    """A view with axes permuted, sliced and turned round, of any plain type."""
    shape = tuple(draw(st.lists(st.integers(1, 20), min_size=0, max_size=4)))
    array = numbers(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 9)))
    array = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array)
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1])) for _ in shape]
    return stepped(array, steps)
