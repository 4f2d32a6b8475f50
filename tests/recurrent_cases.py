"""Recurrent layers in PyTorch and in Keras, as data, and what their outputs are on random sequences.

Run as a script, `python tests/recurrent_cases.py tf_keras` (or `keras`), it converts and runs every case and prints the relative differences as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from small_models import randomised

FEATURES, UNITS, STEPS = 4, 3, 6


@dataclass(frozen=True)
class RecurrentCase:
    """`keras_layers(L)` is called one layer after the other; `joined(out)` is what the torch model does with the output of its module."""

    name: str
    torch_module: Callable[[Any], Any]
    keras_layers: Callable[[Any], list[Any]]
    joined: Callable[[Any], Any] = lambda out: out
    mapping: tuple[str | tuple[str, ...], ...] = ()


def sequence(layer: Any, **settings: Any) -> Any:
    return layer(UNITS, return_sequences=True, **settings)


def halves_added(out: Any) -> Any:
    return out[..., :UNITS] + out[..., UNITS:]


CASES = [
    RecurrentCase("lstm", lambda nn: nn.LSTM(4, 3, batch_first=True), lambda L: [sequence(L.LSTM)]),
    RecurrentCase("lstm square", lambda nn: nn.LSTM(3, 3, batch_first=True), lambda L: [sequence(L.LSTM)]),
    RecurrentCase("lstm without bias", lambda nn: nn.LSTM(4, 3, bias=False, batch_first=True), lambda L: [sequence(L.LSTM, use_bias=False)]),
    RecurrentCase("lstm without bias into one with", lambda nn: nn.LSTM(4, 3, bias=False, batch_first=True), lambda L: [sequence(L.LSTM)]),
    RecurrentCase("gru", lambda nn: nn.GRU(4, 3, batch_first=True), lambda L: [sequence(L.GRU)]),
    RecurrentCase("gru square", lambda nn: nn.GRU(3, 3, batch_first=True), lambda L: [sequence(L.GRU)]),
    RecurrentCase("gru without bias", lambda nn: nn.GRU(4, 3, bias=False, batch_first=True), lambda L: [sequence(L.GRU, use_bias=False)]),
    RecurrentCase("gru without bias into one with", lambda nn: nn.GRU(4, 3, bias=False, batch_first=True), lambda L: [sequence(L.GRU)]),
    RecurrentCase("simple rnn", lambda nn: nn.RNN(4, 3, batch_first=True), lambda L: [sequence(L.SimpleRNN)]),
    RecurrentCase("simple rnn square, relu", lambda nn: nn.RNN(3, 3, nonlinearity="relu", batch_first=True), lambda L: [sequence(L.SimpleRNN, activation="relu")]),
    RecurrentCase("lstm as a cell in RNN", lambda nn: nn.LSTM(4, 3, batch_first=True), lambda L: [L.RNN(L.LSTMCell(3), return_sequences=True)]),
    RecurrentCase("gru as a cell in RNN", lambda nn: nn.GRU(4, 3, batch_first=True), lambda L: [L.RNN(L.GRUCell(3), return_sequences=True)]),
    RecurrentCase("two lstm layers", lambda nn: nn.LSTM(3, 3, 2, batch_first=True), lambda L: [sequence(L.LSTM), sequence(L.LSTM)], mapping=("layer.l0", "layer.l1")),
    RecurrentCase("three gru layers", lambda nn: nn.GRU(3, 3, 3, batch_first=True), lambda L: [sequence(L.GRU), sequence(L.GRU), sequence(L.GRU)], mapping=("layer.l0", "layer.l1", "layer.l2")),
    RecurrentCase("two lstm layers as one RNN of cells", lambda nn: nn.LSTM(4, 3, 2, batch_first=True), lambda L: [L.RNN([L.LSTMCell(3), L.LSTMCell(3)], return_sequences=True)]),
    RecurrentCase("bidirectional lstm", lambda nn: nn.LSTM(4, 3, bidirectional=True, batch_first=True), lambda L: [L.Bidirectional(sequence(L.LSTM))]),
    RecurrentCase("bidirectional lstm, halves added", lambda nn: nn.LSTM(4, 3, bidirectional=True, batch_first=True), lambda L: [L.Bidirectional(sequence(L.LSTM), merge_mode="sum")], joined=halves_added),
    RecurrentCase("bidirectional gru", lambda nn: nn.GRU(4, 3, bidirectional=True, batch_first=True), lambda L: [L.Bidirectional(sequence(L.GRU))]),
    RecurrentCase("bidirectional simple rnn", lambda nn: nn.RNN(4, 3, bidirectional=True, batch_first=True), lambda L: [L.Bidirectional(sequence(L.SimpleRNN))]),
    RecurrentCase("two bidirectional lstm layers", lambda nn: nn.LSTM(6, 3, 2, bidirectional=True, batch_first=True), lambda L: [L.Bidirectional(sequence(L.LSTM)), L.Bidirectional(sequence(L.LSTM))], mapping=("layer.l0", "layer.l1")),
    RecurrentCase("two bidirectional gru layers", lambda nn: nn.GRU(6, 3, 2, bidirectional=True, batch_first=True), lambda L: [L.Bidirectional(sequence(L.GRU)), L.Bidirectional(sequence(L.GRU))], mapping=("layer.l0", "layer.l1")),
]  # fmt: skip


def randomised_module(case: RecurrentCase) -> Any:
    """The torch module of a case under the name "layer", with random weights and biases."""
    from torch import nn

    return randomised(nn.ModuleDict({"layer": case.torch_module(nn)}))


def keras_model(keras: Any, case: RecurrentCase, features: int) -> Any:
    """The case's Keras layers, one after the other."""
    inputs = outputs = keras.Input((STEPS, features))
    for layer in case.keras_layers(keras.layers):
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def run_keras(model: Any, values: Any) -> Any:
    output = model(values)
    return output.detach().cpu().numpy() if hasattr(output, "detach") else np.asarray(output)


def relative_difference(module: Any, model: Any, case: RecurrentCase) -> float:
    """Largest difference of the two outputs on random sequences, as a fraction of torch's largest output."""
    import torch

    values = np.random.default_rng(1).standard_normal((2, STEPS, module["layer"].input_size)).astype("float32")
    with torch.no_grad():
        expected = case.joined(module["layer"](torch.from_numpy(values))[0]).numpy()
    got = run_keras(model, values)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def converted(keras: Any, case: RecurrentCase, module: Any, *, by_hand: bool) -> Any:
    """The Keras model with the module's weights, aligned by order or by a mapping."""
    import keras_torch_convert as ktc
    from keras_torch_convert.plan import Plan

    model = keras_model(keras, case, module["layer"].input_size)
    if by_hand:
        names = [layer.name for layer in model.layers if layer.weights]
        mapping = dict(zip(names, case.mapping or ("layer",), strict=True))
        ktc.convert(module, model, plan=Plan.from_mapping(module, model, mapping), verify=False)
    else:
        ktc.keras_reload_from_torch_model(module, model, save_name="", do_predict=False, verbose=0)
    return model


def main(framework: str) -> None:
    import importlib

    keras = importlib.import_module(framework)
    differences = {}
    for case in CASES:
        for by_hand in (False, True):
            module = randomised_module(case)
            model = converted(keras, case, module, by_hand=by_hand)
            differences[f"{case.name}, by {'hand' if by_hand else 'order'}"] = relative_difference(module, model, case)
    print(json.dumps(differences))


if __name__ == "__main__":
    main(sys.argv[1])
