"""Quantized files are read as the weights of the module, equal to the published formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from keras_torch_convert import SourceError
from keras_torch_convert.torch_io.reader import read
from tests.helpers.reference import quantized

Tensors = dict[str, torch.Tensor]
RNG = np.random.default_rng(0)


def words(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RNG.integers(-2**31, 2**31, shape).astype(np.int32))


def unsigned(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().view(np.uint32)


def folder_of(path: Path, tensors: Tensors, config: Any = None, **more: Any) -> Path:
    save_file({name: one.contiguous() for name, one in tensors.items()}, path / "model.safetensors")
    if config is not None:
        text = json.dumps({"model_type": "x", "quantization_config": config, **more})
        (path / "config.json").write_text(text)
    return path


def values(source: Any, name: str) -> torch.Tensor:
    tensor = source[name]
    found = torch.from_numpy(np.array(tensor.read()))
    return found.view(torch.bfloat16) if tensor.dtype == "bfloat16" else found


def float8(rows: int, columns: int, dtype: torch.dtype = torch.float8_e4m3fn) -> torch.Tensor:
    return torch.from_numpy(RNG.standard_normal((rows, columns), np.float32)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize(("shape", "name", "block"), [
    ((2, 3), "weight_scale_inv", (128, 128)), ((), "weight_scale", (150, 300)),
    ((1,), "weight_scale_inv", (150, 300)), ((150, 1), "weight_scale", (1, 300)),
    ((150,), "weight_scale", (1, 300))])  # yapf: disable
def test_fp8_with_scales_for_blocks_channels_or_the_whole(tmp_path: Path, dtype: torch.dtype,
                                                          shape: tuple[int, ...], name: str,
                                                          block: tuple[int, int]) -> None:
    codes, scales = float8(150, 300, dtype), torch.rand(shape)
    source = read(folder_of(tmp_path, {
        "a.weight": codes, f"a.{name}": scales, "a.bias": torch.ones(150),
        "a.input_scale": torch.ones(())}))  # yapf: disable
    assert list(source) == ["a.weight", "a.bias"]
    assert any("1 quantized weight decoded" in note for note in source.notes)
    assert any(
        "scale of activations left out, such as 'a.input_scale'" in note for note in source.notes)
    grid = (-(-150 // block[0]), -(-300 // block[1]))
    expected = quantized.float8(
        codes.view(torch.uint8).numpy(),
        str(dtype)[6:],
        scales.numpy().reshape(grid), block)
    assert torch.equal(values(source, "a.weight"), torch.from_numpy(expected).bfloat16())


@pytest.mark.parametrize("scales", [torch.float8_e8m0fnu, torch.uint8, torch.bfloat16])
def test_config_gives_type_and_blocks_and_scales_have_other_types(tmp_path: Path,
                                                                  scales: torch.dtype) -> None:
    codes = float8(64, 96)
    powers = torch.randint(120, 130, (2, 2), dtype=torch.uint8)
    stored = powers if scales == torch.uint8 else torch.exp2(powers.float() - 127).to(scales)
    path = folder_of(tmp_path, {"a.weight": codes, "a.weight_scale_inv": stored},
                     {"quant_method": "fp8", "weight_block_size": [32, 64]}, torch_dtype="float16")
    source = read(path / "model.safetensors")
    assert source["a.weight"].dtype == "float16"
    expected = quantized.float8(
        codes.view(torch.uint8).numpy(), "float8_e4m3fn",
        torch.exp2(powers.float() - 127).numpy(), (32, 64))
    assert torch.equal(values(source, "a.weight"), torch.from_numpy(expected).half())


def test_a_scale_in_another_shard_and_experts_in_one_tensor(tmp_path: Path) -> None:
    codes = float8(3 * 130, 140).reshape(3, 130, 140)
    scales = torch.rand(3, 2, 2)
    save_file({"a.w": codes, "b": torch.ones(1)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"a.w_scale_inv": scales}, tmp_path / "model-00002-of-00002.safetensors")
    index = {"a.w": 1, "b": 1, "a.w_scale_inv": 2}
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({
            "weight_map": {
                name: f"model-0000{number}-of-00002.safetensors" for name, number in index.items()
            }
        }))
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        source = read(path)
        assert list(source) == ["b", "a.w"]
        for number in range(3):
            expected = quantized.float8(codes[number].view(torch.uint8).numpy(), "float8_e4m3fn",
                                        scales[number].numpy(), (128, 128))
            assert torch.equal(values(source, "a.w")[number], torch.from_numpy(expected).bfloat16())


def test_mxfp4_as_gpt_oss_stores_it() -> None:
    blocks = torch.randint(0, 256, (2, 6, 3, 16), dtype=torch.uint8)
    scales = torch.randint(100, 140, (2, 6, 3), dtype=torch.uint8)
    source = read({"experts.down_proj_blocks": blocks, "experts.down_proj_scales": scales,
                   "experts.down_proj_bias": torch.ones(2, 6)})  # yapf: disable
    found = values(source, "experts.down_proj")
    assert found.shape == (2, 96, 6)
    for number in range(2):
        expected = quantized.mxfp4(blocks[number].numpy(), scales[number].numpy())
        assert torch.equal(found[number], torch.from_numpy(expected.T).bfloat16())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("indexed", [True, False])
def test_gptq(tmp_path: Path, bits: int, form: str, indexed: bool) -> None:
    rows, columns, group = 64, 24, 16
    qweight, qzeros = words(rows * bits // 32, columns), words(4, columns * bits // 32)
    if form == "gptq":
        qzeros &= 0x77777777  # see docs/formats.md
    scales = torch.rand(4, columns).half()
    groups = np.arange(rows) // group
    tensors = {"a.qweight": qweight, "a.qzeros": qzeros, "a.scales": scales}
    if indexed:
        groups = RNG.permutation(groups)
        tensors["a.g_idx"] = torch.from_numpy(groups.astype(np.int32))
    config = {"bits": bits, "group_size": group, "desc_act": indexed, "checkpoint_format": form}
    source = read(folder_of(tmp_path, tensors, {"quant_method": "gptq", **config}))
    expected = quantized.gptq(unsigned(qweight), unsigned(qzeros),
                              scales.float().numpy(), groups, bits, form == "gptq")
    assert list(source) == ["a.weight"]
    assert torch.equal(values(source, "a.weight"), torch.from_numpy(expected.T).half())
    (tmp_path / "config.json").unlink()
    (tmp_path / "quantize_config.json").write_text(json.dumps(config))
    assert torch.equal(values(read(tmp_path), "a.weight"), torch.from_numpy(expected.T).half())


@pytest.mark.parametrize(("bits", "word"), [(4, 0x77F77777), (4, -0x08888889), (8, 0x7FFF7F7F)])
def test_a_zero_that_programs_read_differently_is_refused(tmp_path: Path, bits: int,
                                                          word: int) -> None:
    tensors = {
        "a.qweight": words(bits, 32 // bits), "a.scales": torch.rand(1, 32 // bits).half(),
        "a.qzeros": torch.full((1, 1), word, dtype=torch.int32)
    }  # yapf: disable
    config = {"quant_method": "gptq", "bits": bits, "group_size": -1}
    source = read(folder_of(tmp_path, tensors, config))
    with pytest.raises(ValueError, match=f"highest code of {bits} bits.*gptq_v2"):
        source["a.weight"].read()
    assert read(folder_of(
        tmp_path, tensors,
        {**config, "checkpoint_format": "gptq_v2"}))["a.weight"].read().shape == (32 // bits, 32)


@pytest.mark.parametrize("bits", [4, 8])
def test_awq(tmp_path: Path, bits: int) -> None:
    rows, columns, group = 48, 40, 16
    qweight, qzeros = words(rows, columns * bits // 32), words(3, columns * bits // 32)
    scales = torch.rand(3, columns).half()
    tensors = {"a.qweight": qweight, "a.qzeros": qzeros, "a.scales": scales}
    source = read(
        folder_of(tmp_path, tensors,
                  {"quant_method": "awq", "bits": bits, "group_size": group, "version": "gemm"}))
    expected = quantized.awq(unsigned(qweight), unsigned(qzeros),
                             scales.float().numpy(), group, bits)
    assert torch.equal(values(source, "a.weight"), torch.from_numpy(expected.T).half())


PACKED: Tensors = {"a.qweight": words(8, 16), "a.qzeros": words(4, 2),
                   "a.scales": torch.rand(4, 16).half()}  # yapf: disable
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 16}
FP8: Tensors = {"a.weight": float8(4, 4), "a.weight_scale_inv": torch.ones(1, 1)}


@pytest.mark.parametrize(("tensors", "config", "fault"), [
    (PACKED, None, "which of them, and how, stands in the quantization_config"),
    (PACKED, {**GPTQ, "bits": 3}, "3 bits are not known, only 4 and 8"),
    (PACKED, {**GPTQ, "bits": "4"}, "'4' bits are not known"),
    (PACKED, {**GPTQ, "bits": 8}, "do not fit each other with 8 bits"),
    (PACKED, {**GPTQ, "group_size": 0}, "group_size 0 is no size of groups"),
    (PACKED, {**GPTQ, "group_size": -2}, "group_size -2 is no size"),
    (PACKED, {**GPTQ, "group_size": 32}, "do not fit each other"),
    (PACKED, {**GPTQ, "desc_act": True}, "'a.g_idx' missing"),
    (PACKED, {**GPTQ, "checkpoint_format": "marlin"}, "form 'marlin', which is not known"),
    (PACKED, {**GPTQ, "quant_method": "awq"}, "do not fit each other"),
    (PACKED, {**GPTQ, "quant_method": "awq", "version": "gemv"}, "form 'gemv'"),
    (PACKED, {**GPTQ, "quant_method": "bitsandbytes"}, "by 'bitsandbytes', as config.json says"),
    (PACKED, {**GPTQ, "quant_method": ["x"]}, "is quantized by"),
    ({**PACKED, "a.g_idx": torch.full((64,), 4, dtype=torch.int32)}, GPTQ,
     "g_idx names groups that are none of the 4"),
    ({**PACKED, "a.g_idx": torch.full((64,), -1, dtype=torch.int32)}, GPTQ, "g_idx names groups"),
    ({**PACKED, "a.g_idx": torch.zeros(63, dtype=torch.int32)}, GPTQ, "do not fit each other"),
    ({**PACKED, "a.scales": torch.rand(4, 15).half()}, GPTQ, "do not fit each other"),
    ({**PACKED, "a.scales": torch.rand(4).half()}, GPTQ, "of two axes"),
    ({**PACKED, "a.scales": torch.ones(4, 16, dtype=torch.int8)}, GPTQ, "is int8, expected"),
    ({"a.qweight": words(8, 16), "a.qzeros": words(4, 2)}, GPTQ, "'a.scales' missing"),
    (FP8, {"quant_method": "compressed-tensors"}, "by 'compressed-tensors'"),
    (FP8, {"quant_method": "fp8", "weight_block_size": [0, 128]}, "weight_block_size"),
    (FP8, {"quant_method": "fp8", "weight_block_size": "x"}, "weight_block_size 'x'"),
    ({**FP8, "a.weight_scale_inv": torch.ones(2, 2)}, None, "scales of shape .* do not fit codes"),
    ({**FP8, "a.weight_scale_inv": torch.ones(4, 2)}, None, "scales of shape .* do not fit codes"),
    ({**FP8, "a.weight_scale_inv": torch.ones(1, 1, dtype=torch.int64)}, None, "is int64"),
    ({"a.weight": float8(1, 4)[0], "a.weight_scale": torch.ones(())}, None, r"shape \(4,\)"),
    ({"a_blocks": torch.ones(2, 3, 16, dtype=torch.uint8),
      "a_scales": torch.ones(2, 3, dtype=torch.uint8)}, None, "as gpt-oss has them"),
    ({"a_blocks": torch.ones(1, 2, 3, 15, dtype=torch.uint8),
      "a_scales": torch.ones(1, 2, 3, dtype=torch.uint8)}, None, "are no MXFP4"),
    ({"a_blocks": torch.ones(1, 2, 3, 16, dtype=torch.uint8),
      "a_scales": torch.ones(1, 2, 4, dtype=torch.uint8)}, None, "are no MXFP4"),
])  # yapf: disable
def test_what_is_not_known_or_does_not_fit_is_refused(tmp_path: Path, tensors: Tensors, config: Any,
                                                      fault: str) -> None:
    with pytest.raises(SourceError, match=fault):
        read(folder_of(tmp_path, tensors, config))
