"""Collection: names of tensors in, layers with their tensors out. The examples are those of the
classic interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keras_torch_convert import _core
from keras_torch_convert.api.classic_names import state_dict_stack_by_layer
from keras_torch_convert.errors import AlignmentError, SourceError
from keras_torch_convert.spec.layer_groups import group_by_layer
from keras_torch_convert.spec.source import Source, SourceTensor
from tests.helpers.reference import cases, frozen
from tests.helpers.reference import names as twin


def stacked(
    *names: str, skip: tuple[str, ...] = (), unstack: tuple[str, ...] = ()) -> dict[str, list[int]]:
    """Stack a state dict that maps each name to its own number."""
    return state_dict_stack_by_layer(numbered(names), list(skip), list(unstack))


def numbered(names: tuple[str, ...]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def source_of(*names: str) -> Source:
    def tensor(name: str) -> SourceTensor:
        return SourceTensor(name, (2,), "float32", lambda: np.zeros(2, "float32"))

    return Source({name: tensor(name) for name in names}, "state dict")


# ----------------------------------------------------------------------
# How names are cut and grouped
# ----------------------------------------------------------------------


def test_tensors_of_a_layer_are_gathered_at_its_first_appearance() -> None:
    layers = stacked("a.weight", "b.weight", "a.bias")
    assert list(layers.items()) == [("a", [0, 2]), ("b", [1])]


def test_layer_is_all_but_the_last_part() -> None:
    assert stacked("blocks.0.attn.qkv.weight") == {"blocks.0.attn.qkv": [0]}


def test_slash_goes_before_dot_as_separator_name_by_name() -> None:
    assert stacked("a.b/kernel", "a.b.weight") == {"a.b": [0, 1]}
    assert stacked("a.b/kernel", "a.weight") == {"a.b": [0], "a": [1]}


@pytest.mark.parametrize(("name", "unstacked_name"), [("c1/kernel:0", "c1/kernel"), ("k:x", "k"),
                                                      ("k:é", "k"), ("k:重", "k"),
                                                      ("größe:0", "größe"), ("k:10", "k:10"),
                                                      ("k:", "k:"), ("k::0", "k:"), ("重:", "重:")])
def test_colon_and_one_last_character_are_cut(name: str, unstacked_name: str) -> None:
    last_part = unstacked_name.rpartition("/")[2]
    assert stacked(name, unstack=(last_part,)) == {unstacked_name: [0]}


def test_name_of_one_part_belongs_to_the_nameless_layer() -> None:
    assert stacked("cls_token", "pos_embed", "c.weight") == {"": [0, 1], "c": [2]}
    assert stacked("w") == {"": [0]}


def test_unstacked_tensors_become_layers_under_their_full_names() -> None:
    layers = stacked("cls_token", "pos_embed", "c.weight", unstack=("cls_token", "pos_embed"))
    assert list(layers.items()) == [("cls_token", [0]), ("pos_embed", [1]), ("c", [2])]


def test_skip_and_unstack_compare_with_the_whole_last_part() -> None:
    assert stacked("n.num_batches_tracked", "n.my_num_batches_tracked",
                   skip=("num_batches_tracked",)) == {"n": [1]}
    assert stacked("n.gamma_1", "n.my_gamma_1",
                   unstack=("gamma_1",)) == {"n.gamma_1": [0], "n": [1]}


def test_skip_goes_before_unstack_and_after_the_cut() -> None:
    assert stacked("n.g", "n.weight", skip=("g",), unstack=("g",)) == {"n": [1]}
    assert stacked("n/g:0", "n/kernel:0", skip=("g",)) == {"n": [1]}


def test_num_batches_tracked_is_skipped_by_default() -> None:
    assert state_dict_stack_by_layer({"n.weight": 1, "n.num_batches_tracked": 2}) == {"n": [1]}


def test_empty_state_dict_gives_no_layers() -> None:
    assert state_dict_stack_by_layer({}) == {}


def test_unstacked_tensor_may_come_before_the_tensors_of_a_layer_with_its_name() -> None:
    assert stacked("a.g", "a.g.weight", unstack=("g",)) == {"a.g": [0, 1]}


def test_unstacked_tensor_that_would_replace_others_is_refused() -> None:
    with pytest.raises(AlignmentError) as refusal:
        stacked("x.weight", "a.g.weight", "a.g.bias", "a.g", unstack=("g",))
    message = str(refusal.value)
    assert "'a.g'" in message
    assert "'a.g.weight'" in message
    assert "skip_weights" in message
    assert "rename" in message


def test_two_unstacked_tensors_that_differ_by_the_cut_ending_only_are_refused() -> None:
    with pytest.raises(AlignmentError, match=r"'c/g:1' would replace tensor 'c/g:0'"):
        stacked("c/g:0", "c/g:1", unstack=("g",))


def test_empty_name_is_refused() -> None:
    with pytest.raises(SourceError, match="tensor number 1 has an empty name"):
        stacked("a.weight", "")


def test_name_that_is_no_str_is_refused() -> None:
    with pytest.raises(SourceError, match="must be str, got 7 of type int"):
        state_dict_stack_by_layer({"a.weight": 0, 7: 1})


@pytest.mark.parametrize("parameter", ["skip_weights", "unstack_weights"])
@pytest.mark.parametrize("wrong", ["weight", None, 3, [None], {1: 2}])
def test_rules_must_be_a_list_of_names(parameter: str, wrong: Any) -> None:
    with pytest.raises(AlignmentError, match=parameter):
        state_dict_stack_by_layer({"a.weight": 0}, **{parameter: wrong})


@pytest.mark.parametrize("rules", [("weight",), {"weight"}, {"weight": 0}, np.array(["weight"])])
def test_rules_may_be_any_collection_of_names(rules: Any) -> None:
    assert state_dict_stack_by_layer({"a.weight": 0, "a.bias": 1}, skip_weights=rules) == {"a": [1]}


def test_module_in_place_of_its_state_dict_is_refused_with_the_remedy() -> None:
    with pytest.raises(SourceError, match=r"got Linear; give its state_dict\(\)"):
        state_dict_stack_by_layer(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="got list"):
        state_dict_stack_by_layer([1, 2])  # type: ignore[arg-type]


def test_arguments_are_left_as_they_are() -> None:
    state_dict = {"a.weight": [1, 2], "a.num_batches_tracked": [3], "g": [4]}
    skip, unstack = ["num_batches_tracked"], ["g"]
    layers = state_dict_stack_by_layer(state_dict, skip, unstack)
    layers["a"].append("more")
    layers["g"][0] = "other"
    assert state_dict == {"a.weight": [1, 2], "a.num_batches_tracked": [3], "g": [4]}
    assert (skip, unstack) == (["num_batches_tracked"], ["g"])


# ----------------------------------------------------------------------
# Values
# ----------------------------------------------------------------------


def value_of(value: Any) -> Any:
    return state_dict_stack_by_layer({"a.weight": value})["a"][0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrow_floats_are_widened_to_float32(dtype: torch.dtype) -> None:
    array = value_of(torch.tensor([0.5, -1.75]).to(dtype))
    assert array.dtype == np.float32
    assert array.tolist() == [0.5, -1.75]


def test_values_keep_the_types_that_float32_could_not_hold() -> None:
    assert value_of(torch.tensor([16777217])).tolist() == [16777217]
    assert value_of(torch.tensor([16777217])).dtype == np.int64
    assert value_of(torch.tensor([1e300], dtype=torch.float64)).tolist() == [1e300]
    assert value_of(torch.tensor([True])).dtype == np.bool_


def test_float32_tensor_shares_memory_with_the_model() -> None:
    weight = torch.tensor([1.0, 2.0])
    array = value_of(weight)
    weight[0] = 5.0
    assert array.tolist() == [5.0, 2.0]


def test_tensors_that_need_gradients_are_taken() -> None:
    module = torch.nn.Linear(3, 2)
    layers = state_dict_stack_by_layer(dict(module.named_parameters()))
    assert [array.shape for array in layers[""]] == [(2, 3), (2,)]
    assert (layers[""][0] == module.weight.detach().numpy()).all()


def test_negative_and_conjugate_views_are_resolved() -> None:
    negative = torch.tensor([1.0 + 2.0j]).conj().imag
    assert negative.is_neg()
    assert value_of(negative).tolist() == [-2.0]


def test_tensor_without_values_is_refused_by_name() -> None:
    with pytest.raises(SourceError, match=r"tensor 'a\.weight' cannot be read as a NumPy array"):
        value_of(torch.empty(3, device="meta"))


def test_skipped_tensors_are_never_read() -> None:
    assert state_dict_stack_by_layer({"a.num_batches_tracked": torch.empty(3, device="meta")}) == {}


def test_values_with_a_numpy_method_are_asked_for_it() -> None:
    variable = SimpleNamespace(numpy=lambda: np.arange(3))
    assert value_of(variable).tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [1.5, 3, np.float64(2.0), np.arange(3), "text", None])
def test_anything_else_is_handed_on_as_it_is(value: Any) -> None:
    assert value_of(value) is value


# ----------------------------------------------------------------------
# Sources
# ----------------------------------------------------------------------


def test_collect_stacks_the_tensors_of_a_source_and_says_what_was_skipped() -> None:
    source = source_of("a.weight", "a.num_batches_tracked", "b.weight", "a.bias", "n/index:0")
    collection = group_by_layer(source, skip_weights=["num_batches_tracked", "index"])
    assert [(torch_layer.name, [tensor.name for tensor in torch_layer.tensors])
            for torch_layer in collection.layers] == [("a", ["a.weight", "a.bias"]),
                                                      ("b", ["b.weight"])]
    assert collection.skipped == {
        "a.num_batches_tracked": "skip_weights 'num_batches_tracked'",
        "n/index:0": "skip_weights 'index'"
    }


def test_collect_unstacks() -> None:
    collection = group_by_layer(source_of("cls_token", "a.gamma_1", "a.weight"),
                                unstack_weights=("cls_token", "gamma_1"))
    assert [torch_layer.name for torch_layer in collection.layers
           ] == ["cls_token", "a.gamma_1", "a"]


def test_collect_reads_no_values() -> None:
    def fail() -> Any:
        raise AssertionError("read")

    source = Source({"a.weight": SourceTensor("a.weight", (1,), "float32", fail)}, "state dict")
    assert group_by_layer(source).layers[0].tensors[0] is source["a.weight"]


# ----------------------------------------------------------------------
# Against the original and its twin
# ----------------------------------------------------------------------


def test_equal_to_the_original_on_generated_state_dicts() -> None:
    answers = frozen.load()["state dicts"]
    all_cases = list(cases.stack_cases())
    assert len(answers) == len(all_cases) == 2500
    assert 200 < answers.count(frozen.LOST) < 500
    for case, answer in zip(all_cases, answers, strict=True):
        assert frozen.stack_answer(case, stack_or_nothing) == answer, case


def stack_or_nothing(state_dict: Mapping[str, int], skip: list[str],
                     unstack: list[str]) -> dict[str, list[int]]:
    """Ours, with no layers at all where we refuse: the original then loses a tensor, and its answer
    is LOST.
    """
    try:
        return state_dict_stack_by_layer(state_dict, skip, unstack)
    except AlignmentError:
        return {}


def test_twin_is_equal_to_the_original() -> None:
    answers = frozen.load()["state dicts"]
    assert [frozen.stack_answer(case, twin.stack_by_layer) for case in cases.stack_cases()
           ] == answers


awkward_names = st.text(st.sampled_from("ab./:0é重😀_"), min_size=1, max_size=9)


@given(st.lists(awkward_names, unique=True, max_size=12),
       st.lists(st.text(st.sampled_from("ab:0é重"), max_size=2), max_size=2),
       st.lists(st.text(st.sampled_from("ab:0é重"), max_size=2), max_size=3))
def test_equal_to_the_twin_on_awkward_names(names: list[str], skip: list[str],
                                            unstack: list[str]) -> None:
    expected = twin.stack_by_layer(numbered(tuple(names)), skip, unstack)
    kept = [
        number for number, name in enumerate(names) if twin.cut_tensor_name(name)[2] not in skip
    ]
    if sorted(number for numbers in expected.values() for number in numbers) == kept:
        assert list(stacked(*names, skip=tuple(skip),
                            unstack=tuple(unstack)).items()) == list(expected.items())
    else:
        with pytest.raises(AlignmentError, match="would replace"):
            stacked(*names, skip=tuple(skip), unstack=tuple(unstack))


# ----------------------------------------------------------------------
# The C function itself
# ----------------------------------------------------------------------


def test_core_tells_indices_of_layers_and_of_what_was_skipped() -> None:
    assert _core.stack_by_layer(["a.w", "b.w", "a.x", "b.n"], [0, 1, 2, 3], ["n"],
                                ["x"]) == ({"a": [0], "b": [1], "a.x": [2]}, [3])


@pytest.mark.parametrize("arguments", [(), (["a"], [0], []), (["a"], [0], [], [], []),
                                       ("a", [0], [], []), (["a"], {0}, [], []),
                                       (["a"], [0], None, []), (["a", 1], [0, 1], [], []),
                                       (["a", np.str_("b")], [0, 1], [], []),
                                       ({"a": 1}, [0], [], [])], ids=repr)
def test_core_refuses_wrong_arguments(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        _core.stack_by_layer(*arguments)


def test_core_refuses_names_that_have_no_utf8() -> None:
    with pytest.raises(UnicodeEncodeError):
        _core.stack_by_layer(["a\ud800"], [0], [], [])


def test_core_refuses_lists_of_unequal_length() -> None:
    with pytest.raises(ValueError, match="2 names, but 1 items"):
        _core.stack_by_layer(["a.w", "b.w"], [0], [], [])


def test_core_finds_thousands_of_layers_again_whose_tensors_do_not_follow_each_other() -> None:
    count = 5000
    names = [f"{layer}.{last}" for last in ("w", "b") for layer in range(count)]
    layers, _ = _core.stack_by_layer(tuple(names), tuple(range(2 * count)), [], [])
    assert layers == {str(layer): [layer, count + layer] for layer in range(count)}


@pytest.mark.parametrize("length", [0, 1, 62, 63, 64, 200])
def test_core_skips_last_parts_of_every_length(length: int) -> None:
    names = [f"a.{'x' * length}", f"a.{'x' * (length + 1)}", f"a.{'y' * max(1, length)}"]
    assert _core.stack_by_layer(names, [0, 1, 2], ["x" * length], []) == ({"a": [1, 2]}, [0])


def test_core_tells_plain_strings_from_others() -> None:
    assert _core.are_exactly([], (str,))
    assert _core.are_exactly(["a", "b"], (str,))
    assert _core.are_exactly(["a", 1, True], (int, str, bool))
    assert not _core.are_exactly(["a", np.str_("b")], (str,))
    assert not _core.are_exactly([None], ())
    for wrong in [("ab", (str,)), (["a"], str), (["a"],)]:
        with pytest.raises(TypeError):
            _core.are_exactly(*wrong)  # type: ignore[arg-type]


def test_core_takes_long_names_and_bytes_that_end_strings_in_c() -> None:
    long_name = "a." * 50_000 + "w"
    assert _core.stack_by_layer([long_name, "a\0b.w", "a\0c.w"], [0, 1, 2], [],
                                []) == ({long_name[:-2]: [0], "a\0b": [1], "a\0c": [2]}, [])
