"""An epsilon that moves the outputs by a few millionths is the cause that two models are close and
not equal; one that moves nothing is none.
"""

from __future__ import annotations

from typing import Any

import keras
import pytest
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized


def module() -> Any:
    return randomized(nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16,
                                                                                             3)))


def keras_net(epsilon: float) -> Any:
    return keras.Sequential([
        keras.Input((6,)),
        keras.layers.Dense(16, name="first"),
        keras.layers.LayerNormalization(epsilon=epsilon, name="norm"),
        keras.layers.Activation("gelu"),
        keras.layers.Dense(3, name="last")
    ])


@pytest.mark.parametrize("epsilon", [1e-6, 2e-5])
def test_an_epsilon_that_moves_the_outputs_a_little_is_named(epsilon: float) -> None:
    keras_model = keras_net(epsilon)
    report = ktc.convert(module(), keras_model)
    assert report.comparison is not None
    assert report.comparison.relative_diff is not None
    assert report.comparison.relative_diff < 1e-4
    assert report.verdict == "close", str(report)
    assert f"norm: epsilon is {epsilon:g} in Keras and 1e-05 in torch" in report.summary()
    assert keras_model.get_layer("norm").epsilon == epsilon
    assert ktc.convert(module(), keras_net(1e-5)).equal


@pytest.mark.parametrize("epsilon", [1.00001e-5, 9.9999e-6])
def test_an_epsilon_that_moves_nothing_leaves_the_models_equal(epsilon: float) -> None:
    assert ktc.convert(module(), keras_net(epsilon)).equal


def test_what_rounding_may_explain_is_close_where_the_epsilon_does() -> None:
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))
    keras_model = keras.Sequential([
        keras.Input((6,)),
        keras.layers.Dense(16, name="first"),
        keras.layers.BatchNormalization(epsilon=1e-6, name="norm"),
        keras.layers.Activation("tanh"),
        keras.layers.Dense(3, name="last")
    ])
    report = ktc.convert(randomized(net), keras_model)
    assert report.comparison is not None
    assert report.comparison.relative_diff is not None
    assert report.comparison.relative_diff < report.comparison.rounding
    assert report.verdict == "close", str(report)
    assert "norm: epsilon is 1e-06 in Keras and 1e-05 in torch" in report.summary()
