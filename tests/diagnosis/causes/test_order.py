"""The same values in another order, and two steps."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.diagnosis.causes.order import same_values
from tests.helpers.small_models import randomized


def test_arrays_of_different_sizes_do_not_hold_the_same_values() -> None:
    assert not same_values(np.zeros((2, 3)), np.zeros(5))
    assert not same_values(np.zeros(0), np.zeros(1))


def test_values_in_another_order_are_the_same() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert same_values(array, array.T[::-1])
    assert not same_values(array, array + 1)


class Steps(nn.Module):
    def __init__(self, order: str) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3)
        self.steps = {
            "activation": torch.relu, "norm": self.norm, "pool": nn.AvgPool2d(2), "tanh": torch.tanh
        }
        self.order = order.split()

    def forward(self, x: Any) -> Any:
        x = self.conv(x)
        for step in self.order:
            x = self.steps[step](x)
        return self.last(x)


def keras_steps(order: str) -> Any:
    layers = keras.layers
    steps = {
        "activation": layers.ReLU(name="activation"), "tanh": layers.Activation(
            "tanh", name="tanh"), "norm": layers.BatchNormalization(epsilon=1e-5, name="norm"),
        "pool": layers.AveragePooling2D(2, name="pool")
    }
    x = inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, name="conv")(x)
    for step in order.split():
        x = steps[step](x)
    return keras.Model(inputs, layers.Conv2D(6, 3, name="last")(x))


@pytest.mark.parametrize(("torch_order", "keras_order", "layer"),
                         [("norm activation", "activation norm", "activation"),
                          ("activation norm", "norm activation", "norm"),
                          ("activation pool", "pool activation", "pool"),
                          ("pool activation", "activation pool", "activation"),
                          ("tanh pool", "pool tanh", "pool"),
                          ("norm activation pool", "activation norm pool", "activation"),
                          ("norm activation pool", "norm pool activation", "pool"),])
def test_two_steps_in_the_other_order_are_named_and_nothing_else(torch_order: str, keras_order: str,
                                                                 layer: str) -> None:
    report = ktc.convert(randomized(Steps(torch_order)), keras_steps(keras_order),
                         if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert [(one.kind, one.keras_layers) for one in found.differences] == [("order of steps",
                                                                            (layer,))], str(found)


class Gated(nn.Module):
    def __init__(self, behind: bool) -> None:
        super().__init__()
        self.behind, self.last = behind, nn.Linear(10, 3)
        self.gate, self.up = nn.Linear(6, 10), nn.Linear(6, 10)

    def forward(self, x: Any) -> Any:
        gate, up, act = self.gate(x), self.up(x), nn.functional.silu
        return self.last(act(gate * up) if self.behind else act(gate) * up)


def keras_gated(behind: bool) -> Any:
    layers = keras.layers
    act, product = layers.Activation("silu", name="act"), layers.Multiply(name="product")
    inputs = keras.Input((6,))
    gate, up = layers.Dense(10, name="gate")(inputs), layers.Dense(10, name="up")(inputs)
    x = act(product([gate, up])) if behind else product([act(gate), up])
    return keras.Model(inputs, layers.Dense(3, name="last")(x))


@pytest.mark.parametrize("behind", [True, False])
def test_an_activation_on_the_other_side_of_a_product_is_named(behind: bool) -> None:
    module = randomized(Gated(behind))
    report = ktc.convert(module, keras_gated(not behind), if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert len(found.differences) == 1, str(found)
    first, second = ("product", "act") if behind else ("act", "product")
    assert (found.kind, found.keras_layer) == ("order of steps", second)
    assert found.advice == f"put Keras layer '{first}' before '{second}'"
    assert ktc.convert(module, keras_gated(behind)).equal
