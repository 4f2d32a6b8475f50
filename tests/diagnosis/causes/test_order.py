"""The same values in another order."""

from __future__ import annotations

import numpy as np

from keras_torch_convert.diagnosis.causes.order import same_values


def test_arrays_of_different_sizes_do_not_hold_the_same_values() -> None:
    assert not same_values(np.zeros((2, 3)), np.zeros(5))
    assert not same_values(np.zeros(0), np.zeros(1))


def test_values_in_another_order_are_the_same() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert same_values(array, array.T[::-1])
    assert not same_values(array, array + 1)
