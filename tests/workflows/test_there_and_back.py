"""A checkpoint into a Keras file and back: bit for bit where the Plan is lossless, and told where
it is not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import keras_torch_convert as ktc
from keras_torch_convert.plan.evaluation import shape_of
from keras_torch_convert.plan.expressions import Expression
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.file_layout import (ArchiveMember, FileLayout, StoredArray,
                                                  TargetLayout)
from keras_torch_convert.spec.tensor_spec import TensorSpec
from tests.plan.test_inverse import trees

# PyTorch's types that Keras has variables of, and how HDF5 files hold them.
STORED = {
    "float32": "<f4", "float64": "<f8", "float16": "<f2", "bfloat16": "|V2", "int64": "<i8",
    "int32": "<i4", "uint8": "|u1"
}
TARGETS = (".h5", ".weights.h5", ".keras")


def plan_of(expressions: list[Expression], shapes: dict[str, tuple[int, ...]], dtype: str) -> Plan:
    """A Plan with a variable for each expression, all of one type."""
    keys = [f"layer{index}/0" for index in range(len(expressions))]
    kinds = [shape_of(one, shapes) for one in expressions]
    arrays = tuple(
        StoredArray(f"/layers/{key}", kind, STORED[dtype], key)
        for key, kind in zip(keys, kinds, strict=True))
    file = FileLayout((), arrays)
    return Plan(
        tuple(Assignment(key, one, "rule") for key, one in zip(keys, expressions, strict=True)),
        sources={name: TensorSpec(shape, dtype, name) for name, shape in shapes.items()},
        targets={key: TensorSpec(kind, dtype, key) for key, kind in zip(keys, kinds, strict=True)},
        layout=TargetLayout("keras", "3", file, file, (ArchiveMember("config.json", "{}"),)))


def random_bits(shapes: dict[str, tuple[int, ...]], dtype: str,
                seed: int) -> dict[str, torch.Tensor]:
    """Tensors of any bits: every kind of NaN, infinite and subnormal numbers among them."""
    generator = torch.Generator().manual_seed(seed)
    kind: torch.dtype = getattr(torch, dtype)
    return {
        name:
            torch.randint(0, 256, (*shape, kind.itemsize), dtype=torch.uint8,
                          generator=generator).view(kind).reshape(shape)
        for name, shape in shapes.items()
    }


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(
        torch.uint8).numpy().tobytes() if tensor.ndim else tensor[None].numpy().tobytes()


@settings(max_examples=120)
@given(data=st.data())
def test_what_a_lossless_plan_carries_comes_back_bit_for_bit(data: st.DataObject) -> None:
    expressions, values = data.draw(trees())
    shapes: dict[str, tuple[int, ...]] = {name: array.shape for name, array in values.items()}
    dtype = data.draw(st.sampled_from(sorted(STORED)))
    tensors = random_bits(shapes, dtype, data.draw(st.integers(0, 999)))
    plan = plan_of(expressions, shapes, dtype)
    assert plan.lossless
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_file(tensors, folder / "there.safetensors")
        file = folder / f"model{data.draw(st.sampled_from(TARGETS))}"
        assert ktc.apply(plan, folder / "there.safetensors", file).ok
        ktc.apply(Plan.load(plan.save(folder / "x.plan.json")), file, folder / "back.safetensors")
        back = load_file(folder / "back.safetensors")
        assert back.keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert bits(back[key]) == bits(tensor)


def test_a_narrowing_plan_says_that_it_is_not_lossless_and_warns_on_the_way_back(
        tmp_path: Path) -> None:
    from dataclasses import replace

    from keras_torch_convert.plan.expressions import Tensor

    plan = plan_of([Tensor("w")], {"w": (3,)}, "float32")
    plan = replace(plan, sources={"w": TensorSpec((3,), "float64", "w")})
    save_file({"w": torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)},
              tmp_path / "there.safetensors")
    assert not plan.lossless
    assert ktc.apply(plan, tmp_path / "there.safetensors", tmp_path / "model.h5").warnings
    report = ktc.apply(plan, tmp_path / "model.h5", tmp_path / "back.safetensors")
    assert any("float64" in warning for warning in report.warnings)
    assert load_file(tmp_path / "back.safetensors")["w"].dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_types_that_keras_has_no_values_for_are_refused_by_name(tmp_path: Path, dtype: Any) -> None:
    from keras_torch_convert.plan.expressions import Tensor

    plan = plan_of([Tensor("w")], {"w": (3,)}, "float32")
    torch.save({"w": torch.ones(3).to(dtype)}, tmp_path / "w.pth")
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ktc.TransferError, match=f"'w': {name} values cannot become float32"):
        ktc.apply(plan, tmp_path / "w.pth", tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


def test_bfloat16_and_float16_are_widened_exactly(tmp_path: Path) -> None:
    import h5py

    from keras_torch_convert.plan.expressions import Tensor

    plan = plan_of([Tensor("w")], {"w": (4,)}, "float32")
    for dtype in (torch.bfloat16, torch.float16):
        values = torch.tensor([1.5, -2.25, 3e-5, float("inf")]).to(dtype)
        torch.save({"w": values}, tmp_path / "w.pth")
        ktc.apply(plan, tmp_path / "w.pth", tmp_path / "out.h5")
        with h5py.File(tmp_path / "out.h5") as file:
            np.testing.assert_array_equal(file["layers/layer0/0"][()], values.float().numpy())
