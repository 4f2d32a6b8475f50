"""Refusals of pairs whose layers could not all be aligned: the cause comes first, what follows from
it is counted, and the advice works when it is followed.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.diagnosis import unaligned
from tests.helpers.small_models import randomized


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 6, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.gru(x)[0]


def stacked(reset_after: bool) -> Any:
    return keras.Sequential([
        keras.Input((7, 5)),
        *(keras.layers.GRU(6, return_sequences=True, reset_after=reset_after) for _ in range(2))
    ])


def test_a_gru_that_resets_before_is_refused_with_the_setting_that_makes_it_convert() -> None:
    module = randomized(TwoLayers())
    with pytest.raises(ktc.AlignmentError) as caught:
        ktc.convert(module, stacked(reset_after=False))
    first = str(caught.value).splitlines()[0]
    assert "its reset gate stands before the matrix product" in first
    assert first.endswith("build the Keras layer with reset_after=True")
    assert ktc.convert(module, stacked(reset_after=True)).equal


def chain(units: int, *, narrow: bool = False) -> Any:
    layers = [
        keras.layers.Dense(8, activation="tanh", name=f"dense{number}") for number in range(6)
    ]
    if narrow:
        layers[1] = keras.layers.Dense(units, activation="tanh", name="dense1")
    return keras.Sequential([keras.Input((4,)), *layers])


def test_layers_behind_the_first_open_one_are_counted() -> None:
    sizes = [4, 8, 8, 8, 8, 8, 8]
    module = randomized(
        nn.Sequential(*(layer for number in range(6)
                        for layer in (nn.Linear(sizes[number], sizes[number + 1]), nn.Tanh()))))
    with pytest.raises(ktc.AlignmentError) as caught:
        ktc.convert(module, chain(9, narrow=True))
    said = str(caught.value)
    assert "dense1" in said
    assert "dense4: " not in said
    assert "dense5: " not in said
    assert ktc.convert(module, chain(8)).equal


def test_a_refusal_begins_with_the_cause() -> None:
    module = randomized(
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)))

    def built(use_bias: bool) -> Any:
        return keras.Sequential([
            keras.Input((6,)),
            keras.layers.Dense(8, use_bias=use_bias, name="first"),
            keras.layers.BatchNormalization(epsilon=1e-5, name="norm"),
            keras.layers.Activation("tanh"),
            keras.layers.Dense(3, name="last")
        ])

    with pytest.raises(ktc.AlignmentError) as caught:
        ktc.convert(module, built(use_bias=False))
    first = str(caught.value).splitlines()[0]
    assert first.startswith("Keras layer 'first' (Dense) has no variable for 0.bias")
    assert first.endswith("build it with use_bias=True")
    assert ktc.convert(module, built(use_bias=True)).equal


def test_mean_and_variance_in_each_others_place_are_named_without_a_plan() -> None:
    module = randomized(nn.Sequential(nn.BatchNorm2d(3)))
    norm = module[0]
    with torch.no_grad():
        norm.running_mean[0] = -0.5
    keras_model = keras.Sequential(
        [keras.Input((2, 2, 3)),
         keras.layers.BatchNormalization(epsilon=1e-5)])
    keras_model.layers[0].set_weights([
        np.array(one.detach())
        for one in (norm.weight, norm.bias, norm.running_var, norm.running_mean)
    ])
    found = ktc.verify(module, keras_model).first_divergence
    assert found is not None
    assert found.kind == "swapped weights"
    assert "moving_mean: it holds the values that belong to 'moving_variance'" in str(found)


def test_a_refusal_says_what_is_open_where_the_search_for_the_cause_breaks(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> list[str]:
        raise ValueError("shapes do not fit")

    monkeypatch.setattr(unaligned, "why_open", broken)
    monkeypatch.delenv("KERAS_TORCH_CONVERT_RAISE_INTERNAL_ERRORS", raising=False)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="head")])

    with pytest.raises(ktc.AlignmentError) as caught:
        ktc.convert(torch.nn.Linear(4, 3), model)

    assert "head" in str(caught.value)
    assert "internal error" not in str(caught.value)
    assert "shapes do not fit" not in str(caught.value)


def test_gains_without_a_place_are_named_and_hide_no_layer_behind_them() -> None:
    torch_model = randomized(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, eps=1e-3),
                      nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False),
                      nn.BatchNorm2d(8, eps=1e-3), nn.ReLU(), nn.Conv2d(8, 2, 1)))

    def keras_net(scale: bool) -> Any:
        x = given = keras.Input((12, 12, 3))
        for number in range(2):
            x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
            x = keras.layers.BatchNormalization(scale=scale, name=f"norm{number}")(x)
            x = keras.layers.ReLU()(x)
        return keras.Model(given, keras.layers.Conv2D(2, 1)(x))

    with pytest.raises(ktc.AlignmentError) as error:
        ktc.convert(torch_model, keras_net(False))
    for number, name in ((0, "1"), (1, "4")):
        assert (f"'norm{number}' (BatchNormalization) has no variable for {name}.weight of torch "
                f"layer '{name}' (BatchNorm2d): build it with scale=True") in str(error.value)
    assert "2 torch tensors (1.weight, 4.weight)" in str(error.value)
    assert ktc.convert(torch_model, keras_net(True)).equal
