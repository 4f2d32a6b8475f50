"""Files are read where neither PyTorch nor safetensors can be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

SCRIPT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "safetensors", "keras", "tf_keras", "tensorflow", "jax"}:
            raise ImportError(f"{name} is not to be imported here")

sys.meta_path.insert(0, Blocker())
from keras_torch_convert import read

for path in sys.argv[1:]:
    source = read(path)
    print(*source, float(sum(tensor.read().sum() for tensor in source.values())))
print(*read({"a": 1.5, "b": __import__("numpy").ones(2)}))
"""


def test_files_of_every_kind_are_read_without_torch(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.arange(4.0), "b.weight": torch.ones(2)}
    torch.save(tensors, tmp_path / "zip.pth")
    torch.save(tensors, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(tensors, tmp_path / "net.safetensors")
    np.savez(tmp_path / "net.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    paths = [
        str(tmp_path / name) for name in ("zip.pth", "legacy.pth", "net.safetensors", "net.npz")
    ]
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", SCRIPT, *paths], cwd=root, capture_output=True,
                            text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [*["a.weight b.weight 8.0"] * 4, "a b"]
