"""Folders as sources: one file, shards with and without an index, several, none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from keras_torch_convert.errors import SourceError
from keras_torch_convert.torch_io.reader import read

FIRST = {"stem.weight": torch.full((3, 2), 1.0), "stem.bias": torch.ones(3)}
SECOND = {"head.weight": torch.full((2, 3), 2.0)}


def shards(folder: Path, suffix: str, index: bool) -> None:
    stem = "pytorch_model" if suffix == ".bin" else "model"
    names = [f"{stem}-0000{number}-of-00002{suffix}" for number in (1, 2)]
    for name, content in zip(names, (FIRST, SECOND), strict=True):
        (torch.save if suffix == ".bin" else save_file)(content, folder / name)
    weight_map = {**dict.fromkeys(FIRST, names[0]), **dict.fromkeys(SECOND, names[1])}
    if index:
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("index", [True, False])
def test_shards_are_read_as_one_with_and_without_an_index(tmp_path: Path, suffix: str,
                                                          index: bool) -> None:
    shards(tmp_path, suffix, index)
    (tmp_path / "tokenizer.json").write_text("{}")
    source = read(tmp_path)
    assert {name: float(tensor.read().flat[0]) for name, tensor in source.items()} == {
        "stem.weight": 1, "stem.bias": 1, "head.weight": 2}  # yapf: disable
    (tmp_path / f"{'pytorch_' * (suffix == '.bin')}model-00001-of-00002{suffix}").unlink()
    with pytest.raises(SourceError, match="00001-of-00002"):
        read(tmp_path)


def test_a_single_file_is_taken_before_a_pickled_one_and_the_config_is_told(tmp_path: Path) -> None:
    save_file(FIRST, tmp_path / "model.safetensors")
    torch.save(SECOND, tmp_path / "pytorch_model.bin")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = read(str(tmp_path))
    assert source.keys() == FIRST.keys()
    assert source.notes[:2] == ("weights read from model.safetensors",
                                "config.json describes LlamaForCausalLM, llama, float32")


def test_a_file_of_any_name_is_found_and_one_of_several_must_be_named(tmp_path: Path) -> None:
    save_file(FIRST, tmp_path / "weights_v2.safetensors")
    assert read(tmp_path).keys() == FIRST.keys()
    save_file(FIRST, tmp_path / "weights_v1.safetensors")
    with pytest.raises(
            SourceError, match=r"'weights_v1.safetensors', 'weights_v2.safetensors'; "
            "give the path of one"):
        read(tmp_path)
    for number in range(3, 300):
        (tmp_path / f"weights_v{number}.safetensors").touch()
    with pytest.raises(SourceError, match=r"several files hold weights: .* and 287 more; give"):
        read(tmp_path)


def test_a_folder_of_folders_names_those_with_weights(tmp_path: Path) -> None:
    for name in ("unet", "vae"):
        (tmp_path / name).mkdir()
        save_file(FIRST, tmp_path / name / "diffusion_pytorch_model.safetensors")
    with pytest.raises(SourceError, match="give one of its folders: 'unet', 'vae'"):
        read(tmp_path)
    assert read(tmp_path / "vae").keys() == FIRST.keys()


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    save_file(FIRST, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SourceError, match=r"config\.json is not valid JSON"):
        read(tmp_path)


def test_a_wrapper_and_names_of_wrappers_work_in_shards(tmp_path: Path) -> None:
    save_file({f"module.{name}": one for name, one in FIRST.items()},
              tmp_path / "model-00001-of-00002.safetensors")
    save_file({f"module.{name}": one for name, one in SECOND.items()},
              tmp_path / "model-00002-of-00002.safetensors")
    assert read(tmp_path).keys() == {*FIRST, *SECOND}
    assert read(tmp_path, wrapper="module.stem").keys() == {"weight", "bias"}
