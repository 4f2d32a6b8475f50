"""Alignment where branches are joined in another order, so that the layers behind get torch's
channels in another order.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.alignment.activations.reordering import order_of_channels
from tests.helpers.small_models import randomized

layers = keras.layers


class Branches(nn.Module):
    """Three branches of other widths joined, a norm and a convolution behind them."""
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(4, 5,
                                                   1), nn.Conv2d(4, 6, 3,
                                                                 padding=1), nn.Conv2d(4, 7, 1)
        self.norm, self.last = nn.BatchNorm2d(18), nn.Conv2d(18, 3, 3)

    def forward(self, x: Any) -> Any:
        return self.last(
            torch.relu(self.norm(torch.cat(
                [self.one(x), self.two(x), self.three(x)], 1))))


class Dense(nn.Module):
    """Each step joins what it makes behind what it got, and the next one gets both."""
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.steps = nn.ModuleList(
            [nn.Conv2d(4 + 2 * number, 2, 3, padding=1) for number in range(3)])
        self.head = nn.Linear(10, 4)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        for step in self.steps:
            x = torch.cat([x, torch.tanh(step(x))], 1)
        return self.head(x.mean((2, 3)))


class DepthwiseBehind(nn.Module):
    """A depthwise convolution behind two joined branches: what it gives is in the order of what it
    gets.
    """
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.depthwise, self.last = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 5, 1)

    def forward(self, x: Any) -> Any:
        return self.last(self.depthwise(torch.cat([self.one(x), self.two(x)], 1)))


def branches_pair() -> tuple[nn.Module, Any]:
    inputs = keras.Input((8, 8, 4))
    three, one = layers.Conv2D(7, 1)(inputs), layers.Conv2D(5, 1)(inputs)
    joined = layers.Concatenate()([three, one, layers.Conv2D(6, 3, padding="same")(inputs)])
    normalized = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5)(joined))
    return Branches(), keras.Model(inputs, layers.Conv2D(3, 3)(normalized))


def dense_pair() -> tuple[nn.Module, Any]:
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 1)(inputs)
    for _ in range(3):
        x = layers.Concatenate()([layers.Conv2D(2, 3, padding="same", activation="tanh")(x), x])
    return Dense(), keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def depthwise_pair() -> tuple[nn.Module, Any]:
    inputs = keras.Input((7, 7, 3))
    joined = layers.Concatenate()([layers.Conv2D(4, 1)(inputs) for _ in range(2)][::-1])
    return DepthwiseBehind(), keras.Model(inputs,
                                          layers.Conv2D(5, 1)(layers.DepthwiseConv2D(3)(joined)))


@pytest.mark.parametrize("pair", [branches_pair, dense_pair, depthwise_pair])
def test_branches_joined_in_another_order(pair: Any) -> None:
    module, model = pair()
    report = ktc.convert(randomized(module), model)
    assert report.equal is True
    assert report.complete
    assert report.plan.lossless


def test_the_plan_of_another_order_says_so_and_leads_back_bit_for_bit() -> None:
    module, model = branches_pair()
    report = ktc.convert(randomized(module), model)
    assert sum(
        "the order in which Keras joins them" in one.rule for one in report.plan.assignments) == 5
    other, _ = branches_pair()
    ktc.convert(model, other, plan=report.plan, verify=False)
    found = other.state_dict()
    assert all(
        torch.equal(value, found[name])
        for name, value in module.state_dict().items() if "batches" not in name)


def test_the_order_of_channels_is_read_off_the_values() -> None:
    generator = np.random.default_rng(1)
    theirs = generator.standard_normal((1, 6, 3, 4)).astype(np.float32)
    order = (4, 5, 0, 1, 2, 3)
    own = np.moveaxis(theirs[:, list(order)], 1, -1)
    assert order_of_channels(own, theirs) == order
    assert order_of_channels(np.moveaxis(theirs, 1, -1), theirs) is None
    assert order_of_channels(own + generator.standard_normal(own.shape), theirs) is None
    assert order_of_channels(own[..., :3], theirs) is None


@pytest.mark.parametrize("is_scaled_inside", [False, True])
def test_a_picture_with_its_channels_in_the_other_order_leaves_the_weights_as_they_are(
        is_scaled_inside: bool) -> None:
    module = randomized(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(),
                      nn.Linear(8 * 16, 4)))
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(0.5, 0.1)(inputs) if is_scaled_inside else inputs
    x = layers.Conv2D(6, 3, activation="relu", name="first")(x)
    x = layers.Flatten()(layers.Conv2D(8, 3, activation="relu", name="second")(x))
    model = keras.Model(inputs, layers.Dense(4, name="last")(x))
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    theirs = 0.5 * picture + 0.1 if is_scaled_inside else picture

    report = ktc.convert(module, model, if_different="keep",
                         sample=(theirs[..., ::-1].transpose(0, 3, 1, 2).copy(), picture))

    kernel = module[0].weight.detach().numpy().transpose(2, 3, 1, 0)
    assert np.array_equal(model.get_layer("first").kernel, kernel)
    assert report.verdict == "different"
    assert "RGB and BGR" in str(report.comparison)
    assert report.match_status["first"] != "proven"
    assert report.match_status["second"] == "proven given its input"
