"""Merged adapters are, bit for bit, what PEFT itself merges, and those in layers of Keras compute
what PEFT's layers compute.

The digests were made once from the same files by peft 0.21.2, those of weights by
`merge_and_unload()`, not by `safe_merge=True`, which rounds the adapter to the type of the base
first. Numbers are such that their products and sums are exact: no order of summation shows.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch
from safetensors.torch import save_file

import keras_torch_convert as ktc
from keras_torch_convert.torch_io.reader import read

SHAPES = {
    "embed": (19, 12), "query": (20, 12), "value": (12, 20), "conv": (6, 4, 3, 3), "head": (5, 12)
}  # yapf: disable
# The layers with matrices and their ranks, and what the configuration says beside.
CASES: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "plain": ({"query": 4, "value": 4}, {}),
    "patterns": ({"query": 3, "value": 4, "head": 5},
                 {"rank_pattern": {"query": 3, "head": 5}, "alpha_pattern": {"value": 7}}),
    "rslora": ({"query": 4, "value": 4}, {"use_rslora": True}),
    "fan_in_fan_out": ({"query": 4, "value": 4}, {"fan_in_fan_out": True}),
    "embedding": ({"embed": 4}, {}),
    "convolution": ({"conv": 4}, {}),
    "modules_to_save": ({"query": 4}, {"modules_to_save": ["head"]})
}  # yapf: disable
ANSWERS = {
    "plain": "0fb3fe4611762a20",
    "patterns": "2c3d4a8af4bb657a",
    "rslora": "50ebe5e29568ce40",
    "fan_in_fan_out": "b3dc5d43d80cacb4",
    "embedding": "7bd5d8da378ba165",
    "convolution": "5ffe55878424faaa",
    "modules_to_save": "e51e1485017f298e"
}  # yapf: disable
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def numbers(shape: tuple[int, ...], step: int, period: int, unit: int) -> torch.Tensor:
    """The same numbers on every machine, around zero."""
    whole = np.arange(np.prod(shape)) * step % period - period // 2
    return torch.from_numpy((whole / unit).astype(np.float32).reshape(shape))


def write_files(folder: Path, case: str, dtype: torch.dtype) -> None:
    """Write base.safetensors, and the adapter into a folder beside it."""
    ranks, more = CASES[case]
    base, adapter = {}, {}
    for name, shape in SHAPES.items():
        weight = numbers(shape, 7919, 1009, 1013).to(dtype)
        is_turned = case == "fan_in_fan_out" and name in ranks
        base[f"{name}.weight"] = weight.T.contiguous() if is_turned else weight
        front = f"base_model.model.{name}"
        if name in more.get("modules_to_save", ()):
            adapter[f"{front}.weight"] = weight + 1
        if name in ranks:
            adapter |= matrices(name, ranks[name])
    save_file(base, folder / "base.safetensors")
    write_adapter(folder / "adapter", adapter, [*ranks], more)


def matrices(name: str, rank: int) -> dict[str, torch.Tensor]:
    """The matrices of one layer, as PEFT names them."""
    shape, front = SHAPES[name], f"base_model.model.{name}"
    outputs, inputs, *window = shape[::-1] if name == "embed" else shape
    middle, end = ("embedding_", "") if name == "embed" else ("", ".weight")
    return {
        f"{front}.lora_{middle}A{end}": numbers((rank, inputs, *window), 31, 13, 64),
        f"{front}.lora_{middle}B{end}":
            numbers((outputs, rank, *(1 for _ in window)), 17, 11, 64)
    }  # yapf: disable


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor], layers: list[str],
                  more: dict[str, Any]) -> None:
    """Write a folder as PEFT does."""
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": layers, **more}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def digest(weights: list[Any]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(one) for one in weights)).hexdigest()[:16]


@pytest.mark.parametrize("case", CASES)
def test_merged_weights_are_those_of_peft(case: str, tmp_path: Path) -> None:
    weights = []
    for number, dtype in enumerate(DTYPES):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_files(folder, case, dtype)
        source = read(folder / "base.safetensors", adapter=folder / "adapter")
        weights += [source[f"{name}.weight"].read() for name in SHAPES]
    assert digest(weights) == ANSWERS[case]


# One layer each: its name, its rank, and what the configuration says beside.
FORWARDS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "linear": ("query", 4, {}),
    "rslora": ("value", 4, {"use_rslora": True}),
    "patterns": ("head", 3, {"rank_pattern": {"head": 3}, "alpha_pattern": {"head": 12}}),
    "embedding": ("embed", 4, {}),
    "convolution": ("conv", 4, {})
}  # yapf: disable
OUTPUTS = {
    "linear": "8f03722980630518",
    "rslora": "34fcf0c749cca5f5",
    "patterns": "09f58b9c1f38df3b",
    "embedding": "e4a0d363e9d2a98a",
    "convolution": "2bb577afdf11d4c6"
}  # yapf: disable


class OneLayer(torch.nn.Module):
    """A layer under its name."""
    def __init__(self, name: str) -> None:
        super().__init__()
        first, second, *_ = SHAPES[name]
        layer: Any = torch.nn.Linear(second, first, bias=False)
        if name == "embed":
            layer = torch.nn.Embedding(first, second)
        elif name == "conv":
            layer = torch.nn.Conv2d(second, first, 3, bias=False)
        layer.weight.data = numbers(SHAPES[name], 7919, 1009, 1024)
        self.name = name
        self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = getattr(self, self.name)(x)
        return found

    def sample(self) -> torch.Tensor:
        """Return an input."""
        if self.name == "embed":
            return torch.arange(19).reshape(1, 19)
        inputs = SHAPES[self.name][1]
        return numbers((2, inputs, 5, 6) if self.name == "conv" else (3, inputs), 29, 13, 4)


def keras_layer(name: str) -> Any:
    """Return a model of the same layer."""
    layers, shape = keras.layers, SHAPES[name]
    if name == "embed":
        one, sample = layers.Embedding(*shape, name=name), keras.Input((19,), dtype="int32")
    elif name == "conv":
        one, sample = layers.Conv2D(6, 3, use_bias=False, name=name), keras.Input((5, 6, 4))
    else:
        one, sample = layers.Dense(shape[0], use_bias=False, name=name), keras.Input((shape[1],))
    return keras.Sequential([sample, one])


@pytest.mark.parametrize("case", FORWARDS)
def test_adapters_in_layers_of_keras_compute_what_those_of_peft_compute(case: str,
                                                                        tmp_path: Path) -> None:
    name, rank, more = FORWARDS[case]
    module, model = OneLayer(name), keras_layer(name)
    write_adapter(tmp_path / "adapter", matrices(name, rank), [name], more)
    plan = ktc.convert(module, keras_layer(name)).plan
    model.layers[0].enable_lora(rank, lora_alpha=3)
    report = ktc.convert(read(module.state_dict(), adapter=tmp_path / "adapter"), model, plan=plan)
    assert "1 layer took the adapter into matrices of their own" in " ".join(report.notes)
    x = module.sample().numpy()
    y = keras.ops.convert_to_numpy(model(x.transpose(0, 2, 3, 1) if name == "conv" else x))
    assert digest([y.transpose(0, 3, 1, 2) if name == "conv" else y]) == OUTPUTS[case]
