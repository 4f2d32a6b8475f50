"""The Plan: for every target variable the expression that gives its values, for everything left out the rule.

Every way of aligning ends in a Plan, and one executor (`transfer/executor.py`) applies it, whatever the target is.
An expression is a small tree. `Tensor`, `Permute`, `Reshape`, `Slice`, `Concat`, `Place` and `Merge` only move data: nested in any way they
compile to strided copies straight into the result, one for each region. `Fill` is a constant. `Add`, `Multiply`, `Scale`, `NormWeight`, `Norm`,
`SpectralNormWeight`, `SingularVector`, `StandardizedWeight` and `Resampled` compute, in float32 or in the operands' wider type; what they give can be
moved again. `CallbackOutput` is opaque: one of the arrays that a user's callbacks returned for a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, Union

if TYPE_CHECKING:
    from pathlib import Path

    from .align.parts import TorchLayer
    from .save.layout import TargetLayout


@dataclass(frozen=True, slots=True)
class Tensor:
    """A source tensor as it stands in the source."""

    name: str


@dataclass(frozen=True, slots=True)
class Permute:
    """The operand with its axes reordered: result axis i is operand axis `perm[i]`, as in numpy.transpose."""

    operand: Expression
    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reshape:
    """The operand in another shape, in C order: exact splits and merges of axes, or axes of size 1 added or dropped."""

    operand: Expression
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """Entries `start` to `stop` (exclusive, both counted from 0 upwards) of one axis of the operand; the axis stays."""

    operand: Expression
    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Concat:
    """The operands one after the other along an axis that all have, as in numpy.concatenate; all other axes are equal."""

    operands: tuple[Expression, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class Place:
    """The inverse of a slice: the operand as the entries from `start` on of an axis of `extent` entries. The others have no values: see Merge."""

    operand: Expression
    axis: int
    start: int
    extent: int


@dataclass(frozen=True, slots=True)
class Merge:
    """Operands of one shape that each have values for some entries: together one for every entry, none twice."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Fill:
    """One value everywhere: what has no counterpart on the other side, such as the bias of a layer built without."""

    value: float
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of operands of one shape: the two biases of a torch LSTM gate, which Keras keeps as one."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Multiply:
    """The product of operands of one rank; axes of size 1 are repeated, as NumPy does it (a gain for each output channel)."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """The operand times a number."""

    operand: Expression
    factor: float


@dataclass(frozen=True, slots=True)
class NormWeight:
    """torch.nn.utils.weight_norm: magnitude * direction / |direction|, the norm over all axes but `axis` (None: over all).

    `magnitude` has the direction's rank with size 1 in every axis but `axis`, or no more than one axis larger than 1; it counts along `axis`.
    """

    direction: Expression
    magnitude: Expression
    axis: int | None


@dataclass(frozen=True, slots=True)
class Norm:
    """The Euclidean norm of the operand over all axes but `axis`, which are kept with size 1; None: over all, a scalar of shape ()."""

    operand: Expression
    axis: int | None


@dataclass(frozen=True, slots=True)
class SpectralNormWeight:
    """torch.nn.utils.spectral_norm in evaluation: weight / (left . M right), M the weight as a matrix with axis `axis` as its rows.

    `left` (rows,) and `right` (columns,) are the buffers in which torch keeps its estimates of the singular vectors.
    """

    weight: Expression
    left: Expression
    right: Expression
    axis: int = 0


@dataclass(frozen=True, slots=True)
class SingularVector:
    """Leading "left" or "right" singular vector of the operand as a matrix with axis `axis` as its rows.

    The left one is divided by the singular value, so that `SpectralNormWeight` of the operand and its two vectors is the operand.
    """

    operand: Expression
    side: str
    axis: int = 0


@dataclass(frozen=True, slots=True)
class StandardizedWeight:
    """Weight standardisation: (weight - mean) / sqrt(variance + epsilon), both over all axes but `axis`, the variance without Bessel's correction."""

    weight: Expression
    axis: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Resampled:
    """A table (..., prefix + rows * columns of `grid`, channels) for `new_grid`: the rows after `prefix` resized "bicubic" or "bilinear"."""

    operand: Expression
    prefix: int
    grid: tuple[int, int]
    new_grid: tuple[int, int]
    mode: str


@dataclass(frozen=True, slots=True)
class UserCall:
    """One entry of `additional_transfer`: the key as the user gave it (in words) and the function."""

    key: str
    function: Callable[[list[Any]], list[Any]] = field(compare=False)


@dataclass(frozen=True, slots=True)
class LayerCallback:
    """The user's calls on one layer, chained in dictionary order: the first gets the operands as a list of fresh arrays."""

    layer: str
    operands: tuple[Expression, ...]
    calls: tuple[UserCall, ...]
    count: int


@dataclass(frozen=True, slots=True)
class CallbackOutput:
    """Array number `index` of the `callback.count` arrays that the last call must return."""

    callback: LayerCallback
    index: int


Movement = Union[Permute, Reshape, Slice, Concat, Place, Merge]
Computation = Union[
    Add, Multiply, Scale, NormWeight, Norm, SpectralNormWeight, SingularVector, StandardizedWeight, Resampled
]
Expression = Union[Tensor, Movement, Computation, Fill, CallbackOutput]


def is_computation(expression: Expression) -> TypeGuard[Computation]:
    """True for a node that makes new values of its operands'."""
    return isinstance(
        expression,
        (Add, Multiply, Scale, NormWeight, Norm, SpectralNormWeight, SingularVector, StandardizedWeight, Resampled),
    )


def operands_of(expression: Expression) -> tuple[Expression, ...]:  # noqa: PLR0911  # one branch for each kind of node
    """The expressions that an expression is made of, () for Tensor and Fill; for a callback's output what the callback gets."""
    match expression:
        case Permute() | Reshape() | Slice() | Place() | Scale() | Norm() | SingularVector() | Resampled():
            return (expression.operand,)
        case Concat() | Merge() | Add() | Multiply():
            return expression.operands
        case NormWeight():
            return expression.direction, expression.magnitude
        case SpectralNormWeight():
            return expression.weight, expression.left, expression.right
        case StandardizedWeight():
            return (expression.weight,)
        case CallbackOutput():
            return expression.callback.operands
        case Tensor() | Fill():
            return ()


def tensors_of(expression: Expression) -> tuple[str, ...]:
    """Names of the source tensors that an expression reads, in order of first use."""
    if isinstance(expression, Tensor):
        return (expression.name,)
    return tuple(dict.fromkeys(name for operand in operands_of(expression) for name in tensors_of(operand)))


def with_operands(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The expression with each of its operands replaced by what `change` makes of it; a callback's output stays as it is."""
    match expression:
        case Permute() | Reshape() | Slice() | Place() | Scale() | Norm() | SingularVector() | Resampled():
            return replace(expression, operand=change(expression.operand))
        case Concat() | Merge() | Add() | Multiply():
            return replace(expression, operands=tuple(map(change, expression.operands)))
        case NormWeight():
            return replace(expression, direction=change(expression.direction), magnitude=change(expression.magnitude))
        case SpectralNormWeight():
            weight, left, right = (change(operand) for operand in operands_of(expression))
            return replace(expression, weight=weight, left=left, right=right)
        case StandardizedWeight():
            return replace(expression, weight=change(expression.weight))
        case _:
            return expression


def needs_callback(expression: Expression) -> bool:
    """True when some part of the expression is what a user's callback returns."""
    return isinstance(expression, CallbackOutput) or any(needs_callback(operand) for operand in operands_of(expression))


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where one target variable's values come from.

    `rule` says in words which convention applied, `doubt` what names and shapes cannot prove about it ("" when nothing is open),
    `note` what the report should tell besides ("" for nothing), `constants` what of the same torch layer has no counterpart.
    """

    place: str
    expression: Expression
    rule: str
    doubt: str = ""
    note: str = ""
    constants: tuple[Constant, ...] = ()


@dataclass(frozen=True, slots=True)
class Constant:
    """What has no counterpart on the other side, and may be left out only because all of its values are `value` exactly."""

    expression: Expression
    value: float
    rule: str


@dataclass(frozen=True, slots=True)
class ArrayKind:
    """Shape and type of a tensor or variable, and the name that people know it by."""

    shape: tuple[int, ...]
    dtype: str
    label: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A deterministic recipe: the same models give the same Plan.

    `assignments` are in the target's order. `dropped` maps source names to the rule that leaves them out, `kept` maps
    places of target variables to the rule that lets them keep their own values. Whatever neither assigns nor excuses is
    left over, which the executor refuses when strict. `pairs` are the aligned layers, (torch layer, Keras layer), for display.
    `constants` must hold for the Plan to be applied. `sources` and `targets` are the arrays of both sides, by name and by place;
    `reversed` is True for a Plan from Keras variables to torch tensors. `layout` is how files of the Keras model look, None when it was not recorded.
    """

    assignments: tuple[Assignment, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    constants: tuple[Constant, ...] = ()
    sources: Mapping[str, ArrayKind] = field(default_factory=dict)
    targets: Mapping[str, ArrayKind] = field(default_factory=dict)
    reversed: bool = False
    layout: TargetLayout | None = field(default=None, repr=False)

    @property
    def portable(self) -> bool:
        """True when no opaque callback is needed to apply the Plan."""
        return not any(needs_callback(assignment.expression) for assignment in self.assignments)

    @property
    def lossless(self) -> bool:
        """True when every value can be carried back bit for bit: nothing is computed, and every type holds all values of the other side's."""
        return not self.losses()

    def losses(self) -> tuple[str, ...]:
        """What cannot be carried back bit for bit, one sentence for each target variable concerned, () for a lossless Plan."""
        from .transfer.inverse import losses_of

        return losses_of(self)

    def invert(self) -> Plan:
        """The Plan for the other direction: a Keras model's variables into torch tensors, or back again.

        Data movement is inverted exactly. Where this Plan computes, the inverse gives an equal function: of two biases that
        were added the first gets the sum and the other zeros; a weight-normalised weight becomes direction, with its own norm as magnitude.
        Tensors that this Plan drops are kept by the other side, variables that it keeps are dropped.
        Raises TransferError, with all reasons in `.problems`, for what cannot be inverted: callbacks, and a Plan made by hand without
        `sources` and `targets`.
        """
        from .transfer.inverse import inverted

        return inverted(self)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the Plan to a file, by custom "x.plan.json": readable JSON, the same bytes for the same Plan. Returns the path.

        A file cannot hold a user's functions: of a Plan that is not `portable` it keeps their keys, see `load`.
        """
        from .plan_file import save_plan

        return save_plan(self, path)

    @staticmethod
    def load(
        path: str | PathLike[str],
        *,
        additional_transfer: Mapping[Any, Callable[[list[Any]], list[Any]]] | None = None,
    ) -> Plan:
        """Read a Plan that `save` wrote.

        A Plan that is not `portable` needs the functions of `additional_transfer` again, under the same keys; without them it can be
        looked at, not applied. Raises PlanError for a file that is damaged, was changed, is no plan, or comes from a newer version.
        """
        from .plan_file import load_plan
        from .transfer.callbacks import key_in_words

        return load_plan(path, {key_in_words(key): function for key, function in (additional_transfer or {}).items()})

    @staticmethod
    def from_mapping(
        source: Any,
        target: Any,
        mapping: Mapping[str, TorchLayer | Sequence[TorchLayer]],
        *,
        skip_weights: Sequence[str] = ("num_batches_tracked",),
        additional_transfer: Mapping[Any, Callable[[list[Any]], list[Any]]] | None = None,
        skip_layers: Sequence[str] = (),
        keep_layers: Sequence[str] = (),
        resize: Literal["bicubic", "bilinear"] | None = None,
    ) -> Plan:
        """Align by hand: `mapping` gives for each Keras layer its torch layer, or the list of them when it holds several.

        `source` is a torch module, a state dict, the path of a checkpoint, or a Source; `target` a Keras model or a Target.
        A Keras layer goes by its name, a leaf layer inside another by its label ("block/conv"); a torch layer by its
        name without the last part ("layer1.0.conv1"), one tensor by its whole name ("cls_token"). Layers that are fused on one
        side only are given as `rows("attn.qkv", part=0, of=3)`, "attn.qkv[0:64]" (rows of every tensor), or
        `joined("attn.q", "attn.k", "attn.v")`; one torch layer may fill several Keras layers, as tied weights do. Tensors whose last
        part is in `skip_weights` are left out, `additional_transfer` is that of the classic functions. `skip_layers` are
        torch layers to leave out, `keep_layers` Keras layers that keep their own values ("*" stands for any text): a head for another number
        of classes goes into both. `resize` says how position tables for another image size are resized; by default none is.
        Every pair is checked as in any other conversion: raises AlignmentError for unknown names, with the nearest ones,
        and TransferError listing all pairs that do not fit.
        """
        from .align.by_hand import plan_from_mapping

        return plan_from_mapping(
            source,
            target,
            mapping,
            skip_weights=skip_weights,
            additional_transfer=additional_transfer or {},
            skip_layers=skip_layers,
            keep_layers=keep_layers,
            resize=resize,
        )
