"""Where two runs part: backwards from the outputs along what differs, to the calls whose inputs
agree and whose outputs do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan

import numpy as np
import numpy.typing as npt

from ..running.fingerprint import Fingerprint, FingerprintIndex, distance
from ..running.keras_calls import KerasRun, LayerCall
from ..running.torch_steps import TorchRun, Value
from .layer_pairs import TorchPlace

# The same tensor computed by two frameworks reads 1e-8 to 1e-6, growing with depth; the tanh
# approximation of GELU 1e-5 and more.
AGREES_BELOW = 3e-6
# A value agrees as long as it is no further off than this many times what came before.
TIMES_DRIFT = 8
# Beyond this no drift is taken for rounding.
MOST_DRIFT = 2e-4
SAME = 1e-10

PlaceInBlock = tuple[str, tuple[tuple[int, ...], ...]]


@dataclass(frozen=True, slots=True, eq=False)
class DivergencePoint:
    """The Keras call at which the models part. `kind` says how.

    "layer": its inputs agree, its output does not (of a call that makes others: nor do they
    differ); "before": its input has parted inside code of `call`'s parent, after the calls `after`;
    "inputs": the models were given different inputs; "end": all that the Keras model computes
    agrees, but torch's output is another.
    """

    call: LayerCall
    kind: str
    after: tuple[LayerCall, ...] = ()


class Values:
    """Values found again by their statistics, all compared at once."""
    def __init__(self, values: Sequence[Value]) -> None:
        """Those whose statistics hold NaN cannot be found."""
        self.values = [value for value in values if not any(isnan(number) for number in value.key)]
        self.keys = np.array([value.key for value in self.values], np.float64).reshape(-1, 5)
        self.orders = np.array([value.order for value in self.values], np.int64)

    def distances(self, key: Fingerprint) -> npt.NDArray[np.float64]:
        """As `fingerprint.distance`, to every value."""
        apart = np.abs(self.keys - np.array(key, np.float64))
        apart[:, -1] /= 2
        return np.asarray(np.nan_to_num(apart.max(1, initial=0.0), nan=inf))

    def nearest(self, key: Fingerprint, among: npt.NDArray[np.bool_] | None = None) -> float:
        """Distance to the nearest value, `among` those marked; infinite when there is none."""
        apart = self.distances(key)
        return float((apart if among is None else apart[among]).min(initial=inf))

    def find(self, key: Fingerprint, within: float) -> list[Value]:
        """All values nearer than `within`."""
        return [self.values[number] for number in np.flatnonzero(self.distances(key) < within)]


class Locator:
    """What agrees in two runs."""
    def __init__(self, keras: KerasRun, torch: TorchRun, places: Mapping[int, TorchPlace],
                 holds_its_weights: Callable[[LayerCall], bool | None],
                 masks: Sequence[Fingerprint] = (), agrees_below: float = AGREES_BELOW) -> None:
        """`places` are those of calls of layers with weights, by number of the call; values agree
        when they are nearer than `agrees_below`.

        `holds_its_weights` is asked for calls whose output torch has nowhere by itself (a table of
        positions that holds a sum, say): whether the layer holds what it should; None for calls
        whose output can be compared. `masks` are inputs of zeros and ones, which torch may hold in
        another form.
        """
        self.agrees_below = agrees_below
        self.times_drift = TIMES_DRIFT if agrees_below >= AGREES_BELOW else 2
        self.keras = keras
        self.torch = torch
        self.places = places
        self.index = Values(torch.every_value())
        self.leaves = keras.leaves()
        self.around = [call for call in keras.calls if call.children]
        self.producers = FingerprintIndex(
            (key, call) for call in self.leaves for key in call.outputs)
        self.producers_around = FingerprintIndex(
            (key, call) for call in self.around for key in call.outputs)
        self.holds_its_weights = holds_its_weights
        self.masks = masks
        self.owner = {step.order: frozenset(step.weights) for step in torch.steps if step.weights}
        # What an operation of weights computes on its way (the product before the bias) is nothing
        # that goes on from there.
        inside = [value.shape == () and value.order in self.owner for value in self.index.values]
        self.goes_on = ~np.array(inside, bool)
        self.counted: dict[frozenset[str], npt.NDArray[np.bool_]] = {}
        self.drift = 0.0
        self.apart_in: dict[int, list[float]] = {}
        self.apart_out: dict[int, list[float]] = {}
        self.tolerance: dict[int, float] = {}
        for call in self.leaves:
            self._look_at(call)
        for call in reversed(self.around):
            self.tolerance[call.number] = self.tolerance[call.children[-1]]
            self.apart_in[call.number] = [
                self.index.nearest(key, self.goes_on) for key in call.inputs
            ]
            self.apart_out[call.number] = self._nearest_behind(call)
        self.never_seen = self._never_seen()

    def _never_seen(self) -> frozenset[PlaceInBlock]:
        """Calls by their place in a block whose output torch never has, though what comes of it
        agrees: experts that are not asked, scores before their scale.
        """
        bad: set[PlaceInBlock] = set()
        good: set[PlaceInBlock] = set()
        for call in self.leaves:
            if not self._parted(call):
                good.add(place_in_block(call))
            elif self._agrees_around(call) or (call.leaf is None and self._agrees_behind(call)):
                bad.add(place_in_block(call))
        return frozenset(bad - good)

    def _agrees_behind(self, call: LayerCall) -> bool:
        """Whether the calls that take what this one gives, none of which has weights, give what
        torch has; a norm would hide a factor.
        """
        following = [
            one for one in self.leaves
            if one.number > call.number and set(call.outputs) & set(one.inputs)
        ]
        return bool(following) and not any(one.leaf is not None or self._parted(one)
                                           for one in following)

    def _parted(self, call: LayerCall) -> bool:
        """Of what a call that makes others gives only the first counts: the rest (caches, scores)
        may be computed otherwise.
        """
        outputs = self.apart_out[call.number][:1 if call.children else None]
        return any(apart >= self.tolerance[call.number] for apart in outputs)

    def _agrees_around(self, call: LayerCall) -> bool:
        """Whether a call around this one, other than that of the model, gives what torch has."""
        while call.parent is not None:
            call = self.keras.calls[call.parent]
            if call.parent is not None and call.outputs and not self._parted(call):
                return True
        return False

    def _look_at(self, call: LayerCall) -> None:
        self.tolerance[call.number] = limit = min(
            max(self.agrees_below, self.times_drift * self.drift),
            max(MOST_DRIFT, self.agrees_below))
        self.apart_in[call.number] = [self.index.nearest(key, self.goes_on) for key in call.inputs]
        place = self.places.get(call.number)
        outputs = [self._nearest(key, place) for key in call.outputs]
        self.apart_out[call.number] = outputs
        self.drift = max([self.drift, *(apart for apart in outputs if apart < limit)])

    def _nearest(self, key: Fingerprint, place: TorchPlace | None) -> float:
        """The distance to the nearest value in torch; what other weights give does not count for a
        layer with weights of its own.
        """
        if place is None:
            return self.index.nearest(key, self.goes_on)
        names = frozenset(place.names)
        if names not in self.counted:
            self.counted[names] = np.array(
                [self._counts(value, names) for value in self.index.values], bool)
        first = min(step.order for step in place.steps)
        whole = ~np.isin(self.index.orders, list(unfinished(place)))
        return self.index.nearest(key, self.counted[names] & whole & (self.index.orders >= first))

    def _nearest_behind(self, call: LayerCall) -> list[float]:
        """For a call that makes others: what torch has when it has computed all layers with weights
        inside, not what went in before.
        """
        places = [
            self.places[one.number]
            for one in self.leaves if one.number in self.places and self._inside(one, call)
        ]
        last = max((min(step.order for step in place.steps) for place in places), default=0)
        return [
            self.index.nearest(key, self.goes_on & (self.index.orders >= last))
            for key in call.outputs
        ]

    def _counts(self, value: Value, names: frozenset[str]) -> bool:
        """Not what other weights gave, and not what an operation of just these weights computes on
        its way.
        """
        owner = self.owner.get(value.order)
        if owner is None:
            return True
        return bool(owner & names) and not (value.shape == () and owner <= names)

    def bad_output(self, call: LayerCall) -> bool:
        """Whether a call gives something that torch does not have at that place."""
        if not self._parted(call) or self._is_never_seen(call) or self._agrees_around(call):
            return False
        return not self.holds_its_weights(call)

    def _is_never_seen(self, call: LayerCall) -> bool:
        return place_in_block(call) in self.never_seen

    def bad_inputs(self, call: LayerCall) -> list[Fingerprint]:
        """The inputs that torch does not have, or that come from a layer which gave another's
        output.
        """
        bad = []
        for key, apart in zip(call.inputs, self.apart_in[call.number], strict=True):
            if any(distance(key, mask) < SAME for mask in self.masks):
                continue
            producer = self.origin(key, call)
            if producer is not None and self._is_never_seen(producer):
                parted = bool(self.bad_inputs(producer))
            else:
                parted = apart >= self.tolerance[call.number] or (producer is not None
                                                                  and self.bad_output(producer))
            if parted:
                bad.append(key)
        return bad

    def origin(self, key: Fingerprint, consumer: LayerCall) -> LayerCall | None:
        """The call that a value comes from, past those that only hand it on (dropout, which does
        nothing here).
        """
        producer = self.producer(key, consumer)
        while producer is not None and producer.leaf is None and key in producer.inputs:
            before = self.producer(key, producer)
            if before is None:
                break
            producer = before
        return producer

    def producer(self, key: Fingerprint, consumer: LayerCall) -> LayerCall | None:
        """The call whose output a value is, the latest before `consumer`; one that makes other
        calls only where none of those gives the value.
        """
        for producers in (self.producers, self.producers_around):
            found = [call for _, call in producers.find(key, SAME) if call.number < consumer.number]
            found = [call for call in found if not self._inside(consumer, call)]
            if found:
                return max(found, key=lambda call: call.number)
        return None

    def first(self) -> DivergencePoint | None:
        """The first place in order of execution where the models part, on the way to outputs that
        differ; None when all agrees.
        """
        root = self.keras.calls[0]
        spots: dict[int, DivergencePoint] = {}
        seen: set[int] = set()
        ends = [self.producers.find(key, SAME) for key in root.outputs]
        last = [max((call for _, call in end), key=lambda call: call.number) for end in ends if end]
        last = last or self.leaves[-1:]
        for call in last:
            if self.bad_output(call):
                self._walk(call, spots, seen)
        if spots:
            return spots[min(spots)]
        torch_ends = [value.key for value in self.torch.outputs]
        for call in last:
            apart = min((distance(key, end) for key in call.outputs for end in torch_ends),
                        default=inf)
            if apart >= self.tolerance[call.number]:
                return DivergencePoint(call, "end")
        return None

    def _walk(self, start: LayerCall, spots: dict[int, DivergencePoint], seen: set[int]) -> None:
        waiting = [start]
        while waiting:
            call = waiting.pop()
            if call.number in seen:
                continue
            seen.add(call.number)
            parted = self._parted_inside(call)
            if parted is not None:
                waiting.append(parted)
                continue
            bad = self.bad_inputs(call)
            if not bad:
                spots[call.number] = DivergencePoint(call, "layer")
            for key in bad:
                producer = self.origin(key, call)
                if producer is not None and (self.bad_output(producer)
                                             or self._is_never_seen(producer)):
                    waiting.append(producer)
                else:
                    waiting += self._through_code(call, key, spots)

    def _parted_inside(self, call: LayerCall) -> LayerCall | None:
        """The last call made by this one that has parted: one that makes no others, else the
        innermost that does.
        """
        if not call.children:
            return None
        for calls in (self.leaves, self.around):
            parted = [one for one in calls if self._inside(one, call) and self.bad_output(one)]
            if parted:
                return parted[-1]
        return None

    def _through_code(self, call: LayerCall, key: Fingerprint,
                      spots: dict[int, DivergencePoint]) -> list[LayerCall]:
        """Where a value came from that no call gave: calls before in the same parent that have
        parted, else the parent's code itself.
        """
        parent = self.keras.calls[call.parent] if call.parent is not None else None
        if parent is None or any(distance(key, one) < SAME for one in self.keras.calls[0].inputs):
            spots[call.number] = DivergencePoint(call, "inputs")
            return []
        before = [
            other for other in self.leaves
            if parent.number < other.number < call.number and self._inside(other, parent)
        ]
        parted = [other for other in before if self.bad_output(other)]
        if parted:
            return parted[-1:]
        from_outside = [
            producer for one in parent.inputs for producer in [self.producer(one, parent)]
            if producer is not None and self.bad_output(producer)
        ]
        if from_outside:
            return from_outside
        spots[call.number] = DivergencePoint(call, "before", tuple(before[-4:]))
        return []

    def _inside(self, call: LayerCall, parent: LayerCall) -> bool:
        while call.parent is not None:
            if call.parent == parent.number:
                return True
            call = self.keras.calls[call.parent]
        return False


def unfinished(place: TorchPlace) -> set[int]:
    """Orders of a layer's operations whose result goes into another one of its own, with weights
    that had no part before: the product before the offset.
    """
    found: set[int] = set()
    used: set[str] = set()
    steps = sorted(place.steps, key=lambda step: step.order)
    for number, step in enumerate(steps):
        used.update(step.weights)
        takers = (other for other in steps[number + 1:] if any(value.order == step.order
                                                               for value in other.inputs))
        if any(set(place.names) & set(other.weights) - used for other in takers):
            found.add(step.order)
    return found


def place_in_block(call: LayerCall) -> PlaceInBlock:
    """The label without the numbers that tell blocks apart; of a call without weights also the
    shapes of what comes out.
    """
    return re.sub(r"_?\d+(?=/|$)", "",
                  call.display_name), call.output_shapes if call.leaf is None else ()
