"""What one pass through the Keras model has found, and what it starts with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ...plan.expressions import Expression
from ...running.fingerprint import EQUAL_BELOW, Fingerprint
from ...spec.target import TargetLayer
from ...spec.tensor_spec import Shape
from ...util.time_limit import TimeLimit
from ..hints import honors
from .branching import BranchPoint
from .candidates import LayerMapping

# Different tensors of some hundred elements lie 1e-2 apart and more.
MOST_DRIFT = 2e-3
# How a layer was told whose input and output are values that torch computed.
TOLD_BY_BOTH = "input and output"
# And one that computes something else than torch does on the same input.
DIFFERS = "its input and its name: the models differ here"
# And one behind it: it does what torch does on torch's own input.
GIVEN_ITS_INPUT = "its output on torch's own input"
# And one whose output is nothing of torch's by itself.
BY_WHAT_FOLLOWS = "its input; the layers behind it"
# And one of several that do the same on one input, where nothing behind them tells which is which.
UNDECIDED = "input and output, which others of one shape have too"
# And one that no output proves.
BY_NAME_AND_SHAPE = "its name and shape alone"


@dataclass(frozen=True, slots=True)
class Match:
    """What a layer was found to be, and the evidence: which unit, how near its input and output
    are, how many candidates there were.

    `is_turned` says that its outputs are in another order than torch's, channels last.
    `without_effect` are keys of variables on which no output depends. `order` is when the unit
    appeared, 0 for a layer that is looked for by those inside.
    """

    layer: TargetLayer
    mapping: LayerMapping
    unit: str
    how: str
    input_distance: float
    output_distance: float
    candidates: int
    outputs: tuple[Fingerprint, ...] = ()
    is_turned: bool = False
    without_effect: frozenset[str] = frozenset()
    order: int = 0

    @property
    def is_tentative(self) -> bool:
        """True for a layer whose output nothing in torch confirmed."""
        return self.how not in (TOLD_BY_BOTH, GIVEN_ITS_INPUT)

    def status(self, explained: Collection[str], all_explained: bool) -> str:
        """How much is known of the match in models that differ at layers of which some are
        `explained` by a proven cause.
        """
        if self.how == TOLD_BY_BOTH:
            return PROVEN
        if self.how == DIFFERS and self.layer.display_name in explained:
            return BUT_FOR_A_CAUSE
        if self.how in (DIFFERS, GIVEN_ITS_INPUT) and all_explained:
            return PROVEN_GIVEN_ITS_INPUT
        return LIKELY if self.output_distance < inf and self.how != BY_NAME_AND_SHAPE else BY_SHAPE

    def summary(self) -> str:
        """The evidence as a sentence."""
        alternatives = (f"{self.candidates} candidates"
                        if self.candidates != 1 else "the only candidate")
        apart = ""
        # Elsewhere torch's output took the place of the layer's, and there is nothing to compare.
        if self.how in (TOLD_BY_BOTH, GIVEN_ITS_INPUT, UNDECIDED):
            apart = (f": input at distance {self.input_distance:.1e}, "
                     f"output at {self.output_distance:.1e}")
        return (f"{self.layer.display_name} is {self.unit or 'the whole module'} in torch, told by "
                f"{self.how}{apart}; {alternatives}")


# What is known of a match, the strongest first.
PROVEN, BUT_FOR_A_CAUSE = "proven", "proven but for a cause"
PROVEN_GIVEN_ITS_INPUT, LIKELY, BY_SHAPE = "proven given its input", "likely", "by name and shape"


@dataclass(slots=True)
class SearchState:
    """What one pass has found so far.

    `kept` are layers that do right with the values they have, `parted` those at which the models
    differ, each with the reason. `used` are weights taken whole, `parts` parts of weights that are
    taken, `tables` the settled layers of which every row may be changed alike. `outputs_in_order`
    says of each output of the model whether it holds torch's values in torch's order, `lost` is
    True when they are nothing that torch gives. `broken` is the layer at which the pass gave up,
    `is_out_of_time` says that the time for the search was up before its end.
    """

    matches: dict[str, Match] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    parted: dict[str, str] = field(default_factory=dict)
    outputs: tuple[Fingerprint, ...] = ()
    outputs_in_order: dict[str, bool] = field(default_factory=dict)
    lost: bool = False
    broken: str = ""
    is_out_of_time: bool = False
    used: dict[str, str] = field(default_factory=dict)
    parts: dict[Expression, None] = field(default_factory=dict)
    tables: dict[str, None] = field(default_factory=dict)
    choices: list[BranchPoint] = field(default_factory=list)
    map_shapes: tuple[Shape, ...] = ()
    last_order: int = 0
    drift: float = 0.0

    @property
    def is_whole(self) -> bool:
        """True when no layer is open and the outputs are torch's."""
        return not self.open and not self.lost and all(self.outputs_in_order.values())

    @property
    def tolerance(self) -> float:
        """The distance up to which two values count as one here: rounding grows on the way through
        a deep network.
        """
        return min(max(EQUAL_BELOW, 4 * self.drift), MOST_DRIFT)

    def is_proven(self, display_name: str) -> bool:
        """True for a layer whose output is one of torch's, and for an output of the model in
        torch's order.
        """
        if self.outputs_in_order.get(display_name, False):
            return True
        match = self.matches.get(display_name)
        return match is not None and not match.is_tentative

    def has_met(self, display_name: str) -> bool:
        """True for a layer that was called before, whatever became of it."""
        return any(display_name in met for met in (self.matches, self.open, self.kept))

    def mark(self) -> Snapshot:
        """The state as it is now, to come back to when a trial fails."""
        lengths = tuple(map(len, self._growing()))
        return Snapshot(lengths, len(self.choices), self.map_shapes, self.last_order, self.drift)

    def back_to(self, mark: Snapshot) -> None:
        """Forget what came since: entries are only ever added during a trial, each behind those
        before.
        """
        for entries, length in zip(self._growing(), mark.lengths, strict=True):
            while len(entries) > length:
                entries.popitem()
        del self.choices[mark.choices:]
        self.map_shapes, self.last_order, self.drift = mark.map_shapes, mark.last_order, mark.drift

    def _growing(self) -> tuple[dict[Any, Any], ...]:
        return self.matches, self.open, self.kept, self.parted, self.used, self.parts, self.tables


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How long each part of a state was, and what was not a list."""

    lengths: tuple[int, ...]
    choices: int
    map_shapes: tuple[Shape, ...]
    last_order: int
    drift: float


@dataclass(frozen=True, slots=True)
class MapOfVector:
    """A feature map of a vector, as Keras has it: `extents` and `channels`, and the display names
    of the layers that gave the vector.
    """

    extents: Shape
    channels: int
    display_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PassConfig:
    """What a pass starts with: choices taken back by layer, layers settled by an earlier pass
    (`presets`, with the `choices` made among them, which may still be taken back), whether it may
    give up, the caller's hints, and layers for whose sake those before a map of a vector were tried
    `in_both_orders`, in vain; `trial_for` is the one for which this pass tries it.

    `accepted` are layers where the models differ, each with the reason, and `in_vain` blocks: no
    choice is taken back for their sake. A pass for the sake of `link` ends there, or before it,
    where a layer gets nothing of torch's. `limit` ends the pass when the time is up.

    With `forced` torch's own outputs are put in the place of those that a layer computes; the trace
    must have kept them.
    """

    excluded: Mapping[str, set[tuple[str, ...]]]
    presets: Mapping[str, Match]
    may_give_up: bool
    hints: Mapping[str, str]
    forced: bool = False
    accepted: Mapping[str, str] = field(default_factory=dict)
    in_vain: frozenset[str] = frozenset()
    link: str = ""
    choices: tuple[BranchPoint, ...] = ()
    limit: TimeLimit = field(default_factory=TimeLimit)
    in_both_orders: frozenset[tuple[str, MapOfVector]] = frozenset()
    trial_for: str = ""

    def gives_up_at(self, display_name: str, block: str) -> bool:
        """Whether the pass breaks off at a layer of a `block` that gets nothing of torch's."""
        return (self.may_give_up and display_name not in self.accepted
                and block not in self.in_vain)

    def honors(self, leaf: TargetLayer, mapping: LayerMapping) -> bool:
        """Return False when the caller said something else about the layer."""
        return honors(self.hints, leaf, ((one, entry.expression) for one, entry in mapping.entries))
