"""copy_strided puts every element where NumPy would, in every layout and instruction set, and
refuses what it cannot do safely.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from keras_torch_convert import _core
from tests.helpers.array_zoo import DTYPES, LAYOUTS, SHAPES, numbers, transposed_views, unaligned


@pytest.fixture(params=_core.instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.instruction_set()
    _core.use_instruction_set(request.param)
    yield request.param
    _core.use_instruction_set(before)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("target_layout", LAYOUTS)
@pytest.mark.parametrize("source_layout", LAYOUTS)
def test_every_layout_is_copied_into_every_other(source_layout: str, target_layout: str,
                                                 shape: tuple[int, ...]) -> None:
    source = LAYOUTS[source_layout](numbers(shape))
    target = LAYOUTS[target_layout](np.full(shape, -1, np.float32))
    _core.copy_strided(source, target)
    np.testing.assert_array_equal(target, source)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", [*DTYPES, ">f4"])
def test_every_plain_type_is_transposed_into_keras_order(dtype: str) -> None:
    kernel = numbers((70, 33, 3, 3), dtype)
    target = np.zeros((3, 3, 33, 70), dtype)
    _core.copy_strided(kernel.transpose(2, 3, 1, 0), target)
    np.testing.assert_array_equal(target, kernel.transpose(2, 3, 1, 0))


@pytest.mark.usefixtures("instruction_set")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=transposed_views())
def test_any_view_is_copied_like_numpy_does(source: np.ndarray) -> None:
    target = np.zeros(source.shape, source.dtype)
    _core.copy_strided(source, target)
    np.testing.assert_array_equal(target, source)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1024, 1040), "float32"),  # target rows start on cache lines: streamed from registers
        ((1025, 1031), "float32"),  # they do not: streamed through scratch
        ((2081, 1100), "float16"),
        ((600, 120, 3, 3), "float64"),
        ((9, 1 << 17), "float32")  # too short for streaming
    ])
def test_kernels_above_four_mebibytes_are_streamed_unharmed(shape: tuple[int, ...],
                                                            dtype: str) -> None:
    kernel = np.random.default_rng(0).integers(0, 1 << 14, shape).astype(dtype)
    view = kernel.transpose((2, 3, 1, 0) if len(shape) == 4 else (1, 0))
    for target in (np.zeros(view.shape, dtype), unaligned(np.zeros(view.shape, dtype))):
        _core.copy_strided(view, target)
        assert target.tobytes() == np.ascontiguousarray(view).tobytes()


@pytest.mark.usefixtures("instruction_set")
def test_nothing_beside_the_target_is_touched() -> None:
    memory = np.full((40, 50), 7, np.float32)
    _core.copy_strided(np.zeros((20, 17), np.float32).T, memory[3:20, 5:45:2])
    inside = np.zeros(memory.shape, bool)
    inside[3:20, 5:45:2] = True
    assert (memory[inside] == 0).all()
    assert (memory[~inside] == 7).all()


def test_a_broadcast_source_is_repeated() -> None:
    source = np.broadcast_to(np.arange(5, dtype=np.float32), (4, 5))
    target = np.zeros((4, 5), np.float32)
    _core.copy_strided(source, target)
    np.testing.assert_array_equal(target, source)


def test_rows_of_a_flattened_dense_kernel_are_put_in_keras_order() -> None:
    # torch flattens (C, H, W), Keras (H, W, C): both sides are seen as (H, W, C, units)
    channels, height, width, units = 3, 4, 5, 20
    weight = numbers((units, channels * height * width))
    kernel = np.zeros((height * width * channels, units), np.float32)
    _core.copy_strided(
        weight.reshape(units, channels, height, width).transpose(2, 3, 1, 0),
        kernel.reshape(height, width, channels, units))
    features = numbers((2, channels, height, width), seed=1)
    torch_like = features.reshape(2, -1) @ weight.T
    keras_like = features.transpose(0, 2, 3, 1).reshape(2, -1) @ kernel
    np.testing.assert_array_equal(torch_like, keras_like)


def test_many_arrays_are_copied_in_one_step_or_none_of_them() -> None:
    sources = tuple(numbers(shape, seed=len(shape)) for shape in ((3, 4), (70, 65), (0, 2), ()))
    targets = tuple(np.zeros_like(source.T) for source in sources)
    _core.copy_strided_all(tuple(source.T for source in sources), targets)
    for source, target in zip(sources, targets, strict=True):
        np.testing.assert_array_equal(target, source.T)
    again = tuple(np.zeros_like(source) for source in sources)
    with pytest.raises(ValueError, match="one shape"):
        _core.copy_strided_all((*sources, np.ones(3)), (*again, np.ones(2)))
    assert not any(target.any() for target in again)


def test_sixty_four_axes_are_enough_for_numpy() -> None:
    source = numbers((2, *([1] * 30), 3))
    target = np.zeros_like(source)
    _core.copy_strided(source, target)
    np.testing.assert_array_equal(target, source)


class TestRefusals:
    """Each leaves the target as it was."""
    def test_different_shapes(self) -> None:
        with pytest.raises(ValueError,
                           match=r"expected two arrays of one shape, got \(2, 3\) and \(3, 2\)"):
            _core.copy_strided(np.ones((2, 3)), np.zeros((3, 2)))

    def test_different_types_of_one_size(self) -> None:
        target = np.zeros(3, np.int32)
        with pytest.raises(TypeError, match="cast the source first"):
            _core.copy_strided(np.ones(3, np.float32), target)
        assert not target.any()

    def test_the_other_byte_order(self) -> None:
        with pytest.raises(TypeError, match="one dtype"):
            _core.copy_strided(np.ones(3, "<f4"), np.zeros(3, ">f4"))

    @pytest.mark.parametrize("dtype", ["O", "U3", "S3", "M8[s]", "complex64", [("a", "f4")]],
                             ids=str)
    def test_elements_that_are_no_plain_numbers(self, dtype: str) -> None:
        with pytest.raises(TypeError, match="plain numbers"):
            _core.copy_strided(np.zeros(3, dtype), np.zeros(3, dtype))

    def test_a_read_only_target(self) -> None:
        target = np.zeros(3)
        target.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            _core.copy_strided(np.ones(3), target)

    def test_source_and_target_that_share_memory(self) -> None:
        array = numbers((6, 6))
        before = array.copy()
        with pytest.raises(ValueError, match="share memory"):
            _core.copy_strided(array.T, array)
        with pytest.raises(ValueError, match="share memory"):
            _core.copy_strided(array[:4], array[2:])
        np.testing.assert_array_equal(array, before)

    def test_a_target_whose_elements_share_memory(self) -> None:
        target = np.lib.stride_tricks.as_strided(np.zeros(10), (4, 4), (8, 8))
        with pytest.raises(ValueError, match="share memory with each other"):
            _core.copy_strided(np.ones((4, 4)), target)
        assert not target.any()

    @pytest.mark.parametrize("arguments", [(), (np.ones(2),), (np.ones(2), [0, 0]),
                                           ("a", np.ones(2))], ids=str)
    def test_wrong_arguments(self, arguments: tuple[object, ...]) -> None:
        with pytest.raises(TypeError, match="copy_strided: expected"):
            _core.copy_strided(*arguments)  # type: ignore[arg-type]


def test_instruction_sets_are_known_and_chosen_by_name() -> None:
    available = _core.instruction_sets()
    assert available[0] == "portable"
    assert _core.instruction_set() == available[-1]
    with pytest.raises(ValueError, match="'mmx' is not available"):
        _core.use_instruction_set("mmx")
    with pytest.raises(TypeError, match="expected a str"):
        _core.use_instruction_set(3)  # type: ignore[arg-type]
    assert _core.instruction_set() == available[-1]
