"""Recurrent layers are looked at whole: their gates, their functions, and what stands around."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

NAMES = {"table": "table", "norm": "norm", "lstm": "lstm", "gru": "gru", "head": "head"}
TOKENS = np.random.default_rng(0).integers(0, 20, (2, 9)).astype("int32")
SAMPLE = (TOKENS.astype("int64"), TOKENS)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(20, 8), nn.LayerNorm(8)
        self.lstm, self.gru = nn.LSTM(8, 6, batch_first=True), nn.GRU(6, 6, batch_first=True)
        self.head = nn.Linear(6, 12)

    def forward(self, x: Any) -> Any:
        return self.head(self.gru(self.lstm(self.norm(self.table(x)))[0])[0][:, -1])


def keras_recurrent(epsilon: float = 1e-5, gates: str = "sigmoid", function: str = "tanh") -> Any:
    inputs = keras.Input((9,), dtype="int32")
    x = keras.layers.Embedding(20, 8, name="table")(inputs)
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="norm")(x)
    x = keras.layers.LSTM(6, return_sequences=True, recurrent_activation=gates, name="lstm")(x)
    x = keras.layers.GRU(6, activation=function, name="gru")(x)
    return keras.Model(inputs, keras.layers.Dense(12, name="head")(x))


def found_by_convert(keras_model: Any) -> list[tuple[str, tuple[str, ...]]]:
    report = ktc.convert(randomized(Recurrent()), keras_model, sample=SAMPLE, if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    return [] if found is None else [(one.kind, one.keras_layers) for one in found.differences]


def test_a_pair_without_a_fault_has_no_cause() -> None:
    assert not found_by_convert(keras_recurrent())


def test_functions_of_cells_and_a_norm_before_them_are_named_and_nothing_else() -> None:
    found = found_by_convert(keras_recurrent(1e-1, "hard_sigmoid", "relu"))
    assert sorted(found) == [("activation", ("gru",)), ("activation", ("lstm",)),
                             ("epsilon", ("norm",))]


def reordered(layer: str, names: tuple[str, ...], order: list[int], axis: int,
              epsilon: float = 1e-5) -> ktc.FirstDivergence:
    """Return what is found where blocks of weights stand in another order."""
    module, keras_model = randomized(Recurrent()), keras_recurrent(epsilon)
    plan = ktc.align(module, keras_model, mapping=NAMES)
    ktc.convert(module, keras_model, plan=plan, verify=False)
    for variable in keras_model.get_layer(layer).weights:
        if variable.name in names:
            parts = np.split(np.array(variable), len(order), axis)
            variable.assign(np.concatenate([parts[one] for one in order], axis))
    found = ktc.verify(module, keras_model, plan=plan, sample=SAMPLE, randomized=False,
                       inputs=1).first_divergence
    assert found is not None
    return found


@pytest.mark.parametrize(("layer", "names", "order"),
                         [("lstm", ("kernel", "recurrent_kernel", "bias"), [0, 1, 3, 2]),
                          ("lstm", ("kernel",), [1, 0, 2, 3]),
                          ("gru", ("kernel", "recurrent_kernel", "bias"), [1, 0, 2])])
def test_gates_in_another_order_are_named(layer: str, names: tuple[str, ...],
                                          order: list[int]) -> None:
    found = reordered(layer, names, order, -1)
    assert (found.kind, found.keras_layer, found.torch_module) == ("block order", layer, layer)
    assert len(found.differences) == 1, str(found)
    assert all(name in found.cause for name in names)


@pytest.mark.parametrize(("layer", "names", "axis"), [("table", ("embeddings",), 0),
                                                      ("head", ("kernel", "bias"), -1)])
def test_rows_of_tables_and_classes_in_another_order_are_named(layer: str, names: tuple[str, ...],
                                                               axis: int) -> None:
    size = 20 if layer == "table" else 12
    found = reordered(layer, names, list(np.random.default_rng(1).permutation(size)), axis)
    assert (found.kind, found.keras_layer) == ("weights order", layer)
    assert len(found.differences) == 1, str(found)


def test_a_setting_beside_wrong_weights_is_named_too() -> None:
    found = reordered("lstm", ("kernel",), [1, 0, 2, 3], -1, epsilon=1e-1)
    kinds = {(one.kind, one.keras_layers) for one in found.differences}
    assert kinds == {("block order", ("lstm",)), ("epsilon", ("norm",))}, str(found)


@pytest.mark.parametrize("units", [4, 6])
def test_a_projected_state_is_the_first_that_a_refusal_says(units: int) -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 6, batch_first=True, proj_size=4)

        def forward(self, x: Any) -> Any:
            return self.lstm(x)[0]

    inputs = keras.Input((9, 8))
    outputs = keras.layers.LSTM(units, return_sequences=True)(inputs)
    with pytest.raises(ktc.AlignmentError) as refused:
        ktc.convert(randomized(Projected()), keras.Model(inputs, outputs))
    assert str(refused.value).startswith("torch LSTM 'lstm' was built with proj_size=4")
    with torch.no_grad():
        assert Projected()(torch.zeros(1, 9, 8)).shape[-1] == 4


@pytest.mark.parametrize("layer", [keras.layers.LSTM(7), keras.layers.GRU(6)],
                         ids=["another width", "another kind"])
def test_a_cell_that_does_not_fit_is_said_beside_what_torch_has_there(layer: Any) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 4)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    inputs = keras.Input((9, 8))
    model = keras.Model(inputs, keras.layers.Dense(4, name="head")(layer(inputs)))
    with pytest.raises(ktc.AlignmentError, match=r"lstm\.weight_ih_l0 \(24, 8\)") as refused:
        ktc.convert(randomized(One()), model)
    assert "torch never computes" not in str(refused.value)
