"""A trial that a layer refuses says nothing about the cause."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_torch_convert.diagnosis.context import called
from keras_torch_convert.keras_io.model import read_target


class Refusal(Exception):
    """An error of a framework's own, as TensorFlow has them."""


def test_a_layer_that_refuses_by_an_error_of_its_own_gives_nothing() -> None:
    def layer(x: Any) -> Any:
        raise Refusal

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert called(read_target(model), layer, (np.zeros((1, 2), np.float32),), {}) is None
