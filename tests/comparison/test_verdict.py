"""The verdict that follows from a difference, what rounding explains of it, and the cause."""

from dataclasses import replace

import numpy as np
import pytest

from keras_torch_convert.comparison.divergence import (SOFTMAX_AT_THE_END, Difference,
                                                       FirstDivergence)
from keras_torch_convert.comparison.outputs import compare_outputs
from keras_torch_convert.comparison.tolerances import TOLERANCES, narrowest, rounding_bound
from keras_torch_convert.comparison.verdict import Comparison, comparison_of, decide

EPSILON = FirstDivergence("norm", kind="epsilon", cause="epsilon is 0.001 in Keras")
UNKNOWN = FirstDivergence("norm")
SOFTMAX = FirstDivergence("head", kind=SOFTMAX_AT_THE_END, cause="softmax")


def found(difference, **facts):
    """The comparison of outputs that differ by so much of the largest."""
    output = np.array([[1.0, 0.25]], "float32")
    return comparison_of([compare_outputs({"": output}, {"": output + np.float32(difference)})],
                         **facts)


@pytest.mark.parametrize(("difference", "verdict", "equal"), [(0.5e-4, "equal", True),
                                                              (2e-4, "close", False),
                                                              (2e-3, "different", False)])
def test_rounding_is_equal_below_the_tolerance_is_close(difference, verdict, equal):
    result = found(difference)

    assert (result.verdict, result.equal) == (verdict, equal)
    assert (result.rounding, result.tolerance) == (1e-4, 1e-3)


def test_the_type_of_the_models_says_what_rounding_explains():
    assert found(1e-2).verdict == "different"
    assert found(1e-2, rounding=rounding_bound("float16", 100, None)).verdict == "equal"
    assert rounding_bound("float32", 100, None) == 1e-4
    assert rounding_bound("float32", 25, None) == pytest.approx(0.5e-4)
    assert rounding_bound("float32", 1, None) == rounding_bound("float32", 4, None)
    assert rounding_bound("float32", 100, 1e-4) == pytest.approx(20e-4)
    assert rounding_bound("bfloat16", 100, 0.01) == pytest.approx(0.03)
    assert rounding_bound("bfloat16", 100, 1e-9) == 2.0**-8
    assert narrowest(["int64", "float32", "bfloat16", "float16"]) == "bfloat16"
    assert narrowest(["int64"]) == "float32"


def test_the_table_cannot_be_changed():
    with pytest.raises(AttributeError):
        TOLERANCES.accepted = 1.0
    with pytest.raises(TypeError):
        TOLERANCES.rounding["float32"] = 1.0


@pytest.mark.parametrize(("cause", "verdict"), [(None, "undecided"), (UNKNOWN, "undecided"),
                                                (SOFTMAX, "undecided"), (EPSILON, "different")],
                         ids=["none", "unknown", "softmax", "proven"])
def test_outputs_that_hardly_move_are_decided_by_a_proven_cause_alone(cause, verdict):
    result = found(5e-4, visible=1e-4, sensitivity=5e-3)
    assert result.verdict == "undecided"
    assert "move by only 5.0e-03" in result.summary()

    result = decide(replace(result, first_divergence=cause))

    assert result.verdict == verdict
    assert decide(replace(result, tolerance=1e-2)).verdict == "close"


def test_a_proven_cause_is_no_rounding_of_a_half_type():
    result = found(2e-3, rounding=1e-2, diagnosed_above=1e-4)

    assert result.verdict == "equal"
    assert result.unexplained
    assert decide(replace(result, first_divergence=UNKNOWN)).verdict == "equal"
    assert decide(replace(result, first_divergence=EPSILON)).verdict == "different"
    assert decide(replace(result, first_divergence=EPSILON, tolerance=1e-2)).verdict == "close"


@pytest.mark.parametrize("facts", [{"noise": 0.2}, {"instability": 0.2}], ids=["noise", "weights"])
def test_rounding_as_large_as_the_outputs_decides_nothing(facts):
    for difference in (0.0, 0.3):
        result = found(difference, **facts)
        assert result.verdict == "undecided"
        assert "torch itself moves its outputs by 2.0e-01" in result.reason


def test_random_values_that_differ_overrule_equal_outputs_and_close_ones():
    for verdict in ("equal", "close", "undecided"):
        assert found(0.0, randomized=Comparison(verdict)).verdict == "equal"
    for difference in (0.0, 5e-4):
        result = found(difference, randomized=Comparison("different"))
        assert result.verdict == "different"
        assert "each other's place" in result.summary()


def test_a_close_pair_says_what_causes_it():
    assert found(5e-4).summary().endswith("cause: unknown")
    both = (Difference("epsilon", EPSILON.cause, keras_layers=("norm",)),
            Difference("activation", "gelu by tanh", keras_layers=("act",)))
    result = found(5e-4, first_divergence=replace(EPSILON, differences=both))
    assert result.summary().endswith("cause: norm: epsilon is 0.001 in Keras; act: gelu by tanh")
    assert "rounding explains 0.0001, accepted is 0.001" in result.summary()
    assert str(result).splitlines()[0] == str(result).splitlines()[-1] == result.summary()


def test_the_worst_of_several_inputs_counts():
    good = compare_outputs({"": np.ones((1, 3))}, {"": np.ones((1, 3))})
    bad = compare_outputs({"": np.ones((1, 3))}, {"": np.ones((1, 3)) + 5e-4})

    result = comparison_of([good, bad, good])

    assert result.verdict == "close"
    assert result.relative_diff == pytest.approx(5e-4)
    assert len(result.outputs) == 1


def test_a_comparison_is_plain_data_with_the_verdict():
    data = found(5e-4, first_divergence=EPSILON).to_dict()
    assert (data["verdict"], data["equal"]) == ("close", False)
    assert data["summary"].startswith("close, not equal")
    assert data["first_divergence"]["kind"] == "epsilon"
    assert data["outputs"][0]["comparable"] is True


def test_outputs_that_no_input_moves_prove_nothing():
    result = found(0.0, visible=0.0, sensitivity=0.0)

    assert (result.verdict, result.equal) == ("undecided", None)
    assert "the same for every input" in result.summary()
    assert found(0.0, visible=1e-9, sensitivity=1e-7).verdict == "equal"
