"""Many layers of one shape on one input: more than are looked at one by one."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import torch

import keras_torch_convert as ktc
from keras_torch_convert.alignment.activations.groups import UnitGroup
from keras_torch_convert.alignment.names import words_of
from keras_torch_convert.running.torch_trace import TracedOp
from tests.helpers.small_models import randomized

BRANCHES = 60


class Wide(torch.nn.Module):
    """Branches that each end in another function, so that no two are alike."""
    def __init__(self) -> None:
        super().__init__()
        self.branches = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(BRANCHES))

    def forward(self, x: Any) -> Any:
        return sum(torch.tanh(layer(x)) * number for number, layer in enumerate(self.branches, 1))


def keras_wide(names: list[str]) -> Any:
    inputs = keras.Input((4,))
    parts = [
        keras.ops.tanh(keras.layers.Dense(4, name=name)(inputs)) * number
        for number, name in enumerate(names, 1)
    ]
    return keras.Model(inputs, keras.layers.Add()(parts))


@pytest.mark.parametrize("name", ["branches_{}", "x{}y"])
def test_a_layer_finds_its_own_among_many_on_one_input(name):
    module, model = randomized(Wide()), keras_wide(
        [name.format(number) for number in range(BRANCHES)])

    report = ktc.convert(module, model)

    assert report.equal is True


def units(count: int) -> list[TracedOp]:
    return [
        TracedOp(order, f"u{order}", (f"branch.{order}.weight",), (), (), False)
        for order in range(count)
    ]


def test_of_many_units_those_with_a_rare_word_in_common_come_first_then_those_that_ran_about_then():
    group = UnitGroup(units(1000))

    found = group.likeliest("branch700_dense", 100, lambda unit: True)

    assert found[0].order == 700
    assert [unit.order for unit in found[1:4]] == [100, 99, 101]
    assert len(found) == 48


def test_units_without_free_weights_are_asked_about_once():
    group = UnitGroup(units(1000))
    asked: list[int] = []

    def is_free(unit: TracedOp) -> bool:
        asked.append(unit.order)
        return not 100 <= unit.order < 600

    for _ in range(3):
        found = group.likeliest("other", 300, is_free)
        assert {unit.order for unit in found} == {*range(76, 100), *range(600, 624)}
    assert len(asked) == 500 + 3 * 48


class Alike(torch.nn.Module):
    """Branches added up, which may stand for each other."""
    def __init__(self) -> None:
        super().__init__()
        self.branch = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)) for _ in range(4))

    def forward(self, x: Any) -> Any:
        return sum(layer(x) for layer in self.branch)


def test_interchangeable_branches_go_by_their_numbers_and_not_by_those_of_automatic_names():
    keras.utils.clear_session()
    keras.layers.Dense(3)
    inputs = keras.Input((4,))
    made = []
    for one in reversed(range(4)):
        inside = [keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(4)]
        made.append(keras.Sequential(inside, name=f"branch_{one}"))
    model = keras.Model(inputs, keras.layers.Add()([branch(inputs) for branch in made]))
    assert [branch.layers[0].name for branch in made
           ] == ["dense_1", "dense_3", "dense_5", "dense_7"]

    plan = ktc.align(randomized(Alike()), model)

    assert {torch_name[:8] for torch_name, keras_name in plan.pairs
           } == {f"branch.{one}" for one in range(4)}
    assert all(torch_name[7] == keras_name[7] for torch_name, keras_name in plan.pairs)


def test_the_number_of_dimensions_is_no_number():
    assert words_of("stage1/depthwise_conv2d") == ("stage", "1", "depthwise", "conv", "2d")
    assert words_of("Conv1D_2") == ("conv", "1d", "2")
