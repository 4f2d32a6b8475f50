"""cast equals NumPy's and ml_dtypes' conversions and counts every value that it cannot keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_torch_convert import _core
from tests.helpers.array_zoo import LAYOUTS, SHAPES, numbers

FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]

any_float64 = st.one_of(
    st.floats(width=64),
    st.floats(width=32),
    st.floats(width=16),
    # just beside the middle between two float16 or two bfloat16 numbers, where double rounding
    # would show
    st.builds(lambda place, off: (2049 + 2 * place) / 4096 + off, st.integers(0, 1023),
              st.sampled_from([0, 1e-12, -1e-12])))


@settings(max_examples=300)
@given(values=st.lists(any_float64, max_size=40), source_type=st.sampled_from(FLOATS),
       target_type=st.sampled_from(FLOATS))
def test_floats_are_rounded_like_numpy_does(values: list[float], source_type: str,
                                            target_type: str) -> None:
    with np.errstate(all="ignore"):
        source = np.array(values, np.float64).astype(source_type)
        expected = source.astype(target_type)
    result, out_of_range, rounded = _core.cast(source, source_type, target_type)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == expected.dtype
    became_infinite = np.isfinite(source) & np.isinf(expected)
    changed = ~np.isnan(source) & (source.astype(np.float64) != expected.astype(
        np.float64)) & ~became_infinite
    assert (out_of_range, rounded) == (became_infinite.sum(), changed.sum())


@settings(max_examples=300)
@given(values=st.lists(any_float64, max_size=40))
def test_bfloat16_is_rounded_like_ml_dtypes_does(values: list[float]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with np.errstate(all="ignore"):
        source = np.array(values, np.float64).astype(np.float32)
        expected = source.astype(ml_dtypes.bfloat16)
    result, _, _ = _core.cast(source, "float32", "bfloat16")
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(
        result.view(ml_dtypes.bfloat16).astype(np.float32), expected.astype(np.float32))


def test_bfloat16_is_widened_without_loss() -> None:
    every_pattern = np.arange(1 << 16, dtype=np.uint16)
    result, out_of_range, rounded = _core.cast(every_pattern, "bfloat16", "float32")
    np.testing.assert_array_equal(result.view(np.uint32), every_pattern.astype(np.uint32) << 16)
    assert (out_of_range, rounded) == (0, 0)


def test_float16_is_widened_without_loss() -> None:
    every_pattern = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    result, out_of_range, rounded = _core.cast(every_pattern, "float16", "float32")
    np.testing.assert_array_equal(result, every_pattern.astype(np.float32))
    assert (out_of_range, rounded) == (0, 0)


@pytest.mark.parametrize("target_type", INTEGERS)
@pytest.mark.parametrize("source_type", [*INTEGERS, "float64"])
def test_integers_out_of_range_become_the_limit_and_are_counted(source_type: str,
                                                                target_type: str) -> None:
    limits = np.iinfo(target_type)
    if source_type == "float64":
        source = np.array([-1e30, -1.0, 0.0, 1.0, 100.0, 1e30])
    else:
        own = np.iinfo(source_type)
        source = np.array([own.min, own.min // 2, 0, 1, 100, own.max // 2, own.max], source_type)
    exact = [int(value) for value in source]
    expected = [min(max(value, limits.min), limits.max) for value in exact]
    result, out_of_range, rounded = _core.cast(source, source_type, target_type)
    assert [int(value) for value in result] == expected
    assert out_of_range == sum(value != kept for value, kept in zip(exact, expected, strict=True))
    assert rounded == 0


def test_fractions_are_cut_and_counted_and_nan_is_out_of_range() -> None:
    result, out_of_range, rounded = _core.cast(np.array([1.9, -1.9, 3.0, np.nan, np.inf]),
                                               "float64", "int32")
    np.testing.assert_array_equal(result, [1, -1, 3, 0, np.iinfo("int32").max])
    assert (out_of_range, rounded) == (2, 2)


@pytest.mark.parametrize("target_type", FLOATS)
def test_large_integers_are_rounded_like_numpy_does(target_type: str) -> None:
    source = np.random.default_rng(0).integers(-(2**63), 2**63, 5000) >> np.arange(5000) % 63
    with np.errstate(over="ignore"):
        expected = source.astype(target_type)
    result, _, _ = _core.cast(source, "int64", target_type)
    if target_type == "float16":
        # NumPy goes through float64, which is exact for all that float16 holds.
        with np.errstate(over="ignore"):
            expected = source.astype(np.float64).astype(np.float16)
    np.testing.assert_array_equal(result, expected)


def test_booleans_travel_as_zero_and_one() -> None:
    flags = np.array([True, False, True])
    np.testing.assert_array_equal(_core.cast(flags, "bool", "float32")[0], [1.0, 0.0, 1.0])
    result, out_of_range, rounded = _core.cast(np.array([0.0, 1.0, 0.5, -2.0]), "float64", "bool")
    np.testing.assert_array_equal(result, [False, True, True, True])
    assert (out_of_range, rounded) == (0, 2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_a_new_array_in_c_order(layout: str, shape: tuple[int, ...]) -> None:
    source = LAYOUTS[layout](numbers(shape))
    for target_type in ("float32", "float64"):
        result, _, _ = _core.cast(source, "float32", target_type)
        np.testing.assert_array_equal(result, source)
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert not np.shares_memory(result, source)


def test_the_other_byte_order_is_understood() -> None:
    result, _, _ = _core.cast(np.array([1.5, -2.0], ">f8"), "float64", "float32")
    np.testing.assert_array_equal(result, np.array([1.5, -2.0], np.float32))
    assert result.dtype.isnative


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((np.ones(2, np.float32), "float64", "float32"), "source_type 'float64' does not fit"),
     ((np.ones(2, np.float32), "bfloat16", "float32"), "bfloat16 travels as uint16"),
     ((np.ones(2, np.float32), "float32", "float8"), "target_type 'float8' is not supported"),
     ((np.ones(2,
               np.complex64), "complex64", "float32"), "source_type 'complex64' is not supported"),
     ((np.ones(2, object), "float32", "float32"), "does not fit"),
     (([1.0], "float32", "float32"), "expected a numpy array"),
     ((np.ones(2), "float64"), "expected 3 positional arguments, got 2"),
     ((np.ones(2), 1, "float64"), "expected a str")])
def test_wrong_arguments_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        _core.cast(*arguments)  # type: ignore[arg-type]
