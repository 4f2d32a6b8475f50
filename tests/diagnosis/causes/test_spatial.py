"""Maps that are padded, cropped and resized otherwise: the cause is named, and the advice works."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized


def keras_net(kernel: int, crop: Any = None) -> Any:
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    padding = "same" if crop is None else "valid"
    x = keras.layers.Conv2DTranspose(6, kernel, 2, padding=padding, name="up")(x)
    x = x if crop is None else keras.layers.Cropping2D(crop)(x)
    return keras.Model(inputs, keras.layers.Conv2D(2, 1)(keras.layers.ReLU()(x)))


@pytest.mark.parametrize(("kernel", "padding", "extra"), [(3, 1, 1), (5, 2, 1)])
def test_a_transposed_convolution_that_is_cropped_otherwise(kernel: int, padding: int,
                                                            extra: int) -> None:
    module = randomized(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(),
                      nn.ConvTranspose2d(8, 6, kernel, 2, padding, extra), nn.ReLU(),
                      nn.Conv2d(6, 2, 1)))
    report = ktc.convert(module, keras_net(kernel), if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert (found.kind, found.keras_layer) == ("padding", "up")
    said = re.search(r"Cropping2D\(\(\((\d), (\d)\), \((\d), (\d)\)\)\)", found.advice)
    assert said is not None
    one, two, three, four = map(int, said.groups())
    assert ktc.convert(module, keras_net(kernel, ((one, two), (three, four)))).equal


def keras_resized(rows: Any = None) -> Any:
    class Resized(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return rows(x)

    x = inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(8, 3, padding="same")(x)
    x = Resized()(x) if rows else keras.layers.UpSampling2D(2, interpolation="bilinear",
                                                            name="up")(x)
    return keras.Model(inputs, keras.layers.Conv2D(2, 1)(x))


def test_advice_about_aligned_corners_works() -> None:
    module = randomized(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1),
                      nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
                      nn.Conv2d(8, 2, 1)))
    report = ktc.convert(module, keras_resized(), if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert (found.kind, found.keras_layer) == ("align_corners", "up")
    said = re.search(r"(ops\.einsum.*), x\) with rows = (.*)", found.advice)
    assert said is not None
    names = {"ops": keras.ops, "np": np}
    names["rows"] = eval(said[2], names)
    assert ktc.convert(module,
                       keras_resized(lambda x: eval(f"{said[1]}, x)", {**names, "x": x}))).equal
    module[1].align_corners = False
    assert ktc.convert(module, keras_resized()).equal


class Padded(keras.layers.Layer):  # type: ignore[misc]
    """Keras code that hands its input on to a layer without weights."""
    def __init__(self) -> None:
        super().__init__(name="padded")
        self.pad = keras.layers.ZeroPadding2D(1)
        self.conv = keras.layers.Conv2D(8, 3, name="conv")

    def call(self, x: Any) -> Any:
        return self.conv(self.pad(x))


class Calibrated(keras.layers.Layer):  # type: ignore[misc]
    """Keras code between two layers that resizes in a layer of its own."""
    def __init__(self, interpolation: str) -> None:
        super().__init__(name="calibrated")
        self.pool = keras.layers.AveragePooling2D(4)
        self.down = keras.layers.Conv2D(8, 1, name="down")
        self.up = keras.layers.UpSampling2D(4, interpolation=interpolation, name="up")
        self.padded = Padded()

    def call(self, x: Any) -> Any:
        return self.padded(x * keras.ops.sigmoid(x + self.up(self.down(self.pool(x)))))


class TorchCalibrated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.down, self.conv = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        down = self.down(functional.avg_pool2d(x, 4))
        up = functional.interpolate(down, scale_factor=4, mode="bilinear")
        result: torch.Tensor = self.last(self.conv(x * torch.sigmoid(x + up)))
        return result


def test_a_step_whose_result_code_hands_on_to_a_layer_of_layers_is_named() -> None:
    given = keras.Input((12, 12, 3))
    x = Calibrated("nearest")(keras.layers.Conv2D(8, 3, padding="same")(given))
    keras_model = keras.Model(given, keras.layers.Conv2D(2, 1)(x))
    report = ktc.convert(randomized(TorchCalibrated()), keras_model, if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert (found.kind, found.keras_layer) == ("interpolation", "calibrated/up")
    assert len(found.differences) == 1


def pooled(padding: str, pads: int) -> Any:
    x = given = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.ZeroPadding2D(pads)(x) if pads else x
    x = keras.layers.MaxPooling2D(3, 2, padding=padding, name="pool")(x)
    return keras.Model(given, keras.layers.Conv2D(2, 1)(x))


def test_advice_about_a_pooling_that_is_rounded_up_works() -> None:
    module = randomized(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
                      nn.Conv2d(8, 2, 1)))
    report = ktc.convert(module, pooled("valid", 1), if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert "strides=(2, 2), padding='same' in Keras, with no padding before it" in found.advice
    assert ktc.convert(module, pooled("same", 0)).equal
