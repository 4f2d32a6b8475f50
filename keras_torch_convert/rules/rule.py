"""What a rule is: how PyTorch and Keras lay out the same parameter, as data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import prod
from types import MappingProxyType

from ..plan.expressions import Expression, Permute, Reshape
from ..plan.recipe import Assignment
from ..spec.layer_groups import TorchLayer
from ..spec.target import TargetLayer
from ..spec.tensor_spec import Shape


@dataclass(frozen=True, slots=True)
class AxisPattern:
    """Where the axes of one parameter stand on both sides, by name.

    `AxisPattern("out in height width", "height width in out")` is the kernel of a 2-D convolution.
    On the PyTorch side "(channel multiplier)" is one axis made of two, the first varying slowest,
    and "1" an axis of size 1. On the Keras side every axis is a plain name.
    """

    torch: str
    keras: str

    def __str__(self) -> str:
        """Return both sides: "out in -> in out"."""
        return f"{self.torch} -> {self.keras}"

    def torch_shape(self, keras_shape: Shape) -> Shape | None:
        """Return the shape of the PyTorch tensor for a Keras shape, None for another rank."""
        sizes = self._sizes(keras_shape)
        if sizes is None:
            return None
        return tuple(prod(sizes[axis] for axis in group) for group in _groups(self.torch))

    def expression(self, tensor: Expression, keras_shape: Shape) -> Expression:
        """Return `tensor`, of `torch_shape(keras_shape)`, in the layout of Keras."""
        sizes = self._sizes(keras_shape)
        if sizes is None:
            raise ValueError(
                f"the layout {self.keras!r} does not describe a variable of shape {keras_shape}")
        groups = _groups(self.torch)
        axes = [axis for group in groups for axis in group]
        result = tensor
        if any(len(group) != 1 for group in groups):
            result = Reshape(result, tuple(sizes[axis] for axis in axes))
        perm = tuple(axes.index(axis) for axis in self.keras.split())
        return result if perm == tuple(range(len(perm))) else Permute(result, perm)

    def _sizes(self, keras_shape: Shape) -> dict[str, int] | None:
        axes = self.keras.split()
        return dict(zip(axes, keras_shape, strict=True)) if len(axes) == len(keras_shape) else None


@cache
def _groups(layout: str) -> tuple[tuple[str, ...], ...]:
    """Return the axes of a layout: "(a b) 1 c" gives (("a", "b"), (), ("c",))."""
    words = re.findall(r"\([^)]*\)|\S+", layout)
    return tuple(() if word == "1" else tuple(word.strip("()").split()) for word in words)


# The Assignments of all variables of a Keras layer, from the tensors of its torch layer.
Assigner = Callable[[TorchLayer, TargetLayer], tuple[Assignment, ...]]


@dataclass(frozen=True, slots=True)
class Rule:
    """How the parameters of one kind of layer travel.

    Args:
        name: The name in the table of rules.
        class_names: Keras classes. A layer follows the rule of its nearest base class.
        source: Where the convention is written down.
        axes: The axes of both sides by name of the Keras variable. A variable that is not listed
            moves as it stands, up to axes of size 1 (see `raw_parameter`).
        lossless: True when every value comes back from Keras bit for bit. Otherwise an equal
            function comes back, or none.
        back: What there is to know about the way back.
        assign: Makes the Assignments where a variable is not one tensor with its axes moved.
        for_layer: Makes the rule of a single layer where it depends on the layer's settings.
        unlike_torch: What Keras stores in a layout of its own. Equal shapes say nothing there, so
            that nothing moves as it stands.
    """

    name: str
    class_names: tuple[str, ...]
    source: str
    axes: Mapping[str, AxisPattern] = field(default_factory=lambda: MappingProxyType({}))
    lossless: bool = True
    back: str = "bit for bit"
    assign: Assigner | None = None
    for_layer: Callable[[TargetLayer], Rule] | None = None
    unlike_torch: str = ""


def raw_parameter(tensor: Expression, torch_shape: Shape, keras_shape: Shape) -> Expression | None:
    """Move a parameter without layout: shapes are equal but for axes of size 1, else None.

    Axes of size 1 are free around a vector ((C,), (1, 1, C), (C, 1, 1)); with more than one larger
    axis only leading ones may be added or dropped, since (8, 8, 1, 1) and (1, 1, 8, 8) are a kernel
    in two different layouts.
    """
    if torch_shape == keras_shape:
        return tensor
    larger = [extent for extent in torch_shape if extent != 1]
    if larger != [extent for extent in keras_shape if extent != 1]:
        return None
    if len(larger) <= 1 or _without_leading_ones(torch_shape) == _without_leading_ones(keras_shape):
        return Reshape(tensor, keras_shape)
    return None


def raw_rule(name: str, torch_shape: Shape, keras_shape: Shape) -> str:
    """Return the words for a raw parameter that a rule of this name moved."""
    aside = "" if torch_shape == keras_shape else "axes of size 1 aside, "
    return f"{name}: {aside}moved as it stands"


def _without_leading_ones(shape: Shape) -> Shape:
    first = next((index for index, extent in enumerate(shape) if extent != 1), len(shape))
    return shape[first:]


def order_is_unproven(shape: Shape) -> bool:
    """Return True when two axes larger than 1 are equal: a transposed one has the same shape."""
    larger = [extent for extent in shape if extent > 1]
    return len(set(larger)) < len(larger)
