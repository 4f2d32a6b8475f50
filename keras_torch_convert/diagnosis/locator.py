"""Where two runs part: backward from the outputs along what differs, to the calls whose inputs
agree and whose outputs do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..running.fingerprint import Fingerprint, FingerprintIndex, distance
from ..running.keras_calls import KerasRun, LayerCall
from ..running.torch_steps import TorchRun, Value
from .scopes import TorchScope

# The same tensor computed by two frameworks reads 1e-8 to 1e-6, growing with depth; the tanh
# approximation of GELU 1e-5 and more.
AGREES_BELOW = 3e-6
# A value agrees as long as it is no further off than this many times what came before.
DRIFT_FACTOR = 8
# Beyond this no drift is taken for rounding.
MAX_DRIFT = 2e-4
SAME = 1e-10
MAX_CALLS_BEFORE = 4

PositionInBlock = tuple[str, tuple[tuple[int, ...], ...]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class DivergencePoint:
    """The Keras call at which the models part.

    `kind` is "layer" when the call's inputs agree and its output does not (nor does a call made
    inside it differ); "before" when its input has parted inside code of its parent, after the calls
    `after`; "inputs" when the models were given different inputs; "end" when all that the Keras
    model computes agrees, but torch's output is another value. `parent` is the call in whose code
    the input of a point "before" was computed.
    """

    call: LayerCall
    kind: Literal["layer", "before", "inputs", "end"]
    after: tuple[LayerCall, ...] = ()
    parent: LayerCall | None = None


class TorchValues:
    """Every value of a torch run, found by its statistics, all compared at once."""
    def __init__(self, torch: TorchRun) -> None:
        """Index the values; those whose statistics hold NaN cannot be found."""
        self.torch = torch
        self.values = [
            value
            for value in torch.every_value() if not any(isnan(number) for number in value.key)
        ]
        self.keys = np.array([value.key for value in self.values], np.float64).reshape(-1, 5)
        self.orders = np.array([value.order for value in self.values], np.int64)
        self.owner = {step.order: frozenset(step.weights) for step in torch.steps if step.weights}
        # What an operation of weights computes on its way (the product before the bias) is nothing
        # that goes on from there.
        partial = [value.shape == () and value.order in self.owner for value in self.values]
        self.goes_on = ~np.array(partial, bool)
        self.eligible: dict[frozenset[str], Mask] = {}

    def distances(self, key: Fingerprint) -> npt.NDArray[np.float64]:
        """Return `fingerprint.distance` to every value."""
        apart = np.abs(self.keys - np.array(key, np.float64))
        apart[:, -1] /= 2
        return np.asarray(np.nan_to_num(apart.max(1, initial=0.0), nan=inf))

    def nearest(self, key: Fingerprint, among: Mask | None = None) -> float:
        """Return the distance to the nearest value `among` those marked, infinite without one."""
        apart = self.distances(key)
        return float((apart if among is None else apart[among]).min(initial=inf))

    def find(self, key: Fingerprint, within: float) -> list[Value]:
        """Return all values nearer than `within`."""
        return [self.values[number] for number in np.flatnonzero(self.distances(key) < within)]

    def nearest_output(self, key: Fingerprint, scope: TorchScope | None) -> float:
        """Return the distance to the nearest value that a call may give; what other weights give
        does not count for a layer with weights of its own.
        """
        if scope is None:
            return self.nearest(key, self.goes_on)
        names = frozenset(scope.names)
        if names not in self.eligible:
            self.eligible[names] = np.array(
                [self._is_eligible(value, names) for value in self.values], bool)
        finished = ~np.isin(self.orders, list(_unfinished(scope)))
        later = self.orders >= scope.first_order
        return self.nearest(key, self.eligible[names] & finished & later)

    def _is_eligible(self, value: Value, names: frozenset[str]) -> bool:
        """Not what other weights gave, and not what an operation of just these weights computes on
        its way.
        """
        owner = self.owner.get(value.order)
        if owner is None:
            return True
        return bool(owner & names) and not (value.shape == () and owner <= names)


class Locator:
    """What agrees in a run of each model, and the points at which they part."""
    def __init__(self, keras: KerasRun, values: TorchValues, scopes: Mapping[int, TorchScope],
                 holds_its_weights: Callable[[LayerCall],
                                             bool | None], masks: Sequence[Fingerprint] = (),
                 patched: Collection[int] = (), agrees_below: float = AGREES_BELOW) -> None:
        """Compare all values of the two runs.

        `scopes` are those of calls of layers with weights, by number of the call; values agree when
        they are nearer than `agrees_below`. `holds_its_weights` is asked for calls whose output
        torch has nowhere by itself (a table of positions that holds a sum, say): whether the layer
        holds what it should; None for calls whose output can be compared. `masks` are inputs of
        zeros and ones, which torch may hold in another form. `patched` are numbers of calls that
        gave torch's value instead of their own: nothing drifts behind them, and that a layer around
        agrees with one of these values proves nothing.
        """
        self.agrees_below = agrees_below
        self.drift_factor = 0 if patched else DRIFT_FACTOR
        self.keras = keras
        self.scopes = scopes
        self.values = values
        self.leaves = keras.leaves()
        containers = [call for call in keras.calls if call.children]
        self.containers = containers
        self.producers = [
            FingerprintIndex((key, call) for call in calls for key in call.outputs)
            for calls in (self.leaves, containers)
        ]
        self.patched = [keras.calls[number] for number in patched]
        self.holds_its_weights = holds_its_weights
        self.masks = masks
        self.looked_at: Collection[int] = ()
        self.drift = 0.0
        self.input_distances: dict[int, list[float]] = {}
        self.output_distances: dict[int, list[float]] = {}
        self.tolerance: dict[int, float] = {}
        for call in self.leaves:
            self._compare(call)
        for call in reversed(containers):
            self._compare_container(call)
        self.unmatched = self._unmatched()

    def _compare(self, call: LayerCall) -> None:
        self.tolerance[call.number] = limit = min(
            max(self.agrees_below, self.drift_factor * self.drift),
            max(MAX_DRIFT, self.agrees_below))
        self.input_distances[call.number] = [
            self.values.nearest(key, self.values.goes_on) for key in call.inputs
        ]
        scope = self.scopes.get(call.number)
        outputs = [self.values.nearest_output(key, scope) for key in call.outputs]
        self.output_distances[call.number] = outputs
        self.drift = max([self.drift, *(apart for apart in outputs if apart < limit)])

    def _compare_container(self, call: LayerCall) -> None:
        """Compare a call that makes others with what torch has when it has computed all layers with
        weights inside, not with what went in before.
        """
        self.tolerance[call.number] = self.tolerance[call.children[-1]]
        self.input_distances[call.number] = [
            self.values.nearest(key, self.values.goes_on) for key in call.inputs
        ]
        inside = [
            self.scopes[one.number].first_order
            for one in self.leaves if one.number in self.scopes and self._is_inside(one, call)
        ]
        later = self.values.orders >= max(inside, default=0)
        self.output_distances[call.number] = [
            self.values.nearest(key, self.values.goes_on & later) for key in call.outputs
        ]

    def _unmatched(self) -> frozenset[PositionInBlock]:
        """Return calls, by their position in a block, whose output torch never has, though what
        comes of it agrees: experts that are not asked, scores before their scale.
        """
        bad: set[PositionInBlock] = set()
        good: set[PositionInBlock] = set()
        for call in self.leaves:
            if not self._differs(call):
                good.add(position_in_block(call))
            elif self._parent_agrees(call) or (call.leaf is None and self._consumers_agree(call)):
                bad.add(position_in_block(call))
        return frozenset(bad - good)

    def _consumers_agree(self, call: LayerCall) -> bool:
        """Whether the calls that take what this one gives, none of which has weights, give what
        torch has; a norm would hide a factor.
        """
        consumers = [
            one for one in self.leaves
            if one.number > call.number and set(call.outputs) & set(one.inputs)
        ]
        return bool(consumers) and not any(one.leaf is not None or self._differs(one)
                                           for one in consumers)

    def _differs(self, call: LayerCall) -> bool:
        """Of what a call that makes others gives only the first counts: the rest (caches, scores)
        may be computed otherwise.
        """
        outputs = self.output_distances[call.number][:1 if call.children else None]
        return any(apart >= self.tolerance[call.number] for apart in outputs)

    def _parent_agrees(self, call: LayerCall) -> bool:
        """Whether a call around this one, other than that of the model, gives what torch has, and
        not because a later one inside gave torch's value.
        """
        later = [one for one in self.patched if one.number > call.number]
        while call.parent is not None:
            call = self.keras.calls[call.parent]
            if call.parent is not None and call.outputs and not self._differs(call):
                return not any(self._is_inside(one, call) for one in later)
        return False

    def bad_output(self, call: LayerCall) -> bool:
        """Whether a call gives something that torch does not have there."""
        if not self._differs(call) or self._is_unmatched(call) or self._parent_agrees(call):
            return False
        return not self.holds_its_weights(call)

    def _is_unmatched(self, call: LayerCall) -> bool:
        return position_in_block(call) in self.unmatched

    def bad_inputs(self, call: LayerCall) -> list[Fingerprint]:
        """Return the inputs that torch does not have, or that come from a layer which gave
        another's output.
        """
        bad = []
        for key, apart in zip(call.inputs, self.input_distances[call.number], strict=True):
            if any(distance(key, mask) < SAME for mask in self.masks):
                continue
            producer = self.origin(key, call)
            if producer is not None and self._is_unmatched(producer):
                differs = bool(self.bad_inputs(producer))
            else:
                differs = apart >= self.tolerance[call.number] or (producer is not None
                                                                   and self.bad_output(producer))
            if differs:
                bad.append(key)
        return bad

    def origin(self, key: Fingerprint, consumer: LayerCall) -> LayerCall | None:
        """Return the call that a value comes from, past those that only hand it on (dropout, which
        does nothing here).
        """
        producer = self.producer(key, consumer)
        while producer is not None and producer.leaf is None and key in producer.inputs:
            before = self.producer(key, producer)
            if before is None:
                break
            producer = before
        return producer

    def producer(self, key: Fingerprint, consumer: LayerCall) -> LayerCall | None:
        """Return the call whose output a value is, the latest before `consumer`; one that makes
        other calls only where none of those gives the value.
        """
        for producers in self.producers:
            found = [
                call for _, call in producers.find(key, SAME)
                if call.number < consumer.number and not self._is_inside(consumer, call)
            ]
            if found:
                return max(found, key=lambda call: call.number)
        return None

    def points(self, looked_at: Collection[int] = ()) -> list[DivergencePoint]:
        """Return the points at which the models part, in order of execution: on the way to outputs
        that differ, and to inputs of layers with weights that torch does not have.

        Calls that were `looked_at` before and differ still are not what code starts from that
        torch's values divide from them.
        """
        self.looked_at = looked_at
        found: dict[int, DivergencePoint] = {}
        ends = [self.producers[0].find(key, SAME) for key in self.keras.calls[0].outputs]
        last = [max((call for _, call in end), key=lambda call: call.number) for end in ends if end]
        last = last or self.leaves[-1:]
        broken = [
            self.keras.calls[number] for number in sorted(self.scopes)
            if self.patched and self.bad_inputs(self.keras.calls[number])
        ]
        self._walk([*(call for call in last if self.bad_output(call)), *broken], found)
        for call in last:
            ends_apart = (
                distance(key, end.key) for key in call.outputs for end in self.values.torch.outputs)
            # Behind torch's own values the end agrees or is to blame itself.
            alone = not found or (self.patched and not self.bad_output(call))
            if alone and min(ends_apart, default=inf) >= self.tolerance[call.number]:
                found.setdefault(call.number, DivergencePoint(call, "end"))
        return [found[number] for number in sorted(found)]

    def _walk(self, waiting: list[LayerCall], points: dict[int, DivergencePoint]) -> None:
        """Note the points from which what differs in some calls comes."""
        visited: set[int] = set()
        while waiting:
            call = waiting.pop()
            if call.number in visited:
                continue
            visited.add(call.number)
            inner = self._differing_inside(call)
            if inner is not None:
                waiting.append(inner)
                continue
            bad = self.bad_inputs(call)
            if not bad:
                points[call.number] = DivergencePoint(call, "layer")
            for key in bad:
                producer = self.origin(key, call)
                if producer is not None and (self.bad_output(producer)
                                             or self._is_unmatched(producer)):
                    waiting.append(producer)
                else:
                    waiting += self._through_code(call, key, points)

    def _differing_inside(self, call: LayerCall) -> LayerCall | None:
        """Return the last call made by this one that differs: one that makes no others, else the
        innermost that does.
        """
        for calls in (self.leaves, self.containers) if call.children else ():
            differing = self._to_be_looked_at(calls, call)
            if differing:
                return differing[-1]
        return None

    def _through_code(self, call: LayerCall, key: Fingerprint,
                      points: dict[int, DivergencePoint]) -> list[LayerCall]:
        """Return where a value came from that no call gave: calls before in the same parent that
        differ, else note that it is the parent's code itself.
        """
        parent = self._parent(call)
        while parent is not None and any(distance(key, one) < SAME for one in parent.inputs):
            # It was handed on from further out.
            parent = self._parent(parent)
        if parent is None or any(distance(key, one) < SAME for one in self.keras.calls[0].inputs):
            points[call.number] = DivergencePoint(call, "inputs")
            return []
        before = [
            other for other in self.leaves
            if other.number < call.number and self._is_inside(other, parent)
        ]
        differing = self._to_be_looked_at(before, parent)
        if differing:
            return differing[-1:]
        producers = (self.producer(one, parent) for one in parent.inputs)
        from_outside = [one for one in producers if one is not None and self.bad_output(one)]
        if not from_outside:
            points[call.number] = DivergencePoint(call, "before", tuple(before[-MAX_CALLS_BEFORE:]),
                                                  parent)
        return from_outside

    def _to_be_looked_at(self, calls: list[LayerCall], around: LayerCall) -> list[LayerCall]:
        """Return those of the calls inside one that differ, unless they were looked at and torch's
        values stand behind them.
        """
        inside = [one for one in calls if self._is_inside(one, around)]
        first, after = inside[:1], inside[-1:]
        last = max(
            (one.number
             for one in self.patched if first and first[0].number <= one.number <= after[0].number),
            default=0)
        return [
            one for one in inside
            if (one.number > last or one.number not in self.looked_at) and self.bad_output(one)
        ]

    def _parent(self, call: LayerCall) -> LayerCall | None:
        return None if call.parent is None else self.keras.calls[call.parent]

    def _is_inside(self, call: LayerCall, parent: LayerCall) -> bool:
        while call.parent is not None:
            if call.parent == parent.number:
                return True
            call = self.keras.calls[call.parent]
        return False


def _unfinished(scope: TorchScope) -> set[int]:
    """Return the orders of a layer's operations whose result goes into another one of its own, with
    weights that had no part before: the product before the offset.
    """
    found: set[int] = set()
    used: set[str] = set()
    steps = sorted(scope.steps, key=lambda step: step.order)
    for number, step in enumerate(steps):
        used.update(step.weights)
        consumers = (other for other in steps[number + 1:] if any(value.order == step.order
                                                                  for value in other.inputs))
        if any(set(scope.names) & set(other.weights) - used for other in consumers):
            found.add(step.order)
    return found


def position_in_block(call: LayerCall) -> PositionInBlock:
    """Return the display name without the numbers that tell blocks apart; of a call without weights
    also the shapes of what comes out.
    """
    return re.sub(r"_?\d+(?=/|$)", "",
                  call.display_name), call.output_shapes if call.leaf is None else ()
