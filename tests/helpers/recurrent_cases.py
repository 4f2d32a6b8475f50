"""Recurrent layers in PyTorch and in Keras, as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.rule_case import RuleCase

UNITS, STEPS = 3, 6


def recurrent_case(rule: str, name: str, torch_module: Callable[[Any], Any],
                   keras_layers: Callable[[Any], list[Any]], *,
                   joined: Callable[[Any], Any] = lambda out: out, mapping: tuple[str,
                                                                                  ...] = ("layer",),
                   features: int = 4, loss: str = "", constrained: bool = False) -> RuleCase:
    """`keras_layers(L)` is called one layer after the other; `joined(out)` is what the torch model
    does with the output of its module.
    """
    def model(keras: Any) -> Any:
        inputs = outputs = keras.Input((STEPS, features))
        for layer in keras_layers(keras.layers):
            outputs = layer(outputs)
        return keras.Model(inputs, outputs)

    return RuleCase(
        rule, name, torch_module, model, ((STEPS, features),), lambda layer, x: joined(layer(x)[0]),
        lambda model: dict(
            zip([layer.name for layer in model.layers if layer.weights], mapping, strict=True)),
        loss=loss, constrained=constrained)


def sequence(layer: Any, **settings: Any) -> Any:
    return layer(UNITS, return_sequences=True, **settings)


def halves_added(out: Any) -> Any:
    return out[..., :UNITS] + out[..., UNITS:]


CASES = [
    recurrent_case("lstm", "lstm", lambda nn: nn.LSTM(4, 3, batch_first=True),
                   lambda L: [sequence(L.LSTM)], loss="biases were added"),
    recurrent_case("lstm", "lstm square", lambda nn: nn.LSTM(3, 3, batch_first=True),
                   lambda L: [sequence(L.LSTM)], features=3, loss="biases were added"),
    recurrent_case("lstm", "lstm without bias",
                   lambda nn: nn.LSTM(4, 3, bias=False, batch_first=True),
                   lambda L: [sequence(L.LSTM, use_bias=False)]),
    recurrent_case("lstm", "lstm without bias into one with",
                   lambda nn: nn.LSTM(4, 3, bias=False, batch_first=True),
                   lambda L: [sequence(L.LSTM)], constrained=True),
    recurrent_case("gru", "gru", lambda nn: nn.GRU(4, 3, batch_first=True),
                   lambda L: [sequence(L.GRU)]),
    recurrent_case("gru", "gru square", lambda nn: nn.GRU(3, 3, batch_first=True),
                   lambda L: [sequence(L.GRU)], features=3),
    recurrent_case("gru", "gru without bias", lambda nn: nn.GRU(4, 3, bias=False, batch_first=True),
                   lambda L: [sequence(L.GRU, use_bias=False)]),
    recurrent_case("gru", "gru without bias into one with",
                   lambda nn: nn.GRU(4, 3, bias=False, batch_first=True),
                   lambda L: [sequence(L.GRU)], constrained=True),
    recurrent_case("simple rnn", "simple rnn", lambda nn: nn.RNN(4, 3, batch_first=True),
                   lambda L: [sequence(L.SimpleRNN)], loss="biases were added"),
    recurrent_case("simple rnn", "simple rnn square, relu",
                   lambda nn: nn.RNN(3, 3, nonlinearity="relu", batch_first=True),
                   lambda L: [sequence(L.SimpleRNN, activation="relu")], features=3,
                   loss="biases were added"),
    recurrent_case("recurrent wrappers", "lstm as a cell in RNN",
                   lambda nn: nn.LSTM(4, 3, batch_first=True),
                   lambda L: [L.RNN(L.LSTMCell(3), return_sequences=True)],
                   loss="biases were added"),
    recurrent_case("recurrent wrappers", "gru as a cell in RNN",
                   lambda nn: nn.GRU(4, 3, batch_first=True),
                   lambda L: [L.RNN(L.GRUCell(3), return_sequences=True)]),
    recurrent_case("lstm", "two lstm layers", lambda nn: nn.LSTM(3, 3, 2, batch_first=True),
                   lambda L: [sequence(L.LSTM), sequence(L.LSTM)], mapping=("layer.l0", "layer.l1"),
                   features=3, loss="biases were added"),
    recurrent_case("gru", "three gru layers", lambda nn: nn.GRU(3, 3, 3, batch_first=True),
                   lambda L: [sequence(L.GRU), sequence(L.GRU),
                              sequence(L.GRU)], mapping=("layer.l0", "layer.l1", "layer.l2"),
                   features=3),
    recurrent_case("recurrent wrappers", "two lstm layers as one RNN of cells",
                   lambda nn: nn.LSTM(4, 3, 2, batch_first=True),
                   lambda L: [L.RNN([L.LSTMCell(3), L.LSTMCell(3)], return_sequences=True)],
                   loss="biases were added"),
    recurrent_case("recurrent wrappers", "bidirectional lstm",
                   lambda nn: nn.LSTM(4, 3, bidirectional=True, batch_first=True),
                   lambda L: [L.Bidirectional(sequence(L.LSTM))], loss="biases were added"),
    recurrent_case("recurrent wrappers", "bidirectional lstm, halves added",
                   lambda nn: nn.LSTM(4, 3, bidirectional=True, batch_first=True),
                   lambda L: [L.Bidirectional(sequence(L.LSTM), merge_mode="sum")],
                   joined=halves_added, loss="biases were added"),
    recurrent_case("recurrent wrappers", "bidirectional gru",
                   lambda nn: nn.GRU(4, 3, bidirectional=True, batch_first=True),
                   lambda L: [L.Bidirectional(sequence(L.GRU))]),
    recurrent_case("recurrent wrappers", "bidirectional simple rnn",
                   lambda nn: nn.RNN(4, 3, bidirectional=True, batch_first=True),
                   lambda L: [L.Bidirectional(sequence(L.SimpleRNN))], loss="biases were added"),
    recurrent_case("recurrent wrappers", "two bidirectional lstm layers",
                   lambda nn: nn.LSTM(6, 3, 2, bidirectional=True, batch_first=True),
                   lambda L: [L.Bidirectional(sequence(L.LSTM)),
                              L.Bidirectional(sequence(L.LSTM))], mapping=("layer.l0", "layer.l1"),
                   features=6, loss="biases were added"),
    recurrent_case("recurrent wrappers", "two bidirectional gru layers",
                   lambda nn: nn.GRU(6, 3, 2, bidirectional=True, batch_first=True),
                   lambda L: [L.Bidirectional(sequence(L.GRU)),
                              L.Bidirectional(sequence(L.GRU))], mapping=("layer.l0", "layer.l1"),
                   features=6),
    recurrent_case("recurrent wrappers", "bidirectional gru, mean of the halves",
                   lambda nn: nn.GRU(4, 3, bidirectional=True, batch_first=True),
                   lambda L: [L.Bidirectional(sequence(L.GRU), merge_mode="ave")],
                   joined=lambda out: halves_added(out) / 2),
    recurrent_case("recurrent wrappers", "bidirectional gru, product of the halves",
                   lambda nn: nn.GRU(4, 3, bidirectional=True, batch_first=True),
                   lambda L: [L.Bidirectional(sequence(L.GRU), merge_mode="mul")],
                   joined=lambda out: out[..., :UNITS] * out[..., UNITS:]),
    recurrent_case("recurrent wrappers", "bidirectional gru, halves apart",
                   lambda nn: nn.GRU(4, 3, bidirectional=True, batch_first=True),
                   lambda L: [L.Bidirectional(sequence(L.GRU), merge_mode=None)],
                   joined=lambda out: out.chunk(2, -1))
]
