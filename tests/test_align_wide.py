"""Many layers of one shape on one input: more than are looked at one by one."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import torch
from small_models import randomised

import keras_torch_convert as ktc

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
    parts = [keras.ops.tanh(keras.layers.Dense(4, name=name)(inputs)) * number for number, name in enumerate(names, 1)]
    return keras.Model(inputs, keras.layers.Add()(parts))


@pytest.mark.parametrize("name", ["branches_{}", "x{}y"])
def test_a_layer_finds_its_own_among_many_on_one_input(name):
    module, model = randomised(Wide()), keras_wide([name.format(number) for number in range(BRANCHES)])

    report = ktc.convert(module, model)

    assert report.equal is True
