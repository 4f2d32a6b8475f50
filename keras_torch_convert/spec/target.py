"""What is read on the Keras side: layers in order and the variables they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .tensor_spec import TensorSpec


@dataclass(frozen=True, slots=True, eq=False)
class TargetVariable:
    """One variable of a Keras model.

    `key` identifies it: where it stands in the tree of layers, unique within the model and the
    same in every instance built by the same code (neither Keras's paths nor automatic layer names
    are). `display_name` is for people ("stem_conv/kernel"). `name` is the variable's own name
    ("kernel", "gamma", "moving_mean").
    """

    key: str
    display_name: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    variable: Any = field(repr=False)

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def spec(self) -> TensorSpec:
        """What a Plan remembers of it."""
        return TensorSpec(self.shape, self.dtype, self.display_name)


@dataclass(frozen=True, slots=True, eq=False)
class TargetLayer:
    """One layer that holds variables.

    `class_names` are those along the method resolution order, the layer's own class first
    ("WSConv2D", "Conv2D", "BaseConv", "Layer"): a rule asks for the kind it knows. `variables` are
    all weights in the order of Keras's own `layer.get_weights()`, those of sublayers included.
    `children` are the leaf layers below it, in order, empty when the layer owns all its variables
    itself. `depth` is 0 for a top-level layer. `settings` are the hyperparameters that decide how
    weights are laid out or used (groups, depth_multiplier, data_format, axis, epsilon, ...), as far
    as the layer has them.
    """

    name: str
    display_name: str
    class_names: tuple[str, ...]
    variables: tuple[TargetVariable, ...]
    children: tuple[TargetLayer, ...]
    depth: int
    settings: Mapping[str, Any]
    layer: Any = field(repr=False)

    @property
    def class_name(self) -> str:
        """Name of the layer's own class."""
        return self.class_names[0]

    @property
    def auto_name(self) -> str | None:
        """A name that Keras made up without its number, which grows with every layer of a session:
        "conv2d" of "conv2d_7". None for a given name.
        """
        base = re.sub(r"_\d+$", "", self.name)
        return base if base.replace("_", "") == self.class_name.lower() else None

    @property
    def base_name(self) -> str:
        """The display name without the number of an automatic name, to compare with torch names."""
        automatic = self.auto_name
        return self.display_name if automatic is None else self.display_name.removesuffix(
            self.name) + automatic


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A Keras model as a list of layers with weights.

    `layers` are the top-level layers that hold at least one variable, in `model.layers` order,
    `inner` the layers made of others that lie inside of them (attention in a block). `framework` is
    "keras" (Keras 3, with `backend` "torch", "tensorflow" or "jax") or "tf_keras" (Keras 2). A
    torch module may be the target too: `framework` and `backend` are "torch" then, and `aliases`
    gives for every further name of a tied tensor the key that counts. `adapters` are the variables
    that Keras's enable_lora added: nothing is paired with them, and they keep their values.
    """

    model: Any = field(repr=False)
    name: str
    framework: Literal["keras", "tf_keras", "torch"]
    backend: str
    layers: tuple[TargetLayer, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    inner: tuple[TargetLayer, ...] = ()
    adapters: tuple[TargetVariable, ...] = ()

    @property
    def description(self) -> str:
        """What kind of model it is, for messages."""
        return "the torch module" if self.framework == "torch" else "the Keras model"

    def leaves(self) -> Iterator[TargetLayer]:
        """Yield every layer that owns variables itself, depth first, in order."""
        for layer in self.layers:
            yield from layer.children or (layer,)

    @property
    def variables(self) -> dict[str, TargetVariable]:
        """All variables by key, each once even when several layers share it."""
        return {variable.key: variable for layer in self.layers for variable in layer.variables}
