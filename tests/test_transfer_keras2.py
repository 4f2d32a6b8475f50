"""The families that are more than a rule by kind, on Keras 2."""

import pytest
from conversion_helpers import EQUAL
from fresh_process import answer_of


@pytest.fixture(scope="module")
def differences():
    return answer_of("keras2_families.py")


@pytest.mark.keras2
@pytest.mark.parametrize("family", ["attention", "flattened", "reshaped_by_an_operation", "weight_norm"])
def test_outputs_are_equal_on_keras_2(family, differences):
    assert differences[family] < EQUAL
