"""A zoo that ships one file for all sizes of a model, and loads any checkpoint of them with it.

    python examples/family_zoo.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch

import keras_torch_convert as ktc


def torch_net(layers: int, width: int) -> Any:
    """What the checkpoints were trained with."""
    blocks = [torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU())
              for _ in range(layers)]  # yapf: disable
    return torch.nn.Sequential(torch.nn.Linear(6, width), *blocks, torch.nn.Linear(width, 5))


def keras_net(layers: int, width: int) -> Any:
    """The same in the zoo."""
    blocks = [keras.layers.Dense(width, "relu", name=f"block_{i + 1}") for i in range(layers)]
    stem, head = keras.layers.Dense(width, name="stem"), keras.layers.Dense(5, name="head")
    return keras.Sequential([keras.Input((6,)), stem, *blocks, head])


def from_pretrained(checkpoint: Path, family: Path, **size: int) -> Any:
    """The zoo's own function: no PyTorch, no dictionaries, no word."""
    model = keras_net(**size)
    ktc.load_weights(model, checkpoint, family)
    return model


def main() -> None:
    """Learn once from two small models, then load a large checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        family = Path(folder) / "net.family.json"
        ktc.learn_family(torch_net, keras_net, [(2, 8), (3, 12)]).save(family)
        print(ktc.FamilyPlan.load(family))

        large = torch_net(24, 64)
        torch.save(large.state_dict(), Path(folder) / "large.pth")
        model = from_pretrained(Path(folder) / "large.pth", family, layers=24, width=64)

    sample = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    expected = large(torch.from_numpy(sample)).detach().numpy()
    difference = np.abs(keras.ops.convert_to_numpy(model(sample)) - expected).max()
    print(f"largest difference: {difference:.1e}")
    assert difference < 1e-5


if __name__ == "__main__":
    main()
