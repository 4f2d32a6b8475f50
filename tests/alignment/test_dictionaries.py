"""The classic dictionaries that reproduce an alignment: short where blocks repeat, run before they
are given, and a reason where there are none.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch

import keras_torch_convert as ktc
from keras_torch_convert.alignment.propose import fewest_moved, positions_at_turn, smallest_moves
from keras_torch_convert.errors import AlignmentError
from tests.helpers.small_models import (keras_two_branches, largest_difference, randomized,
                                        torch_two_branches)

layers = keras.layers
QUIET = {"save_name": "", "verbose": 0}


def aligned(names: list[str], moves: Any) -> list[str]:
    return ktc.align_layer_names_multi_stage(names, **moves.arguments(), verbose=0)


def test_layers_in_order_need_no_entry():
    assert smallest_moves(["a", "b"], ["a", "b"]).entries == 0


def test_a_move_that_every_block_repeats_is_one_entry_by_tail():
    names = [
        f"stack1_block{block}_{tail}" for block in range(9)
        for tail in ("1_conv", "2_conv", "shortcut")
    ]
    wanted = [
        f"stack1_block{block}_{tail}" for block in range(9)
        for tail in ("shortcut", "1_conv", "2_conv")
    ]

    moves = smallest_moves(names, wanted)

    assert moves.moved == 9
    assert moves.arguments() == {
        "tail_align_dict": {"shortcut": -2}, "full_name_align_dict": {}, "tail_split_position": 2
    }


def test_layers_that_only_some_blocks_have_move_towards_the_end_in_a_list_turned_round():
    names, wanted = [], []
    for block in range(8):
        branch = ["branch"] if block % 2 else []
        names += [f"stack1_block{block}_{tail}" for tail in ("1_conv", *branch, "1_bn")]
        wanted += [f"stack1_block{block}_{tail}" for tail in ("1_conv", "1_bn", *branch)]

    moves = smallest_moves(names, wanted)

    assert (moves.moved, moves.entries) == (4, 3)
    assert moves.arguments()["tail_align_dict"] == [{"": 0}, {"branch": -1}, {"": 0}]
    assert aligned(names, moves) == wanted


def test_the_fewest_layers_moved_are_those_outside_a_longest_run_in_order():
    assert fewest_moved("abcde", "bcdea") == 1
    assert fewest_moved("abcde", "edcba") == 4
    assert fewest_moved("abcde", "abcde") == 0


def test_blocks_of_another_length_name_the_sibling_that_they_pass():
    names, wanted = [], []
    for block, inner in enumerate((2, 3, 1, 4)):
        head = f"stack1_block{block}"
        convolutions = [f"{head}_conv{index}" for index in range(inner)]
        names += [*convolutions, f"{head}_gamma"]
        wanted += [f"{head}_gamma", *convolutions]

    assert smallest_moves(names, wanted).arguments()["tail_align_dict"] == {"gamma": "conv0"}


def test_a_stack_that_moves_otherwise_gets_a_dictionary_of_its_own():
    names = [
        f"stack{s}_block{b}_{tail}" for s in (1, 2) for b in range(6)
        for tail in ("a", "b", "c", "d")
    ]
    wanted = [
        f"stack{s}_block{b}_{tail}" for s in (1, 2) for b in range(6)
        for tail in ("adbc" if s == 1 else "acbd")
    ]

    moves = smallest_moves(names, wanted)

    assert moves.entries <= 3
    assert aligned(names, moves) == wanted


def test_a_single_layer_that_differs_is_named_in_full():
    names = [f"stack1_block{block}_{tail}" for block in range(9) for tail in ("a", "b", "c")]
    wanted = [
        f"stack1_block{block}_{tail}" for block in range(9)
        for tail in ("abc" if block == 4 else "cab")
    ]

    arguments = smallest_moves(names, wanted).arguments()

    assert arguments["tail_align_dict"] == {"c": -2}
    assert arguments["full_name_align_dict"] == {"stack1_block4_c": names.index("stack1_block4_c")}


def test_every_order_can_be_said_and_gives_what_was_wanted():
    random = np.random.default_rng(11)
    for _ in range(100):
        names = [
            f"stack{random.integers(3)}_block{index // 3}_{'abc'[index % 3]}"
            for index in range(random.integers(1, 20))
        ]
        wanted = [names[index] for index in random.permutation(len(names))]

        moves = smallest_moves(names, wanted)

        assert aligned(names, moves) == wanted
        assert moves.entries <= sum(
            position != index for index, position in enumerate(positions_at_turn(names, wanted)))


def test_other_names_are_refused():
    with pytest.raises(AlignmentError, match="the very same names"):
        smallest_moves(["a", "b"], ["a", "c"])


def test_a_plan_found_by_running_is_said_as_the_pasted_call_would():
    module, model = torch_two_branches(), keras_two_branches(keras)
    plan = ktc.align(module, model)

    found = ktc.classic_dictionaries(plan, module, model)
    fresh = keras_two_branches(keras)
    report = ktc.keras_reload_from_torch_model(module, fresh, **found.arguments(), **QUIET)

    assert found.found
    assert found.tail_align_dict == {"shortcut_conv": -4}
    assert report.equal is True
    assert "tail_align_dict={'shortcut_conv': -4}" in str(found)


def test_the_printed_call_can_be_pasted():
    module, model = torch_two_branches(), keras_two_branches(keras)
    printed = str(ktc.classic_dictionaries(ktc.align(module, model), module, model))
    given: dict[str, Any] = {}

    exec(
        printed, {
            "torch_model": module, "keras_model": model,
            "keras_reload_from_torch_model": lambda *models, **arguments: given.update(arguments)
        })
    ktc.keras_reload_from_torch_model(module, model, **given, **QUIET)

    assert largest_difference(module, model) < 1e-5


def mapped(state: dict[str, torch.Tensor], model: Any, mapping: dict[str, Any],
           **keywords: Any) -> Any:
    plan = ktc.align(state, model, mapping=mapping, **keywords)
    return ktc.classic_dictionaries(plan, state, model)


def test_weights_that_a_block_owns_are_unstacked_and_what_has_no_partner_skipped_and_kept():
    inputs = layers.Input((4,))
    x = layers.Dense(4, name="dense")(inputs)
    x = layers.PReLU(name="slope")(x)
    model = keras.Model(inputs, layers.Dense(2, name="own")(x))
    state = {
        "block.gamma": torch.rand(4), "block.index": torch.arange(3),
        "block.weight": torch.rand(4,
                                   4), "block.bias": torch.rand(4), "head.weight": torch.rand(3, 4)
    }

    found = mapped(state, model, {"slope": "block.gamma", "dense": ["block.weight", "block.bias"]},
                   keep_layers=["own"], skip_layers=["head"], skip_weights=["index"])

    assert found.reason == ""
    assert found.unstack_weights == ("gamma",)
    assert found.skip_weights == ("num_batches_tracked", "index")
    assert (found.skip_layers, found.keep_layers) == (("head",), ("own",))
    report = ktc.keras_reload_from_torch_model(state, model, **found.arguments(), **QUIET)
    assert report.complete


def test_leaves_of_composite_layers_are_places_where_whole_layers_cannot_say_it():
    inner = keras.Sequential(
        [layers.Input(
            (5,)), layers.Dense(5, name="b"),
         layers.Dense(5, name="a")], name="inner")
    model = keras.Sequential([layers.Input((5,)), inner, layers.Dense(3, name="last")])
    module = randomized(
        torch.nn.ModuleDict(
            {"a": torch.nn.Linear(5, 5), "b": torch.nn.Linear(5, 5), "last": torch.nn.Linear(5,
                                                                                             3)}))
    state = module.state_dict()

    found = mapped(state, model, {"inner/a": "a", "inner/b": "b", "last": "last"})
    report = ktc.keras_reload_from_torch_model(state, model, **found.arguments(), **QUIET)

    assert found.expand_nested
    assert found.found
    assert dict(report.plan.pairs)["a"].endswith("a")


def test_leaves_with_automatic_names_are_called_after_the_layer_above_them_so_that_blocks_repeat():
    def block(number: int) -> Any:
        inside = [layers.Input((5,)), layers.Dense(5), layers.LayerNormalization(), layers.Dense(5)]
        return keras.Sequential(inside, name=f"block{number}")

    model = keras.Sequential([layers.Input((5,)), *map(block, range(9))])
    state: dict[str, torch.Tensor] = {}
    mapping: dict[str, str] = {}
    for number, one in enumerate(model.layers):
        first, norm, second = one.layers
        for part, layer in (("norm", norm), ("first", first), ("second", second)):
            module = randomized(torch.nn.LayerNorm(5) if part == "norm" else torch.nn.Linear(5, 5))
            state |= {
                f"{number}.{part}.{name}": value for name, value in module.state_dict().items()
            }
            mapping[f"block{number}/{layer.name}"] = f"{number}.{part}"

    found = mapped(state, model, mapping)
    report = ktc.keras_reload_from_torch_model(state, model, **found.arguments(), **QUIET)

    assert found.arguments() == {"tail_align_dict": {"normalization": -1}, "expand_nested": True}
    assert [torch_name for torch_name, _ in report.plan.pairs[:3]
           ] == ["0.norm", "0.first", "0.second"]
    assert report.plan.pairs[3][1].startswith("block1/layer_normalization")


def test_a_fused_layer_is_a_reason():
    inputs = layers.Input((4,))
    model = keras.Model(
        inputs,
        layers.Add()([layers.Dense(4, name="q")(inputs),
                      layers.Dense(4, name="k")(inputs)]))
    state = {"qk.weight": torch.rand(8, 4), "qk.bias": torch.rand(8)}

    found = mapped(state, model, {"q": ktc.split("qk", 0, 2), "k": ktc.split("qk", 1, 2)})

    assert not found.found
    assert (found.reason ==
            "torch layers must be split, which ktc.align(..., mapping=...) says with split(...): "
            "'qk' into q, k")


def test_a_fused_layer_inside_a_composite_one_is_the_reason_too():
    inputs = layers.Input((4,))
    inner_input = layers.Input((4,))
    summed = layers.Add()(
        [layers.Dense(4, name="q")(inner_input),
         layers.Dense(4, name="k")(inner_input)])
    inner = keras.Model(inner_input, layers.Dense(4, name="out")(summed), name="inner")
    model = keras.Model(inputs, inner(inputs))
    state = {"qk.weight": torch.rand(8, 4), "qk.bias": torch.rand(8)}
    state |= {"out.weight": torch.rand(4, 4), "out.bias": torch.rand(4)}
    mapping = {
        "inner/q": ktc.split("qk", 0, 2), "inner/k": ktc.split("qk", 1, 2), "inner/out": "out"
    }

    found = mapped(state, model, mapping)

    assert not found.found
    assert found.reason.endswith("'qk' into q, k")


def test_values_that_only_a_lambda_can_move_are_a_reason():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(4, name="dense")])
    state = {"dense.weight": torch.rand(4, 4), "dense.bias": torch.rand(4)}

    found = mapped(state, model, {"dense": "dense"},
                   additional_transfer={"dense": lambda arrays: [arrays[0].T, arrays[1]]})

    assert not found.found
    assert "dense/kernel" in found.reason
    assert "additional_transfer" in found.reason


def test_an_order_that_repeats_nothing_is_given_as_a_list():
    names = [f"layer{letter}" for letter in "abcdefghijklmnopqrst"]
    order = np.random.default_rng(0).permutation(len(names))
    inputs = x = layers.Input((3,))
    for name in names:
        x = layers.Dense(3, name=name)(x)
    model = keras.Model(inputs, x)
    state = {
        f"m{number}.{part}": torch.rand(shape) for number in order
        for part, shape in (("weight", (3, 3)), ("bias", 3))
    }

    found = mapped(state, model, {name: f"m{number}" for number, name in enumerate(names)})

    assert not found.found
    assert list(found.names) == [names[number] for number in order]
    assert "specific_match_func=lambda names: ['layer" in str(found)
    report = ktc.keras_reload_from_torch_model(state, model, **found.arguments(), **QUIET)
    assert dict(report.plan.pairs)["m3"] == "layerd"
