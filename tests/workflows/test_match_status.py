"""How much is known of each layer's match: a difference is never called proof."""

import json
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

L, ops = keras.layers, keras.ops
X = np.random.default_rng(5).normal(size=(2, 9, 16)).astype("float32")


def chain(activation):
    """Three layers with an activation behind the first; in torch it is a gelu."""
    module = randomized(
        nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.LayerNorm(24), nn.Linear(24, 16)))
    inputs = keras.Input((9, 16))
    x = L.Dense(24, name="up")(inputs)
    x = L.Activation(activation, name="act")(x)
    x = L.LayerNormalization(epsilon=1e-5, name="norm")(x)
    return module, keras.Model(inputs, L.Dense(16, name="down")(x))


def gelu(x):
    return keras.activations.gelu(x, approximate=False)


def status(module, model, **options):
    report = ktc.convert(module, model, sample=(X, X), if_different="keep", **options)
    assert json.loads(report.to_json())["match_status"] == report.match_status
    return report.match_status, str(report)


def test_equal_models_are_proven_throughout():
    found, text = status(*chain(gelu))

    assert found == dict.fromkeys(("up", "norm", "down"), "proven")
    assert "by name and shape" not in text


def test_behind_a_difference_the_cause_decides():
    found, text = status(*chain("relu"))
    unexplained, _ = status(*chain("relu"), verify=False)

    assert found["up"] == unexplained["up"] == "proven"
    assert {found["norm"], found["down"]} == {"proven given its input"}
    assert {unexplained["norm"], unexplained["down"]} == {"likely"}
    assert "1 proven, 2 proven given its input" in text


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.o = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x):
        scores = self.a(x) @ self.b(x).transpose(1, 2)
        return self.o(scores.softmax(-1) @ torch.tanh(self.c(x)))


class KerasAttention(L.Layer):
    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor
        self.parts = [L.Dense(16) for _ in range(4)]

    def call(self, x):
        a, b, c, o = self.parts
        scores = ops.matmul(a(x), ops.swapaxes(b(x), 1, 2)) * self.factor
        return o(ops.matmul(ops.softmax(scores), ops.tanh(c(x))))


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_which_of_several_is_which_is_not_proven_by_what_differs_behind_them(factor):
    module = randomized(Attention())
    inputs = keras.Input((9, 16))
    model = keras.Model(inputs, KerasAttention(factor)(inputs))

    found, _ = status(module, model, verify=False)

    expected = {"proven"} if factor == 1 else {"likely"}
    assert set(list(found.values())[:3]) == expected


def test_an_unknown_difference_before_a_known_one_is_not_lost() -> None:
    """Torch's value at the known one has the effect of both. TensorFlow cannot run the layer with
    torch's settings: strides and dilation.
    """
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2, padding=2, dilation=2),
                                 torch.nn.ReLU6(), torch.nn.Conv2d(8, 4, 3)).eval()
    model = keras.Sequential([
        keras.Input((16, 16, 3)),
        keras.layers.ZeroPadding2D(1),
        keras.layers.Conv2D(8, 3, strides=2, name="first"),
        keras.layers.ReLU(name="act"),
        keras.layers.Conv2D(4, 3, name="last")
    ])
    sample = 20 * np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype("float32")
    report = ktc.convert(module, model, sample=sample, if_different="keep")
    assert report.comparison is not None
    assert report.comparison.first_divergence is not None
    found = report.comparison.first_divergence.differences
    kinds = {layer: one.kind for one in found for layer in one.keras_layers}
    assert kinds["act"] == "activation"
    if kinds["first"] == "":
        assert report.match_status["last"] == "likely"
