"""Outputs that only one model gives: what both compute is proven, and the rest is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

L = keras.layers


class Net(nn.Module):
    """Gives its logits, or what `gives` makes of the hidden state and the logits."""
    def __init__(self, gives: Any = None, classes: int = 5) -> None:
        super().__init__()
        self.gives = gives
        self.body, self.inner, self.head = nn.Linear(8, 16), nn.Linear(16,
                                                                       12), nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.inner(torch.tanh(self.body(x)))
        return self.head(hidden) if self.gives is None else self.gives(self, hidden)


def trunk() -> tuple[Any, Any]:
    inputs = keras.Input((8,))
    return inputs, L.Dense(12, name="inner")(L.Dense(16, "tanh", name="body")(inputs))


def full(hidden: Any, **options: Any) -> Any:
    return L.Dense(5, name="head", **options)(hidden)


def notes_of(report: Any) -> str:
    return " | ".join(report.notes)


@pytest.mark.parametrize("keys", [("hidden", "logits"), ("logits", "hidden"), None])
def test_a_hidden_state_beside_the_logits_is_proven(keys: Any) -> None:
    inputs, hidden = trunk()
    values = {"hidden": hidden, "logits": full(hidden)}
    outputs = [*values.values()] if keys is None else {key: values[key] for key in keys}
    report = ktc.convert(randomized(Net()), keras.Model(inputs, outputs))
    assert report.equal is True
    assert "computes in 'inner'" in notes_of(report)


def test_a_wrong_hidden_state_is_not() -> None:
    inputs, hidden = trunk()
    outputs = {"hidden": L.Rescaling(1.5)(hidden), "logits": full(hidden)}
    report = ktc.convert(randomized(Net()), keras.Model(inputs, outputs), if_different="keep")
    assert report.equal is not True


def test_outputs_are_paired_by_name_and_what_torch_gives_besides_does_not_count() -> None:
    def gives(net: Any, hidden: torch.Tensor) -> Any:
        return {"past": ((hidden, hidden),), "logits": net.head(hidden), "none": None}

    inputs, hidden = trunk()
    report = ktc.convert(randomized(Net(gives)), keras.Model(inputs, {"logits": full(hidden)}))
    assert report.equal is True
    assert [(one.torch_name, one.keras_name) for one in report.comparison.outputs] == [("logits",
                                                                                        "logits")]


def test_a_single_output_keeps_its_name() -> None:
    inputs, hidden = trunk()
    net = randomized(Net(lambda net, hidden: {"logits": net.head(hidden)}))
    report = ktc.convert(net, keras.Model(inputs, {"scores": full(hidden)}))
    assert report.equal is True
    assert [(one.torch_name, one.keras_name) for one in report.comparison.outputs] == [("logits",
                                                                                        "scores")]


def test_torch_goes_on_with_a_head_and_the_plan_remembers_it(tmp_path: Path) -> None:
    inputs, hidden = trunk()
    model, module = keras.Model(inputs, hidden), randomized(Net())
    report = ktc.convert(module, model, save=tmp_path / "all.weights.h5")
    assert report.equal is True
    assert "torch goes on with head" in notes_of(report)
    left_out = {entry.name: entry.rule for entry in report.ledger if entry.status == "skipped"}
    assert set(left_out) == {"head.weight", "head.bias"}
    assert "outputs that the Keras model does not have" in left_out["head.bias"]
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    again = ktc.apply(report.plan, tmp_path / "weights.pth", tmp_path / "again.weights.h5")
    assert again.ok
    values = [np.array(variable) for variable in model.variables]
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))
    model.load_weights(tmp_path / "again.weights.h5")
    assert all(
        np.array_equal(np.array(variable), value)
        for variable, value in zip(model.variables, values, strict=True))


def test_a_second_head_that_keras_lacks_is_left_out() -> None:
    class Two(Net):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> Any:
            first = torch.tanh(self.body(x))
            return {"other": self.other(first), "logits": self.head(self.inner(first))}

    inputs, hidden = trunk()
    report = ktc.convert(randomized(Two()), keras.Model(inputs, {"logits": full(hidden)}))
    assert report.equal is True
    assert {entry.name for entry in report.ledger if entry.status == "skipped"
           } == {"other.weight", "other.bias"}


def test_a_last_layer_of_the_same_size_that_keras_lacks_is_refused() -> None:
    inputs, hidden = trunk()
    with pytest.raises(ktc.ConversionError, match="head"):
        ktc.convert(randomized(Net(classes=12)), keras.Model(inputs, hidden))


def test_keras_goes_on_with_a_head_that_keeps_its_values() -> None:
    inputs, hidden = trunk()
    model = keras.Model(inputs, full(L.ReLU()(hidden)))
    before = [np.array(variable) for variable in model.get_layer("head").variables]
    module = Net(lambda net, hidden: hidden)
    del module.head
    report = ktc.convert(randomized(module), model)
    assert report.equal is True
    assert "Keras goes on with" in notes_of(report)
    kept = [entry for entry in report.ledger if entry.status == "kept"]
    assert {entry.name for entry in kept} == {"head/kernel", "head/bias"}
    assert all("torch module ends" in entry.rule for entry in kept)
    after = [np.array(variable) for variable in model.get_layer("head").variables]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


class Maps(nn.Module):
    def __init__(self, last: Any) -> None:
        super().__init__()
        self.conv, self.out, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.out(self.conv(x).relu()))
        return result


def maps(*last: Any) -> Any:
    return keras.Sequential(
        [keras.Input((10, 10, 3)),
         L.Conv2D(6, 3, activation="relu"),
         L.Conv2D(4, 1), *last])


@pytest.mark.parametrize(("module", "layers", "named"), [
    (nn.Upsample(scale_factor=2, mode="bilinear"), [], "torch goes on with last"),
    (nn.Identity(), [L.UpSampling2D(2, name="up")], "Keras goes on with up"),
    (nn.Softmax(1), [], "torch goes on with last"),
    (nn.Identity(), [L.Softmax(name="end")], "Keras goes on with end"),
    (nn.Sigmoid(), [], "torch goes on with last"),
    (nn.Identity(), [L.Activation("sigmoid", name="end")], "Keras goes on with end"),
    (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), [], "torch goes on with last"),
    (nn.Identity(), [L.GlobalAveragePooling2D(name="pool")], "Keras goes on with pool"),
])  # yapf: disable
def test_a_step_more_on_one_side_is_named(module: Any, layers: Any, named: str) -> None:
    report = ktc.convert(randomized(Maps(module)), maps(*layers))
    assert report.equal is True
    assert named in notes_of(report)


@pytest.mark.parametrize(("module", "layers"), [(nn.ReLU(), []), (nn.Identity(), [L.ReLU()]),
                                                (nn.Identity(), [L.Rescaling(2.0)])])
def test_another_last_step_makes_another_model(module: Any, layers: Any) -> None:
    report = ktc.convert(randomized(Maps(module)), maps(*layers), if_different="keep")
    assert report.verdict == "different"


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_of_a_dense_layer_are_named(activation: str) -> None:
    inputs, hidden = trunk()
    model = keras.Model(inputs, full(hidden, activation=activation))
    report = ktc.convert(randomized(Net()), model)
    assert report.equal is True
    assert f"the Keras model ends in a {activation}" in notes_of(report)


def test_verify_finds_the_hidden_state_too() -> None:
    inputs, hidden = trunk()
    model = keras.Model(inputs, [hidden, full(hidden)])
    module = randomized(Net())
    plan = ktc.convert(module, model).plan
    found = ktc.verify(module, model, plan=plan)
    assert found.equal is True
    assert found.randomized.equal is True


def test_a_value_that_the_module_itself_rearranges_is_named_too() -> None:
    inputs, hidden = trunk()

    class Rows(Net):
        def forward(self, x: torch.Tensor) -> Any:
            rows = self.inner(torch.tanh(self.body(x))).reshape(-1, 3, 4)
            return self.head(rows.flatten(1))

    report = ktc.convert(randomized(Rows()), keras.Model(inputs, L.Reshape((3, 4))(hidden)))
    assert report.equal is True
    assert "what torch computes on its way, and was compared there" in notes_of(report)
