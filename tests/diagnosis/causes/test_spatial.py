"""Transposed convolutions that are cropped otherwise: the cause is named, and the advice works."""

from __future__ import annotations

import re
from typing import Any

import keras
import pytest
from torch import nn

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
