"""Merged adapters are, bit for bit, what PEFT itself merges.

The digests were made once from the same files by `merge_and_unload` of peft 0.21.2. Matrices
are such that their products are exact: no order of summation shows.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

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
            outputs, inputs, *window = shape[::-1] if name == "embed" else shape
            middle, end = ("embedding_", "") if name == "embed" else ("", ".weight")
            one = [1 for _ in window]
            adapter[f"{front}.lora_{middle}A{end}"] = numbers((ranks[name], inputs, *window), 31,
                                                              13, 64)
            adapter[f"{front}.lora_{middle}B{end}"] = numbers((outputs, ranks[name], *one), 17, 11,
                                                              64)
    save_file(base, folder / "base.safetensors")
    (folder / "adapter").mkdir()
    save_file(adapter, folder / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": [*ranks], **more}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))


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
