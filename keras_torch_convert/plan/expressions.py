"""Expressions: how the values of one variable come from the tensors of the source, as a small tree.

`Tensor`, `Permute`, `Reshape`, `Slice`, `Concat`, `SliceScatter` and `Overlay` only move data:
nested in any way they compile to strided copies straight into the result, one for each region.
`Fill` is a constant. `Add`, `Multiply`, `Scale`, `WeightNorm`, `Norm`, `SpectralNormWeight`,
`SingularVector`, `WeightStandardization` and `Resampled` compute, in float32 or in the operands'
wider type; what they give can be moved again. `Unrepeated`, `Unstandardized` and `StdDev` stand in
inverted Plans only. `CallbackOutput` is opaque: one of the arrays that a user's callbacks returned
for a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard, Union, get_args


@dataclass(frozen=True, slots=True)
class Tensor:
    """A source tensor as it stands in the source."""

    name: str


@dataclass(frozen=True, slots=True)
class Permute:
    """The operand with its axes reordered: result axis i is operand axis `perm[i]`, as in
    numpy.transpose.
    """

    operand: Expression
    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reshape:
    """The operand in another shape, in C order: exact splits and merges of axes, or axes of size 1
    added or dropped.
    """

    operand: Expression
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """Entries `start` to `stop` (exclusive, both counted from 0 upwards) of one axis of the
    operand; the axis stays.
    """

    operand: Expression
    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Concat:
    """The operands one after the other along an axis that all have, as in numpy.concatenate; all
    other axes are equal.
    """

    operands: tuple[Expression, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class SliceScatter:
    """The inverse of a slice: the operand as the entries from `start` on of an axis of `extent`
    entries. The others have no values: see Merge.
    """

    operand: Expression
    axis: int
    start: int
    extent: int


@dataclass(frozen=True, slots=True)
class Overlay:
    """Operands of one shape that each have values for some entries: together one for every entry,
    none twice.
    """

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Fill:
    """One value everywhere: what has no counterpart on the other side, such as the bias of a layer
    built without.
    """

    value: float
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of operands of one shape: the two biases of a torch LSTM gate, which Keras keeps as
    one.
    """

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Multiply:
    """The product of operands of one rank; axes of size 1 are repeated, as NumPy does it (a gain
    for each output channel).
    """

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """The operand times a number."""

    operand: Expression
    factor: float


@dataclass(frozen=True, slots=True)
class WeightNorm:
    """torch.nn.utils.weight_norm: magnitude * direction / |direction|, the norm over all axes but
    `axis` (None: over all).

    `magnitude` has the direction's rank with size 1 in every axis but `axis`, or no more than one
    axis larger than 1; it counts along `axis`.
    """

    direction: Expression
    magnitude: Expression
    axis: int | None


@dataclass(frozen=True, slots=True)
class Norm:
    """The Euclidean norm of the operand over all axes but `axis`, which are kept with size 1; None:
    over all, a scalar of shape ().
    """

    operand: Expression
    axis: int | None


@dataclass(frozen=True, slots=True)
class SpectralNormWeight:
    """torch.nn.utils.spectral_norm in evaluation: weight / (left . M right), M the weight as a
    matrix with axis `axis` as its rows.

    `left` (rows,) and `right` (columns,) are the buffers in which torch keeps its estimates of the
    singular vectors.
    """

    weight: Expression
    left: Expression
    right: Expression
    axis: int = 0


@dataclass(frozen=True, slots=True)
class SingularVector:
    """Leading "left" or "right" singular vector of the operand as a matrix with axis `axis` as its
    rows.

    The left one is divided by the singular value, so that `SpectralNormWeight` of the operand and
    its two vectors is the operand.
    """

    operand: Expression
    side: str
    axis: int = 0


@dataclass(frozen=True, slots=True)
class WeightStandardization:
    """Weight standardization: (weight - mean) / sqrt(variance + epsilon), both over all axes but
    `axis`, the variance without Bessel's correction.
    """

    weight: Expression
    axis: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Resampled:
    """A table (..., prefix + rows * columns of `grid`, channels) for `new_grid`: the rows after
    `prefix` resized "bicubic" or "bilinear".
    """

    operand: Expression
    prefix: int
    grid: tuple[int, int]
    new_grid: tuple[int, int]
    mode: str


@dataclass(frozen=True, slots=True)
class Unrepeated:
    """The inverse of a repetition: the operand with one entry along the axes where `shape` has size
    1. Along these all of its values must be equal.
    """

    operand: Expression
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unstandardized:
    """A weight that `WeightStandardization` makes the operand of, when `gained` up to a factor for
    each entry of `axis`, which a `StdDev` restores.

    Only what has mean 0 over all axes but `axis`, and without gain variance 1, is a standardized
    weight.
    """

    operand: Expression
    axis: int
    epsilon: float
    gained: bool


@dataclass(frozen=True, slots=True)
class StdDev:
    """sqrt(variance + epsilon) of the operand over all axes but `axis`, which are kept with size 1.
    """

    operand: Expression
    axis: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class UserCall:
    """One entry of `additional_transfer`: the key as the user gave it (in words) and the function.
    """

    key: str
    function: Callable[[list[Any]], list[Any]] = field(compare=False)


@dataclass(frozen=True, slots=True)
class LayerCallback:
    """The user's calls on one layer, chained in dictionary order: the first gets the operands as a
    list of fresh arrays.
    """

    layer: str
    operands: tuple[Expression, ...]
    calls: tuple[UserCall, ...]
    count: int


@dataclass(frozen=True, slots=True)
class CallbackOutput:
    """Array number `index` of the `callback.count` arrays that the last call must return."""

    callback: LayerCallback
    index: int


Movement = Union[Permute, Reshape, Slice, Concat, SliceScatter, Overlay]
Computation = Union[Add, Multiply, Scale, WeightNorm, Norm, SpectralNormWeight, SingularVector,
                    WeightStandardization, Resampled, Unrepeated, Unstandardized, StdDev]
Expression = Union[Tensor, Movement, Computation, Fill, CallbackOutput]

_COMPUTATIONS = get_args(Computation)


def is_computation(expression: Expression) -> TypeGuard[Computation]:
    """True for a node that makes new values of its operands'."""
    return isinstance(expression, _COMPUTATIONS)


def operands_of(
        expression: Expression) -> tuple[Expression, ...]:  # # one branch for each kind of node
    """The expressions that an expression is made of, () for Tensor and Fill; for a callback's
    output what the callback gets.
    """
    match expression:
        case (Permute()
              | Reshape()
              | Slice()
              | SliceScatter()
              | Scale()
              | Norm()
              | SingularVector()
              | Resampled()
              | Unrepeated()
              | Unstandardized()
              | StdDev()):
            return (expression.operand,)
        case Concat() | Overlay() | Add() | Multiply():
            return expression.operands
        case WeightNorm():
            return expression.direction, expression.magnitude
        case SpectralNormWeight():
            return expression.weight, expression.left, expression.right
        case WeightStandardization():
            return (expression.weight,)
        case CallbackOutput():
            return expression.callback.operands
        case Tensor() | Fill():
            return ()


def tensors_of(expression: Expression) -> tuple[str, ...]:
    """Names of the source tensors that an expression reads, in order of first use."""
    if isinstance(expression, Tensor):
        return (expression.name,)
    operands = operands_of(expression)
    if len(operands) == 1:  # nearly always, and asked often
        return tensors_of(operands[0])
    return tuple(dict.fromkeys(name for operand in operands for name in tensors_of(operand)))


def with_operands(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The expression with each of its operands replaced by what `change` makes of it; a callback's
    output stays as it is.
    """
    match expression:
        case (Permute()
              | Reshape()
              | Slice()
              | SliceScatter()
              | Scale()
              | Norm()
              | SingularVector()
              | Resampled()
              | Unrepeated()
              | Unstandardized()
              | StdDev()):
            return replace(expression, operand=change(expression.operand))
        case Concat() | Overlay() | Add() | Multiply():
            return replace(expression, operands=tuple(map(change, expression.operands)))
        case WeightNorm():
            return replace(expression, direction=change(expression.direction),
                           magnitude=change(expression.magnitude))
        case SpectralNormWeight():
            weight, left, right = (change(operand) for operand in operands_of(expression))
            return replace(expression, weight=weight, left=left, right=right)
        case WeightStandardization():
            return replace(expression, weight=change(expression.weight))
        case _:
            return expression


def needs_callback(expression: Expression) -> bool:
    """True when some part of the expression is what a user's callback returns."""
    return isinstance(expression, CallbackOutput) or any(
        needs_callback(operand) for operand in operands_of(expression))


def key_in_words(key: Any) -> str:
    """A key as the report shows it: a name ending in quotes, a class by its name."""
    if isinstance(key, tuple):
        return "(" + ", ".join(key_in_words(part) for part in key) + ")"
    return key.__name__ if isinstance(key, type) else repr(key)
