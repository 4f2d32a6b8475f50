"""Keras layers after enable_lora get their kernels, adapters keep their values; quantized layers
are refused with what to do.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch
from safetensors.torch import save_file
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


class Tokens(nn.Module):
    """A table, two linear layers, a convolution."""
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv = nn.Embedding(11, 8), nn.Conv1d(8, 6, 3)
        self.heads, self.out = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, ids: Any) -> Any:
        x = self.conv(self.embed(ids).transpose(1, 2)).transpose(1, 2)
        return self.out(self.heads(x))


def keras_tokens(rank: int | None = None, alpha: float | None = None) -> Any:
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((7,), dtype="int32"), layers.Embedding(11, 8, name="embed"),
        layers.Conv1D(6, 3, name="conv"),
        layers.EinsumDense("btw,whd->bthd", (None, 2, 4), bias_axes="hd", name="heads"),
        layers.EinsumDense("bthd,hdw->btw", (None, 5), bias_axes="w", name="out")
    ])  # yapf: disable
    for layer in model.layers if rank else ():
        layer.enable_lora(rank, lora_alpha=alpha)
    return model


def lora_folder(path: Path, module: nn.Module, rank: int = 2) -> Path:
    """An adapter of PEFT for all four layers, of scale 3."""
    tensors: dict[str, Any] = {}
    for name, layer in module.named_children():
        shape, front = layer.weight.shape, f"base_model.model.{name}"
        if name == "embed":
            tensors[f"{front}.lora_embedding_A"] = torch.randn(rank, shape[0])
            tensors[f"{front}.lora_embedding_B"] = torch.randn(shape[1], rank)
        else:
            ones = (1,) * (len(shape) - 2)
            tensors[f"{front}.lora_A.weight"] = torch.randn(rank, *shape[1:])
            tensors[f"{front}.lora_B.weight"] = torch.randn(shape[0], rank, *ones)
    path.mkdir()
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 3 * rank}))
    return path


def as_array(tensor: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(tensor))


def assert_same_outputs(model: Any, other: Any, ids: np.ndarray) -> None:
    found, expected = as_array(model(ids)), as_array(other(ids))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("alpha", [6.0, 1.0])
def test_an_adapter_of_peft_becomes_that_of_the_layers(tmp_path: Path, alpha: float) -> None:
    module, plain, model = randomized(Tokens()), keras_tokens(), keras_tokens(2, alpha)
    plan = ktc.convert(module, plain).plan
    source = ktc.read(module.state_dict(), adapter=lora_folder(tmp_path / "lora", module))
    report = ktc.convert(source, model, plan=plan)
    assert "3 layers took the adapter into matrices of their own (enable_lora)" in " ".join(
        report.notes)
    # Heads of their own axis have no such matrices: that layer gets the merged weight.
    own = {layer.name: as_array(layer.weights[0]) for layer in model.layers}
    base = {layer.name: as_array(layer.weights[0]) for layer in plain.layers}
    assert [name for name in own if np.array_equal(own[name], base[name])
           ] == ["embed", "conv", "out"]
    statuses = Counter(
        entry.status for entry in report.ledger if entry.side == "target" and "lora" in entry.name)
    assert statuses == {"set": 6, "kept": 2}
    ktc.convert(source, plain, plan=plan)
    for one, other in zip(model.layers, plain.layers, strict=True):
        name = "embeddings" if one.name == "embed" else "kernel"
        merged = as_array(getattr(other, name))
        np.testing.assert_allclose(as_array(getattr(one, name)), merged, rtol=1e-5, atol=1e-4)
        if one.name != "heads":
            scale = model.get_layer(one.name).lora_alpha / 2
            a, b = (as_array(getattr(one, f"lora_{name}_{part}")) for part in "ab")
            np.testing.assert_allclose(scale * (a @ b), merged - base[one.name], rtol=1e-4,
                                       atol=1e-4)
    ids = np.random.default_rng(0).integers(0, 11, (2, 7))
    assert_same_outputs(model, plain, ids)


def test_an_adapter_of_another_rank_is_merged_and_a_failure_takes_all_back(tmp_path: Path) -> None:
    module, plain, model = randomized(Tokens()), keras_tokens(), keras_tokens(3)
    plan = ktc.convert(module, plain).plan
    source = ktc.read(module.state_dict(), adapter=lora_folder(tmp_path / "lora", module))
    report = ktc.convert(source, model, plan=plan)
    assert "8 variables of adapters (enable_lora) keep their values" in " ".join(report.notes)
    ktc.convert(source, plain, plan=plan)
    for one, other in zip(model.layers, plain.layers, strict=True):
        np.testing.assert_array_equal(as_array(one.weights[0]), as_array(other.weights[0]))
    model = keras_tokens(2)
    before = [np.array(one) for one in model.get_weights()]
    with pytest.raises(ktc.SaveError):
        ktc.convert(source, model, plan=plan, save=tmp_path / "no" / "x.weights.h5")
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_file_of_a_model_with_a_trained_adapter_gives_the_same_outputs(tmp_path: Path) -> None:
    module, model = randomized(Tokens()), keras_tokens(2)
    plan = ktc.convert(module, keras_tokens()).plan
    source = ktc.read(module.state_dict(), adapter=lora_folder(tmp_path / "lora", module))
    ktc.convert(source, model, plan=plan, save=tmp_path / "x.weights.h5")
    plain = keras_tokens()
    plain.load_weights(tmp_path / "x.weights.h5")
    ids = np.random.default_rng(0).integers(0, 11, (2, 7))
    assert_same_outputs(model, plain, ids)
