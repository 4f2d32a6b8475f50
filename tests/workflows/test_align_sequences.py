"""Alignment of nets over sequences, in whichever layout torch takes them, and of cells that torch
calls step by step.
"""

from __future__ import annotations

from typing import Any

import keras
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.running.run import call_torch
from keras_torch_convert.running.torch_layouts import in_its_layout
from tests.helpers.small_models import randomized

layers = keras.layers


class LastOfSequence(nn.Module):
    """A recurrent layer that wants the steps first, given them so or not, and a head on its last
    output.
    """
    def __init__(self, *, turns: bool) -> None:
        super().__init__()
        self.recurrent, self.head, self.turns = nn.LSTM(7, 9), nn.Linear(9, 2), turns

    def forward(self, x: Any) -> Any:
        output, _ = self.recurrent(x.transpose(0, 1) if self.turns else x)
        return self.head(output[-1])


class EncoderAndDecoder(nn.Module):
    """Two recurrent layers, steps first, the second starting where the first ended: with the batch
    first it cannot be run.
    """
    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(30, 8), nn.Embedding(40, 8)
        self.encoder, self.decoder, self.head = nn.GRU(8, 6), nn.GRU(8, 6), nn.Linear(6, 5)

    def forward(self, source: Any, target: Any) -> Any:
        _, state = self.encoder(self.source(source))
        return self.head(self.decoder(self.target(target), state)[0])


class Unrolled(nn.Module):
    """Two cells called step by step; the outputs of the first are never put together."""
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.first, self.second, self.head = kind(5, 6), kind(6, 6), nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        first = second = None
        outputs = []
        for step in range(x.shape[1]):
            first = self.first(x[:, step], first)
            second = self.second(first[0] if isinstance(first, tuple) else first, second)
            outputs.append(second[0] if isinstance(second, tuple) else second)
        return self.head(torch.stack(outputs, 1))


@pytest.mark.parametrize("turns", [False, True])
def test_steps_come_first_where_torch_wants_them(turns: bool) -> None:
    inputs = keras.Input((12, 7))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(9)(inputs)))
    report = ktc.convert(randomized(LastOfSequence(turns=turns)), model)
    assert report.equal is True
    assert any("steps before the batch" in note for note in report.notes) is not turns


def test_steps_come_first_in_a_module_that_cannot_be_run_otherwise() -> None:
    source, target = (keras.Input((steps,), dtype="int32", name=name)
                      for steps, name in ((9, "source"), (7, "target")))
    _, state = layers.GRU(6, return_state=True)(layers.Embedding(30, 8)(source))
    decoded = layers.GRU(6, return_sequences=True)(layers.Embedding(40, 8)(target),
                                                   initial_state=state)
    report = ktc.convert(randomized(EncoderAndDecoder()),
                         keras.Model([source, target],
                                     layers.Dense(5)(decoded)))
    assert report.equal is True


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_cells_that_torch_calls_step_by_step(kind: str) -> None:
    layer = getattr(layers, "SimpleRNN" if kind == "RNN" else kind)
    inputs = keras.Input((4, 5))
    hidden = layer(6, return_sequences=True)(layer(6, return_sequences=True)(inputs))
    module = randomized(Unrolled(getattr(nn, f"{kind}Cell")))
    report = ktc.convert(module, keras.Model(inputs, layers.Dense(2)(hidden)))
    assert report.equal is True
    assert report.complete


def test_looking_for_a_layout_leaves_the_module_as_it_was() -> None:
    module = LastOfSequence(turns=False).train()
    hooks = dict(torch.nn.modules.module._global_forward_pre_hooks)
    state = torch.get_rng_state()
    array = torch.randn(1, 12, 7).numpy()
    torch.set_rng_state(state)
    (turned,), _ = in_its_layout(module, call_torch, [array], [array])
    assert turned.shape == (12, 1, 7)
    assert module.training
    assert module.recurrent.training
    assert torch.nn.modules.module._global_forward_pre_hooks == hooks
    assert torch.equal(torch.get_rng_state(), state)


def test_inputs_that_run_in_no_layout_stay_as_they_are() -> None:
    array = torch.zeros(1, 4, 5).numpy()
    arguments, notes = in_its_layout(nn.Linear(3, 3), call_torch, [array], [array])
    assert arguments[0] is array
    assert notes == []
