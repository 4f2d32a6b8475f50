"""Alignment by running where one side holds in one tensor what the other holds in several, or more
than weights.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import keras_torch_convert as ktc
from keras_torch_convert.alignment.activations.candidates import layer_mappings
from keras_torch_convert.alignment.activations.integers import without_integers
from keras_torch_convert.keras_io.model import read_target
from tests.helpers.split_pairs import (WIDTH, fused_by_heads_pair, fused_by_key_heads_pair,
                                       gated_pair, groups_pair, maps_of_vectors_pair,
                                       shared_block_pair, tokens_pair, unequal_blocks_pair)


def kernel_of(model: Any, name: str) -> Any:
    return keras.ops.convert_to_numpy(model.get_layer(name).kernel)


@pytest.mark.parametrize("names", [("query", "key", "value"), *permutations(
    ("one", "two", "three"))][:4])
def test_parts_beside_each_other_in_each_head_are_found_without_a_shape_that_shows_the_heads(
        names: tuple[str, str, str]) -> None:
    module, model = fused_by_heads_pair(names)
    report = ktc.convert(module, model)
    assert report.equal is True
    weight = module.query_key_value.weight.detach().numpy().reshape(2, 3, 4, 8)
    for part, name in enumerate(names):
        assert np.array_equal(kernel_of(model, name), weight[:, part].reshape(8, 8).T)


def test_blocks_of_unequal_height_are_told_apart() -> None:
    module, model = unequal_blocks_pair()
    assert ktc.convert(module, model).equal is True
    weight = module.qkv.weight.detach().numpy()
    assert np.array_equal(kernel_of(model, "key"), weight[12:16].T)


@pytest.mark.parametrize("shows_heads", [True, False])
def test_queries_that_share_a_key_lie_beside_it_in_each_group(shows_heads: bool) -> None:
    module, model = fused_by_key_heads_pair(shows_heads=shows_heads)
    report = ktc.convert(module, model)
    assert report.equal is True
    assert set(report.match_status.values()) == {"proven"}
    rows = module.query_key_value.weight.detach().numpy().reshape(2, 6, 4, WIDTH)
    assert np.array_equal(
        kernel_of(model, "query").reshape(WIDTH, 32).T, rows[:, :4].reshape(32, WIDTH))
    assert np.array_equal(
        kernel_of(model, "value").reshape(WIDTH, 8).T, rows[:, 5].reshape(8, WIDTH))


@pytest.mark.parametrize("groups", [2, 3, 32])
def test_each_group_of_a_convolution_may_be_a_layer(groups: int) -> None:
    module, model = groups_pair(groups)
    report = ktc.convert(module, model)
    assert report.equal is True
    weight = module.conv.weight.detach().numpy().transpose(2, 3, 1, 0)
    for number in range(groups):
        assert np.array_equal(kernel_of(model, f"of_{groups - number}"),
                              weight[..., 4 * number:4 * number + 4])


def test_a_layer_may_hold_a_copy_that_is_never_trained_and_whole_numbers(tmp_path: Path) -> None:
    module, model = tokens_pair()
    report = ktc.convert(module, model)
    assert report.equal is True
    assert report.complete
    layer = model.get_layer("tokens")
    assert np.array_equal(keras.ops.convert_to_numpy(layer.position_ids), [[0, 1, 2, 3, 4, 5]])
    positions = module.position_embeddings.detach().numpy()
    assert np.array_equal(keras.ops.convert_to_numpy(layer.positions), positions)
    assert np.array_equal(keras.ops.convert_to_numpy(layer.first_positions), positions)
    assert np.array_equal(keras.ops.convert_to_numpy(layer.mask_token),
                          module.mask_token.detach().numpy())
    # The numbers stand in no checkpoint: the Plan brings them.
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    report.plan.save(tmp_path / "plan.json")
    ktc.apply(ktc.Plan.load(tmp_path / "plan.json"), tmp_path / "weights.pth",
              tmp_path / "replayed.weights.h5")
    _, fresh = tokens_pair()
    fresh.load_weights(tmp_path / "replayed.weights.h5")
    for one, other in zip(model.get_weights(), fresh.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_a_plan_with_a_copy_goes_back_to_torch(tmp_path: Path) -> None:
    module, model = tokens_pair()
    plan = ktc.convert(module, model).plan
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for tensor in module.state_dict().values():
        tensor.zero_()
    ktc.convert(model, module, plan=plan.invert(), verify=False)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("trained", [False, True])
def test_only_a_variable_that_is_never_trained_may_be_a_copy(trained: bool) -> None:
    module, model = tokens_pair(trained)
    layer = next(leaf for leaf in read_target(model).leaves() if leaf.display_name == "tokens")
    shapes = {
        name: tuple(tensor.shape) for name, tensor in module.named_parameters() if "." not in name
    }
    found = list(layer_mappings(tuple(shapes), shapes, without_integers(layer), ()))
    assert bool(found) is not trained


def test_a_module_used_under_several_names_keeps_its_weights() -> None:
    module, model = shared_block_pair()
    held = {
        name: (tensor, tensor.clone()) for name, tensor in module.state_dict(keep_vars=True).items()
    }
    report = ktc.convert(module, model)
    assert report.equal is True
    for name, tensor in module.state_dict(keep_vars=True).items():
        assert tensor is held[name][0], name
        assert torch.equal(tensor, held[name][1]), name


def test_one_layer_may_hold_both_parts_of_a_tensor() -> None:
    module, model = gated_pair()
    assert ktc.convert(module, model).equal is True
    up = keras.ops.convert_to_numpy(model.get_layer("gated").up)
    assert np.array_equal(up, module.gate_up.weight.detach().numpy()[6:].T)


def test_vectors_turned_in_vain_cost_one_call_each() -> None:
    calls = 0

    def counted(model: Any, inputs: Any) -> Any:
        nonlocal calls
        calls += 1
        return model(inputs)

    plan = ktc.align(*maps_of_vectors_pair(4), keras_call=counted)
    assert any("'convolve_0' gives something else" in one.doubt for one in plan.assignments)
    assert calls < 60
