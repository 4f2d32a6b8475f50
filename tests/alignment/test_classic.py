"""Alignment by dictionaries: every example of the classic interface, and for each way to lose a
name the refusal.
"""

from __future__ import annotations

import enum
import warnings
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_torch_convert import _core
from keras_torch_convert.alignment.classic import align_names
from keras_torch_convert.api.classic_names import (align_layer_names_multi_stage,
                                                   match_layer_names_with_torch)
from keras_torch_convert.errors import AlignmentError
from tests.helpers.reference import cases, frozen
from tests.helpers.reference import names as twin

BLOCKS = ["s1_b1_x", "s1_b1_y", "s1_b2_x", "s1_b2_y", "s2_b1_x", "s2_b1_y"]


def by_full_name(letters: str, rules: dict[str, Any]) -> str:
    """Align one-letter layers, written as one word."""
    return "".join(align_names(list(letters), {}, rules).names)


def by_tail(names: list[str], rules: dict[str, Any], split: int = 2) -> list[str]:
    return list(align_names(names, rules, {}, split).names)


def refusal(names: Any, tail: Any = {}, full: Any = {}, split: Any = 2,
            function: Any = None) -> str:
    """The message with which these arguments are refused."""
    with pytest.raises(AlignmentError) as refused:
        align_names(names, tail, full, split, function)
    return str(refused.value)


# ----------------------------------------------------------------------
# Moves by full name
# ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "aligned"),
    [
        ({}, "abcde"),
        ({"e": -2}, "abecd"),
        ({"c": -1, "d": -1, "e": -1}, "acdeb"),  # a run with equal offsets keeps its order
        ({"c": -5}, "abcde"),  # counts from the end of the list: its own place
        ({"c": -6}, "acbde"),
        ({"c": -7}, "cabde"),
        ({"c": -99}, "cabde"),
        ({"c": 2}, "abcde"),
        ({"c": 0}, "cabde"),
        ({"d": 1, "e": 1}, "aedbc"),  # an absolute place is counted in the list as it grows
        ({"c": True}, "acbde"),
        ({"c": False}, "cabde"),
        ({"c": "a"}, "cabde"),
        ({"c": "b", "d": "b"}, "adcbe"),  # repeated anchors come out reversed
        ({"d": -3, "e": "b"}, "deabc"),  # anchors stand where they stood in the input
        ({"c": "c"}, "abcde")
    ])
def test_moves_by_full_name(rules: dict[str, Any], aligned: str) -> None:
    assert by_full_name("abcde", rules) == aligned


def test_downsample_layers_go_to_an_earlier_absolute_place() -> None:
    names = ["stem", "conv1", "conv2", "down", "head"]
    assert match_layer_names_with_torch(names, {},
                                        {"down": 1}) == ["stem", "down", "conv1", "conv2", "head"]


def test_last_of_equal_names_is_the_anchor() -> None:
    assert by_full_name("abad", {"d": "a"}) == "abda"


def test_equal_names_are_all_kept_and_all_moved() -> None:
    assert by_full_name("abcb", {"b": -1}) == "babc"


@pytest.mark.parametrize("number",
                         [np.int64(-2), enum.IntEnum("Offset", {"BACK": -2})(-2)],
                         ids=["numpy", "enum"])
def test_integers_of_other_kinds_are_integers(number: Any) -> None:
    assert by_full_name("abcde", {"e": number}) == "abecd"


def test_names_and_keys_may_be_subclasses_of_str() -> None:
    names = [np.str_(letter) for letter in "abc"]
    assert match_layer_names_with_torch(names, {}, {np.str_("c"): np.str_("a")}) == ["c", "a", "b"]


def test_numbers_beyond_64_bits_are_beyond_the_list() -> None:
    assert by_full_name("abc", {"c": -(10**30)}) == "cab"
    assert "moves layer 'a' forward" in refusal(list("abc"), full={"a": 10**30})


def test_input_may_be_a_tuple_or_empty_and_the_result_is_a_new_list() -> None:
    names = ["a", "b"]
    assert match_layer_names_with_torch(tuple(names), {}, {"b": -1}) == ["b", "a"]
    assert match_layer_names_with_torch([]) == []
    assert match_layer_names_with_torch(names) == names
    assert match_layer_names_with_torch(names) is not names


# ----------------------------------------------------------------------
# Moves by tail
# ----------------------------------------------------------------------


def test_tail_moves_its_layer_in_every_block() -> None:
    blocks = [f"stack1_block{block}_{tail}" for block in (1, 2) for tail in "abc"]
    assert [name[-1] for name in by_tail(blocks, {"c": -1})] == list("acbacb")


def test_absolute_place_in_the_tail_dict_counts_from_the_start_of_the_whole_list() -> None:
    blocks = [f"stack1_block{block}_{tail}" for block in (1, 2) for tail in "ba"]
    aligned = by_tail(blocks, {"a": 0})
    assert aligned[:2] == ["stack1_block2_a", "stack1_block1_a"]


def test_anchor_in_the_tail_dict_is_a_sibling_with_the_same_head() -> None:
    assert by_tail(
        BLOCKS, {"y": "x"}) == ["s1_b1_y", "s1_b1_x", "s1_b2_y", "s1_b2_x", "s2_b1_y", "s2_b1_x"]


def test_full_name_goes_before_tail() -> None:
    aligned = align_names(BLOCKS[:4], {"y": -1}, {"s1_b2_y": -3}).names
    assert aligned == ("s1_b2_y", "s1_b1_y", "s1_b1_x", "s1_b2_x")


@pytest.mark.parametrize(("split", "tail"), [(0, "s1_b2_y"), (1, "b2_y"), (2, "y"), (-1, "y"),
                                             (-2, "b2_y"), (-3, "s1_b2_y"), (-9, "s1_b2_y")])
def test_split_says_how_many_parts_make_the_head(split: int, tail: str) -> None:
    assert by_tail(BLOCKS[:4], {tail: -1}, split)[2:] == ["s1_b2_y", "s1_b2_x"]


@pytest.mark.parametrize("split", [3, 4, 10**30])
def test_split_beyond_the_parts_leaves_an_empty_tail(split: int) -> None:
    assert by_tail(["a_b_c", "out"], {"": 0}, split) == ["out", "a_b_c"]


def test_rules_of_one_stack_replace_the_others_for_that_stack() -> None:
    assert by_tail(BLOCKS, {"y": -1, "s1": {"x": 0}}) == [
        "s1_b2_x", "s1_b1_x", "s1_b1_y", "s1_b2_y", "s2_b1_y", "s2_b1_x"
    ]


def test_empty_rules_of_one_stack_switch_the_others_off() -> None:
    assert by_tail(BLOCKS, {"y": -1, "s1": {}}) == [*BLOCKS[:4], "s2_b1_y", "s2_b1_x"]


def test_names_are_cut_at_characters_of_any_language() -> None:
    assert by_tail(["ж_é_重", "ж_é_größe"], {"größe": "重"}) == ["ж_é_größe", "ж_é_重"]


def test_dictionaries_of_any_mapping_type_are_understood() -> None:
    rules = OrderedDict(s1=MappingProxyType({"y": -1}))
    assert by_tail(BLOCKS[:2], MappingProxyType(rules)) == ["s1_b1_y",
                                                            "s1_b1_x"]  # type: ignore[arg-type]


def test_tail_may_be_equal_to_the_name_of_another_stack() -> None:
    assert by_tail(["b_1_y", "b_1_stem", "stem_1_x"],
                   {"stem": "y"}) == ["b_1_stem", "b_1_y", "stem_1_x"]


# ----------------------------------------------------------------------
# Stages
# ----------------------------------------------------------------------


def by_stages(letters: str, tail: Any, full: Any, split: Any) -> str:
    return "".join(align_layer_names_multi_stage(list(letters), tail, full, split, verbose=0))


def test_each_stage_works_on_the_result_of_the_one_before() -> None:
    assert by_stages("abcde", [], [{"e": -1}, {"e": -1}], [2]) == "abecd"
    assert by_stages("abcde", [], [{"e": -4}, {"d": "a"}], [2]) == "edabc"


def test_single_full_name_dict_belongs_to_the_first_stage() -> None:
    assert by_stages("abcde", [], {"e": -1}, [2, 2]) == "abced"


def test_missing_split_repeats_the_last_and_missing_dicts_are_empty() -> None:
    names = ["s1_b1_x", "s1_b1_y"]
    aligned = align_layer_names_multi_stage(names, [{}, {"b1_y": -1}], [{}, {}], [1], verbose=0)
    assert aligned == ["s1_b1_y", "s1_b1_x"]
    assert align_layer_names_multi_stage(names, [{"b1_y": -1}], {}, [1, 2],
                                         verbose=0) == ["s1_b1_y", "s1_b1_x"]


def test_each_stage_has_its_own_split() -> None:
    names = ["s1_b1_x", "s1_b1_y", "s1_b2_x", "s1_b2_y"]
    aligned = align_layer_names_multi_stage(names, [{"y": -1}, {"b2_x": 0}], {}, [2, 1], verbose=0)
    assert aligned == ["s1_b2_x", "s1_b1_y", "s1_b1_x", "s1_b2_y"]


def test_empty_dictionaries_are_harmless_in_any_form() -> None:
    for tail, full, split in ([{}, [], 2], [[], {}, 2], [[{}], [{}], 2], [{}, {}, [2]], [[{}, {},
                                                                                          {}], {},
                                                                                         [2]]):
        assert by_stages("abc", tail, full, split) == "abc"


def test_arguments_of_every_stage_are_printed_when_verbose(
        capsys: pytest.CaptureFixture[str]) -> None:
    align_layer_names_multi_stage(["a", "b"], [], [{"b": -1}, {}], [2])
    printed = capsys.readouterr().out
    assert "stage 0, tail_split_position: 2" in printed
    assert "full_name_align_dict: {'b': -1}" in printed
    assert "stage 1" in printed
    align_layer_names_multi_stage(["a", "b"], verbose=0)
    assert capsys.readouterr().out == ""


# ----------------------------------------------------------------------
# The user's function
# ----------------------------------------------------------------------


def test_function_runs_last_on_the_moved_names_and_the_notes_say_so() -> None:
    seen: list[list[str]] = []

    def swap_first_two(names: list[str]) -> list[str]:
        seen.append(list(names))
        return [names[1], names[0], *names[2:]]

    alignment = align_names(list("abcde"), {}, {"e": -4}, 2, swap_first_two)
    assert seen == [list("eabcd")]
    assert alignment.names == tuple("aebcd")
    assert alignment.notes == ("the dictionaries moved 1 name before specific_match_func got them",)
    assert align_names(list("ab"), specific_match_func=swap_first_two).notes == ()


def test_function_may_change_the_list_that_it_gets_and_may_leave_names_out() -> None:
    names = ["c", "a", "b"]

    def sort_and_drop_one(own: list[str]) -> list[str]:
        own.sort()
        return own[:2]

    assert align_layer_names_multi_stage(names, specific_match_func=sort_and_drop_one,
                                         verbose=0) == ["a", "b"]
    assert names == ["c", "a", "b"]


def test_function_may_return_a_tuple_and_each_of_several_equal_names() -> None:
    assert align_names(["a", "b", "a"],
                       specific_match_func=lambda names: tuple(sorted(names))).names == ("a", "a",
                                                                                         "b")


@pytest.mark.parametrize(
    ("answer", "said"),
    [(None, "got NoneType; a function that sorts in place must return the list as well"),
     ("stem", "got str"), ({"stem": 1}, "got dict"), (iter(["stem"]), "iterator"),
     ([1], "must be str, got 1 of type int"),
     (["stem_cov"], "returned 'stem_cov' at position 0, which is none of the layers; did you mean "
      "'stem_conv'?"), ([""], "returned '' at position 0, which is none of the layers"),
     (["stem_conv", "head", "stem_conv"
      ], "returned 'stem_conv' twice, at position 0 and at position 2")],
    ids=lambda value: type(value).__name__)
def test_answer_that_is_no_list_of_these_names_is_refused(answer: Any, said: str) -> None:
    assert said in refusal(["stem_conv", "head"], function=lambda names: answer)


def test_exception_of_the_function_passes_with_a_note() -> None:
    def fail(names: list[str]) -> list[str]:
        raise LookupError("no such block")

    with pytest.raises(LookupError, match="no such block") as raised:
        align_names(["a", "b"], specific_match_func=fail)
    assert getattr(raised.value, "__notes__",
                   []) in (["raised by specific_match_func, called with 2 names"], [])


# ----------------------------------------------------------------------
# What would lose a name
# ----------------------------------------------------------------------


def test_move_forward_names_rule_stage_layer_lost_name_and_remedy() -> None:
    assert refusal(list("abcde"), full={
        "a": 3
    }) == ("full_name_align_dict entry 'a': 3 at stage 0 moves layer 'a' forward, from position 0 "
           "to position 3, and the name 'a' would be lost; move the 3 layers that are to go "
           "before it back instead: full_name_align_dict={'b': -1, 'c': -1, 'd': -1}")


def test_lost_name_is_the_one_that_the_original_would_lose() -> None:
    # In turn: b overwrites a; c pushes b off the end; b and d overwrite a and c.
    assert "the name 'a' would be lost" in refusal(list("abc"), full={"a": 1})
    assert "the name 'b' would be lost" in refusal(list("abc"), full={"b": 2, "c": 0})
    assert "the names 'a' and 1 more would be lost" in refusal(list("abcd"), full={"a": 1, "c": 3})


@pytest.mark.parametrize("place", [1, 2, 3])
def test_remedy_for_an_absolute_place_puts_the_layer_there(place: int) -> None:
    message = refusal(list("abcde"), full={"a": place})
    assert by_full_name("abcde", advised_rules(message)).index("a") == place


def test_remedy_for_an_anchor_puts_the_layer_before_it() -> None:
    message = refusal(list("abcde"), full={"a": "d"})
    assert by_full_name("abcde", advised_rules(message)) == "bcade"


def advised_rules(message: str) -> dict[str, int]:
    """The dictionary that a message advises, which must be there in full."""
    rules: dict[str, int] = eval(message.rpartition("full_name_align_dict=")[2], {})
    return rules


def test_remedy_for_many_layers_is_shortened() -> None:
    assert refusal(list("abcdefgh"), full={"a": 7}).endswith(
        "move the 7 layers that are to go before it back instead: full_name_align_dict={'b': -1, "
        "'c': -1, ..., 'h': -1}")


def test_place_beyond_the_list_for_the_last_layer_is_refused_with_its_option() -> None:
    message = refusal(list("abcde"), full={"e": 99})
    assert "from position 4 to position 5, and the name 'e' would be lost" in message
    assert "the last already" in message
    assert "keep_layers" in message


@pytest.mark.parametrize(("name", "offset", "said"), [("c", -3, "-2 puts the layer first"),
                                                      ("a", -1, "the layer is the first already")])
def test_offset_before_the_start_that_wraps_round_is_refused(name: str, offset: int,
                                                             said: str) -> None:
    message = refusal(list("abcde"), full={name: offset})
    assert "an offset before the start counts from the end of the list" in message
    assert said in message


def test_anchor_just_behind_the_layer_is_refused() -> None:
    assert "'a' stands just before 'b' already" in refusal(list("abc"), full={"a": "b"})


def test_move_forward_by_tail_says_which_dictionary_and_stage() -> None:
    assert refusal(BLOCKS, tail={"x":
        3}).startswith("tail_align_dict entry 'x': 3 at stage 0 moves layer 's1_b1_x' forward")
    message = refusal(BLOCKS, tail=[{}, {"y": -9, "s1": {"x": "y"}}], split=[2, 2])
    assert message.startswith(
        "tail_align_dict['s1'] entry 'x': 'y' at stage 1 moves layer 's1_b1_x' forward")


def test_arguments_are_as_before_after_a_refusal_and_after_a_result() -> None:
    names, tail, full = list("abcde"), {"s": {"x": -1}}, {"e": -2, "a": 3}
    refusal(names, tail, full)
    assert (names, tail, full) == (list("abcde"), {"s": {"x": -1}}, {"e": -2, "a": 3})
    del full["a"]
    align_names(names, tail, full)
    assert (names, tail, full) == (list("abcde"), {"s": {"x": -1}}, {"e": -2})


def test_unknown_anchor_is_refused_with_the_nearest_names() -> None:
    assert refusal(["stem_conv", "stem_bn", "head"], full={
        "head": "stem_cnv"
    }) == ("full_name_align_dict entry 'head': 'stem_cnv' at stage 0 is to put layer 'head' where "
           "layer 'stem_cnv' stands, but "
           "there is no layer 'stem_cnv'; did you mean 'stem_conv' or 'stem_bn'?")
    assert "but there is no layer 's1_b1_z'; did you mean 's1_b1_y' or 's1_b1_x'" in refusal(
        BLOCKS, tail={"y": "z"})


@pytest.mark.parametrize(
    "value",
    [1.0, -1.0, None, {}, {"a": 1}, [1], b"a",
     np.float64(-1), np.array([1, 2]), 1j])
def test_values_that_cannot_be_rules_are_refused(value: Any) -> None:
    message = refusal(list("abc"), full={"b": value})
    assert message.startswith("full_name_align_dict entry 'b': <")
    assert f"{type(value).__name__}> at stage 0" in message
    assert "wrong type for layer 'b'; allowed are an int" in message


def test_dictionary_of_a_stack_reached_as_a_value_is_refused() -> None:
    assert "'x': <dict> at stage 0 has a value of a wrong type for layer 's1_b1_x'" in refusal(
        BLOCKS, tail={"x": {}})


@pytest.mark.parametrize("value", [-1, None, 1.5])
def test_flat_value_under_the_name_of_a_stack_is_refused(value: Any) -> None:
    message = refusal(["stem_1_conv", "head"], tail={"stem": value})
    assert "stands under the name of the stack of layer 'stem_1_conv'" in message
    assert "give that stack a dict" in message


def test_flat_anchor_under_the_name_of_a_stack_is_refused_when_it_contains_the_tail() -> None:
    assert "stands under the name of the stack of layer 'stem'" in refusal(["head", "stem"],
                                                                           tail={"stem": "head"})


def test_value_that_no_layer_meets_is_only_warned_of() -> None:
    assert len(align_names(["a", "b"], {"x": 1.5}, {"y": None}).warnings) == 2


@pytest.mark.parametrize("split", [1.0, None, "2", [2, None], [[2]], True + 0.5])
def test_split_must_be_an_int(split: Any) -> None:
    assert "tail_split_position must be an int" in refusal(["a"], split=split)


def test_lists_of_dictionaries_need_a_list_of_splits() -> None:
    for message in (refusal(["a", "b"], full=[{"b": -1}]), refusal(["a", "b"], tail=[{"b": -1}])):
        assert ("tail_split_position is a single int; give a list of splits, such as "
                "tail_split_position=[2]") in message


def test_list_of_splits_needs_a_list_of_tail_dictionaries() -> None:
    assert "tail_align_dict must be a list of dicts too" in refusal(["a"], tail={"b": -1},
                                                                    split=[2])


def test_stages_of_tails_that_would_be_dropped_are_named() -> None:
    message = refusal(["a"], tail=[{}, {}, {"x": -1}, {}, {"y": -1}], split=[2])
    assert ("tail_align_dict has rules for stage 2, 4, but tail_split_position and "
            "full_name_align_dict make 1 only" in message)


@pytest.mark.parametrize("wrong", [None, 3, "a", {1}])
def test_dictionaries_must_be_dictionaries(wrong: Any) -> None:
    assert "full_name_align_dict must be a dict" in refusal(["a"], full=wrong)
    assert "tail_align_dict must be a dict" in refusal(["a"], tail=[wrong], split=[2])


def test_list_of_splits_is_for_the_function_of_several_stages() -> None:
    with pytest.raises(AlignmentError, match="align_layer_names_multi_stage takes a list"):
        match_layer_names_with_torch(["a"], {}, {}, [2])  # type: ignore[arg-type]
    assert "empty list" in refusal(["a"], split=[])


def test_names_must_be_str() -> None:
    assert "names of layers must be str, got 1 of type int" in refusal(["a", 1])


# ----------------------------------------------------------------------
# Entries that do nothing
# ----------------------------------------------------------------------


def test_entries_that_apply_to_no_layer_are_warned_of_with_the_nearest_names() -> None:
    alignment = align_names([*BLOCKS, "head"], {"y": -1, "yy": -1, "s1": {"x_": 0}, "s3": {}},
                            {"heat": -1, 7: 1}, 2)
    assert alignment.warnings == (
        "full_name_align_dict[7] at stage 0 applies to no layer: names are str",
        ("tail_align_dict['yy'] at stage 0 applies to no layer with tail_split_position=2; "
         "did you mean 'y'?"),
        ("tail_align_dict['s1']['x_'] at stage 0 applies to no layer with tail_split_position=2; "
         "did you mean 'x'?"),
        "tail_align_dict['s3'] at stage 0 applies to no layer; did you mean 's2' or 's1'?",
        "full_name_align_dict['heat'] at stage 0 applies to no layer; did you mean 'head'?")


def test_only_the_first_idle_entries_get_suggestions() -> None:
    alignment = align_names(["head"], {}, {f"head{number}": 0 for number in range(10)})
    said = [warning.endswith("; did you mean 'head'?") for warning in alignment.warnings]
    assert said == [True] * 8 + [False] * 2


def test_tail_whose_layers_have_other_entries_is_warned_of_as_such() -> None:
    (warning,) = align_names(["a_b_x"], {"x": 0}, {"a_b_x": 0}).warnings
    assert "layers with that tail have an entry of their own" in warning


def test_classic_functions_warn_their_caller() -> None:
    with pytest.warns(UserWarning, match="applies to no layer") as caught:
        match_layer_names_with_torch(["a"], {}, {"b": -1})
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="applies to no layer") as caught:
        align_layer_names_multi_stage(["a"], {}, {"b": -1}, verbose=0)
    assert caught[0].filename == __file__


def test_alignment_without_idle_entries_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert match_layer_names_with_torch(BLOCKS[:2], {"s1": {"y": -1}}) == ["s1_b1_y", "s1_b1_x"]


def test_notes_count_each_name_once_however_often_and_only_when_it_was_moved() -> None:
    alignment = align_names(list("abcde"), [], [{"e": -1, "b": 1}, {"e": -1, "c": 0}], [2], tuple)
    assert alignment.notes == (
        "the dictionaries moved 2 names before specific_match_func got them",)


# ----------------------------------------------------------------------
# Against the original and its twin
# ----------------------------------------------------------------------

GROUPS = list(cases.align_cases())


def ours(*arguments: Any) -> tuple[str, ...]:
    """Our answer, nothing at all where we refuse."""
    try:
        return align_names(*arguments).names
    except AlignmentError:
        return ()


@pytest.mark.parametrize("group", GROUPS)
def test_equal_to_the_original_where_it_loses_nothing_else_an_error(group: str) -> None:
    group_cases = list(cases.align_cases()[group])
    for case, answer in zip(group_cases, frozen.load()[group], strict=True):
        if answer in {frozen.LOST, frozen.RAISED}:
            assert ours(case.names, case.tail_align_dict, case.full_name_align_dict,
                        case.tail_split_position) == (), (case)
        else:
            assert frozen.align_answer(case, ours) == answer, case


@pytest.mark.parametrize("group", GROUPS)
def test_twin_is_equal_to_the_original(group: str) -> None:
    assert [frozen.align_answer(case, twin.align) for case in cases.align_cases()[group]
           ] == frozen.load()[group]


def test_frozen_answers_hold_enough_of_every_kind() -> None:
    answers = frozen.load()
    assert set(answers) == {"state dicts", *GROUPS}
    assert sum(map(len, answers.values())) > 100_000
    lossless = [line for line in answers["random"] if line not in {frozen.LOST, frozen.RAISED}]
    assert len(lossless) > 2000
    assert len({line for line in lossless if list(line) != sorted(line)}) > 1000


parts = st.sampled_from(["a", "b", "s1", "größe", ""])
layer_names = st.lists(
    st.lists(parts, min_size=1, max_size=4).map("_".join).filter(len), max_size=9)
values = st.one_of(st.integers(-11, 11), st.booleans(),
                   st.sampled_from(["a", "b", "a_b", "s1_a", "größe"]))
flat_rules = st.dictionaries(st.sampled_from(["a", "b", "", "a_b", "b_a", "s1_a", "größe"]), values,
                             max_size=4)
tail_rules = st.dictionaries(st.sampled_from(["a", "b", "s1", "", "a_b"]),
                             st.one_of(values, flat_rules), max_size=3)


@given(layer_names, tail_rules, flat_rules, st.integers(-5, 5))
def test_equal_to_the_twin_on_awkward_names(names: list[str], tail: Any, full: Any,
                                            split: int) -> None:
    try:
        expected = twin.align(names, tail, full, split)
    except (KeyError, TypeError):
        expected = []
    if sorted(expected) == sorted(names):
        assert list(align_names(names, tail, full, split).names) == expected
    else:
        refusal(names, tail, full, split)


@given(st.lists(st.integers(-70, 70), min_size=150, max_size=200))
def test_equal_to_the_twin_on_long_lists(values: list[int]) -> None:
    names = [f"layer{index}" for index in range(len(values))]
    rules = {
        name: max(min(value, index), -index)
        for index, (name, value) in enumerate(zip(names, values, strict=True))
    }
    expected = twin.align(names, {}, rules, 2)
    assert "" not in expected
    assert list(align_names(names, {}, rules).names) == expected


def test_every_layer_of_a_long_list_may_go_to_the_start() -> None:
    names = [f"layer{index}" for index in range(100_000)]
    assert match_layer_names_with_torch(names, {}, dict.fromkeys(names, 0)) == names[::-1]


# ----------------------------------------------------------------------
# The C functions themselves
# ----------------------------------------------------------------------


def test_core_tells_new_order_moved_names_and_idle_rules() -> None:
    assert _core.move_stage(["a_x", "b_x"], {"x": 0, "y": 1, "a": {"z": 1}}, {"c": 1},
                            1) == (("b_x", "a_x"), ["b_x"], [("tail_align_dict", "y"),
                                                             ("tail_align_dict", "a", "z"),
                                                             ("full_name_align_dict", "c")])


@pytest.mark.parametrize("arguments", [(), (["a"], {}, {}), ("a", {}, {}, 2), ([1], {}, {}, 2),
                                       ([np.str_("a")], {}, {}, 2), (["a"], [], {}, 2),
                                       (["a"], {}, OrderedDict(), 2), (["a"], {1: 2}, {}, 2),
                                       (["a"], {"s": {1: 2}}, {}, 2),
                                       (["a"], {}, {np.str_("a"): 2}, 2), (["a"], {}, {}, 2.0),
                                       (["a"], {}, {}, None)], ids=repr)
def test_core_refuses_wrong_arguments(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        _core.move_stage(*arguments)


@pytest.mark.parametrize("place", range(4))
def test_core_refuses_text_that_has_no_utf8(place: int) -> None:
    bad = "\ud800"
    arguments: list[Any] = [["a"], {}, {}, 2]
    replaced = [(0, [bad]), (1, {bad: 1}), (2, {"a": bad}), (1, {"s": {"t": bad}})][place]
    arguments[replaced[0]] = replaced[1]
    with pytest.raises(UnicodeEncodeError):
        _core.move_stage(*arguments)
