"""Two outputs by number: the layouts found, what is paired, and what cannot be compared."""

import numpy as np
import pytest

from keras_torch_convert.comparison.outputs import compare_outputs
from keras_torch_convert.comparison.verdict import comparison_of

LOGITS = np.random.default_rng(0).normal(size=(2, 10)).astype("float32")
MAP = np.random.default_rng(1).normal(size=(1, 4, 5, 6)).astype("float32")


def named(outputs):
    """One array, or several in order, by name."""
    if isinstance(outputs, list):
        return {str(number): array for number, array in enumerate(outputs)}
    return {"": outputs}


def compared(torch_outputs, keras_outputs):
    """The verdict on one input where rounding explains one part in ten thousand, and nothing larger
    is accepted.
    """
    found = compare_outputs(named(torch_outputs), named(keras_outputs))
    return comparison_of([found], rounding=1e-4, tolerance=1e-4)


def test_equal_outputs_are_equal_with_no_difference():
    result = compared(LOGITS, LOGITS.copy())

    assert (result.equal, result.max_abs_diff, result.relative_diff,
            result.top5_agree) == (True, 0.0, 0.0, True)
    assert result.notes == ()


def test_difference_is_measured_against_the_largest_torch_output():
    result = compared(np.array([[1.0, -8.0]], "float32"), np.array([[1.5, -8.0]], "float32"))

    assert result.max_abs_diff == 0.5
    assert result.relative_diff == 0.5 / 8
    assert result.equal is False


def test_feature_maps_are_compared_across_layouts():
    result = compared(MAP, np.ascontiguousarray(MAP.transpose(0, 2, 3, 1)))

    assert (result.equal, result.max_abs_diff) == (True, 0.0)
    assert result.notes == (
        "the torch output's axes were put in the order (0, 2, 3, 1) to match Keras",)


def test_square_feature_map_is_compared_across_layouts_too():
    square = np.random.default_rng(2).normal(size=(1, 4, 4, 4)).astype("float32")

    assert compared(square, square.transpose(0, 2, 3, 1)).equal is True
    assert compared(square, square.transpose(0, 3, 2, 1)).equal is False


def test_axes_of_size_one_do_not_matter():
    result = compared(LOGITS.reshape(2, 10, 1, 1), LOGITS)

    assert result.equal is True
    assert result.notes == ("axes of size 1 were dropped to compare (2, 10, 1, 1) with (2, 10)",)


def test_outputs_without_a_common_shape_are_different():
    result = compared(LOGITS, LOGITS[:, :9])

    assert (result.equal, result.max_abs_diff) == (False, None)
    assert result.notes == ("the outputs have no common shape: torch gave (2, 10), Keras (2, 9)",)


def test_places_that_are_nan_on_both_sides_are_counted():
    first = LOGITS.copy()
    first[0, 3] = np.nan

    result = compared(first, first.copy())

    assert result.equal is True
    assert result.notes == (
        "1 of 20 values are NaN or infinite on both sides, and were not compared",)


@pytest.mark.parametrize("value", [np.nan, 0.0], ids=["NaN", "zero"])
def test_outputs_that_are_nan_or_zero_everywhere_decide_nothing(value):
    same = np.full((1, 6), value, "float32")

    result = compared(same, same.copy())

    assert result.equal is None
    assert "proves nothing" in result.notes[0]


def test_nan_on_one_side_only_is_a_difference():
    broken = LOGITS.copy()
    broken[0, 3] = np.nan

    result = compared(LOGITS, broken)

    assert result.equal is False
    assert result.relative_diff == float("inf")
    assert "1 values are NaN" in result.notes[0]


def test_nan_at_the_same_places_leaves_the_rest_to_decide():
    first, second = LOGITS.copy(), LOGITS.copy()
    first[0, 3] = second[0, 3] = np.nan

    assert compared(first, second).equal is True
    second[1, 1] += 1
    assert compared(first, second).equal is False


def test_whole_numbers_must_be_the_same():
    assert compared(np.array([20000, 5]), np.array([20000, 5])).equal is True
    assert compared(np.array([20000, 5]), np.array([20001, 5])).equal is False


def test_top_five_may_agree_while_numbers_differ_and_the_other_way_round():
    scores = np.array([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]], "float32")

    assert compared(scores, scores * 2).top5_agree is True
    assert compared(scores, scores[:, ::-1]).top5_agree is False
    assert compared(MAP, MAP).top5_agree is None


def test_several_outputs_are_compared_in_order_and_the_worst_counts():
    result = compared([LOGITS, MAP], [LOGITS, MAP + np.float32(1)])

    assert result.equal is False
    assert result.max_abs_diff == pytest.approx(1, rel=1e-5)


def test_keras_output_without_a_torch_counterpart_stays_unproven():
    extra = compared([LOGITS], [LOGITS, MAP])
    fewer = compared([LOGITS, MAP], [LOGITS])

    assert extra.equal is None
    assert fewer.equal is True
    assert extra.notes == ((
        "the torch model gave 1 outputs and the Keras model 2: the first 1 of both were "
        "compared, in order"),)


def test_model_that_gives_no_numbers_decides_nothing():
    assert compared([], [LOGITS]).notes == ("the torch model gave no numbers to compare",)
