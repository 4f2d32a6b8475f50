"""Two models compared on several inputs, with outputs of any structure, and with random values
where norms are the identity.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import (keras_two_branches, randomized, same_values,
                                        torch_two_branches, values)

layers = keras.layers


@pytest.fixture(scope="module")
def converted() -> tuple[Any, Any, ktc.Plan]:
    torch_module, keras_model = torch_two_branches(), keras_two_branches(keras)
    plan = ktc.convert(torch_module, keras_model).plan
    assert plan is not None
    return torch_module, keras_model, plan


def test_equal_models_are_equal_on_every_input(converted: Any) -> None:
    torch_module, keras_model, plan = converted
    before = values(keras_model)

    result = ktc.verify(torch_module, keras_model, plan=plan)

    assert result.equal is True
    assert result.first_divergence is None
    assert len(result.inputs) == 3
    assert result.relative_diff is not None
    assert result.relative_diff < result.rounding < result.tolerance == 1e-3
    assert "float32" in result.rounding_from
    assert result.cosine == pytest.approx(1)
    assert result.top5_agree is True
    assert result.randomized is not None
    assert result.randomized.equal is True
    assert same_values(before, values(keras_model))
    assert str(result).splitlines()[-1].startswith("outputs are equal")


def test_models_with_other_weights_differ(converted: Any) -> None:
    _, keras_model, _ = converted

    result = ktc.verify(randomized(torch_two_branches(), seed=1), keras_model, diagnose=False)

    assert result.equal is False
    assert result.randomized is None
    assert "OUTPUTS DIFFER" in str(result)


def test_a_comparison_is_plain_data(converted: Any) -> None:
    torch_module, keras_model, plan = converted
    data = ktc.verify(torch_module, keras_model, plan=plan).to_dict()
    assert data["equal"] is True
    assert data["outputs"][0]["keras_shape"] == (1, 10)
    assert data["randomized"]["equal"] is True


class Heads(nn.Module):
    """A map and scores, as a tuple or a dict, in an order of its own."""
    def __init__(self, as_dict: bool) -> None:
        super().__init__()
        self.as_dict = as_dict
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        features = self.conv(x)
        scores = self.fc(features.mean((2, 3)))
        return {"scores": scores, "map": features} if self.as_dict else (scores, None, features)


def keras_heads(order: tuple[str, ...], as_dict: bool = False) -> Any:
    inputs = layers.Input((4, 4, 3))
    features = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    scores = layers.Dense(4, name="fc")(layers.GlobalAveragePooling2D()(features))
    both = {"map": features, "scores": scores}
    return keras.Model(inputs, both if as_dict else [both[name] for name in order])


@pytest.mark.parametrize("as_dict", [True, False])
def test_outputs_find_each_other_by_name_or_by_value_and_in_any_layout(as_dict: bool) -> None:
    torch_module, keras_model = randomized(Heads(as_dict)), keras_heads(("map", "scores"), as_dict)
    ktc.convert(torch_module, keras_model)

    result = ktc.verify(torch_module, keras_model)

    assert result.equal is True
    by_name = {output.keras_name: output for output in result.outputs}
    assert by_name["map" if as_dict else "0"].layout == (0, 2, 3, 1)
    assert by_name["scores" if as_dict else "1"].torch_name == ("scores" if as_dict else "0")
    assert as_dict or any("paired by their values" in note for note in result.notes)


class TwoNorms(nn.Module):
    """Two norms that are the identity as long as nothing was trained."""
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)

    def forward(self, x: Any) -> Any:
        return self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))


def keras_two_norms() -> Any:
    inputs = layers.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5,
                                                name="norm1")(layers.Conv2D(6, 3,
                                                                            name="conv1")(inputs)))
    return keras.Model(
        inputs,
        layers.BatchNormalization(epsilon=1e-5, name="norm2")(layers.Conv2D(6, 3, name="conv2")(x)))


def two_norms(first: str, second: str) -> tuple[Any, Any, ktc.Plan]:
    """Converted by hand, the norms as said."""
    torch_module, keras_model = TwoNorms().eval(), keras_two_norms()
    mapping = {"conv1": "conv1", "norm1": first, "conv2": "conv2", "norm2": second}
    plan = ktc.align(torch_module, keras_model, mapping=mapping)
    ktc.convert(torch_module, keras_model, plan=plan, verify=False)
    return torch_module, keras_model, plan


def test_swapped_norms_pass_without_random_values_and_fail_with() -> None:
    torch_module, keras_model, plan = two_norms("norm2", "norm1")
    before = values(keras_model), {
        name: tensor.clone() for name, tensor in torch_module.state_dict().items()
    }

    without = ktc.verify(torch_module, keras_model, plan=plan, randomized=False)
    result = ktc.verify(torch_module, keras_model, plan=plan)

    assert without.equal is True
    assert result.equal is False
    assert result.randomized is not None
    assert result.randomized.equal is False
    assert "each other's place" in result.reason
    assert same_values(before[0], values(keras_model))
    assert all(
        torch.equal(before[1][name], tensor) for name, tensor in torch_module.state_dict().items())


def test_norms_in_their_places_pass_with_random_values_too() -> None:
    assert ktc.verify(*two_norms("norm1", "norm2")[:2], plan=two_norms("norm1",
                                                                       "norm2")[2]).equal is True


class Sum(nn.Module):
    """Two layers whose outputs are added: which is which cannot be told."""
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.head(torch.tanh(self.one(x) + self.two(x)))


def test_a_swap_that_no_output_shows_is_reported() -> None:
    inputs = layers.Input((6,))
    added = layers.Add()([layers.Dense(6, name="one")(inputs), layers.Dense(6, name="two")(inputs)])
    keras_model = keras.Model(inputs,
                              layers.Dense(3, name="head")(layers.Activation("tanh")(added)))
    torch_module = randomized(Sum())
    plan = ktc.align(torch_module, keras_model,
                     mapping={name: name for name in ("one", "two", "head")})
    ktc.convert(torch_module, keras_model, plan=plan)

    result = ktc.verify(torch_module, keras_model, plan=plan)

    assert result.equal is True
    assert result.unnoticed_swaps == (("one", "two"),)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_happens_both_models_are_as_before(error: type[BaseException]) -> None:
    torch_module, keras_model, plan = two_norms("norm1", "norm2")
    before = values(keras_model), {
        name: tensor.clone() for name, tensor in torch_module.state_dict().items()
    }
    calls = []

    def failing(model: Any, inputs: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:  # the first pass with random values
            raise error("stop")
        return model(inputs, training=False)

    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else ktc.PredictionError):
        ktc.verify(torch_module, keras_model, plan=plan, keras_call=failing)
    assert len(calls) == 4
    assert same_values(before[0], values(keras_model))
    assert all(
        torch.equal(before[1][name], tensor) for name, tensor in torch_module.state_dict().items())


def test_momentum_is_told_though_no_output_shows_it() -> None:
    torch_module, keras_model, plan = two_norms("norm1", "norm2")
    torch_module.norm1.momentum = 0.05
    result = ktc.verify(torch_module, keras_model, plan=plan)
    assert result.equal is True
    assert any(
        "momentum of 'norm1'" in sentence and "0.95" in sentence for sentence in result.settings)


def test_dropout_rates_are_compared_in_their_order() -> None:
    def keras_model(*rates: float) -> Any:
        inputs = x = layers.Input((6,))
        for number, rate in enumerate(rates):
            x = layers.Dropout(rate, name=f"drop{number}")(x)
        return keras.Model(inputs, layers.Dense(3, name="fc")(x))

    torch_module = nn.Sequential(nn.Dropout(0.1), nn.Dropout(0.0), nn.Dropout(0.3),
                                 nn.Linear(6, 3)).eval()
    for rates, said in (
        ((0.1, 0.3), ()),
        ((0.1, 0.2),
         ("rate of 'drop1' is 0.2, p of torch layer '2' is 0.3: this shows in training only",)),
        ((0.1,),
         (("dropout: torch drops at 2 places (0 0.1, 2 0.3), Keras at 1 (drop0 0.1): this shows in "
           "training only"),))):
        model = keras_model(*rates)
        plan = ktc.align(torch_module, model, mapping={"fc": "3"})
        ktc.convert(torch_module, model, plan=plan)
        assert ktc.verify(torch_module, model, plan=plan).settings == said


def test_a_random_proof_without_a_plan_and_weights_without_a_module_are_refused(
        converted: Any) -> None:
    torch_module, keras_model, _ = converted
    with pytest.raises(ValueError, match="needs plan="):
        ktc.verify(torch_module, keras_model, randomized=True)
    with pytest.raises(ktc.PredictionError, match="only weights"):
        ktc.verify(torch_module.state_dict(), keras_model)


def test_the_range_of_the_sample_is_kept(converted: Any) -> None:
    torch_module, keras_model, _ = converted
    seen = []

    def call(model: Any, inputs: Any) -> Any:
        seen.append(np.asarray(inputs))
        return model(inputs, training=False)

    sample = np.random.default_rng(0).uniform(3, 5, (1, 16, 16, 3)).astype("float32")
    ktc.verify(torch_module, keras_model, sample=sample, keras_call=call, inputs=4)
    assert len(seen) == 4
    assert all(array.min() >= 2.99 and array.max() <= 5.01 for array in seen)
    assert len({array.tobytes() for array in seen}) == 4


class Cosine(nn.Module):
    """An operation that Keras has nowhere in the pair."""
    def forward(self, x: Any) -> Any:
        return torch.cos(x)


class SineOfDouble(layers.Layer):  # type: ignore[misc]
    """One that torch has nowhere, and that no known cause turns into the other."""
    def call(self, x: Any) -> Any:
        return keras.ops.sin(2 * x) * x


def small_outputs(torch_middle: Any, keras_middle: Any) -> tuple[Any, Any, ktc.Plan]:
    """A pair whose outputs hardly move with the input, so that they decide nothing."""
    torch_module = randomized(nn.Sequential(nn.Linear(6, 8), torch_middle, nn.Linear(8, 3)))
    with torch.no_grad():
        torch_module[2].weight *= 3e-4
        torch_module[2].bias.fill_(1.0)
    first, last = layers.Dense(8, name="0"), layers.Dense(3, name="2")
    keras_model = keras.Sequential([layers.Input((6,)), first, keras_middle, last])
    labels = ("0", "1", "2") if keras_middle.weights else ("0", "2")
    plan = ktc.align(torch_module, keras_model, mapping={label: label for label in labels})
    ktc.convert(torch_module, keras_model, plan=plan, verify=False)
    return torch_module, keras_model, plan


def test_outputs_that_cannot_decide_are_decided_by_a_proven_cause() -> None:
    torch_module, keras_model, plan = small_outputs(
        nn.LayerNorm(8), layers.LayerNormalization(epsilon=0.5, name="1"))
    assert ktc.verify(torch_module, keras_model, plan=plan, diagnose=False).equal is None

    result = ktc.verify(torch_module, keras_model, plan=plan)

    assert result.first_divergence is not None
    assert result.first_divergence.kind == "epsilon"
    assert result.equal is False
    assert "the models are not equal" in result.reason
    before = [array + 0 for array in values(keras_model)]
    with pytest.raises(ktc.NotEqualError, match=r"epsilon is 0\.5 in Keras"):
        ktc.convert(torch_module, keras_model, plan=plan)
    assert same_values(before, values(keras_model))


def test_outputs_that_cannot_decide_stay_undecided_without_a_cause() -> None:
    torch_module, keras_model, plan = small_outputs(Cosine(), SineOfDouble(name="1"))
    result = ktc.verify(torch_module, keras_model, plan=plan)
    assert result.first_divergence is not None
    assert not result.first_divergence.kind
    assert result.equal is None
