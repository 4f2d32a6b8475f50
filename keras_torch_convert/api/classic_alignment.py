"""The alignment by a classic function: by order, after dictionaries or a function have moved the
names; without either, and where the order is wrong, by running both models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Union

from ..alignment.assemble import with_both_sides
from ..alignment.by_order import PairingOptions, hit_by, plan_by_order
from ..alignment.classic import MatchFunction, NameAlignment, align_names
from ..alignment.regrouping import cut_where_skipped, joined_by_kind, split_by_order
from ..errors import AlignmentError, ClassCountError, PairError, PredictionError, TransferError
from ..keras_io.model import read_target
from ..plan.plan import Plan
from ..report.layer_table import LayerTable, side_by_side
from ..rules import assign_layer, calls_for, keys_without_hit
from ..rules.families.position_tables import Resize
from ..running.inputs import InputRequest, input_pair
from ..spec.layer_groups import LayerGroups, TorchLayer
from ..spec.target import Target, TargetLayer
from ..util.text import did_you_mean
from .aligning import aligned_by_running, classic_dictionaries
from .reporting import Stages, timed
from .transfer import TransferOptions, compare_outputs, inputs_for, transferred
from .verification import VerifyOptions, find_cause

# What the alignment dictionaries may be: one stage, or a list of stages.
Moves = Union[Mapping[str, Any], Sequence[Mapping[str, Any]]]
Transfer = Callable[[list[Any]], Any]


@dataclass(frozen=True, slots=True)
class AlignmentOptions:
    """What the caller says about which layer belongs where; the parameters of the classic functions
    of these names.
    """

    tail_align_dict: Moves = field(default_factory=dict)
    full_name_align_dict: Moves = field(default_factory=dict)
    tail_split_position: int | Sequence[int] = 2
    specific_match_func: MatchFunction | None = None
    additional_transfer: Mapping[Any, Transfer] = field(default_factory=dict)
    unstack_weights: Sequence[str] = ()
    skip_layers: Sequence[str] = ()
    keep_layers: Sequence[str] = ()
    resize: Resize = None

    @property
    def moves(self) -> bool:
        """Whether the names of the Keras layers are moved."""
        return self.specific_match_func is not None or bool(self.tail_align_dict) or bool(
            self.full_name_align_dict)

    @property
    def anything(self) -> bool:
        """Whether the caller gives anything that running both models could contradict."""
        return bool(self.moves or self.additional_transfer or self.skip_layers or self.keep_layers
                    or self.resize)

    def aligned(self, target: Target) -> NameAlignment:
        """Return the names of the Keras layers in the order of the torch layers."""
        return align_names([layer.name for layer in target.layers], self.tail_align_dict,
                           self.full_name_align_dict, self.tail_split_position,
                           self.specific_match_func)

    def arguments(self) -> dict[str, Any]:
        """Return those that are given, as the report repeats them."""
        given = {
            "tail_align_dict": self.tail_align_dict,
            "full_name_align_dict": self.full_name_align_dict,
            "tail_split_position": self.tail_split_position if self.tail_align_dict else None,
            "unstack_weights": list(self.unstack_weights),
            "specific_match_func": self.specific_match_func
        }
        return {name: value for name, value in given.items() if value}

    def layer_table(self, groups: LayerGroups, target: Target, names: Sequence[str],
                    fitting: Collection[tuple[str, str]] = ()) -> LayerTable:
        """Return both lists side by side as they are paired, without the layers that are left out.

        `fitting` are pairs, by torch name and Keras display name, that are known to fit.
        """
        layers = cut_where_skipped(groups.layers, self.skip_layers)
        skipped = hit_by(self.skip_layers, [layer.name for layer in layers], "skip_layers",
                         "torch layer")
        kept = hit_by(self.keep_layers, [layer.name for layer in target.layers], "keep_layers",
                      "Keras layer")
        names = [name for name in names if name not in kept]
        by_name = {layer.name: layer for layer in target.layers}
        by_callback = [
            layer.name for layer in target.layers if calls_for(layer, self.additional_transfer)
        ]
        named = [by_name[name] for name in names if name in by_name]
        unskipped = [layer for layer in layers if layer.name not in skipped]

        def fit(torch_layer: TorchLayer, layer: TargetLayer) -> str:
            known = (torch_layer.name, layer.display_name) in fitting
            return "" if known else mismatch(torch_layer, layer)

        return side_by_side(split_by_order(joined_by_kind(unskipped, named), named, by_callback),
                            target.layers, names, by_callback=by_callback, fit=fit)


def mismatch(torch_layer: TorchLayer, layer: TargetLayer) -> str:
    """Say why a torch layer cannot go into a Keras layer, as the transfer would; "" when it can."""
    try:
        assign_layer(torch_layer, layer)
    except PairError as error:
        return (
            f"'{torch_layer.display_name}' does not fit into '{layer.name}' ({layer.class_name}): "
            f"{error.problem}")
    return ""


def unused_keys(target: Target, additional_transfer: Mapping[Any, Transfer]) -> tuple[str, ...]:
    """Return a warning for every key of `additional_transfer` that belongs to no layer."""
    names = [layer.name for layer in target.layers]
    return tuple(f"additional_transfer key {key} hits no layer{did_you_mean(str(key), names)}"
                 for key in keys_without_hit(target.layers, additional_transfer))


class OutputsDifferError(Exception):
    """The order of layers fits, and the outputs say that it is wrong; the model has its old weights
    again.
    """


@dataclass(frozen=True, slots=True)
class ClassicConversion:
    """One conversion by a classic function; `run` gives what its stages have found.

    - `stages`: what was found before the conversion
    - `groups`, `names`: the torch layers, and the names of the Keras layers in their order
    - `alignment`: what the caller says about the alignment
    - `request`: what both models are run on
    - `transfer`: how the weights are written
    - `verify`: how the outputs are compared, None not to compare them
    """

    stages: Stages
    groups: LayerGroups
    names: NameAlignment
    alignment: AlignmentOptions
    request: InputRequest
    transfer: TransferOptions
    verify: VerifyOptions | None

    def run(self) -> Stages:
        """Convert by order; given no alignment argument, run both models when that fails.

        An order that fits stays, however much the outputs differ, when running finds nothing
        better.

        Raises:
            AlignmentError: Neither way finds an alignment, or TransferError for the one asked for.
            ClassCountError: Only the head does not fit.
            PredictionError: A model cannot be run; the weights are in place.
        """
        if self.alignment.anything or self.source.module is None:
            return self._compared(self._applied(self._plan_by_order(), self._by_order()))
        try:
            plan = self._plan_by_order()
        except (AlignmentError, TransferError) as error:
            why = "the order of layers does not fit"
            try:
                return self._compared(self._by_running(why, f"{why}: {error}"))
            except ClassCountError as refusal:
                raise ClassCountError(_one_refusal(error, why, refusal)) from None
        if self.verify is None:
            return self._applied(plan, "by order")
        try:
            return self._by_order_unless_different(plan, self.verify)
        except OutputsDifferError as difference:
            try:
                stages = self._by_running(str(difference), str(difference))
            except (AlignmentError, PredictionError) as error:
                stages = self._applied(plan, "by order")
                stages.notes = (
                    *stages.notes,
                    f"both models were run to find a better alignment, without success: {error}")
            return self._compared(stages)

    @property
    def source(self) -> Any:
        """The torch side."""
        return self.stages.source

    @property
    def target(self) -> Target:
        """The Keras model, its top-level layers alone unless the caller wants all of them."""
        assert self.stages.target is not None
        return self.stages.target

    def _leaves(self) -> Target:
        """Return the Keras model with every layer that owns variables, as `convert` reads it."""
        return read_target(self.target.model, sample=self.request.sample)

    def _plan_by_order(self) -> Plan:
        with timed(self.stages.seconds, "align"):
            alignment, strict = self.alignment, self.transfer.strict
            options = PairingOptions(alignment.skip_layers, alignment.keep_layers, strict,
                                     self.source.order, alignment.moves)
            plan = plan_by_order(self.groups, self.target, self.names.names, options,
                                 alignment.additional_transfer, alignment.resize)
        self.stages.fitting = frozenset(plan.pairs)
        return plan

    def _by_order(self) -> str:
        """Return how the layers are paired, and how far that is proven."""
        words = "by order" if self.source.module is not None else "by order, unproven"
        moved = self.names.names != tuple(layer.name for layer in self.target.layers)
        return f"{words}, after the Keras names were moved" if moved else words

    def _applied(self, plan: Plan, alignment: str) -> Stages:
        """Carry the weights over, and compare nothing."""
        stages = replace(self.stages, alignment=alignment)
        with transferred(stages, plan, self.transfer, last=True):
            pass
        return stages

    def _compared(self, stages: Stages) -> Stages:
        """Compare the outputs once the weights are safe."""
        if self.verify is not None:
            leaves = self._leaves()
            inputs = inputs_for(stages, self.source, leaves, self.request)
            if inputs is not None:
                compare_outputs(stages, self.source, leaves, inputs, self.verify, weights_stay=True)
        return stages

    def _by_order_unless_different(self, plan: Plan, options: VerifyOptions) -> Stages:
        """Convert by order; raise OutputsDifferError, with nothing changed, when outputs differ."""
        stages = replace(self.stages, alignment="by order")
        failure: PredictionError | None = None
        with transferred(stages, plan, self.transfer):
            try:
                leaves = self._leaves()
                inputs = inputs_for(stages, self.source, leaves, self.request)
                if inputs is not None:
                    # The cause matters only for weights that stay.
                    compare_outputs(stages, self.source, leaves, inputs,
                                    replace(options, diagnose=False), weights_stay=True)
            except PredictionError as error:
                # That says nothing against the order: the weights are made safe, then it is raised.
                failure = error
            found = stages.comparison
            if found is not None and found.verdict == "different":
                raise OutputsDifferError("by order the outputs differ: "
                                         f"{found.difference_text() or 'no common shape'}")
            if found is not None and inputs is not None:
                stages.comparison = find_cause(found, self.source, leaves, inputs, stages.plan)
        if failure is not None:
            failure.report = stages.report()
            raise failure
        return stages

    def _by_running(self, why: str, in_full: str) -> Stages:
        """Convert as running both models finds out; the report says `why` the order would not do.

        Raises AlignmentError, with `why` `in_full`, when that finds nothing.
        """
        leaves = self._leaves()
        try:
            with timed(self.stages.seconds, "align"):
                inputs = input_pair(self.source.module, leaves, InputRequest(self.request.sample))
                found, by_running = aligned_by_running(self.source, leaves, inputs, {},
                                                       accept_unproven=False)
                plan = with_both_sides(found, self.source, leaves)
        except ClassCountError:
            raise
        except (AlignmentError, PredictionError) as error:
            raise AlignmentError(
                f"{in_full}; running both models to find the alignment did not help either: {error}"
            ) from error
        stages = replace(self.stages, target=leaves, alignment=by_running)
        with transferred(stages, plan, self.transfer):
            dictionaries = classic_dictionaries(plan, self.source, self.target.model)
            call = (f"the same alignment as a call to paste:\n{dictionaries}"
                    if dictionaries.found else f"{dictionaries.comment} (report.dictionaries)")
            stages.dictionaries = dictionaries
            stages.notes = (*stages.notes, f"{why}, so both models were run to find the alignment",
                            call)
        return stages


def _one_refusal(mismatched: AlignmentError | TransferError, why: str,
                 error: ClassCountError) -> str:
    """Say what is wrong by order when that is the head alone, else what running has found."""
    if isinstance(mismatched, TransferError) and len(mismatched.problems) == 1:
        return f"{mismatched.problems[0]}; nothing was written"
    return f"{why}, and when both models were run to find the alignment {error}"
