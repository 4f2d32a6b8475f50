"""Keras layers after enable_lora get their kernels, adapters keep their values; quantized layers
are refused with what to do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.keras_io.model import read_target
from tests.helpers.small_models import randomized


def keras_net() -> Any:
    layers = keras.layers
    return keras.Sequential([
        keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.Flatten(),
        layers.Dense(6, activation="relu", name="hidden"), layers.Dense(3, name="head")
    ])  # yapf: disable


def torch_net() -> Any:
    return randomized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 6), nn.ReLU(),
                                    nn.Linear(6, 3)))  # yapf: disable


def adapted(product: bool) -> Any:
    model = keras_net()
    for layer in model.layers:
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2)
            if product:
                layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    return model


@pytest.mark.parametrize("way", ["convert", "static", "classic", "plan"])
def test_a_layer_with_an_adapter_gets_its_kernel_and_the_adapter_keeps_its_values(way: str) -> None:
    module, model, plain = torch_net(), adapted(product=False), keras_net()
    plan = ktc.convert(module, plain).plan
    before = [np.array(keras.ops.convert_to_numpy(one.lora_kernel_a)) for one in model.layers
              if hasattr(one, "lora_kernel_a")]  # yapf: disable
    if way == "classic":
        report = ktc.keras_reload_from_torch_model(module, model, save_name="", verbose=0,
                                                   do_predict=False)
    elif way == "static":
        report = ktc.convert(module.state_dict(), model, accept_unproven=True)
    else:
        report = ktc.convert(module, model, plan=plan if way == "plan" else None)
        assert report.equal
    after = [one.lora_kernel_a for one in model.layers if hasattr(one, "lora_kernel_a")]
    assert len(before) == 3
    assert all(
        np.array_equal(one, keras.ops.convert_to_numpy(other))
        for one, other in zip(before, after, strict=True))
    kernels = [one.kernel for one in model.layers if hasattr(one, "kernel")]
    expected = [one.kernel for one in plain.layers if hasattr(one, "kernel")]
    if way != "static":  # where rows after a flatten are the graph's to know
        assert all(
            np.array_equal(*map(keras.ops.convert_to_numpy, pair))
            for pair in zip(kernels, expected, strict=True))
    kept = [entry for entry in report.ledger if entry.status == "kept"]
    assert len(kept) == 6
    assert all("enable_lora" in entry.rule for entry in kept)
    assert any(
        "6 variables of adapters (enable_lora) keep their values" in note for note in report.notes)


def test_keys_of_variables_are_those_of_the_plain_model() -> None:
    assert list(read_target(adapted(product=False)).variables) == list(
        read_target(keras_net()).variables)


def test_an_adapter_that_does_something_shows_in_the_outputs() -> None:
    with pytest.raises(ktc.NotEqualError):
        ktc.convert(torch_net(), adapted(product=True))


def test_a_saved_model_with_adapters_holds_the_kernel(tmp_path: Path) -> None:
    module, model = torch_net(), adapted(product=False)
    report = ktc.convert(module, model, save=tmp_path / "net.weights.h5")
    assert report.equal
    plain = keras_net()
    plain.load_weights(tmp_path / "net.weights.h5")
    assert ktc.verify(module, plain).verdict == "equal"


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize("convert", [
    ktc.convert,
    lambda module, model: ktc.convert(module.state_dict(), model, accept_unproven=True),
    lambda module, model: ktc.keras_reload_from_torch_model(module, model, verbose=0)
])  # yapf: disable
def test_a_quantized_model_is_refused_with_what_to_do(mode: str, convert: Any) -> None:
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="a")])
    model.quantize(mode)
    before = [np.array(one) for one in model.get_weights()]
    with pytest.raises(ktc.TargetError,
                       match=rf"is quantized \({mode}\) in 'a'.* call model.quantize\('{mode}'\)"):
        convert(nn.Linear(8, 4), model)
    assert all(map(np.array_equal, before, model.get_weights()))
