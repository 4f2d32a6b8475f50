"""A head for other classes keeps its own values: what is left is compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import keras_torch_convert as ktc


class Net(nn.Module):
    """A network with a head for some classes."""
    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Any) -> Any:
        return self.fc(torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3)))


def keras_net(classes: int, epsilon: float = 1e-5) -> Any:
    import keras
    from keras import layers

    return keras.Sequential([
        keras.Input((9, 9, 3)), layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(epsilon=epsilon, name="norm"), layers.ReLU(name="relu"),
        layers.GlobalAveragePooling2D(name="pool"), layers.Dense(classes, name="head")
    ], name="net")  # yapf: disable


@pytest.mark.parametrize("classes", [5, 7])
def test_the_classic_function_compares_what_goes_into_the_head(classes: int) -> None:
    report = ktc.keras_reload_from_torch_model(Net(5), keras_net(classes), skip_layers=["fc"],
                                               keep_layers=["head"], verbose=0, save_name="")

    assert report.verdict == "equal"
    assert any("'head' keeps its own values: compared is what goes into it, and into 'fc'" in note
               for note in report.notes)
    assert report.torch_top == ()


def test_a_plan_without_its_head_is_verified_too() -> None:
    plan = ktc.align(Net(5), keras_net(5)).without("head")

    assert ktc.convert(Net(5), keras_net(7), plan=plan).verdict == "equal"


def test_what_is_left_is_still_refused_when_it_differs() -> None:
    plan = ktc.align(Net(5), keras_net(5)).without("head")

    with pytest.raises(ktc.NotEqualError) as caught:
        ktc.convert(Net(5), keras_net(7, epsilon=0.5), plan=plan)

    assert "epsilon is 0.5 in Keras" in str(caught.value)
