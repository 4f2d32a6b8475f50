"""Eight pairs of models, built alike with either Keras, and what a process does with them: make
files, or load them.

    python tests/helpers/replay_pairs.py make FOLDER
    python tests/helpers/replay_pairs.py load FOLDER OTHER

The first converts every pair live, saves its Plan, and lets Keras and `apply` write their files.
The second loads in this fresh process what `apply` wrote, also from the other Keras's folder.
KTC_KERAS names the Keras to use. The last line printed is JSON: what was compared, by pair.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import keras_torch_convert as ktc
from keras_torch_convert.plan.plan import Plan
from tests.helpers.small_models import (TWO_BRANCHES_ALIGNED, keras_two_branches, randomized,
                                        torch_two_branches)

SUFFIXES = (".h5", ".weights.h5", ".keras")


class InvertedResidual(nn.Module):
    """A block of MobileNetV2, padded as Keras pads."""
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        if expansion > 1:
            self.expand, self.expand_bn = nn.Conv2d(inputs, hidden, 1,
                                                    bias=False), nn.BatchNorm2d(hidden, 1e-3)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 0, groups=hidden, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(hidden, 1e-3)
        self.project, self.project_bn = nn.Conv2d(hidden, outputs, 1,
                                                  bias=False), nn.BatchNorm2d(outputs, 1e-3)
        self.stride, self.expands = stride, expansion > 1
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Any) -> Any:
        y = functional.relu6(self.expand_bn(self.expand(x))) if self.expands else x
        y = functional.pad(y, (1, 1, 1, 1) if self.stride == 1 else (0, 1, 0, 1))
        y = functional.relu6(self.depthwise_bn(self.depthwise(y)))
        y = self.project_bn(self.project(y))
        return x + y if self.adds else y


class MobileNet(nn.Module):
    """MobileNetV2 of width 0.35 for pictures of 32 x 32, as keras.applications has it."""

    BLOCKS = ((1, 8, 1, 1), (6, 8, 2, 2), (6, 16, 3, 2), (6, 24, 4, 2), (6, 32, 3, 1),
              (6, 56, 3, 2), (6, 112, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(3, 16, 3, 2, bias=False), nn.BatchNorm2d(16, 1e-3)
        blocks, width = [], 16
        for expansion, outputs, count, stride in self.BLOCKS:
            for number in range(count):
                blocks.append(
                    InvertedResidual(width, outputs, stride if number == 0 else 1, expansion))
                width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last, self.last_bn = nn.Conv2d(width, 1280, 1, bias=False), nn.BatchNorm2d(1280, 1e-3)
        self.head = nn.Linear(1280, 10)

    def forward(self, x: Any) -> Any:
        x = functional.relu6(self.stem_bn(self.stem(functional.pad(x, (0, 1, 0, 1)))))
        x = functional.relu6(self.last_bn(self.last(self.blocks(x))))
        return self.head(x.mean((2, 3)))


def mobile_net(keras: Any) -> Any:
    return keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=10,
                                          classifier_activation=None)


class Encoder(nn.Module):
    """Tokens through one attention block, its projections fused."""
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8, 1e-3)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, tokens: Any) -> Any:
        x = self.tokens(tokens)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return x + self.down(torch.relu(self.up(x)))


def encoder(keras: Any) -> Any:
    layers = keras.layers
    tokens = layers.Input((6,), dtype="int32")
    x = layers.Embedding(11, 8, name="tokens")(tokens)
    attended = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.LayerNormalization(epsilon=1e-3, name="norm")(layers.Add()([x, attended]))
    y = layers.Dense(8, name="down")(layers.Dense(12, "relu", name="up")(x))
    return keras.Model(tokens, layers.Add()([x, y]), name="encoder")


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(8, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.gru(self.both(x)[0])[0])


def recurrent(keras: Any) -> Any:
    layers = keras.layers
    inputs = layers.Input((7, 5))
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both")(inputs)
    x = layers.GRU(6, return_sequences=True, reset_after=True, name="gru")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x), name="recurrent")


def nested_in_torch() -> Any:
    inner = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, 1e-3), nn.ReLU(),
                          nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, 1e-3))
    return nn.Sequential(inner, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def nested(keras: Any) -> Any:
    """A model in a model; its conversion finds one of its norms frozen, which changes the order in
    which the legacy format lists its weights.
    """
    layers = keras.layers
    inner = keras.Sequential([
        layers.Input((9, 9, 3)),
        layers.Conv2D(8, 3, name="first"),
        layers.BatchNormalization(name="first_bn"),
        layers.ReLU(),
        layers.Conv2D(8, 1, name="second"),
        layers.BatchNormalization(name="second_bn")
    ], name="body")
    inputs = layers.Input((9, 9, 3))
    x = layers.GlobalAveragePooling2D()(inner(inputs))
    return keras.Model(inputs, layers.Dense(4, name="head")(x), name="nested")


def flattened_in_torch() -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.PReLU(4), nn.Flatten(), nn.Linear(4 * 4 * 6, 7))


def flattened(keras: Any) -> Any:
    layers = keras.layers
    inputs = layers.Input((5, 7, 3))
    x = layers.PReLU(shared_axes=[1, 2], name="slope")(layers.Conv2D(4, 2, name="conv")(inputs))
    return keras.Model(inputs, layers.Dense(7, name="head")(layers.Flatten()(x)), name="flattened")


def decoder_in_torch() -> Any:
    from torch.nn.utils.parametrizations import weight_norm

    return nn.Sequential(weight_norm(nn.Conv2d(3, 6, 3, padding=1)), nn.ConvTranspose2d(6, 4, 2, 2),
                         nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
                         nn.Conv2d(4, 5, 1))


def decoder(keras: Any) -> Any:
    """Computed weights, a transposed convolution, and a separable one that stands for two."""
    layers = keras.layers
    inputs = layers.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, padding="same", name="normed")(inputs)
    x = layers.ReLU()(layers.Conv2DTranspose(4, 2, 2, name="up")(x))
    return keras.Model(inputs,
                       layers.SeparableConv2D(5, 3, padding="same", name="separable")(x),
                       name="decoder")


class TwoHeads(nn.Module):
    """Two inputs through one shared layer, two outputs."""
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6, 1e-3)
        self.one, self.two = nn.Linear(12, 2), nn.Linear(12, 3, bias=False)

    def forward(self, a: Any, b: Any) -> Any:
        x = torch.cat([self.norm(self.shared(a)), self.shared(b)], 1)
        return self.one(x), self.two(x)


def two_heads(keras: Any) -> Any:
    layers = keras.layers
    a, b = layers.Input((4,)), layers.Input((4,))
    shared = layers.Dense(6, name="shared")
    x = layers.Concatenate()([layers.BatchNormalization(name="norm")(shared(a)), shared(b)])
    heads = [layers.Dense(2, name="one")(x), layers.Dense(3, use_bias=False, name="two")(x)]
    return keras.Model([a, b], heads, name="two_heads")


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "classic": (torch_two_branches, keras_two_branches), "mobile_net": (MobileNet, mobile_net),
    "encoder": (Encoder, encoder), "recurrent": (Recurrent, recurrent),
    "nested": (nested_in_torch, nested), "flattened": (flattened_in_torch, flattened), "decoder":
        (decoder_in_torch, decoder), "two_heads": (TwoHeads, two_heads)
}

# What is aligned by hand; all others find their own way.
MAPPINGS: dict[str, dict[str, Any]] = {
    "recurrent": {"both": "both", "gru": "gru", "head": "head"},
    "decoder": {"normed": "0", "up": "1", "separable": ["3", "4"]}
}


def arrays_of(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    import h5py

    from keras_torch_convert.keras_io.weights_file import open_weights

    found: dict[str, np.ndarray[Any, Any]] = {}
    with open_weights(path) as opened:
        opened.file.visititems(lambda name, item: found.update({name: item[()]})
                               if isinstance(item, h5py.Dataset) else None)
    return found


def make(keras: Any, folder: Path, name: str) -> list[str]:
    """Convert a pair live, and write what it gives once by Keras and once by `apply`, from the
    checkpoint and the saved Plan.
    """
    folder.mkdir(parents=True)
    build_torch, build_keras = PAIRS[name]
    module, model = randomized(build_torch()), build_keras(keras)
    if name == "nested":
        model.get_layer("body").get_layer("first_bn").trainable = False
    if name == "classic":
        report = ktc.keras_reload_from_torch_model(module, model,
                                                   tail_align_dict=TWO_BRANCHES_ALIGNED,
                                                   save_name="", verbose=0)
    else:
        mapping = MAPPINGS.get(name)
        plan = None if mapping is None else ktc.align(module, model, mapping=mapping)
        report = ktc.convert(module, model, plan=plan)
    # With random weights the output of a deep net may hardly move, which leaves the question open.
    assert report.verdict in ("equal", "close") or name == "mobile_net", (name, report.summary())
    report.plan.save(folder / "x.plan.json")
    torch.save(module.state_dict(), folder / "model.pth")
    done = []
    for suffix in SUFFIXES:
        live, applied = folder / f"live{suffix}", folder / f"applied{suffix}"
        (model.save_weights if suffix == ".weights.h5" else model.save)(str(live))
        ktc.apply(Plan.load(folder / "x.plan.json"), folder / "model.pth", applied)
        expected, found = arrays_of(live), arrays_of(applied)
        assert expected.keys() == found.keys(), (name, suffix)
        for key, values in expected.items():
            if "seed_generator" not in key:
                np.testing.assert_array_equal(found[key], values, err_msg=f"{name} {suffix} {key}")
        done.append(f"{suffix}: {len(found)} arrays")
    # In the order of the model as it is built.
    for layer in model._flatten_layers():
        layer.trainable = True
    np.savez(folder / "expected.npz", *model.get_weights())
    return done


def load(keras: Any, folder: Path, other: Path, name: str) -> list[str]:
    """Load what `apply` wrote in every way that there is, also the legacy file that stands for the
    other Keras.
    """
    expected = list(np.load(folder / "expected.npz").values())
    theirs = list(np.load(other / "expected.npz").values())
    build = PAIRS[name][1]

    def check(model: Any, wanted: list[Any], way: str) -> str:
        for layer in model._flatten_layers():
            layer.trainable = True
        found = model.get_weights()
        assert len(found) == len(wanted), (name, way)
        for number, (first, second) in enumerate(zip(wanted, found, strict=True)):
            np.testing.assert_array_equal(first, second, err_msg=f"{name}, {way}, array {number}")
        return way

    def loaded(path: Path, **options: Any) -> Any:
        model = build(keras)
        # A load that does nothing must not pass for one that gave what was there.
        model.set_weights([np.full_like(array, 7) for array in model.get_weights()])
        model.load_weights(str(path), **options)
        return model

    by_name = {"by_name": True, "skip_mismatch": True}
    return [
        check(keras.models.load_model(str(folder / "applied.h5"), compile=False), expected,
              "load_model .h5"),
        check(keras.models.load_model(str(folder / "applied.keras"), compile=False), expected,
              "load_model .keras"),
        check(loaded(folder / "applied.weights.h5"), expected, "load_weights .weights.h5"),
        check(loaded(folder / "applied.h5"), expected, "load_weights .h5"),
        check(loaded(folder / "applied.h5", **by_name), expected, "by_name .h5"),
        check(loaded(other / "applied.h5"), theirs, "load_weights .h5 of the other Keras"),
        check(loaded(other / "applied.h5", **by_name), theirs, "by_name .h5 of the other Keras")
    ]


def main(arguments: list[str]) -> None:
    keras = importlib.import_module(os.environ["KTC_KERAS"])
    action, folder = arguments[0], Path(arguments[1])
    if action == "make":
        answer = {name: make(keras, folder / name, name) for name in PAIRS}
    else:
        answer = {
            name: load(keras, folder / name,
                       Path(arguments[2]) / name, name) for name in PAIRS
        }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
