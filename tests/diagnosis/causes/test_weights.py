"""Gains and offsets that one side lacks, beside a real fault: each is named, and nothing else."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized


def module_of(bias: bool = True) -> Any:
    module = randomized(
        nn.Sequential(nn.Linear(6, 8, bias=bias), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)))
    with torch.no_grad():
        module[1].weight.copy_(torch.linspace(0.5, 2, 8))
    return module


def keras_of(module: Any, *, scale: bool = True, epsilon: float = 1e-5) -> Any:
    keras_model = keras.Sequential([
        keras.Input((6,)),
        keras.layers.Dense(8, name="first"),
        keras.layers.LayerNormalization(epsilon=epsilon, scale=scale, name="norm"),
        keras.layers.Activation("relu", name="act"),
        keras.layers.Dense(3, name="last")
    ])
    values = {name: np.array(value) for name, value in module.state_dict().items()}
    keras_model.get_layer("first").kernel.assign(values["0.weight"].T)
    keras_model.get_layer("first").bias.assign(values.get("0.bias", np.full(8, 0.3, np.float32)))
    norm = keras_model.get_layer("norm")
    norm.beta.assign(values["1.bias"])
    if scale:
        norm.gamma.assign(values["1.weight"])
    keras_model.get_layer("last").set_weights([values["3.weight"].T, values["3.bias"]])
    return keras_model


def named(module: Any, keras_model: Any) -> dict[str, str]:
    sample = np.random.default_rng(0).standard_normal((4, 6), np.float32)
    found = ktc.verify(module, keras_model, sample=sample).first_divergence
    assert found is not None
    assert all(len(one.keras_layers) == 1 for one in found.differences)
    return {one.keras_layers[0]: f"{one.kind}: {one.advice}" for one in found.differences}


def test_a_gain_that_keras_lacks_beside_another_activation() -> None:
    said = named(module_of(), keras_of(module_of(), scale=False))
    assert said.pop("norm") == "missing weights: build the Keras layer with scale=True"
    assert said.pop("act").startswith("activation: ")
    assert not said


def test_a_bias_that_torch_lacks_beside_another_activation() -> None:
    module = module_of(bias=False)
    said = named(module, keras_of(module))
    assert said.pop("first").startswith("extra weights: set first/bias to 0")
    assert said.pop("act").startswith("activation: ")
    assert not said


def test_values_and_a_setting_of_one_layer_are_both_wrong() -> None:
    module = module_of()
    keras_model = keras_of(module, epsilon=0.5)
    norm = keras_model.get_layer("norm")
    norm.beta.assign(1.5 * np.array(norm.beta))
    keras_model.get_layer("act").activation = keras.activations.gelu
    sample = np.random.default_rng(0).standard_normal((4, 6), np.float32)
    found = ktc.verify(module, keras_model, sample=sample).first_divergence
    assert found is not None
    kinds = {one.kind for one in found.differences}
    assert "epsilon" in kinds
    assert "scaled weights" in kinds
