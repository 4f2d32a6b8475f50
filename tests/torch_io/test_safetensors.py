"""safetensors and .npz files, read without the libraries that wrote them: every value and every
type.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from keras_torch_convert.errors import SourceError
from keras_torch_convert.torch_io.reader import read

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
    torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2
]


def random_tensors(seed: int) -> dict[str, torch.Tensor]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    tensors = {}
    for index in range(rng.randint(1, 12)):
        dtype = rng.choice(DTYPES)
        shape = [rng.randint(0, 4) for _ in range(rng.randint(0, 4))]
        bits = torch.randint(0, 2 if dtype == torch.bool else 256, [*shape, dtype.itemsize],
                             dtype=torch.uint8)
        tensors[f"layer{index}.{rng.choice(['weight', 'bias'])}"] = bits.view(dtype).reshape(shape)
    return tensors


def bits_of(tensor: torch.Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def test_every_value_and_type_is_what_was_saved(tmp_path: Path) -> None:
    for seed in range(900):
        tensors = random_tensors(seed)
        path = tmp_path / "weights.safetensors"
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
        source = read(path)
        assert set(source) == set(tensors)
        for name, tensor in tensors.items():
            values = source[name].read()
            assert source[name].dtype == str(tensor.dtype).removeprefix("torch.")
            assert source[name].shape == values.shape == tuple(tensor.shape)
            assert values.tobytes() == bits_of(tensor)
            assert not values.flags.writeable


def test_bfloat16_and_float8_come_as_their_bits(tmp_path: Path) -> None:
    tensors = {
        "a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "b": torch.tensor([1.5]).to(torch.float8_e4m3fn)
    }
    safetensors.torch.save_file(tensors, tmp_path / "net.safetensors")
    source = read(tmp_path / "net.safetensors")
    assert source["a"].read().tolist() == [0x3FC0, 0xC000]
    assert source["b"].read().dtype == np.uint8


def test_the_order_of_layers_is_known_to_be_lost_and_numbers_count_as_numbers(
        tmp_path: Path) -> None:
    module = torch.nn.Sequential(
        *
        [torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1), torch.nn.BatchNorm2d(2)) for _ in range(12)])
    safetensors.torch.save_file(module.state_dict(), tmp_path / "net.safetensors")
    source = read(tmp_path / "net.safetensors")
    assert list(source) == list(module.state_dict())
    assert source.order == "sorted by name"
    assert source.notes == ((
        "names are sorted, so the order of the layers was lost; layers are in natural order of "
        "their names"),)


def test_a_file_that_is_not_sorted_keeps_its_order(tmp_path: Path) -> None:
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * place, 4 * place + 4]}
        for place, name in enumerate(["stem.weight", "stem.bias", "head.weight", "head.bias"])
    }
    text = json.dumps(header).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + np.arange(4, dtype="<f4").tobytes())
    source = read(path)
    assert list(source) == ["stem.weight", "stem.bias", "head.weight", "head.bias"]
    assert source.order == "registered"
    assert [tensor.read().item() for tensor in source.values()] == [0, 1, 2, 3]


def test_prefixes_are_cut_when_all_names_carry_them(tmp_path: Path) -> None:
    safetensors.torch.save_file({"module.a.weight": torch.ones(1)}, tmp_path / "net.safetensors")
    source = read(tmp_path / "net.safetensors")
    assert (list(source), source.prefix) == (["a.weight"], "module.")


def test_a_wrapper_is_refused_where_there_can_be_none(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a.weight": torch.ones(1)}, tmp_path / "net.safetensors")
    with pytest.raises(SourceError, match="no weights under wrapper 'model'"):
        read(tmp_path / "net.safetensors", wrapper="model")


def write_shards(folder: Path) -> None:
    safetensors.torch.save_file({"l10.weight": torch.ones(2), "l2.weight": torch.zeros(2)},
                                folder / "one.safetensors")
    safetensors.torch.save_file({"l1.weight": torch.full((2,), 3.0)}, folder / "two.safetensors")
    weight_map = {
        "l10.weight": "one.safetensors", "l2.weight": "one.safetensors",
        "l1.weight": "two.safetensors"
    }
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    write_shards(tmp_path)
    source = read(tmp_path / "model.safetensors.index.json")
    assert {name: tensor.read()[0] for name, tensor in source.items()
           } == {"l1.weight": 3, "l2.weight": 0, "l10.weight": 1}
    assert list(source) == ["l1.weight", "l2.weight", "l10.weight"]
    assert source.order == "sorted by name"


def test_shards_of_torch_files_keep_their_order(tmp_path: Path) -> None:
    torch.save({"stem.weight": torch.ones(1)}, tmp_path / "one.bin")
    torch.save({"head.weight": torch.zeros(1)}, tmp_path / "two.bin")
    weight_map = {"stem.weight": "one.bin", "head.weight": "two.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    source = read(tmp_path / "pytorch_model.bin.index.json")
    assert (list(source), source.order) == (["stem.weight", "head.weight"], "registered")


@pytest.mark.parametrize(("change", "message"),
                         [({"l3.weight": "two.safetensors"}, "disagree about l3.weight"),
                          ({"l3.weight": "three.safetensors"}, "no such file"),
                          ({"l3.weight": "../two.safetensors"}, "not a plain file name"),
                          ({"l3.weight": "/etc/passwd"}, "not a plain file name"),
                          ({"l3.weight": 3}, "without a weight_map"),
                          ({"l10.weight": "two.safetensors"}, "disagree about l10.weight")])
def test_an_index_that_lies_is_refused(tmp_path: Path, change: dict[str, object],
                                       message: str) -> None:
    write_shards(tmp_path)
    path = tmp_path / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    content["weight_map"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(SourceError, match=message):
        read(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_arrays_keep_their_order_values_and_types(tmp_path: Path, save: object) -> None:
    arrays = {
        "stem.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "stem.bias": np.arange(3, dtype=np.int64), "head.fortran": np.asfortranarray(
            np.arange(6, dtype=np.float16).reshape(2, 3)), "head.big": np.arange(3, dtype=">f8"),
        "head.scalar": np.array(1.5), "head.empty": np.zeros(
            (0, 3), np.float32), "head.bool": np.array([True, False])
    }
    save(tmp_path / "net.npz", **arrays)  # type: ignore[operator]
    source = read(tmp_path / "net.npz")
    assert list(source) == list(arrays)
    assert source.order == "registered"
    for name, array in arrays.items():
        values = source[name].read()
        assert (values.shape, values.dtype.isnative, values.flags.writeable) == (array.shape, True,
                                                                                 False)
        assert np.array_equal(values, array)
        assert source[name].dtype == array.dtype.name


def test_stored_npz_arrays_are_mapped(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", a=np.ones((100, 100)))
    assert not read(tmp_path / "net.npz")["a"].view().flags.owndata
