"""One layer (or a few that belong together) in PyTorch and in Keras, as data, and how the two are
converted and run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from tests.helpers.small_models import randomized

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RuleCase:
    """A case of the rule that the table of rules calls `rule`.

    `torch_layer(nn)` stands under the name "layer" in a module; `keras_model(keras)` takes inputs
    of `shapes` (without batch axis; integers below `tokens` where that is not 0). `forward(layer,
    *inputs)` gives what the Keras model gives, of inputs in Keras's layout. `mapping` names Keras
    and torch layers, `options` are those of `ktc.align(..., mapping=...)`. `loss` is a part of what
    the Plan says when it is not lossless.
    """

    rule: str
    name: str
    torch_layer: Callable[[Any], Any]
    keras_model: Callable[[Any], Any]
    shapes: tuple[tuple[int, ...], ...]
    forward: Callable[..., Any]
    mapping: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
    options: Mapping[str, Any] | None = None
    tokens: int = 0
    loss: str = ""
    # What Keras alone may hold, torch cannot: the way back starts from values that came from torch.
    constrained: bool = False
    # A part of the error when there is no way back at all.
    refused_back: str = ""
    # Variables that no output shows, such as the bias of keys, which softmax takes away.
    unseen: tuple[str, ...] = ()
    keras3_only: bool = False
    channels_first: bool = False

    @property
    def display_name(self) -> str:
        """As it stands in the name of a test."""
        return f"{self.rule}: {self.name}"

    def module(self) -> Any:
        """The torch layer under the name "layer", randomized."""
        from torch import nn

        return randomized(nn.ModuleDict({"layer": self.torch_layer(nn)}))

    def inputs(self) -> list[Array]:
        """Random inputs in Keras's layout."""
        random = np.random.default_rng(1)
        if self.tokens:
            return [random.integers(0, self.tokens, (2, *shape)) for shape in self.shapes]
        return [random.standard_normal((2, *shape)).astype("float32") for shape in self.shapes]

    def plan(self, module: Any, model: Any) -> Any:
        """The Plan by hand."""
        import keras_torch_convert as ktc

        mapping = self.mapping(model) if callable(self.mapping) else self.mapping
        return ktc.align(module, model, mapping=mapping, **(self.options or {}))

    def runnable(self, module: Any) -> Any:
        """The torch layer as a module that can be called as the Keras model is, and the sample for
        both.
        """
        import torch

        case = self

        class Runnable(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = module["layer"]

            def forward(self, *inputs: Any) -> Any:
                return case.forward(self.layer, *inputs)

        inputs = self.inputs()
        tensors = [torch.from_numpy(values) for values in inputs]
        alone = len(inputs) == 1
        return Runnable().eval(), (tensors[0] if alone else tensors, inputs[0] if alone else inputs)

    def run_torch(self, module: Any) -> Array:
        """What the torch layer gives."""
        import torch

        with torch.no_grad():
            return as_array(self.forward(module["layer"], *map(torch.from_numpy, self.inputs())))

    def run_keras(self, model: Any) -> Array:
        """What the Keras model gives."""
        inputs = self.inputs()
        return as_array(model(inputs[0] if len(inputs) == 1 else inputs))

    def difference(self, module: Any, model: Any) -> float:
        """Largest difference of the two outputs as a fraction of torch's largest."""
        return relative_difference(self.run_keras(model), self.run_torch(module))


def as_array(values: Any) -> Array:
    """An output of either side; of several the one after the other."""
    if isinstance(values, (list, tuple)):
        return np.concatenate([as_array(one) for one in values], -1)
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def relative_difference(got: Array, expected: Array) -> float:
    """Largest difference as a fraction of the largest expected value."""
    assert got.shape == expected.shape, (got.shape, expected.shape)
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def misplaced(values: Array) -> Iterator[tuple[str, Array]]:
    """The values with entries along each axis shifted by one, and with axes of one size exchanged,
    as far as that changes them.
    """
    changed = [(f"axis {axis} shifted", np.roll(values, 1, axis))
               for axis, size in enumerate(values.shape) if size > 1]
    changed += [(f"axes {first} and {second} exchanged", values.swapaxes(first, second))
                for first, second in combinations(range(values.ndim), 2)
                if values.shape[first] == values.shape[second] > 1]
    yield from ((how, one) for how, one in changed if not np.array_equal(one, values))


def channels_last(layer: Any, values: Any) -> Any:
    """A layer on maps, channels last outside."""
    return layer(values.movedim(-1, 1)).movedim(1, -1)


def directly(layer: Any, *values: Any) -> Any:
    """A layer whose inputs and outputs are laid out alike on both sides."""
    return layer(*values)


def one_layer(make: Callable[[Any], Any], *shapes: tuple[int, ...]) -> Callable[[Any], Any]:
    """A Keras model of one layer, which `make(keras.layers)` makes under the name "layer"."""
    def model(keras: Any) -> Any:
        inputs = [keras.Input(shape) for shape in shapes]
        return keras.Model(inputs, make(keras.layers)(*inputs))

    return model
