"""Samples of every kind: what the caller gives is what both models get, and what is drawn beside it
has the same structure.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc

L = keras.layers
RANDOM = np.random.default_rng(0)


def proven(module: nn.Module, model: Any, x: Any = None, k: Any = None, **options: Any) -> Any:
    """Convert, and compare the outputs for `x` and `k` on our own."""
    sample = {} if x is None else {"sample": (x, k)}
    report = ktc.convert(module.eval(), model, **sample, **options)
    assert report.equal is True, report.comparison
    if x is not None and "torch_call" not in options:
        with torch.no_grad():
            wanted = module(*x) if isinstance(x, (list, tuple)) else module(x)
        given = keras.ops.convert_to_numpy(model(k))
        assert np.abs(wanted.numpy() - given).max() < 1e-4
    return report


class Tokens(nn.Module):
    """The last state of the real tokens alone; lengths are counted, or given."""
    def __init__(self, given: bool = False) -> None:
        super().__init__()
        self.given = given
        self.embed, self.rnn = nn.Embedding(20, 6, padding_idx=0), nn.LSTM(6, 5, batch_first=True)
        self.out = nn.Linear(5, 2)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        if not self.given or lengths is None:
            lengths = (ids != 0).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(ids), lengths.cpu(), batch_first=True,
                                                   enforce_sorted=False)
        return self.out(self.rnn(packed)[1][0][-1])


def masked_lstm() -> Any:
    return keras.Sequential([
        keras.Input((9,), dtype="int32"),
        L.Embedding(20, 6, mask_zero=True),
        L.LSTM(5),
        L.Dense(2)
    ])


def padded() -> Any:
    ids = RANDOM.integers(1, 20, (4, 9))
    ids[0, 5:], ids[1, 2:] = 0, 0
    return ids


@pytest.mark.parametrize("with_sample", [False, True])
def test_padded_sentences(with_sample: bool) -> None:
    ids = padded()
    given = (torch.tensor(ids), ids) if with_sample else ()
    proven(Tokens(), masked_lstm(), *given)


def test_lengths_that_are_an_input_stay_those_of_the_rows() -> None:
    ids = padded()
    inputs = [keras.Input((9,), dtype="int32"), keras.Input((), dtype="int32")]
    x = L.LSTM(5)(L.Embedding(20, 6, mask_zero=True)(inputs[0]))
    model = keras.Model(inputs, L.Dense(2)(x))
    lengths = (ids != 0).sum(1)
    proven(Tokens(given=True), model, (torch.tensor(ids), torch.tensor(lengths)),
           [ids, lengths.astype("int32")])


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.a(x).mean(1) + 2 * self.b(y).mean(1)


def two_inputs() -> Any:
    i, j = keras.Input((None, 4), name="p"), keras.Input((None, 5), name="q")
    mean = L.GlobalAveragePooling1D
    return keras.Model([i, j],
                       L.Add()([mean()(L.Dense(3)(i)),
                                L.Rescaling(2.0)(mean()(L.Dense(3)(j)))]))


@pytest.mark.parametrize("kind", [list, tuple])
def test_inputs_of_several_lengths_in_a_list_or_a_tuple(kind: Any) -> None:
    x, y = torch.randn(2, 6, 4), torch.randn(2, 9, 5)
    proven(Two(), two_inputs(), kind((x, y)), [x.numpy(), y.numpy()])


class Called(nn.Module):
    """Takes its inputs in a way that nobody can guess."""
    def __init__(self) -> None:
        super().__init__()
        self.two = Two()

    def forward(self, *, batch: dict[str, torch.Tensor], scale: float) -> torch.Tensor:
        return self.two(batch["y"], batch["x"]) * scale


def as_called(module: Any, inputs: Any) -> torch.Tensor:
    assert all(isinstance(one, torch.Tensor) for one in inputs)
    result: torch.Tensor = module(batch={"y": inputs[0], "x": inputs[1]}, scale=1.0)
    return result


def test_a_call_of_ones_own_gets_tensors_with_arrays_as_sample_and_without_one() -> None:
    proven(Called(), two_inputs(), torch_call=as_called)
    x, y = (RANDOM.normal(size=(2, 6, width)).astype("float32") for width in (4, 5))
    proven(Called(), two_inputs(), (x, y), [x, y], torch_call=as_called)


def test_a_call_of_ones_own_may_take_the_arrays_of_the_sample_as_they_are() -> None:
    def from_arrays(module: Any, inputs: Any) -> torch.Tensor:
        return as_called(module, [torch.from_numpy(one) for one in inputs])

    x, y = (RANDOM.normal(size=(2, 6, width)).astype("float32") for width in (4, 5))
    proven(Called(), two_inputs(), (x, y), [x, y], torch_call=from_arrays)


def test_a_call_of_ones_own_gets_the_one_input_itself() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    model = keras.Sequential(
        [keras.Input((8, 8, 3)),
         L.Conv2D(4, 3),
         L.Permute((3, 1, 2)),
         L.Flatten(),
         L.Dense(5)])
    proven(module, model, torch_call=lambda net, x: net(x))


def test_pixels_that_keras_rescales_inside() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = L.Conv2D(4, 3, activation="relu")(L.Rescaling(1 / 127.5, -1)(inputs))
    model = keras.Model(inputs, L.Dense(5)(L.Flatten()(L.Permute((3, 1, 2))(x))))
    raw = RANDOM.integers(0, 256, (1, 8, 8, 3)).astype("uint8")
    picture = torch.tensor((raw.astype("float32") / 127.5 - 1).transpose(0, 3, 1, 2).copy())
    report = proven(module, model, picture, raw)
    assert len(report.comparison.inputs) == 3


def test_pixels_that_torch_rescales_inside() -> None:
    class Rescaling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shift = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
            return self.conv(x.float() / 255 - shift).mean((2, 3))

    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3), L.GlobalAveragePooling2D()])
    raw = RANDOM.integers(0, 256, (1, 8, 8, 3)).astype("uint8")
    floats = (raw / 255 - [0.1, 0.2, 0.3]).astype("float32")
    proven(Rescaling(), model, torch.tensor(raw).permute(0, 3, 1, 2), floats)


def test_a_picture_that_one_side_resizes_is_compared_alone_and_that_is_said() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = keras.Sequential([
        keras.Input((16, 16, 3)),
        L.AveragePooling2D(2),
        L.Conv2D(4, 3),
        L.GlobalAveragePooling2D()
    ])
    picture = RANDOM.normal(size=(1, 16, 16, 3)).astype("float32")
    small = picture.reshape(1, 8, 2, 8, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    report = proven(module, model, torch.tensor(small.copy()), picture)
    assert any("no others can be drawn" in note for note in report.notes)


def test_boxes_stay_boxes() -> None:
    """Roots of widths: a box turned over gives NaN in both models, which proves nothing."""
    class Boxes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(2, 3)

        def forward(self, boxes: torch.Tensor) -> torch.Tensor:
            return self.line((boxes[..., 2:] - boxes[..., :2]).sqrt())

    inputs = keras.Input((5, 4))
    sides = keras.ops.sqrt(inputs[..., 2:] - inputs[..., :2])
    corners = RANDOM.uniform(0, 1, (2, 5, 4)).astype("float32")
    corners[..., 2:] += corners[..., :2]
    report = proven(Boxes(), keras.Model(inputs, L.Dense(3)(sides)), torch.tensor(corners), corners)
    assert not any("NaN" in note for note in report.notes)


class Steps(nn.Module):
    """A network on each step of a sequence of pictures."""
    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.c, self.n = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.flat, self.out = flat, nn.Linear(144 if flat else 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, steps = x.shape[:2]
        maps = self.n(self.c(x.flatten(0, 1))).relu()
        return self.out(maps.flatten(1) if self.flat else maps.mean((2, 3))).view(batch, steps, -1)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
def test_time_distributed_layers_flattens_and_whole_models(flat: bool, whole: bool,
                                                           sampled: bool) -> None:
    layers = [
        L.Conv2D(4, 3),
        L.BatchNormalization(epsilon=1e-5),
        L.ReLU(),
        L.Flatten() if flat else L.GlobalAveragePooling2D(),
        L.Dense(5)
    ]
    if whole:
        inner = keras.Sequential([keras.Input((8, 8, 2)), *layers])
        model = keras.Sequential([keras.Input((4, 8, 8, 2)), L.TimeDistributed(inner)])
    else:
        model = keras.Sequential([keras.Input((4, 8, 8, 2)), *map(L.TimeDistributed, layers)])
    x = torch.randn(2, 4, 2, 8, 8)
    sample = (x, x.permute(0, 1, 3, 4, 2).numpy()) if sampled else ()
    proven(Steps(flat=flat), model, *sample)
