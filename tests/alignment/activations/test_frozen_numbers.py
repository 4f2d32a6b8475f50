"""Numbers of a formula that torch holds as a weight which is never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

BINS, SIDES = 8, 4


class Distances(nn.Module):
    """A detector's head: for each side of a box a distribution over distances, then its mean."""
    def __init__(self, *, is_trained: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.bins = nn.Conv2d(16, SIDES * BINS, 1)
        self.mean = nn.Conv2d(BINS, 1, 1, bias=False).requires_grad_(is_trained)
        self.mean.weight.data[:] = torch.arange(BINS).reshape(1, BINS, 1, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        bins = self.bins(self.norm(self.stem(x)).relu()).flatten(2)
        by_side = bins.reshape(len(x), SIDES, BINS, -1).transpose(1, 2).softmax(1)
        return self.mean(by_side).squeeze(1), bins


def keras_model(*, mean: bool) -> keras.Model:
    """The same up to the mean, which is computed with no weight, or up to the bins."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5)(x))
    x = layers.Conv2D(SIDES * BINS, 1)(x)
    if not mean:
        return keras.Model(inputs, layers.Reshape((144, SIDES * BINS))(x))
    bins = layers.Softmax()(layers.Reshape((144, SIDES, BINS))(x))
    return keras.Model(inputs, ops.sum(bins * ops.arange(BINS, dtype="float32"), axis=-1))


def skipped(report: Any) -> dict[str, str]:
    return {entry.name: entry.rule for entry in report.ledger if entry.status == "skipped"}


@pytest.mark.parametrize("mean", [True, False])
def test_a_keras_model_computes_with_the_numbers_themselves_or_ends_before(mean: bool) -> None:
    report = ktc.convert(randomized_but_numbers(), keras_model(mean=mean))
    assert report.equal
    words = "never trained" if mean else "feeds only outputs that the Keras model does not have"
    assert words in skipped(report)["mean.weight"]


def test_another_checkpoint_must_have_the_same_numbers(tmp_path: Path) -> None:
    module = randomized_but_numbers()
    report = ktc.convert(module, keras_model(mean=True))
    assert report.plan is not None
    report.plan.save(tmp_path / "plan.json")
    plan = ktc.Plan.load(tmp_path / "plan.json")
    torch.save(module.state_dict(), tmp_path / "same.pth")
    assert ktc.apply(plan, tmp_path / "same.pth", tmp_path / "same.weights.h5").ok
    module.mean.weight.data[0, 3] = 9
    torch.save(module.state_dict(), tmp_path / "other.pth")
    with pytest.raises(ktc.TransferError, match=r"only when every value is 3, 1 of 1 are not"):
        ktc.apply(plan, tmp_path / "other.pth", tmp_path / "other.weights.h5")
    with pytest.raises(ktc.PlanError, match="one by one, which no family has"):
        plan.generalize()


def test_a_weight_that_is_trained_is_none_of_them() -> None:
    with pytest.raises(ktc.AlignmentError, match=r"mean\.weight has no counterpart"):
        ktc.convert(Distances(is_trained=True).eval(), keras_model(mean=True))


def test_other_numbers_than_those_of_keras_differ() -> None:
    module = randomized_but_numbers()
    module.mean.weight.data[0, 3] = 9
    with pytest.raises(ktc.ConversionError):
        ktc.convert(module, keras_model(mean=True))


def randomized_but_numbers() -> Distances:
    module = randomized(Distances())
    module.mean.weight.data[:] = torch.arange(BINS).reshape(1, BINS, 1, 1)
    return module
