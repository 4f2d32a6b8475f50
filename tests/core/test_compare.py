"""compare tells how far two outputs are apart, and where a difference cannot be a number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from keras_torch_convert import _core
from tests.helpers.array_zoo import LAYOUTS, SHAPES, numbers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_largest_difference_and_largest_value_are_found(dtype: str) -> None:
    first = np.array([1.0, -4.0, 2.0], dtype)
    second = np.array([1.5, -4.0, 2.25], dtype)
    assert _core.compare(first, second) == (0.5, 4.0, 0)


def test_places_where_one_side_is_not_a_number_are_counted_apart() -> None:
    first = np.array([np.nan, np.nan, np.inf, np.inf, np.inf, 7.0])
    second = np.array([np.nan, 1.0, np.inf, -np.inf, 2.0, 7.5])
    assert _core.compare(first, second) == (0.5, 7.0, 3)


def test_nothing_to_compare_is_no_difference() -> None:
    assert _core.compare(np.zeros((3, 0)), np.zeros((3, 0))) == (0.0, 0.0, 0)


@settings(max_examples=200)
@given(data=st.data(), dtype=st.sampled_from(["float32", "float64"]))
def test_equal_to_numpy(data: st.DataObject, dtype: str) -> None:
    shape = data.draw(hypothesis_numpy.array_shapes(max_dims=3, min_side=0, max_side=6))
    elements = st.floats(width=32)
    first = data.draw(hypothesis_numpy.arrays(dtype, shape, elements=elements))
    second = data.draw(hypothesis_numpy.arrays(dtype, shape, elements=elements))
    wide_first, wide_second = first.astype(np.float64), second.astype(np.float64)
    both = np.isfinite(first) & np.isfinite(second)
    difference = np.abs(wide_first[both] - wide_second[both]).max(initial=0.0)
    magnitude = np.abs(wide_first[np.isfinite(first)]).max(initial=0.0)
    unlike = ~both & ~(np.isnan(first) & np.isnan(second)) & (first != second)
    assert _core.compare(first, second) == (difference, magnitude, unlike.sum())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_does_not_matter(layout: str, shape: tuple[int, ...]) -> None:
    first = numbers(shape)
    shifted = first.copy()
    shifted += 1
    second = LAYOUTS[layout](shifted)
    expected = (1.0, float(first.max()), 0) if first.size else (0.0, 0.0, 0)
    assert _core.compare(first, second) == expected


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(3,\)"):
        _core.compare(np.ones(2), np.ones(3))
    with pytest.raises(TypeError, match="two float32 or two float64"):
        _core.compare(np.ones(2), np.ones(2, np.float32))
    with pytest.raises(TypeError, match="two float32 or two float64"):
        _core.compare(np.ones(2, np.float16), np.ones(2, np.float16))
    with pytest.raises(TypeError, match="expected a numpy array for 'second'"):
        _core.compare(np.ones(2), [1.0, 1.0])  # type: ignore[arg-type]
