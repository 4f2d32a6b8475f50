"""Alignment of nets that make a feature map of a vector: torch counts the vector channels first,
Keras channels last.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized, same_values, values

layers = keras.layers


class TwoDecoders(nn.Module):
    """Two vectors of one size, two maps, two convolutions."""
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 64), nn.Linear(6, 64)
        self.first_map, self.second_map = (nn.Conv2d(4, 2, 3, padding=1) for _ in range(2))

    def forward(self, x: Any) -> Any:
        maps = [inner(x).view(-1, 4, 4, 4) for inner in (self.first, self.second)]
        return self.first_map(maps[0]) + torch.tanh(self.second_map(maps[1]))


class Permuted(nn.Module):
    """Axes in another order."""
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Any) -> Any:
        return x.permute(*self.order)


def generator_pair() -> tuple[nn.Module, Any]:
    module = nn.Sequential(nn.Linear(10, 4 * 4 * 6, bias=False), nn.BatchNorm1d(96),
                           nn.LeakyReLU(0.2), nn.Unflatten(1, (6, 4, 4)),
                           nn.ConvTranspose2d(6, 5, 4, 2, 1), nn.BatchNorm2d(5), nn.ReLU(),
                           nn.Conv2d(5, 3, 1))
    inputs = keras.Input((10,))
    x = layers.BatchNormalization(epsilon=1e-5)(layers.Dense(96, use_bias=False)(inputs))
    x = layers.Reshape((4, 4, 6))(layers.LeakyReLU(negative_slope=0.2)(x))
    x = layers.BatchNormalization(epsilon=1e-5)(layers.Conv2DTranspose(
        5, 4, strides=2, padding="same")(x))
    return module, keras.Model(inputs, layers.Conv2D(3, 1)(layers.ReLU()(x)))


def norm_behind_the_map_pair() -> tuple[nn.Module, Any]:
    module = nn.Sequential(nn.Linear(5, 6 * 8), nn.Unflatten(1, (8, 6)), nn.BatchNorm1d(8),
                           nn.Conv1d(8, 3, 3))
    inputs = keras.Input((5,))
    x = layers.Reshape((6, 8))(layers.Dense(48)(inputs))
    return module, keras.Model(inputs,
                               layers.Conv1D(3, 3)(layers.BatchNormalization(epsilon=1e-5)(x)))


def image_pair() -> tuple[nn.Module, Any]:
    module = nn.Sequential(nn.Linear(6, 60), nn.Sigmoid(), nn.Unflatten(1, (3, 5, 4)))
    inputs = keras.Input((6,))
    return module, keras.Model(
        inputs,
        layers.Reshape((5, 4, 3))(layers.Dense(60, activation="sigmoid")(inputs)))


class LearnedMap(nn.Module):
    """A map that is a parameter, scaled channel by channel: only the convolution behind it tells
    height from width.
    """
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 6, 4, 4))
        self.style, self.convolution = nn.Linear(8, 6), nn.Conv2d(6, 5, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return self.convolution(self.start * (1 + self.style(x))[:, :, None, None])


class StartMap(keras.layers.Layer):
    """The same parameter in Keras."""
    def build(self, input_shape: Any) -> None:
        self.start = self.add_weight(shape=(1, 4, 4, 6), name="start")

    def call(self, x: Any) -> Any:
        return keras.ops.tile(self.start, (keras.ops.shape(x)[0], 1, 1, 1))


def learned_map_pair() -> tuple[nn.Module, Any]:
    inputs = keras.Input((8,))
    style = layers.Reshape((1, 1, 6))(layers.Dense(6)(inputs))
    return LearnedMap(), keras.Model(
        inputs,
        layers.Conv2D(5, 3, padding="same")(StartMap()(inputs) * (1 + style)))


class TwoImages(nn.Module):
    """Two images of two vectors, a norm before one of them, nothing behind either."""
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(6, 60), nn.Linear(6, 60), nn.BatchNorm1d(60)

    def forward(self, x: Any) -> Any:
        return self.first(x).view(-1, 3, 5,
                                  4), torch.sigmoid(self.norm(self.second(x))).view(-1, 3, 5, 4)


def two_images_pair() -> tuple[nn.Module, Any]:
    inputs = keras.Input((6,))
    second, first = layers.Dense(60)(inputs), layers.Dense(60)(inputs)
    second = layers.Activation("sigmoid")(layers.BatchNormalization(epsilon=1e-5)(second))
    return TwoImages(), keras.Model(inputs,
                                    [layers.Reshape((5, 4, 3))(one) for one in (first, second)])


def two_decoders_pair() -> tuple[nn.Module, Any]:
    inputs = keras.Input((6,))
    second, first = layers.Dense(64)(inputs), layers.Dense(64)(inputs)
    second = layers.Conv2D(2, 3, padding="same", activation="tanh")(layers.Reshape(
        (4, 4, 4))(second))
    first = layers.Conv2D(2, 3, padding="same")(layers.Reshape((4, 4, 4))(first))
    return TwoDecoders(), keras.Model(inputs, first + second)


def channels_last_in_torch_pair() -> tuple[nn.Module, Any]:
    module = nn.Sequential(nn.Linear(6, 72), nn.Unflatten(1, (3, 3, 8)), Permuted(0, 3, 1, 2),
                           nn.Conv2d(8, 2, 3))
    inputs = keras.Input((6,))
    return module, keras.Model(
        inputs,
        layers.Conv2D(2, 3)(layers.Reshape((3, 3, 8))(layers.Dense(72)(inputs))))


class Subclassed(keras.Model):
    """Reshapes by an operation, not by a layer."""
    def __init__(self) -> None:
        super().__init__()
        self.convolution = layers.Conv2D(2, 3)
        self.dense = layers.Dense(72, activation="relu")

    def call(self, x: Any) -> Any:
        return self.convolution(keras.ops.reshape(self.dense(x), (-1, 3, 3, 8)))


def subclassed_pair() -> tuple[nn.Module, Any]:
    module = nn.Sequential(nn.Linear(6, 72), nn.ReLU(), nn.Unflatten(1, (8, 3, 3)),
                           nn.Conv2d(8, 2, 3))
    model = Subclassed()
    model(np.zeros((1, 6), "float32"))
    return module, model


def pixel_shuffle_pair() -> tuple[nn.Module, Any]:
    module = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.PixelShuffle(2),
                           nn.Conv2d(5, 12, 1), nn.PixelShuffle(2))
    inputs = keras.Input((6, 4, 3))
    x = shuffled(layers.Conv2D(20, 3, padding="same", activation="relu")(inputs), 2)
    return module, keras.Model(inputs, shuffled(layers.Conv2D(12, 1)(x), 2))


def shuffled(x: Any, factor: int) -> Any:
    """What tf.nn.depth_to_space does: places before channels."""
    height, width, channels = (int(extent) for extent in x.shape[1:])
    apart = layers.Reshape((height, width, factor, factor, channels // factor**2))(x)
    return layers.Reshape((height * factor, width * factor, channels // factor**2))(layers.Permute(
        (1, 3, 2, 4, 5))(apart))


@pytest.mark.parametrize("pair", [
    pixel_shuffle_pair, generator_pair, norm_behind_the_map_pair, image_pair, two_images_pair,
    two_decoders_pair, learned_map_pair, channels_last_in_torch_pair, subclassed_pair
])
def test_a_map_made_of_a_vector_is_counted_as_each_side_does(pair: Any) -> None:
    module, model = pair()
    report = ktc.convert(randomized(module), model)
    assert report.equal is True
    assert report.complete


def test_the_plan_of_a_turned_vector_says_so_and_leads_back_bit_for_bit() -> None:
    module, model = generator_pair()
    report = ktc.convert(randomized(module), model)
    rules = [assignment.rule for assignment in report.plan.assignments]
    assert sum("outputs of a map of 4 x 4 x 6, channels last" in rule for rule in rules) == 5
    assert report.plan.lossless
    other, _ = generator_pair()
    ktc.convert(model, other, plan=report.plan, verify=False)
    assert all(
        torch.equal(value,
                    other.state_dict()[name]) for name, value in weights_of(module).items())


def weights_of(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in module.state_dict().items() if "num_batches" not in name}


def test_a_map_that_neither_order_makes_right_is_refused_and_nothing_changes() -> None:
    module, _ = image_pair()
    inputs = keras.Input((6,))
    wrong = layers.Permute((2, 1, 3))(layers.Reshape(
        (4, 5, 3))(layers.Dense(60, activation="sigmoid")(inputs)))
    model = keras.Model(inputs, wrong)
    before = values(model)
    with pytest.raises(ktc.NotEqualError):
        ktc.convert(randomized(module), model)
    assert same_values(before, values(model))


@pytest.mark.parametrize("pair", [generator_pair, image_pair, two_decoders_pair])
def test_without_running_a_map_is_taken_to_be_counted_channels_first_in_torch_which_is_said(
        pair: Any) -> None:
    module, model = pair()
    report = ktc.convert(randomized(module).state_dict(), model, accept_unproven=True)
    assert any("only equal outputs can prove it" in warning for warning in report.warnings)
    assert all(report.confidence[label] < 0.9 for label in report.confidence if "dense" in label)
    assert ktc.verify(module, model).equal is True
    module, model = pair()
    ktc.keras_reload_from_torch_model(randomized(module), model, do_predict=False, save_name="",
                                      verbose=0)
    assert ktc.verify(module, model).equal is True


def test_a_vector_spread_over_one_place_keeps_its_order() -> None:
    module = nn.Sequential(nn.Linear(5, 8), nn.Unflatten(1, (8, 1, 1)), nn.Conv2d(8, 4, 1))
    inputs = keras.Input((5,))
    model = keras.Model(inputs,
                        layers.Conv2D(4, 1)(layers.Reshape((1, 1, 8))(layers.Dense(8)(inputs))))
    report = ktc.convert(randomized(module).state_dict(), model, accept_unproven=True)
    assert not any("become a map" in warning for warning in report.warnings)
    assert ktc.verify(module, model).equal is True
