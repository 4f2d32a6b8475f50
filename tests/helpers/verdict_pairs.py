"""Small pairs and the verdict that each deserves: twins, twins that compute a little differently,
wrong ones, and some about which outputs say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

layers = keras.layers


@dataclass(frozen=True)
class VerdictPair:
    """Both models, before the conversion, which Keras layer is which torch layer, and what the
    classic function must be told for the same pairing.
    """

    torch_model: Callable[[], Any]
    keras_model: Callable[[], Any]
    verdict: str
    cause: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
    classic: Mapping[str, Any] = field(default_factory=dict)


class Net(nn.Module):
    """A norm between two linear layers, then a head."""
    def __init__(self, activation: Any = None, dtype: Any = torch.float32) -> None:
        super().__init__()
        self.fc1, self.norm, self.act = nn.Linear(12, 16), nn.BatchNorm1d(16), nn.GELU()
        self.fc2, self.head = nn.Linear(16, 16), nn.Linear(16, 6)
        self.act = activation or self.act
        randomized(self)
        with torch.no_grad():
            self.norm.running_var.mul_(0.5)
        self.to(dtype)

    def forward(self, x: Any) -> Any:
        return self.head(self.fc2(self.act(self.norm(self.fc1(x)))))


class LeftOn(layers.Dropout):  # type: ignore[misc]
    """Drops in inference too."""
    def call(self, x: Any, training: bool = False) -> Any:
        return super().call(x, training=True)


def keras_net(epsilon: float = 1e-5, activation: Any = "gelu", dtype: Any = None, last: Any = None,
              dropout: bool = False, extra: str = "") -> Any:
    """The same; `last` is applied to the outputs, `dropout` drops in inference too, `extra` gives
    an output besides: a "hidden" value of torch's too, or one that is "other" than all of them.
    """
    inputs = layers.Input((12,))
    x = layers.Dense(16, name="fc1", dtype=dtype)(inputs)
    x = hidden = layers.BatchNormalization(epsilon=epsilon, name="norm", dtype=dtype)(x)
    x = layers.Activation(activation, name="act", dtype=dtype)(x)
    x = LeftOn(0.3)(x) if dropout else x
    x = layers.Dense(16, name="fc2", dtype=dtype)(x)
    x = layers.Dense(6, name="head", dtype=dtype, activation=last)(x)
    besides = {"": [], "hidden": [hidden], "other": [layers.Rescaling(1.5)(hidden)]}[extra]
    return keras.Model(inputs, [x, *besides] if extra else x, name="net")


class Heads(nn.Module):
    """Two outputs of one shape."""
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Linear(12, 8), nn.Linear(8, 5), nn.Linear(8, 5)
        randomized(self)

    def forward(self, x: Any) -> Any:
        x = torch.tanh(self.stem(x))
        return self.one(x), self.two(x)


def keras_heads() -> Any:
    """The same outputs in the other order."""
    inputs = layers.Input((12,))
    x = layers.Dense(8, name="stem", activation="tanh")(inputs)
    one, two = layers.Dense(5, name="one")(x), layers.Dense(5, name="two")(x)
    return keras.Model(inputs, [two, one], name="heads")


class Still(nn.Module):
    """Outputs that hardly move with the input."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 8), nn.Linear(8, 3)
        randomized(self)
        with torch.no_grad():
            self.fc2.weight.mul_(3e-4)
            self.fc2.bias.fill_(1.0)

    def forward(self, x: Any) -> Any:
        return self.fc2(torch.cos(self.fc1(x)))


class SineOfDouble(layers.Layer):  # type: ignore[misc]
    """What no known cause turns into a cosine."""
    def call(self, x: Any) -> Any:
        return keras.ops.sin(2 * x) * x


def keras_still() -> Any:
    """Another operation in the middle."""
    inputs = layers.Input((12,))
    x = SineOfDouble(name="middle")(layers.Dense(8, name="fc1")(inputs))
    return keras.Model(inputs, layers.Dense(3, name="fc2")(x), name="still")


NET = {name: name for name in ("fc1", "norm", "fc2", "head")}
SWAPPED = NET | {"fc2": "square", "square": "fc2"}


class Square(nn.Module):
    """Two layers of one shape."""
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm = nn.Linear(12, 16), nn.BatchNorm1d(16)
        self.fc2, self.square, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 6)
        randomized(self)

    def forward(self, x: Any) -> Any:
        x = torch.tanh(self.fc2(torch.relu(self.norm(self.fc1(x)))))
        return self.head(self.square(x))


def keras_square() -> Any:
    """The same."""
    inputs = layers.Input((12,))
    x = layers.BatchNormalization(epsilon=1e-5, name="norm")(layers.Dense(16, name="fc1")(inputs))
    x = layers.Dense(16, name="fc2", activation="tanh")(layers.ReLU()(x))
    x = layers.Dense(16, name="square")(x)
    return keras.Model(inputs, layers.Dense(6, name="head")(x), name="net")


def gelu_by_tanh(x: Any) -> Any:
    """The approximation."""
    return keras.activations.gelu(x, approximate=True)


def gelu(x: Any) -> Any:
    """The exact one, which is not Keras's default."""
    return keras.activations.gelu(x, approximate=False)


def _bf16() -> Any:
    return Net(dtype=torch.bfloat16)


PAIRS = {
    "twin": VerdictPair(Net, keras_net, "equal"),
    "epsilon": VerdictPair(Net, lambda: keras_net(1e-3), "close", "epsilon is 0.001 in Keras"),
    "epsilon a little larger": VerdictPair(Net, lambda: keras_net(5e-5), "close",
                                           "epsilon is 5e-05 in Keras"),
    "gelu by tanh": VerdictPair(Net, lambda: keras_net(activation=gelu_by_tanh), "close", "gelu"),
    "wrong epsilon": VerdictPair(Net, lambda: keras_net(5e-2), "different",
                                 "epsilon is 0.05 in Keras"),
    "swapped weights": VerdictPair(Square, keras_square, "different", mapping=SWAPPED,
                                   classic={"full_name_align_dict": {"square": -1}}),
    "bf16": VerdictPair(_bf16, keras_net, "equal"),
    "bf16 on both sides": VerdictPair(_bf16, lambda: keras_net(dtype="mixed_bfloat16"), "equal"),
    "bf16, wrong epsilon": VerdictPair(_bf16, lambda: keras_net(5e-2), "different",
                                       "epsilon is 0.05 in Keras"),
    "bf16 on both sides, wrong epsilon": VerdictPair(
        _bf16, lambda: keras_net(5e-2, dtype="mixed_bfloat16"), "different"),
    "still outputs": VerdictPair(Still, keras_still, "undecided",
                                 mapping={"fc1": "fc1", "fc2": "fc2"}),
    "softmax on one side": VerdictPair(Net, lambda: keras_net(last="softmax"), "equal"),
    "hidden value besides": VerdictPair(Net, lambda: keras_net(extra="hidden"), "equal"),
    "extra output": VerdictPair(Net, lambda: keras_net(extra="other"), "undecided"),
    "heads in another order": VerdictPair(Heads, keras_heads, "equal",
                                          mapping={name: name for name in ("stem", "one", "two")}),
    "dropout left on": VerdictPair(Net, lambda: keras_net(dropout=True), "different")
}  # yapf: disable


def torch_model(name: str) -> Any:
    """The torch module of a pair, for the command line."""
    return PAIRS[name].torch_model()


def keras_model(name: str) -> Any:
    """The Keras model of a pair, with values of its own."""
    return PAIRS[name].keras_model()


def plan_of(name: str) -> ktc.Plan:
    """The Plan that pairs the layers of a pair as said."""
    return ktc.align(torch_model(name), keras_model(name), mapping=PAIRS[name].mapping or NET)


def converted_keras_model(name: str) -> Any:
    """The Keras model with torch's weights, nothing compared."""
    model = keras_model(name)
    ktc.convert(torch_model(name), model, plan=plan_of(name), verify=False)
    return model
