"""Quantized checkpoints go into Keras models and files like those of floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import keras_torch_convert as ktc
from keras_torch_convert.plan.evaluation import Evaluation
from keras_torch_convert.plan.expressions import Dequantize, Permute, Tensor
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.util.values_at_offsets import Pieces


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(300, 200), torch.nn.Linear(200, 130, bias=False)

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x))


def keras_net() -> Any:
    return keras.Sequential(
        [keras.Input((300,)),
         keras.layers.Dense(200),
         keras.layers.Dense(130, use_bias=False)])


def quantized_file(path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file with FP8 weights, and the weights in bfloat16."""
    tensors, plain = {}, {}
    for name, weight in Net().state_dict().items():
        plain[name] = weight.bfloat16()
        tensors[name] = plain[name]
        if weight.ndim == 2:
            scales = torch.rand(2, -(-weight.shape[1] // 128)) + 0.5
            codes = weight.detach().to(torch.float8_e4m3fn)
            whole = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
            tensors |= {name: codes, f"{name}_scale_inv": scales}
            plain[name] = (codes.float() * whole[:len(weight), :weight.shape[1]]).bfloat16()
    save_file(tensors, path / "model.safetensors")
    return path / "model.safetensors", plain


def kernels(model: Any) -> list[np.ndarray]:
    return [np.asarray(one) for one in model.get_weights()]


@pytest.mark.parametrize("box", [2**20, 1000])
def test_convert_and_apply_decode_what_a_file_holds(tmp_path: Path, box: int,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras_torch_convert.plan.evaluation._BOX_SIZE", box)
    file, plain = quantized_file(tmp_path)
    model = keras_net()
    plan = ktc.align(Net(), model)
    report = ktc.convert(file, model, plan=plan)
    assert "2 quantized weights decoded, from float8_e4m3fn to bfloat16" in str(report)
    for found, name in zip(kernels(model), plain, strict=True):
        np.testing.assert_array_equal(found, plain[name].float().numpy().T)
    ktc.apply(plan, file, tmp_path / "from_codes.weights.h5")
    save_file(plain, tmp_path / "plain.safetensors")
    ktc.apply(plan, tmp_path / "plain.safetensors", tmp_path / "plain.weights.h5")
    one, other = (tmp_path / f"{name}.weights.h5" for name in ("from_codes", "plain"))
    assert one.read_bytes() == other.read_bytes()
    with h5py.File(one) as opened:
        assert len(opened["layers"]) == 2


def test_a_plan_may_hold_the_step_itself(tmp_path: Path) -> None:
    blocks = torch.randint(0, 256, (5, 1, 16), dtype=torch.uint8)
    exponents = torch.randint(120, 130, (5, 1), dtype=torch.uint8)
    node = Dequantize((Tensor("blocks"), Tensor("powers")), "mxfp4", "bfloat16", 4, (1, 32))
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(5, use_bias=False)])
    linear = torch.nn.Linear(32, 5, bias=False)
    ((key, spec),) = ktc.align(linear, model).targets.items()
    source = ktc.read({"blocks": blocks, "powers": exponents})
    plan = ktc.Plan((Assignment(key, Permute(node, (1, 0)), "by hand"),),
                    sources={name: one.spec for name, one in source.items()}, targets={key: spec})
    path = plan.save(tmp_path / "x.plan.json")
    ktc.convert(source, model, plan=ktc.Plan.load(path))
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
    numbers = np.stack([table[blocks & 15], table[blocks >> 4]], -1).reshape(5, 32)
    expected = numbers * 2.0**(exponents.numpy().astype(int) - 127)
    np.testing.assert_array_equal(kernels(model)[0], expected.T)
    with pytest.raises(ktc.TransferError, match="only decoded"):
        plan.invert()


def test_values_come_in_pieces() -> None:
    arrays = [np.arange(3, dtype=np.uint16), np.arange(4, dtype=np.uint16)]
    found = np.asarray(Pieces(14, lambda: iter(arrays)))
    assert (found.tolist(), found.dtype) == ([0, 1, 2, 0, 1, 2, 3], np.uint16)


def test_what_is_only_moved_is_decoded_in_pieces(tmp_path: Path) -> None:
    path, _ = quantized_file(tmp_path)
    moved = Permute(Tensor("first.weight"), (1, 0))
    assert isinstance(Evaluation(ktc.read(path)).stored_view(moved, "float32"), Pieces)
