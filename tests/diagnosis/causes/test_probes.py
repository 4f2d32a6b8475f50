"""A row that is added to the table of settings names its cause: the recipe of docs/diagnosis.md."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.diagnosis.causes import probes
from tests.helpers.small_models import randomized


class Leaky(keras.layers.Layer):  # type: ignore[misc]
    def __init__(self, slope: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.slope = slope

    def call(self, x: Any) -> Any:
        return keras.ops.where(x > 0, x, self.slope * x)


def found(slope: float) -> ktc.FirstDivergence | None:
    module = randomized(nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.07), nn.Linear(6, 2)))
    keras_model = keras.Sequential([
        keras.Input((4,)),
        keras.layers.Dense(6),
        Leaky(slope, name="leaky"),
        keras.layers.Dense(2)
    ])
    sample = np.random.default_rng(0).standard_normal((16, 4), np.float32)
    report = ktc.convert(module, keras_model, sample=sample, if_different="keep")
    assert report.comparison is not None
    return report.comparison.first_divergence


def test_a_setting_is_named_by_a_row_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    before = found(0.4)
    assert before is not None
    assert not before.kind
    row = probes.Probe("activation", ("Leaky",), "slope", probes.of_module("negative_slope"))
    monkeypatch.setattr(probes, "PROBES", (*probes.PROBES, row))
    after = found(0.4)
    assert after is not None
    assert (after.kind, after.keras_layer,
            after.advice) == ("activation", "leaky", "build the Keras layer with slope=0.07")
    assert found(0.07) is None
