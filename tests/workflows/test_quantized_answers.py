"""Decoded weights are, bit for bit, those that the packages of the schemes give.

The digests were made once from the same codes by Fp8Dequantize and convert_moe_packed_tensors of
transformers 5, dequantize_gemm of AutoAWQ 0.2.9, and the layers of AutoGPTQ 0.7.1 on the identity
(qlinear_cuda_old, and qlinear_cuda where g_idx orders the rows). AutoAWQ has 4 bits alone.
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

FLOAT8 = {
    ("float8_e4m3fn", (128, 128)): "ec2e2dc60944e17a",
    ("float8_e4m3fn", (1, 384)): "4abcb35f2dc67c84",
    ("float8_e4m3fn", (256, 384)): "18138a846d46d893",
    ("float8_e5m2", (128, 128)): "e637894c51f884bd",
    ("float8_e5m2", (1, 384)): "1a1a46248d45d9d8",
    ("float8_e5m2", (256, 384)): "4c33a2de18d51b86"
}  # yapf: disable
GPTQ = {(4, False): "a9f3104e33a5b061", (4, True): "045f0b5f872325be",
        (8, False): "06582ca2ae97432b", (8, True): "a99a49016b5dd8ab"}  # yapf: disable


def numbers(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The same numbers on every machine."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    text = hashlib.shake_128(name.encode()).digest(count)
    return np.frombuffer(text, dtype).reshape(shape).copy()


def factors(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return numbers(name, shape, "u1").astype(np.float32) / 512 + np.float32(0.125)


def digest(folder: Path, tensors: dict[str, Any], config: dict[str, Any], *,
           by_inputs: bool = False) -> str:
    """The digest of the weight of a file with these tensors; `by_inputs`: of (inputs, outputs)."""
    save_file({key: torch.as_tensor(value) for key, value in tensors.items()},
              folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
    (weight,) = read(folder).values()
    values = weight.read().T if by_inputs else weight.read()
    return hashlib.sha256(np.ascontiguousarray(values)).hexdigest()[:16]


@pytest.mark.parametrize(("scheme", "block"), FLOAT8)
def test_fp8(tmp_path: Path, scheme: str, block: tuple[int, int]) -> None:
    codes = numbers(scheme, (256, 384), "u1")
    codes[(codes & 0x7F) >= (0x7F if scheme == "float8_e4m3fn" else 0x7C)] = 1
    scales = factors(f"{scheme} {block}", (256 // block[0], 384 // block[1]))
    found = digest(tmp_path, {
        "a.weight": torch.from_numpy(codes).view(getattr(torch, scheme)),
        "a.weight_scale_inv": scales
    }, {"quant_method": "fp8", "weight_block_size": list(block)})  # yapf: disable
    assert found == FLOAT8[scheme, block]


def test_mxfp4(tmp_path: Path) -> None:
    powers = numbers("mxfp4 scales", (2, 64, 3), "u1") % 40 + 100
    found = digest(tmp_path, {
        "a_blocks": numbers("mxfp4", (2, 64, 3, 16), "u1"), "a_scales": powers
    }, {"quant_method": "mxfp4"})  # yapf: disable
    assert found == "4c1e5001a2bd7313"


def test_awq(tmp_path: Path) -> None:
    found = digest(tmp_path, {
        "a.qweight": numbers("awq", (256, 8), "i4"), "a.qzeros": numbers("awq zeros", (2, 8), "i4"),
        "a.scales": factors("awq scales", (2, 64)).astype(np.float16)
    }, {"quant_method": "awq", "bits": 4, "group_size": 128}, by_inputs=True)  # yapf: disable
    assert found == "bca64128517e55d2"


@pytest.mark.parametrize(("bits", "act_order"), GPTQ)
def test_gptq(tmp_path: Path, bits: int, act_order: bool) -> None:
    name, packed = f"gptq {bits} {act_order}", 32 // bits
    groups = numbers(f"{name} g_idx", (256,), "u1") % 2 if act_order else np.arange(256) // 128
    # Where a zero, stored less one, is the highest code, the packages differ from each other.
    below = np.int32(0x77777777 if bits == 4 else 0x7F7F7F7F)
    config = {"quant_method": "gptq", "bits": bits, "group_size": 128, "desc_act": act_order}
    found = digest(tmp_path, {
        "a.qweight": numbers(name, (256 // packed, 64), "i4"),
        "a.qzeros": numbers(f"{name} zeros", (2, 64 // packed), "i4") & below,
        "a.scales": factors(f"{name} scales", (2, 64)).astype(np.float16),
        "a.g_idx": groups.astype(np.int32)
    }, config, by_inputs=True)  # yapf: disable
    assert found == GPTQ[bits, act_order]
