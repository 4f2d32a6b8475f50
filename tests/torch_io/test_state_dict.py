"""Live modules and state dicts: names, order, wrappers and prefixes; nothing about them is changed.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from keras_torch_convert.errors import SourceError
from keras_torch_convert.torch_io.reader import read


class SmallNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.table = torch.nn.Embedding(5, 4)
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.table.weight


# --- modules ---


def test_a_module_is_read_in_the_order_of_its_state_dict_with_kinds() -> None:
    module = SmallNet()
    source = read(module)
    assert list(source) == list(module.state_dict())
    assert source.origin == "module SmallNet"
    assert source.module is module
    assert (source["norm.weight"].kind, source["norm.running_mean"].kind) == ("parameter", "buffer")
    assert (source["table.weight"].kind, source["head.weight"].kind) == ("parameter", "parameter")


def test_tied_parameters_of_a_module_are_seen_as_tied() -> None:
    assert read(SmallNet()).tied == (("table.weight", "head.weight"),)


def test_reading_a_module_changes_nothing() -> None:
    module = SmallNet().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for tensor in read(module).values():
        tensor.read()
    assert module.training
    assert module.stem.weight.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_values_share_memory_with_the_module_and_cannot_be_written() -> None:
    module = SmallNet()
    values = read(module)["stem.weight"].read()
    with pytest.raises(ValueError, match="read-only"):
        values[:] = 0
    with torch.no_grad():
        module.stem.weight.fill_(7)
    assert (values == 7).all()


def test_parallel_and_compiled_wrappers_of_a_module_are_seen_through() -> None:
    source = read(torch.nn.DataParallel(SmallNet()))
    assert source.prefix == "module."
    assert list(source) == list(SmallNet().state_dict())


def test_a_lazy_module_says_how_to_initialize_it() -> None:
    with pytest.raises(SourceError, match=r"'weight'.*not initialized yet; run the module once"):
        read(torch.nn.LazyLinear(2))


def test_a_module_without_weights_is_refused() -> None:
    with pytest.raises(SourceError, match="module ReLU has no weights"):
        read(torch.nn.ReLU())


def test_a_module_on_the_meta_device_is_refused() -> None:
    with pytest.raises(SourceError, match="meta tensor"):
        read(torch.nn.Linear(2, 2, device="meta"))


def test_a_negative_bit_without_a_sign_is_refused() -> None:
    with pytest.raises(SourceError, match="a negative bit, which says nothing there"):
        read({"a": torch._neg_view(torch.tensor([True])), "b": torch.ones(2)})


def test_a_live_module_under_a_wrapper_is_read_as_a_module() -> None:
    module = SmallNet()
    source = read({"model": module, "epoch": 3})
    assert source.module is module
    assert (source.wrapper, source.origin) == ("model", "module SmallNet")


# --- values of many kinds ---


def test_values_of_all_kinds_become_arrays() -> None:
    keras_like = torch.ones(2)
    state_dict = {
        "torch": torch.tensor([1.5, 2.5]), "half": torch.tensor([1.5], dtype=torch.float16),
        "brain": torch.tensor([1.5], dtype=torch.bfloat16), "eight": torch.tensor([1.5]).to(
            torch.float8_e5m2), "conjugate": torch.tensor([1 + 2j]).conj(),
        "negative": torch.tensor([1 + 2j]).conj().imag, "turned": torch.arange(6.0).reshape(2, 3).T,
        "parameter": torch.nn.Parameter(keras_like), "numpy": np.arange(3, dtype=np.int32),
        "numpy scalar": np.float16(2), "float": 0.5, "int": 7, "bool": True
    }
    source = read(state_dict)
    read_values = {name: tensor.read().tolist() for name, tensor in source.items()}
    assert read_values == {
        "torch": [1.5, 2.5], "half": [1.5], "brain": [0x3FC0], "eight": [0x3E],
        "conjugate": [1 - 2j], "negative": [-2.0], "turned": [[0.0, 3.0], [1.0, 4.0],
                                                              [2.0, 5.0]], "parameter": [1.0, 1.0],
        "numpy": [0, 1, 2], "numpy scalar": 2.0, "float": 0.5, "int": 7, "bool": True
    }
    assert [tensor.dtype for tensor in source.values()] == [
        "float32", "float16", "bfloat16", "float8_e5m2", "complex64", "float32", "float32",
        "float32", "int32", "float16", "float64", "int64", "bool"
    ]


def test_int64_and_float64_keep_what_float32_cannot_hold() -> None:
    source = read({"a": torch.tensor([16777217]), "b": torch.tensor([1e300], dtype=torch.float64)})
    assert (source["a"].read()[0], source["b"].read()[0]) == (16777217, 1e300)


def test_arrays_of_the_caller_stay_writable_and_are_not_copied() -> None:
    array = np.zeros(3)
    values = read({"a": array})["a"].read()
    assert np.shares_memory(values, array)
    assert not values.flags.writeable
    assert array.flags.writeable


def test_ml_dtypes_bfloat16_arrays_come_as_bits() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    source = read({"a": np.array([1.5], ml_dtypes.bfloat16)})
    assert (source["a"].dtype, source["a"].read().tolist()) == ("bfloat16", [0x3FC0])


class Variable:
    """What TensorFlow's and Keras's variables look like from outside."""

    shape = (2,)
    dtype = "float32"

    def numpy(self) -> Any:
        return np.array([1, 2], np.float32)


def test_variables_of_other_frameworks_are_read_through_numpy() -> None:
    variable = Variable()
    source = read({"kernel": variable, "again": variable})
    assert source["kernel"].read().tolist() == [1, 2]
    assert source.tied == (("kernel", "again"),)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("value", "message"),
                         [(torch.empty(1, device="meta"), "meta tensor"),
                          (torch.eye(2).to_sparse(), r"call to_dense\(\)"),
                          (torch.empty(1, dtype=torch.complex32), "complex32 cannot be read"),
                          (np.array(["text"]), "cannot be read"),
                          (np.array([None]), "cannot be read"),
                          (np.ma.masked_array([1.0], [True]), "masked array"),
                          (1 << 70, "does not fit in 64 bits")])
def test_values_that_cannot_be_read_are_named(value: Any, message: str) -> None:
    with pytest.raises(SourceError, match=f"tensor 'b.weight'.*{message}"):
        read({"a.weight": torch.ones(1), "b.weight": value})


def test_what_is_no_tensor_is_noted() -> None:
    source = read({
        "a": torch.ones(1), "nothing": None, "text": "x", "more": {"b": torch.ones(1)},
        "list": [torch.ones(1)]
    })
    assert list(source) == ["a"]
    assert "4 entries are no tensors and were left out: nothing, text, more, list" in source.notes


@pytest.mark.parametrize("state_dict", [{}, {"a": None}, {"a": {}}, {"a": {"b": {}}},
                                        {"optimizer": {"x": None}}, {"epoch": 3, "args": {}}])
def test_a_state_dict_without_tensors_is_refused(state_dict: Any) -> None:
    with pytest.raises(SourceError, match="holds no tensors"):
        read(state_dict)


@pytest.mark.parametrize("state_dict",
                         [{0: torch.ones(1)}, {"": torch.ones(1)}, {("a", "b"): torch.ones(1)}])
def test_names_must_be_text(state_dict: Any) -> None:
    with pytest.raises(SourceError, match="expected names as keys"):
        read(state_dict)


@pytest.mark.parametrize("source", [None, 5, [torch.ones(1)], torch.ones(1), b"net.pth", object()])
def test_other_sources_are_refused(source: Any) -> None:
    with pytest.raises(SourceError,
                       match="expected a torch module, a state dict, or the path of a file"):
        read(source)


def test_a_source_reads_as_itself() -> None:
    source = read({"a": torch.ones(1)})
    assert read(source) is source


# --- wrappers and prefixes ---

WEIGHTS = {"a.weight": torch.ones(1)}
AVERAGED = {"a.weight": torch.full((1,), 2.0)}


@pytest.mark.parametrize("key", [
    "model", "state_dict", "module", "net", "model_state_dict", "params", "state_dict_ema",
    "model_ema", "generator"
])
def test_a_wrapper_is_found_whatever_it_is_called(key: str) -> None:
    source = read(
        {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}}, key: WEIGHTS})
    assert (list(source), source.wrapper) == (["a.weight"], key)
    assert source.notes[0].startswith(f"weights taken from '{key}'")


@pytest.mark.parametrize(("keys", "chosen"), [(("state_dict_ema", "state_dict"), "state_dict"),
                                              (("model_ema", "net"), "net"),
                                              (("net", "module", "state_dict", "model"), "model"),
                                              (("params_ema", "params"), "params"),
                                              (("generator", "ema"), "generator"),
                                              (("model_ema", "state_dict_ema"), "state_dict_ema")])
def test_averaged_weights_are_taken_only_when_there_are_no_others(keys: tuple[str, ...],
                                                                  chosen: str) -> None:
    source = read(dict.fromkeys(keys, WEIGHTS))
    assert source.wrapper == chosen
    assert set(source.wrappers) == set(keys)
    assert all(key in source.notes[0] for key in keys)


def test_averaged_weights_are_taken_when_asked_for() -> None:
    source = read({"model": WEIGHTS, "model_ema": AVERAGED}, wrapper="model_ema")
    assert source["a.weight"].read().tolist() == [2]
    assert source.wrapper == "model_ema"


@pytest.mark.parametrize("wrapper", ["", "ema", "optimizer", "epoch"])
def test_an_unknown_wrapper_is_refused_and_those_there_are_listed(wrapper: str) -> None:
    with pytest.raises(
            SourceError,
            match=f"no weights under wrapper '{wrapper}'; there are 'model', 'model_ema'"):
        read({"model": WEIGHTS, "model_ema": AVERAGED, "epoch": 1, "optimizer": {}},
             wrapper=wrapper)


def test_several_unknown_wrappers_must_be_chosen_from() -> None:
    parts = {"generator": WEIGHTS, "discriminator": AVERAGED}
    with pytest.raises(
            SourceError, match=
            "several parts hold weights: 'generator', 'discriminator'; choose one with wrapper="):
        read(parts)
    assert read(parts, wrapper="discriminator")["a.weight"].read().tolist() == [2]


def test_a_wrapper_inside_a_wrapper_is_found() -> None:
    source = read({"model": {"state_dict": WEIGHTS, "args": None}})
    assert (list(source), source.wrapper) == (["a.weight"], "model/state_dict")
    assert list(read({"model": {"state_dict": WEIGHTS}},
                     wrapper="model/state_dict")) == ["a.weight"]


def test_weights_at_the_top_win_over_averaged_ones_below() -> None:
    source = read({**WEIGHTS, "state_dict_ema": AVERAGED})
    assert (source.wrapper, list(source)) == (None, ["a.weight"])
    assert "also there: 'state_dict_ema'" in source.notes[0]


@pytest.mark.parametrize(("prefix", "cut"), [("module.", "module."), ("_orig_mod.", "_orig_mod."),
                                             ("module._orig_mod.", "module._orig_mod."),
                                             ("_orig_mod.module.", "_orig_mod.module."),
                                             ("module.module.", "module.module."),
                                             ("backbone.", "")])
def test_prefixes_that_all_names_carry_are_cut(prefix: str, cut: str) -> None:
    source = read({f"{prefix}a.weight": torch.ones(1), f"{prefix}b.weight": torch.ones(1)})
    assert source.prefix == cut
    assert [name.removeprefix(prefix) if not cut else name for name in source
           ] == ["a.weight", "b.weight"]
    assert [tensor.name for tensor in source.values()] == list(source)


def test_a_prefix_that_one_name_lacks_is_kept() -> None:
    source = read({"module.a.weight": torch.ones(1), "b.weight": torch.ones(1)})
    assert (source.prefix, list(source)) == ("", ["module.a.weight", "b.weight"])


def test_the_callers_dictionary_is_not_changed() -> None:
    state_dict = {
        "model": {"module.b.weight": torch.ones(1), "module.a.bias": torch.zeros(1)}, "epoch": 1
    }
    before = copy.deepcopy(state_dict)
    read(state_dict)
    assert list(state_dict) == list(before)
    assert list(state_dict["model"]) == list(before["model"])  # type: ignore[call-overload]


# --- was the order lost? ---


def names_to_tensors(names: list[str]) -> dict[str, torch.Tensor]:
    return {name: torch.ones(1) for name in names}


@pytest.mark.parametrize(
    "names", [["a.bias", "a.weight", "b.bias", "b.weight"],
              ["_blocks.0.weight", "_blocks.1.weight", "_blocks.10.weight", "_blocks.2.weight"],
              ["n.bias", "n.running_mean", "n.running_var", "n.weight", "o.bias", "o.weight"],
              ["conv1.weight", "conv10.weight", "conv2.weight"]])
def test_sorted_names_are_detected_by_what_no_module_registers(names: list[str]) -> None:
    assert read(names_to_tensors(names)).order == "sorted by name"


@pytest.mark.parametrize(
    "names",
    [
        ["a.weight", "a.bias", "b.weight", "b.bias"],
        ["a.weight", "b.weight", "c.weight"],  # sorted, but as a module may well be
        ["a.bias", "a.weight"],  # one layer of somebody's own
        ["b.bias", "b.weight", "a.bias", "a.weight"],
        ["0.weight", "2.weight", "10.weight"],
        ["layer.bias", "layer.weight_g", "layer.weight_v"
        ],  # the old weight_norm registers its bias first
        ["only"]
    ])
def test_small_registered_models_are_not_taken_for_sorted_ones(names: list[str]) -> None:
    source = read(names_to_tensors(names))
    assert (source.order, list(source)) == ("registered", names)


def test_layers_come_in_natural_order_and_stay_together() -> None:
    names = [
        "b.10.bias", "b.10.weight", "b.2.bias", "b.2.running_mean", "b.2.running_var", "b.2.weight",
        "b.token", "cls"
    ]
    assert list(read(names_to_tensors(names))) == [
        "cls", "b.token", "b.2.weight", "b.2.bias", "b.2.running_mean", "b.2.running_var",
        "b.10.weight", "b.10.bias"
    ]


def test_a_module_is_never_taken_for_sorted() -> None:
    class BiasFirst(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("a", "b"):
                part = torch.nn.Module()
                part.bias, part.weight = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(
                    torch.ones(1))
                self.add_module(name, part)

    source = read(BiasFirst())
    assert (source.order, list(source)) == ("registered",
                                            ["a.bias", "a.weight", "b.bias", "b.weight"])
