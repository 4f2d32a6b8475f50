"""LoRA adapters of PEFT merged into their base, and the ways in which a merge would do nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import keras_torch_convert as ktc
from keras_torch_convert.errors import SourceError
from keras_torch_convert.torch_io.reader import read

FRONT = "base_model.model."
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "bias": "none"}
BASE = {
    "model.embed.weight": (9, 4), "model.layers.0.q.weight": (6, 4),
    "model.layers.0.v.weight": (5, 4), "model.layers.1.q.weight": (6, 4),
    "conv.weight": (3, 2, 3, 3), "head.weight": (7, 6), "head.bias": (7,)
}  # yapf: disable


def base(dtype: Any = torch.float32) -> dict[str, Any]:
    torch.manual_seed(0)
    return {name: torch.randn(shape).to(dtype) for name, shape in BASE.items()}


def matrices(name: str, rank: int = 2) -> dict[str, Any]:
    shape = BASE[f"{name}.weight"]
    if "embed" in name:
        return {
            f"{FRONT}{name}.lora_embedding_A": torch.randn(rank, shape[0]),
            f"{FRONT}{name}.lora_embedding_B": torch.randn(shape[1], rank)
        }
    ones = (1,) * (len(shape) - 2)
    return {
        f"{FRONT}{name}.lora_A.weight": torch.randn(rank, *shape[1:]),
        f"{FRONT}{name}.lora_B.weight": torch.randn(shape[0], rank, *ones)
    }


def adapter() -> dict[str, Any]:
    torch.manual_seed(1)
    return {**matrices("model.layers.0.q"), **matrices("model.layers.1.q")}


def folder_of(tensors: dict[str, Any], config: dict[str, Any], path: Path) -> Path:
    path.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()},
              path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


def delta(tensors: dict[str, Any], name: str) -> Any:
    one, other = (tensors[f"{FRONT}{name}.lora_{part}.weight"].double() for part in "AB")
    return other @ one


def close(found: Any, expected: Any, dtype: Any) -> None:
    """Compare within two units in the last place of the largest term."""
    values = torch.from_numpy(np.array(found.read()))
    values = values.view(torch.int16).view(dtype) if dtype == torch.bfloat16 else values
    assert (values.double() - expected).abs().max() <= 2 * torch.finfo(dtype).eps * 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_matrices_are_merged_with_their_scale_and_the_rest_is_as_it_was(tmp_path: Path,
                                                                        dtype: Any) -> None:
    own, tensors = base(dtype), adapter()
    torch.save(own, tmp_path / "base.pth")
    source = read(tmp_path / "base.pth", adapter=folder_of(tensors, CONFIG, tmp_path / "lora"))
    for layer in ("model.layers.0.q", "model.layers.1.q"):
        name = f"{layer}.weight"
        close(source[name], own[name].double() + 3 * delta(tensors, layer), dtype)
        assert source[name].dtype == str(dtype).removeprefix("torch.")
    assert np.array_equal(source["head.weight"].read(), read(own)["head.weight"].read())
    assert any("merged into 2 weights" in note for note in source.notes)


def test_patterns_ranks_and_stabilized_scales_count_for_the_layers_that_they_match(
        tmp_path: Path) -> None:
    own = base()
    tensors = {**matrices("model.layers.0.q", 3), **matrices("model.layers.1.q")}
    config = {
        **CONFIG, "rank_pattern": {"layers.0.q": 3}, "alpha_pattern": {r".*\.1\.q": 10},
        "use_rslora": True
    }
    source = read(own, adapter=folder_of(tensors, config, tmp_path / "lora"))
    for layer, scale in (("model.layers.0.q", 6 / sqrt(3)), ("model.layers.1.q", 10 / sqrt(2))):
        name = f"{layer}.weight"
        close(source[name], own[name].double() + scale * delta(tensors, layer), torch.float32)


def test_embeddings_convolutions_and_modules_saved_whole(tmp_path: Path) -> None:
    own = base()
    tensors = {
        **matrices("model.embed"), **matrices("conv"), f"{FRONT}head.weight": torch.ones(7, 6),
        f"{FRONT}head.bias": torch.ones(7)
    }
    config = {**CONFIG, "modules_to_save": ["head"]}
    source = read(own, adapter=folder_of(tensors, config, tmp_path / "lora"))
    one, other = (tensors[f"{FRONT}model.embed.lora_embedding_{part}"].double() for part in "AB")
    close(source["model.embed.weight"], own["model.embed.weight"].double() + 3 * (other @ one).T,
          torch.float32)
    one, other = (tensors[f"{FRONT}conv.lora_{part}.weight"].double() for part in "AB")
    added = torch.einsum("orab,rihw->oihw", other, one)
    close(source["conv.weight"], own["conv.weight"].double() + 3 * added, torch.float32)
    assert (source["head.weight"].read() == 1).all()
    assert (source["head.bias"].read() == 1).all()


def test_transposed_weights_tied_ones_and_names_that_begin_otherwise(tmp_path: Path) -> None:
    own = {
        name: tensor.T.contiguous() if "q.weight" in name else tensor
        for name, tensor in base().items()
    }
    own["tied.weight"] = own["model.layers.0.q.weight"]
    tensors = adapter()
    config = {**CONFIG, "fan_in_fan_out": True}
    path = folder_of(tensors, config, tmp_path / "lora")
    source = read({f"net.{name}": tensor for name, tensor in own.items()}, adapter=path)
    for name in ("net.model.layers.0.q.weight", "net.tied.weight"):
        close(source[name], own["tied.weight"].double() + 3 * delta(tensors, "model.layers.0.q").T,
              torch.float32)
    assert source.tied == (("net.model.layers.0.q.weight", "net.tied.weight"),)
    cut = {name.removeprefix("model."): tensor for name, tensor in own.items()}
    assert "layers.0.q.weight" in read(cut, adapter=path)


def test_a_folder_is_merged_with_the_base_beside_it_or_that_it_names(tmp_path: Path) -> None:
    own, tensors = base(), adapter()
    expected = own["model.layers.0.q.weight"].double() + 3 * delta(tensors, "model.layers.0.q")
    beside = folder_of(tensors, CONFIG, tmp_path / "both")
    save_file(own, beside / "model.safetensors")
    (tmp_path / "base").mkdir()
    save_file(own, tmp_path / "base" / "model.safetensors")
    config = {**CONFIG, "base_model_name_or_path": str(tmp_path / "base")}
    for path in (beside, folder_of(tensors, config, tmp_path / "lora")):
        close(read(path)["model.layers.0.q.weight"], expected, torch.float32)


Change = Callable[[dict[str, Any], dict[str, Any]], Any]
WAYS: dict[str, tuple[Change, str]] = {
    "no key hits": (lambda t, c: [t.__setitem__(n.replace("layers", "blocks"), t.pop(n))
                                  for n in list(t)], r"does not have \(2 of 2\)"),
    "some keys do not hit": (lambda t, c: [t.__setitem__(f"{FRONT}x.lora_{p}.weight",
                                                         torch.ones(2, 2)) for p in "AB"],
                             r"changes 'x.weight', which .* does not have \(1 of 3\)"),
    "B is zero": (lambda t, c: [one.zero_() for name, one in t.items() if "lora_B" in name],
                  "every lora_B is zero"),
    "alpha is missing": (lambda t, c: c.pop("lora_alpha"), "has no lora_alpha"),
    "alpha is zero": (lambda t, c: c.update(lora_alpha=0), "no lora_alpha, or zero"),
    "rank is another": (lambda t, c: c.update(r=8), "the rank 8, its matrices have the shapes"),
    "one matrix is missing": (lambda t, c: t.pop(next(iter(t))), "only one of both matrices"),
    "another base": (lambda t, c: [t.__setitem__(n, torch.ones(2, 5)) for n in t if "lora_A" in n],
                     r"in the shape \(6, 5\), the base has \(6, 4\): it belongs to another base"),
    "transposed": (lambda t, c: c.update(fan_in_fan_out=True), "fan_in_fan_out says otherwise"),
    "saved modules are missing": (lambda t, c: c.update(modules_to_save=["head"]),
                                  "trained and saved whole, but they are not there"),
    "DoRA": (lambda t, c: c.update(use_dora=True), "an adapter with use_dora.*merge_and_unload"),
    "another method": (lambda t, c: c.update(peft_type="LOHA"), "of kind LOHA.*merge_and_unload"),
    "another package": (lambda t, c: t.update({"lora_unet_down.lora_down.weight": torch.ones(2)}),
                        "of another package"),
    "biases": (lambda t, c: t.update({f"{FRONT}model.layers.0.q.lora_B.bias": torch.ones(6)}),
               "biases of its own"),
    "no configuration": (lambda t, c: c.clear(), "without adapter_config.json"),
    "nothing in it": (lambda t, c: (t.clear(), t.update()), "no tensors of an adapter"),
}  # yapf: disable


@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_that_would_do_nothing_or_not_all_is_refused(way: str, tmp_path: Path) -> None:
    tensors, config = adapter(), dict(CONFIG)
    change, message = WAYS[way]
    change(tensors, config)
    path = folder_of(tensors, config, tmp_path / "lora")
    with pytest.raises(SourceError, match=message):
        read(base(), adapter=path)


def test_an_adapter_alone_says_what_is_missing_and_the_advice_works(tmp_path: Path) -> None:
    path = folder_of(adapter(), {**CONFIG, "base_model_name_or_path": "org/model"},
                     tmp_path / "lora")
    with pytest.raises(
            SourceError, match=r"adapter alone.*\(org/model\): give ktc.read\('the "
            r"model', adapter="):
        ktc.read(path)
    with pytest.raises(SourceError, match=r"give that model and ktc.read\(..., adapter=\)"):
        ktc.read(path / "adapter_model.safetensors")
    torch.save(base(), tmp_path / "base.pth")
    assert ktc.read(tmp_path / "base.pth", adapter=path).keys() == BASE.keys()
    with pytest.raises(SourceError, match="is the folder that PEFT saved"):
        ktc.read(tmp_path / "base.pth", adapter=path / "adapter_model.safetensors")
