"""decode_floats and decode_whole equal the published formats, bit for bit, with every instruction
set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from keras_torch_convert import _core
from tests.helpers.reference import quantized

torch = pytest.importorskip("torch")

DTYPES = ["bfloat16", "float16", "float32"]


@pytest.fixture(params=_core.instruction_sets())
def instruction_set(request: Any) -> Iterator[None]:
    before = _core.instruction_set()
    _core.use_instruction_set(request.param)
    yield
    _core.use_instruction_set(before)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 numbers in another type, as torch rounds them."""
    found = torch.from_numpy(values).to(getattr(torch, dtype))
    return found.view(torch.uint16).numpy() if dtype == "bfloat16" else found.numpy()


def assert_same_numbers(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal bits, but any NaN for a NaN."""
    assert found.dtype == expected.dtype
    if found.dtype == np.uint16:
        found, expected = (
            (one.astype(np.uint32) << 16).view(np.float32) for one in (found, expected))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    same = (found == expected) & (np.signbit(found) == np.signbit(expected)) | np.isnan(found)
    assert same.all()


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", ["float8_e4m3fn", "float8_e5m2"])
def test_every_code_of_fp8_with_many_scales(scheme: str, dtype: str) -> None:
    codes = np.tile(np.arange(256, dtype=np.uint8), (12, 1))
    scales = np.array([[1], [0], [-0.3], [1e-3], [3e38], [1e-7], [2e-5], [700], [1e-41],
                       [float("inf")], [float("nan")], [1 / 3]], np.float32)
    found = _core.decode_floats(codes, scheme, scales, 256, 1, 256, dtype)
    assert_same_numbers(found, rounded(quantized.float8(codes, scheme, scales, (1, 256)), dtype))
    own = torch.arange(256, dtype=torch.uint8).view(getattr(torch, scheme)).float().numpy()
    assert_same_numbers(_core.decode_floats(codes[:1], scheme, scales[:1], 256, 9, 256, "float32"),
                        own[None])


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(("shape", "block"), [((5, 7), (2, 3)), ((3, 1500), (2, 128)),
                                              ((1, 1), (9, 9)), ((4, 1029), (4, 1)),
                                              ((0, 5), (1, 1)), ((5, 0), (1, 1))])
def test_blocks_of_any_size(shape: tuple[int, int], block: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 127, shape, np.uint8)
    grid = tuple(-(-extent // size) for extent, size in zip(shape, block, strict=True))
    scales = rng.random(grid, np.float32)
    wider = np.zeros((shape[0], shape[1] + 3), np.uint8)
    wider[:, :shape[1]] = codes
    expected = rounded(quantized.float8(codes, "float8_e4m3fn", scales, block), "float16")
    for given in (codes, wider, wider[::-1][::-1]):
        found = _core.decode_floats(given, "float8_e4m3fn", scales, shape[1], *block, "float16")
        assert_same_numbers(found, expected)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", DTYPES)
def test_mxfp4(dtype: str) -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (3, 35, 16), np.uint8)
    exponents = rng.integers(0, 255, (3, 35), np.uint8)
    scales = np.exp2(exponents.astype(np.float32) - 127)
    found = _core.decode_floats(blocks.reshape(3, -1), "float4_e2m1fn", scales, 35 * 32, 1, 32,
                                dtype)
    assert_same_numbers(found, rounded(quantized.mxfp4(blocks, exponents), dtype))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("packs_rows", [True, False])
@pytest.mark.parametrize("shape", [(16, 24), (8, 1032), (32, 8)])
def test_whole_numbers(shape: tuple[int, int], packs_rows: bool, bits: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    (rows, columns), packed = shape, 32 // bits
    size = (rows // packed, columns) if packs_rows else (rows, columns // packed)
    words = rng.integers(0, 2**32, size, np.uint32)
    scales = rng.standard_normal((3, columns)).astype(np.float16).astype(np.float32)
    zeros = rng.integers(0, 257, (3, columns)).astype(np.float32)
    groups = rng.integers(0, 3, rows).astype(np.int32)
    codes = np.array([[quantized.code_at(words, bits, row, column, packs_rows)
                       for column in range(columns)] for row in range(rows)])  # yapf: disable
    expected = ((codes - zeros[groups]) * scales[groups].astype(np.float64)).astype(np.float32)
    found = _core.decode_whole(words, scales, zeros, groups, bits, packs_rows, dtype)
    assert_same_numbers(found, rounded(expected, dtype))


def test_a_group_that_is_not_there_is_refused() -> None:
    words, scales = np.zeros((1, 4), np.uint32), np.ones((2, 4), np.float32)
    for group in (2, -1, 2**31 - 1, -2**31):
        groups = np.array([0, 1, 0, group, 0, 0, 0, 0], np.int32)
        with pytest.raises(ValueError, match="a group that is none of the 2"):
            _core.decode_whole(words, scales, scales, groups, 4, True, "float32")


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(("shape", "block"), [((700, 530), (128, 128)), ((3, 1500), (1, 1500)),
                                              ((300, 1100), (2, 48)), ((259, 40), (300, 9)),
                                              ((0, 5), (1, 1))])
@pytest.mark.parametrize(("dtype", "into"), [("bfloat16", "uint16"), ("bfloat16", "float32"),
                                             ("float16", "float16"), ("float16", "float32"),
                                             ("float32", "float32")])
def test_numbers_go_into_memory_of_any_strides(shape: tuple[int, int], block: tuple[int, int],
                                               dtype: str, into: str) -> None:
    rng = np.random.default_rng(0)
    rows, columns = shape
    codes = rng.integers(0, 256, shape, np.uint8)
    grid = tuple(-(-extent // size) for extent, size in zip(shape, block, strict=True))
    scales = rng.random(grid, np.float32)
    groups = rng.integers(0, 2, rows // 8 * 8).astype(np.int32)
    words = rng.integers(0, 2**32, (rows // 8, columns), np.uint32)
    factors = rng.standard_normal((2, columns)).astype(np.float32)
    floats = _core.decode_floats(codes, "float8_e4m3fn", scales, columns, *block, dtype)
    whole = _core.decode_whole(words, factors, factors, groups, 4, True, dtype)
    wider = np.zeros((columns + 3, 2 * rows + 1), into)
    for found, target in ((floats, wider.T[:rows, 3:]), (floats, wider[3:, :2 * rows:2].T),
                          (floats, np.zeros((rows, columns + 1),
                                            into)[::-1, 1:]), (whole, wider.T[:len(whole),
                                                                              1:columns + 1])):
        if found is whole:
            _core.decode_whole(words, factors, factors, groups, 4, True, dtype, target)
        else:
            _core.decode_floats(codes, "float8_e4m3fn", scales, columns, *block, dtype, target)
        expected = found
        if into == "float32" and dtype != "float32":
            expected = (found.astype(np.uint32) << 16).view(
                np.float32) if dtype == "bfloat16" else found.astype(np.float32)
        assert_same_numbers(target, expected)


@pytest.mark.usefixtures("instruction_set")
def test_large_matrices_go_past_the_caches_unharmed() -> None:
    rng = np.random.default_rng(0)
    rows, columns = 2050, 1100
    codes = rng.integers(0, 127, (rows, columns), np.uint8)
    scales = rng.random((17, 9), np.float32)
    spread = scales.repeat(128, 0)[:rows].repeat(128, 1)[:, :columns]
    expected = torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy() * spread
    around = np.zeros((rows + 2, columns + 2), np.float32)
    for wider in (around, np.zeros(around.T.shape, np.float32).T):
        _core.decode_floats(codes, "float8_e4m3fn", scales, columns, 128, 128, "float32",
                            wider[1:-1, 1:-1])
        np.testing.assert_array_equal(wider, np.pad(expected, 1))
    halves = _core.decode_floats(codes, "float4_e2m1fn", scales, columns, 128, 128, "float32")
    turned = np.zeros((columns, rows), np.float32)
    _core.decode_floats(codes, "float4_e2m1fn", scales, columns, 128, 128, "float32", turned.T)
    np.testing.assert_array_equal(halves, turned.T)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("packs_rows", [True, False])
def test_large_matrices_of_words_that_two_threads_decode(packs_rows: bool) -> None:
    rng = np.random.default_rng(0)
    rows, columns, half = 1024, 1104, 552
    words = rng.integers(0, 2**32, (rows // 8, columns) if packs_rows else (rows, columns // 8),
                         np.uint32)
    scales, zeros = rng.random((2, 3, columns), np.float32)
    groups = rng.integers(0, 3, rows).astype(np.int32)
    expected = np.hstack([
        _core.decode_whole(part, scales[:, where], zeros[:, where], groups, 4, packs_rows,
                           "bfloat16")
        for part, where in zip(np.split(words, 2, axis=1), (slice(half),
                                                            slice(half, None)), strict=True)
    ])
    for target in (None, np.empty((columns, rows), np.uint16).T):
        found = _core.decode_whole(words, scales, zeros, groups, 4, packs_rows, "bfloat16", target)
        np.testing.assert_array_equal(found, expected)
        groups[-1] = 3
        with pytest.raises(ValueError, match="a group that is none of the 3"):
            _core.decode_whole(words, scales, zeros, groups, 4, packs_rows, "bfloat16", target)
        groups[-1] = 0
        expected = _core.decode_whole(words, scales, zeros, groups, 4, packs_rows, "bfloat16")


def test_a_target_that_does_not_fit_is_refused() -> None:
    codes, scales = np.zeros((2, 4), np.uint8), np.ones((1, 1), np.float32)
    locked = np.zeros((2, 4), np.float32)
    locked.flags.writeable = False
    shared = np.lib.stride_tricks.as_strided(np.zeros(4, np.float32), (2, 4), (0, 4))
    for target in (np.zeros((4, 2), np.float32), np.zeros(
        (2, 4), np.float64), locked, shared, np.zeros(8, np.float32), np.zeros((2, 4), ">f4")):
        with pytest.raises(ValueError, match="expected a writable target of 2 x 4 elements"):
            _core.decode_floats(codes, "float8_e5m2", scales, 4, 2, 4, "bfloat16", target)
    with pytest.raises(TypeError, match="must be an array or None"):
        _core.decode_floats(codes, "float8_e5m2", scales, 4, 2, 4, "bfloat16", [1])
