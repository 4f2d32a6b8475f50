"""What a rule is: how PyTorch and Keras lay out the same parameter, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import prod
from types import MappingProxyType

from ..plan.expressions import Expression, Permute, Reshape, Tensor
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

    def torch_shape(self, keras_shape: Shape) -> Shape | None:
        """Shape that the PyTorch tensor must have for a Keras variable of `keras_shape`, None when
        the rank is not the rule's.
        """
        sizes = self._sizes(keras_shape)
        if sizes is None:
            return None
        return tuple(prod(sizes[axis] for axis in group) for group in _groups(self.torch))

    def expression(self, name: str, keras_shape: Shape) -> Expression:
        """The tensor `name`, which has `torch_shape(keras_shape)`, in the layout of the Keras
        variable.
        """
        sizes = self._sizes(keras_shape)
        if sizes is None:
            raise ValueError(
                f"the layout {self.keras!r} does not describe a variable of shape {keras_shape}")
        groups = _groups(self.torch)
        axes = [axis for group in groups for axis in group]
        result: Expression = Tensor(name)
        if any(len(group) != 1 for group in groups):
            result = Reshape(result, tuple(sizes[axis] for axis in axes))
        perm = tuple(axes.index(axis) for axis in self.keras.split())
        return result if perm == tuple(range(len(perm))) else Permute(result, perm)

    def _sizes(self, keras_shape: Shape) -> dict[str, int] | None:
        axes = self.keras.split()
        return dict(zip(axes, keras_shape, strict=True)) if len(axes) == len(keras_shape) else None


@cache
def _groups(layout: str) -> tuple[tuple[str, ...], ...]:
    """Axes of a layout as tuples of names: "(a b) 1 c" gives (("a", "b"), (), ("c",))."""
    groups: list[list[str]] = []
    inside = False
    for word in layout.split():
        if word == "1":
            groups.append([])
            continue
        if inside:
            groups[-1].append(word.strip("()"))
        else:
            groups.append([word.strip("()")])
        inside = (inside or word.startswith("(")) and not word.endswith(")")
    return tuple(tuple(group) for group in groups)


@dataclass(frozen=True, slots=True)
class Rule:
    """How the parameters of one kind of layer travel.

    `kinds` are names of Keras classes: a layer follows the rule of the nearest class along its
    method resolution order. `movements` are by name of the Keras variable; a variable that is not
    listed is a raw parameter, which moves as it stands up to axes of size 1 (see `raw_parameter`).
    `source` says where the convention is written down. A `lossless` rule carries every value back
    from Keras bit for bit, any other gives an equal function or none; `back` says what there is to
    know of that way.
    """

    name: str
    class_names: tuple[str, ...]
    source: str
    movements: Mapping[str, AxisPattern] = field(default_factory=lambda: MappingProxyType({}))
    lossless: bool = True
    back: str = "bit for bit"


def raw_parameter(name: str, torch_shape: Shape, keras_shape: Shape) -> Expression | None:
    """A parameter without layout: equal shapes, or shapes that differ in axes of size 1 only. None
    when they do not fit.

    Axes of size 1 are free around a vector ((C,), (1, 1, C), (C, 1, 1)); with more than one larger
    axis only leading ones may be added or dropped, since (8, 8, 1, 1) and (1, 1, 8, 8) are a kernel
    in two different layouts.
    """
    if torch_shape == keras_shape:
        return Tensor(name)
    larger = [extent for extent in torch_shape if extent != 1]
    if larger != [extent for extent in keras_shape if extent != 1]:
        return None
    if len(larger) <= 1 or _without_leading_ones(torch_shape) == _without_leading_ones(keras_shape):
        return Reshape(Tensor(name), keras_shape)
    return None


def _without_leading_ones(shape: Shape) -> Shape:
    first = next((index for index, extent in enumerate(shape) if extent != 1), len(shape))
    return shape[first:]


def order_is_unproven(shape: Shape) -> bool:
    """True when two axes larger than 1 are equal, so that a transposed parameter would have the
    same shape.
    """
    larger = [extent for extent in shape if extent > 1]
    return len(set(larger)) < len(larger)
