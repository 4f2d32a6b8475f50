"""PyTorch's own files, zip and legacy, read without PyTorch: every value equal to what torch.load
gives.
"""

from __future__ import annotations

import argparse
import collections
import enum
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from keras_torch_convert.errors import SourceError, UnsafeFileError
from keras_torch_convert.torch_io.reader import read

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
    torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2
]
# What a 32-bit field of a zip file holds when the value stands in the zip64 field.
FULL = 0xFFFFFFFF
# The old format knows only types that have a storage class of their own.
LEGACY_DTYPES = [
    dtype for dtype in DTYPES if not any(text in str(dtype)
                                         for text in ("uint16", "uint32", "uint64", "float8"))
]


def as_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The oracle: PyTorch's own values, as bits where NumPy lacks the type."""
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    if "float8" in str(tensor.dtype):
        return tensor.view(torch.uint8).numpy()
    return tensor.numpy()


def assert_same(source: Any, tensors: dict[str, torch.Tensor]) -> None:
    assert list(source) == list(tensors)
    for name, tensor in tensors.items():
        values = source[name].read()
        assert source[name].shape == tuple(tensor.shape) == values.shape, name
        assert source[name].dtype == str(tensor.dtype).removeprefix("torch."), name
        assert values.tobytes() == as_numpy(tensor).tobytes(), name
        assert not values.flags.writeable, name


def random_tensor(rng: random.Random, dtype: torch.dtype) -> torch.Tensor:
    shape = [
        rng.choice([0, 1, 2, 3, 5]) if rng.random() < 0.1 else rng.randint(1, 5)
        for _ in range(rng.randint(0, 4))
    ]
    bits = torch.randint(0, 256, [*shape, dtype.itemsize], dtype=torch.uint8)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, dtype=torch.bool)
    return bits.view(dtype).reshape(shape)


def random_view(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """A view on the same storage: transposed, a slice with a step, a part, expanded, or flattened.
    """
    ndim = tensor.ndim
    kind = rng.randint(0, 5)
    if kind == 0 and ndim:
        return tensor.permute(rng.sample(range(ndim), ndim))
    if kind == 1 and ndim:
        return tensor[rng.randint(0, 1)::rng.randint(1, 3)]
    if kind == 2 and ndim and tensor.shape[-1]:
        return tensor.narrow(-1, rng.randrange(tensor.shape[-1]), 1)
    if kind == 3:
        return tensor.unsqueeze(0).expand(3, *tensor.shape)
    if kind == 4 and ndim and tensor.shape[0]:
        return tensor[rng.randrange(tensor.shape[0])]
    return tensor.conj() if tensor.is_complex() else tensor


def random_state_dict(seed: int, dtypes: list[torch.dtype]) -> dict[str, torch.Tensor]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for index in range(rng.randint(1, 8)):
        if tensors and rng.random() < 0.3:
            tensor = rng.choice(list(tensors.values()))
        else:
            tensor = random_tensor(rng, rng.choice(dtypes))
        for _ in range(rng.randint(0, 3)):
            tensor = random_view(rng, tensor)
        tensors[f"layer{index}.weight"] = torch.nn.Parameter(
            tensor, False) if rng.random() < 0.2 else tensor
    return tensors


@pytest.mark.parametrize("block", range(4))
def test_zip_files_hold_what_torch_load_gives(tmp_path: Path, block: int) -> None:
    for seed in range(block * 400, block * 400 + 400):
        path = tmp_path / "weights.pth"
        path.unlink(missing_ok=True)
        torch.save(random_state_dict(seed, DTYPES), path, pickle_protocol=2 + seed % 4)
        assert_same(read(path), torch.load(path, weights_only=False))


def test_legacy_files_hold_what_torch_load_gives(tmp_path: Path) -> None:
    for seed in range(500):
        path = tmp_path / "weights.pth"
        path.unlink(missing_ok=True)
        tensors = random_state_dict(seed, LEGACY_DTYPES)
        torch.save(tensors, path, _use_new_zipfile_serialization=False,
                   pickle_protocol=2 + seed % 3)
        assert_same(read(path), torch.load(path, weights_only=False))


def test_a_module_file_is_read_in_registered_order_with_its_buffers(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    torch.save(module.state_dict(), tmp_path / "net.pt")
    source = read(str(tmp_path / "net.pt"))
    assert_same(source, module.state_dict())
    assert source.order == "registered"
    assert source.origin == str(tmp_path / "net.pt")
    assert source["1.num_batches_tracked"].dtype == "int64"


def test_values_are_mapped_not_loaded(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(1000, 1000)}, tmp_path / "net.pt")
    values = read(tmp_path / "net.pt")["a.weight"].view()
    assert not values.flags.owndata
    assert values.base is not None


def test_values_stay_readable_when_the_source_is_gone(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.arange(5.0)}, tmp_path / "net.pt")
    values = read(tmp_path / "net.pt")["a.weight"].read()
    assert values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("zipped", [True, False])
def test_tied_tensors_are_seen_as_tied(tmp_path: Path, zipped: bool) -> None:
    weight = torch.randn(4, 4)
    tensors = {
        "in.weight": weight, "out.weight": weight, "turned.weight": weight.T,
        "copy.weight": weight.clone()
    }
    torch.save(tensors, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    assert read(tmp_path / "net.pt").tied == (("in.weight", "out.weight"),)


def test_parameters_are_told_from_other_tensors(tmp_path: Path) -> None:
    torch.save({"a": torch.nn.Parameter(torch.ones(2)), "b": torch.ones(2)}, tmp_path / "net.pt")
    source = read(tmp_path / "net.pt")
    assert (source["a"].kind, source["b"].kind) == ("parameter", "unknown")


def test_python_attributes_of_a_tensor_do_not_matter(tmp_path: Path) -> None:
    plain, parameter = torch.ones(2), torch.nn.Parameter(torch.zeros(2))
    plain.note = parameter.note = "no weight decay"  # type: ignore[attr-defined]
    torch.save({"a": plain, "b": parameter, "c": torch.nn.Buffer(torch.full((2,), 2.0))},
               tmp_path / "net.pt")
    source = read(tmp_path / "net.pt")
    assert [tensor.read().tolist() for tensor in source.values()] == [[1, 1], [0, 0], [2, 2]]


def test_numpy_arrays_and_numbers_in_the_file_are_weights_too(tmp_path: Path) -> None:
    content = {
        "a": np.arange(6, dtype=np.float64).reshape(2, 3), "f": np.asfortranarray(
            np.arange(6, dtype=np.int16).reshape(2, 3)), "big": np.arange(3, dtype=">f4"),
        "empty": np.zeros((0, 2), np.float32), "scalar": np.float32(1.5), "float": 2.5, "int": 7
    }
    for protocol in (2, 4, 5):
        torch.save(content, tmp_path / "net.pt", pickle_protocol=protocol)
        source = read(tmp_path / "net.pt")
        for name, value in content.items():
            assert np.array_equal(source[name].read(), value), name
            assert source[name].read().dtype.isnative
        assert [tensor.dtype for tensor in source.values()
               ] == ["float64", "int16", "float32", "float32", "float32", "float64", "int64"]


def test_a_plain_pickle_of_numpy_arrays_is_read(tmp_path: Path) -> None:
    arrays = {"a.weight": np.ones((2, 2), np.float32), "a.bias": np.zeros(2, np.float32)}
    for protocol in range(6):
        (tmp_path / "net.pkl").write_bytes(pickle.dumps({"model": arrays}, protocol))
        source = read(tmp_path / "net.pkl")
        assert source.wrapper == "model"
        assert np.array_equal(source["a.weight"].read(), arrays["a.weight"]), protocol


class Color(enum.Enum):
    RED = 1


class Settings:
    def __init__(self) -> None:
        self.rate = 0.1


def test_foreign_objects_beside_the_weights_become_placeholders_and_are_listed(
        tmp_path: Path) -> None:
    content = {
        "state_dict": {"a.weight": torch.ones(2)}, "args":
            argparse.Namespace(color=Color.RED, path=Path("x"), settings=Settings(),
                               device=torch.device("cuda:0")), "plain": [
                                   slice(1), 1j, {1, 2},
                                   frozenset("a"),
                                   bytearray(b"x"),
                                   range(3), 10**30, -5, "\u20ac", b"\xff", None, True
                               ], "maps":
                                   collections.defaultdict(list, {(1, 2): 3, ((1,),): 4}), "counts":
                                                                      collections.Counter("aab")
    }
    for protocol in (2, 3, 4, 5):
        torch.save(content, tmp_path / "net.pt", pickle_protocol=protocol)
        source = read(tmp_path / "net.pt")
        assert list(source) == ["a.weight"]
        assert "argparse.Namespace" in source.placeholders
        assert f"{__name__}.Color" in source.placeholders
        assert f"{__name__}.Settings" in source.placeholders
        # Python 3.11 writes the member of an enumeration as getattr(Color, "RED").
        rest = set(source.placeholders) - {"builtins.getattr"}
        assert not any(name.startswith(("builtins.", "collections.", "torch.")) for name in rest)


def test_foreign_objects_among_the_weights_are_noted_when_no_tensor_needs_them(
        tmp_path: Path) -> None:
    torch.save(
        {"a.weight": torch.ones(2), "args": argparse.Namespace(a=1), "name": "net", "none": None},
        tmp_path / "n.pt")
    source = read(tmp_path / "n.pt")
    assert list(source) == ["a.weight"]
    assert source.notes == ("3 entries are no tensors and were left out: args, name, none",)


class OddTensor(torch.Tensor):
    pass


def make_weight(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


class Maker:
    """Pickled as a call of `make_weight`, as custom tensor types are."""
    def __reduce__(self) -> Any:
        return make_weight, (torch.ones(2),)


class Holder:
    def __init__(self) -> None:
        self.tensor = torch.ones(2)


@pytest.mark.parametrize("value", [OddTensor([1.0]), Maker(), Holder()],
                         ids=["subclass", "function", "object"])
def test_a_weight_that_needs_foreign_code_is_refused_by_its_name(tmp_path: Path,
                                                                 value: object) -> None:
    torch.save({"a.weight": torch.ones(2), "b.weight": value}, tmp_path / "net.pt")
    foreign = {"OddTensor": "OddTensor", "Maker": "make_weight",
               "Holder": "Holder"}[type(value).__name__]
    with pytest.raises(UnsafeFileError, match=rf"'b.weight' is built by {__name__}\.{foreign}"):
        read(tmp_path / "net.pt")


def test_the_same_foreign_weight_beside_the_weights_does_no_harm(tmp_path: Path) -> None:
    torch.save({"model": {"a.weight": torch.ones(2)}, "extra": {"b": Maker()}}, tmp_path / "net.pt")
    source = read(tmp_path / "net.pt")
    assert list(source) == ["a.weight"]
    assert source.placeholders == (f"{__name__}.make_weight",)


def test_cuda_tensors_are_read_on_a_machine_without_cuda(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(4.0)}, tmp_path / "cpu.pt")
    # Location tags are plain text in the pickle; "cuda" has one letter more, as text of counted
    # length.
    with zipfile.ZipFile(tmp_path / "cpu.pt") as archive, zipfile.ZipFile(
            tmp_path / "cuda.pt", "w") as changed:
        for name in archive.namelist():
            data = archive.read(name).replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:3")
            changed.writestr(name, data)
    assert read(tmp_path / "cuda.pt")["a"].read().tolist() == [0, 1, 2, 3]


def test_big_endian_files_are_swapped(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(4.0)}, tmp_path / "little.pt")
    with zipfile.ZipFile(tmp_path / "little.pt") as archive, zipfile.ZipFile(
            tmp_path / "big.pt", "w") as changed:
        for name in archive.namelist():
            data = archive.read(name).replace(b"little", b"big")
            changed.writestr(
                name,
                np.frombuffer(data, "<f4").astype(">f4").tobytes()
                if name.endswith("data/0") else data)
    assert torch.load(tmp_path / "big.pt")["a"].tolist() == [0, 1, 2, 3]
    source = read(tmp_path / "big.pt")
    assert source["a"].read().tolist() == [0, 1, 2, 3]
    assert source["a"].read().dtype.isnative


def test_a_zip64_file_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(4.0)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as archive, zipfile.ZipFile(
            tmp_path / "wide.pt", "w") as changed:
        for name in archive.namelist():
            with changed.open(name, "w", force_zip64=True) as member:
                member.write(archive.read(name))
    assert read(tmp_path / "wide.pt")["a"].read().tolist() == [0, 1, 2, 3]


def test_a_file_of_more_than_four_gigabytes_is_read(tmp_path: Path) -> None:
    """Written by hand as a sparse file: one storage of 4 GiB and 16 bytes, the rest behind it, with
    the zip64 fields.
    """
    size = (1 << 32) + 16
    described = "(dS'a'\nctorch._utils\n_rebuild_tensor_v2\n"
    described += "((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n"
    described += f"I{size // 4}\ntQI{size // 4 - 4}\n(I4\nt(I1\ntI00\nNtRs."
    members = [("net/data/0", size), ("net/data.pkl", len(described))]
    directory, position = b"", 0
    with (tmp_path / "big.pth").open("wb") as file:
        for name, length in members:
            wide = struct.pack("<2H3Q", 1, 24, length, length, position)
            file.seek(position)
            file.write(
                struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, FULL, FULL, len(name), 20))
            file.write(name.encode() + struct.pack("<2H2Q", 1, 16, length, length))
            directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 0, 0, 0, 0, FULL, FULL,
                                     len(name), len(wide), 0, 0, 0, 0, FULL)
            directory += name.encode() + wide
            position = file.tell() + length
        file.seek(position - len(described))
        file.write(described.encode())
        file.write(directory)
        end = file.tell()
        file.write(
            struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, len(directory), position))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), FULL, 0))
        file.seek(30 + len("net/data/0") + 20 + size - 16)
        file.write(np.arange(4, dtype="<f4").tobytes())
    assert zipfile.ZipFile(tmp_path / "big.pth").namelist() == ["net/data/0", "net/data.pkl"]
    assert read(tmp_path / "big.pth")["a"].read().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("value", "remedy"),
    [(lambda: torch.eye(2).to_sparse(), "is sparse; call to_dense"),
     (lambda: torch.empty(2, device="meta"), "is a meta tensor"),
     (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
      "is quantized; call dequantize"),
     (lambda: torch.ones(2, dtype=torch.complex32), "complex32 cannot be read")])
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_values_are_refused_by_name(tmp_path: Path, value: Any,
                                                          remedy: str) -> None:
    torch.save({"a.weight": torch.ones(2), "b.weight": value()}, tmp_path / "net.pt")
    with pytest.raises(SourceError, match=rf"'b.weight'.*{remedy}"):
        read(tmp_path / "net.pt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_a_whole_module_gets_a_message_that_says_what_to_do(tmp_path: Path, zipped: bool) -> None:
    module = torch.nn.Linear(2, 2)
    for content in (module, {"model": module, "epoch": 1}):
        torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(
                SourceError,
                match=r"whole object of class torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
            read(tmp_path / "net.pt")


@pytest.mark.filterwarnings("ignore")
def test_a_whole_module_under_a_well_known_wrapper_is_not_passed_over(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Linear(2, 2), "statistics": {"mean": torch.ones(3)}},
               tmp_path / "net.pt")
    with pytest.raises(SourceError, match="whole object of class"):
        read(tmp_path / "net.pt")
    assert list(read(tmp_path / "net.pt", wrapper="statistics")) == ["mean"]
    torch.save({"ema": torch.nn.Linear(2, 2), "model": {"state_dict": {"a": torch.ones(1)}}},
               tmp_path / "net.pt")
    assert list(read(tmp_path / "net.pt")) == ["a"]


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_archive_gets_a_message_that_says_what_to_do(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "net.pt")
    with pytest.raises(SourceError, match=r"TorchScript.*torch\.jit\.load"):
        read(tmp_path / "net.pt")


@pytest.mark.parametrize("content", [{}, [torch.ones(1)],
                                     torch.ones(1), {"a": 1, "b": "text"}, 5, None, "text"])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(SourceError, match=r"holds no tensors|expected a state dict"):
        read(tmp_path / "net.pt")


def test_wrappers_of_a_file_are_found_and_can_be_chosen(tmp_path: Path) -> None:
    content = {
        "model": {"a": torch.zeros(1)}, "model_ema": {"a": torch.ones(1)},
        "optimizer": {"state": {0: torch.ones(1)}}
    }
    torch.save(content, tmp_path / "net.pth.tar")
    source = read(tmp_path / "net.pth.tar")
    assert (source.wrapper, source.wrappers) == ("model", ("model", "model_ema"))
    assert read(tmp_path / "net.pth.tar", wrapper="model_ema")["a"].read().item() == 1
    with pytest.raises(SourceError,
                       match="no weights under wrapper 'ema'; there are 'model', 'model_ema'"):
        read(tmp_path / "net.pth.tar", wrapper="ema")
