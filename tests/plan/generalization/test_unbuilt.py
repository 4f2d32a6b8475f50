"""Files of sizes that were never built, from a checkpoint and a family alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import keras_torch_convert as ktc
from tests.helpers.decoders import SMALL, Size, keras_decoder, tensor_shapes, torch_decoder
from tests.helpers.small_models import same_values, values

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
LARGER = Size(12, 24, 8, 4, 6, 52, 61)
LLAMA_8B = Size(32, 4096, 32, 8, 128, 14336, 128256)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> ktc.FamilyPlan:
    # Alive until the family has its layout.
    model = keras_decoder(SMALL)
    plan = ktc.align(torch_decoder(SMALL).state_dict(), model, accept_unproven=True)
    path = plan.generalize().save(tmp_path_factory.mktemp("family") / "decoder.family.json")
    assert path.stat().st_size < 4000
    assert model.built
    return ktc.FamilyPlan.load(path)


def shapes_of(size: Size) -> dict[str, tuple[int, ...]]:
    width, heads, key_heads, head_size = size[1:5]
    block = "DecoderBlock[{}]/"
    return {
        f"{block}query/kernel": (width, heads, head_size), f"{block}key/kernel":
            (width, key_heads, head_size), f"{block}value/kernel": (width, key_heads, head_size),
        f"{block}out/kernel": (heads, head_size, width)
    }


def checkpoint(size: Size, folder: Path) -> Path:
    generator = np.random.default_rng(1)
    path = folder / "model.npz"
    np.savez(
        path,
        **{  # type: ignore[arg-type]
            name: generator.normal(size=shape).astype(np.float32)
            for name, shape in tensor_shapes(size).items()
        })
    return path


def test_keras_loads_a_file_of_a_size_that_was_never_built(family: ktc.FamilyPlan,
                                                           tmp_path: Path) -> None:
    source = checkpoint(LARGER, tmp_path)
    plan = family.plan_for(source, shapes=shapes_of(LARGER))
    assert ktc.apply(plan, source, tmp_path / "larger.weights.h5").ok
    assert ktc.apply(plan, source, tmp_path / "larger.weights.json", max_shard_size=2e-5).ok
    model = keras_decoder(LARGER)
    ktc.load_weights(model, source, family)
    expected = values(model)
    for name in ("larger.weights.h5", "larger.weights.json"):
        model = keras_decoder(LARGER)
        model.load_weights(tmp_path / name)
        assert same_values(values(model), expected)
    with pytest.raises(ktc.SaveError, match="so give template="):
        ktc.apply(plan, source, tmp_path / "larger.h5")


def test_what_does_not_follow_from_the_checkpoint_is_asked_for(family: ktc.FamilyPlan,
                                                               tmp_path: Path) -> None:
    source = checkpoint(LARGER, tmp_path)
    with pytest.raises(ktc.TransferError) as error:
        family.plan_for(source)
    assert error.value.problems[0] == (
        "the shape of 'DecoderBlock[{}]/query/kernel' does not follow from "
        "'model.layers.0.self_attn.q_proj.weight' (48, 24): give "
        "shapes={'DecoderBlock[{}]/query/kernel': ...}, where it is (24, ?, ?)")
    assert len(error.value.problems) == 4
    wrong = shapes_of(LARGER) | {"DecoderBlock[{}]/key/kernel": (24, 4, 7)}
    with pytest.raises(ktc.TransferError, match=r"'DecoderBlock\[\{\}\]/key/kernel' does not"):
        family.plan_for(source, shapes=wrong)
    state = dict(np.load(source))
    for name, shown in (("model.layers.3.mlp.up_proj.weight",
                         r"no '.*/up/kernel' in 'DecoderBlock\[3"),
                        ("model.layers.3.mlp.up_proj.bias", r"is left over")):
        changed = dict(state)
        if changed.pop(name, None) is None:
            changed[name] = np.zeros(3, np.float32)
        with pytest.raises(ktc.TransferError, match=shown):
            family.plan_for(changed, shapes=shapes_of(LARGER))


def test_the_layout_of_llama_8b_takes_no_values(family: ktc.FamilyPlan, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header, size = {}, 0
    for name, shape in tensor_shapes(LLAMA_8B).items():
        end = size + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    plan = family.plan_for(path, shapes=shapes_of(LLAMA_8B))
    layout = plan.layout.weights  # type: ignore[union-attr]
    assert sum(4 * int(np.prod(array.shape)) for array in layout.arrays) == 2 * size
    assert {array.path: array.shape for array in layout.arrays
           }["/layers/decoder_block_31/query/vars/0"] == (4096, 32, 128)
    assert len(plan.assignments) == 9 * 32 + 3
