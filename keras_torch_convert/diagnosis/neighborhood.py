"""What stands around a spot in both runs: the calls before and behind it in Keras, the operations
and values of torch that may belong to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from ..running.fingerprint import Fingerprint
from ..running.keras_calls import KerasRun, LayerCall
from ..running.torch_steps import Step, TorchRun, Value
from .layer_pairs import TorchPlace
from .locating import AGREES_BELOW, DivergencePoint, Locator

# How far behind a place torch's values are looked at: an activation, a scale, a sum.
DEPTH_BEHIND = 4
DEPTH_BEFORE = 4
MOST_KEPT = 40
MOST_LOOKED_AT = 24
# An activation made of more steps than this is not known.
MOST_ALONG = 4
SAME_STATISTICS = 1e-5


@dataclass(frozen=True, slots=True)
class NeighborhoodRequest:
    """What of torch's run is kept for one spot: `orders` are the times at which its values appear,
    the rest as in Scene.
    """

    orders: tuple[int, ...]
    expected: tuple[Value, ...]
    following: tuple[Value, ...]
    steps: tuple[Step, ...]


class Neighborhood:
    """Two runs, and which layer's work is done where (`places`, by number of the Keras call)."""
    def __init__(self, keras: KerasRun, torch: TorchRun, places: Mapping[int, TorchPlace],
                 locator: Locator) -> None:
        self.keras, self.torch, self.places, self.locator = keras, torch, places, locator
        self.step_by_order = {step.order: step for step in torch.steps}

    def chain(self, call: LayerCall) -> list[LayerCall]:
        """Calls that the inputs of `call` came from, up to four steps back, the nearest last."""
        found: dict[int, LayerCall] = {}
        waiting = [(call, 0)]
        while waiting:
            one, depth = waiting.pop()
            for key in one.inputs if depth < DEPTH_BEFORE else ():
                producer = self.locator.producer(key, one)
                if producer is not None and producer.number not in found:
                    found[producer.number] = producer
                    if producer.leaf is None:
                        waiting.append((producer, depth + 1))
        return [found[number] for number in sorted(found)]

    def earlier(self, call: LayerCall) -> list[LayerCall]:
        """Calls before `call` inside the layer around it; none where that is the model."""
        around = self.keras.calls[call.parent] if call.parent else None
        return [
            one for one in self.keras.leaves()
            if around is not None and around.number < one.number < call.number
        ]

    def behind(self, call: LayerCall) -> list[LayerCall]:
        """Calls that take the output of `call`."""
        return [
            other for other in self.keras.leaves()
            if other.number > call.number and any(key in call.outputs for key in other.inputs)
        ]

    def along(self, call: LayerCall) -> list[LayerCall]:
        """Calls without weights that follow one another, each taking the output of the one before:
        an activation made of several steps.
        """
        found: list[LayerCall] = []
        while len(found) < MOST_ALONG:
            behind = [one for one in self.behind(found[-1] if found else call) if one.leaf is None]
            if not behind or behind[0].output_shapes != call.output_shapes:
                break
            found.append(behind[0])
        return found

    def next_places(self, call: LayerCall) -> list[TorchPlace]:
        """torch's places of the next layers with weights that the output of `call` flows into
        through calls without.
        """
        found: list[TorchPlace] = []
        seen: set[int] = set()
        waiting = self.behind(call)
        while waiting and len(seen) < MOST_LOOKED_AT:
            one = waiting.pop(0)
            if one.number in seen:
                continue
            seen.add(one.number)
            if one.number in self.places:
                found.append(self.places[one.number])
            elif one.leaf is None:
                waiting += self.behind(one)
        return found[:2]

    def wanted(self, spot: DivergencePoint, place: TorchPlace | None) -> NeighborhoodRequest:
        """What may tell why the models part at a spot."""
        following = [value for other in self.next_places(spot.call) for value in other.inputs]
        known, expected, steps = self._at(spot, place)
        outputs = [value for step in steps for value in step.outputs]
        if spot.kind not in ("before", "end"):
            expected += [*self._possible_outputs(spot.call, place, outputs), *following]
        inputs = [value for step in steps for value in step.inputs]
        orders = dict.fromkeys(
            value.order for value in (*known, *expected, *following, *outputs, *inputs))
        return NeighborhoodRequest(
            tuple(orders)[:MOST_KEPT], tuple(dict.fromkeys(expected)), tuple(following),
            tuple(dict.fromkeys(steps)))

    def _at(self, spot: DivergencePoint,
            place: TorchPlace | None) -> tuple[list[Value], list[Value], list[Step]]:
        """Values of torch that go into the spot, those that its output is expected to be, and the
        operations there.
        """
        if spot.kind == "end":
            return [], list(self.torch.outputs), []
        if spot.kind == "before":
            return [], list(place.inputs) if place is not None else [], self._steps_in_between(spot)
        if place is not None:
            steps = [*place.steps, *self._steps_behind(place.outputs, set(place.names))]
            steps += self._steps_before(place.inputs, most=6)
            inputs = [*place.inputs, *(value for step in place.steps for value in step.inputs)]
            return inputs, list(place.outputs), steps
        tolerance = self.locator.tolerance[spot.call.number]
        taken = [
            value for key in spot.call.inputs for value in self.locator.index.find(key, tolerance)
        ]
        steps = self._steps_behind(taken, set())
        for other in self.next_places(spot.call):
            steps += self._steps_before(other.inputs, most=4)
        return taken, [], steps

    def _possible_outputs(self, call: LayerCall, place: TorchPlace | None,
                          outputs: list[Value]) -> list[Value]:
        """Values that are no inputs of the call, those of its size first."""
        known = () if place is not None else call.inputs
        fresh = [value for value in outputs if not any(near(value.key, key) for key in known)]
        size = call.output_shapes[0] if call.output_shapes else ()
        return sorted(fresh, key=lambda value: prod(value.shape) != prod(size)) if size else fresh

    def _steps_behind(self, values: Iterable[Value], names: set[str]) -> list[Step]:
        """torch's operations that take some values, and those that take what they give, as far as
        no other weights take part.
        """
        found: dict[int, Step] = {}
        keys = [value.key for value in values]
        for _ in range(DEPTH_BEHIND):
            following = []
            for step in self.torch.steps:
                fresh = step.order not in found and not set(step.weights) - names
                if fresh and any(near(value.key, key) for value in step.inputs for key in keys):
                    found[step.order] = step
                    following += [value.key for value in step.outputs]
            keys = following
            if len(found) > MOST_KEPT:
                break
        return list(found.values())

    def _steps_before(self, values: Iterable[Value], most: int) -> list[Step]:
        """torch's operations that led to some values, back to those of weights."""
        found: dict[int, Step] = {}
        waiting = list(values)
        while waiting and len(found) < most:
            step = self.step_by_order.get(waiting.pop(0).order)
            if step is None or step.order in found or step.weights:
                continue
            found[step.order] = step
            waiting += list(step.inputs)
        return list(found.values())

    def _steps_in_between(self, spot: DivergencePoint) -> list[Step]:
        """torch's operations without weights between what was agreed on last before a spot and the
        next layer with weights.
        """
        parent = self.keras.calls[spot.call.parent or 0]
        known = [*parent.inputs, *(key for call in spot.after for key in call.outputs)]
        orders = [
            value.order for key in known for value in self.locator.index.find(key, AGREES_BELOW)
        ]
        behind = [
            self.places[number].steps[0].order
            for number in sorted(self.places) if number >= spot.call.number
        ]
        first, last = max(orders, default=0), behind[0] if behind else len(self.torch.steps)**2
        return [
            step for step in self.torch.steps if first < step.order <= last and not step.weights
        ][:MOST_KEPT]


def near(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two values are the same by the statistics that rounding moves least."""
    return (abs(first[0] - second[0]) < SAME_STATISTICS
            and abs(first[1] - second[1]) < SAME_STATISTICS
            and abs(first[2] - second[2]) < SAME_STATISTICS)
