"""The Plan: for every target variable the expression that gives its values, for everything left out the rule.

Every way of aligning ends in a Plan, and one executor (`plan/executor.py`) applies it, whatever the target is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from ..errors import PlanError
from .expressions import Expression, needs_callback

if TYPE_CHECKING:
    from pathlib import Path

    from ..alignment.dictionaries import ClassicDictionaries
    from ..alignment.parts import TorchLayer
    from ..keras_io.lazy_layout import LiveLayout
    from ..spec.file_layout import TargetLayout
    from .difference import Difference


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
    `reversed` is True for a Plan from Keras variables to torch tensors. `layout` is how files of the Keras model look, None when that is unknown; it is read
    off the model when `save` or `apply` first wants it, and has no part in comparisons.
    """

    assignments: tuple[Assignment, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    constants: tuple[Constant, ...] = ()
    sources: Mapping[str, ArrayKind] = field(default_factory=dict)
    targets: Mapping[str, ArrayKind] = field(default_factory=dict)
    reversed: bool = False
    layout: TargetLayout | LiveLayout | None = field(default=None, repr=False, compare=False)

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
        from .inverse import losses_of

        return losses_of(self)

    def invert(self) -> Plan:
        """The Plan for the other direction: a Keras model's variables into torch tensors, or back again.

        Data movement is inverted exactly. Where this Plan computes, the inverse gives an equal function: of two biases that
        were added the first gets the sum and the other zeros; a weight-normalised weight becomes direction, with its own norm as magnitude.
        Tensors that this Plan drops are kept by the other side, variables that it keeps are dropped.
        Raises TransferError, with all reasons in `.problems`, for what cannot be inverted: callbacks, and a Plan made by hand without
        `sources` and `targets`.
        """
        from .inverse import inverted

        return inverted(self)

    def difference(self, source: Any) -> Difference:
        """How a checkpoint (a path, or anything else that `read` takes) differs from what this Plan was made from: missing, extra and renamed tensors,
        other shapes and types. Printed, it tells each in a line; it is False when nothing differs, and `.fits` tells whether the Plan can be applied.
        Reads no values.
        """
        from ..torch_io.reader import read
        from .difference import difference

        return difference(self, read(source))

    def without(self, *layers: str) -> Plan:
        """The Plan without some Keras layers, by name ("predictions", "predictions/kernel"; "*" for any text): they keep their values, which the report tells.

        Tensors that only they used are left out by the same rule. A head of another class count can be left out so. Raises AlignmentError for a
        name that hits nothing.
        """
        from .difference import without_layers

        return without_layers(self, layers)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the Plan to a file, by custom "x.plan.json": readable JSON, the same bytes for the same Plan. Returns the path.

        The layout of the Keras model's files is recorded now if it was not yet, which takes about as long as saving the model; its values are
        back, bit for bit, afterwards. A warning tells when the model is gone, and the Plan is saved without the layout: `apply` wants a template then.
        A file cannot hold a user's functions: of a Plan that is not `portable` it keeps their keys, see `load`.
        """
        from ..keras_io.lazy_layout import recorded_or_none
        from .file import save_plan

        return save_plan(replace(self, layout=recorded_or_none(self.layout)), path)

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
        from ..rules.callbacks import key_in_words
        from .file import load_plan

        return load_plan(path, {key_in_words(key): function for key, function in (additional_transfer or {}).items()})

    def classic_dictionaries(self, source: Any, keras_model: Any) -> ClassicDictionaries:
        """What to tell `keras_reload_from_torch_model` so that it aligns as this Plan does: the shortest dictionaries found, checked by running them.

        `source` is the torch side and `keras_model` the Keras model that the Plan was made for. The result prints as a call that is ready to paste;
        where dictionaries cannot say it, its `reason` says why, and `names` is the order for `specific_match_func`.
        """
        from ..alignment.dictionaries import dictionaries_of
        from ..keras_io.model import read_target
        from ..rules.attention import is_attention
        from ..spec.source import Source
        from ..torch_io.reader import read

        source = source if isinstance(source, Source) else read(source)
        whole, expanded = (read_target(keras_model, expand_nested=each, whole=is_attention) for each in (False, True))
        return dictionaries_of(self, source, whole, expanded)

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
        A Keras layer goes by its name, a layer inside another by its label ("block/attn"); a torch layer by its
        name without the last part ("layer1.0.conv1"), one tensor by its whole name ("cls_token"). Layers that are fused on one
        side only are given as `rows("attn.qkv", part=0, of=3)`, "attn.qkv[0:64]" (rows of every tensor), or
        `joined("attn.q", "attn.k", "attn.v")`, layers that Keras holds as one bank as `stacked(...)`; one torch layer may fill
        several Keras layers, as tied weights do. Tensors whose last part is in `skip_weights` are left out, `additional_transfer` is that of the classic functions. `skip_layers` are
        torch layers to leave out, `keep_layers` Keras layers that keep their own values ("*" stands for any text): a head for another number
        of classes goes into both. `resize` says how position tables for another image size are resized; by default none is.
        Every pair is checked as in any other conversion: raises AlignmentError for unknown names, with the nearest ones,
        and TransferError listing all pairs that do not fit.
        """
        from ..alignment.by_hand import plan_from_mapping

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


def check_is_plan(plan: object) -> None:
    """Raise PlanError for anything that is no Plan, the path of one for instance."""
    if not isinstance(plan, Plan):
        raise PlanError(f"expected a Plan, got {type(plan).__name__}: Plan.load(path) reads one from its file")
