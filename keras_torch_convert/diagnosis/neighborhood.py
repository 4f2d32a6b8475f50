"""What stands around a divergence point in both runs: the calls before and behind it in Keras, the
operations and values of torch that may belong to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from ..running.fingerprint import Fingerprint
from ..running.keras_calls import KerasRun, LayerCall
from ..running.torch_steps import Step, TorchRun, Value
from .locator import AGREES_BELOW, DivergencePoint, Locator
from .scopes import TorchScope

# How far behind and before a point values are looked at: an activation, a scale, a sum.
DEPTH_BEHIND = 4
DEPTH_BEFORE = 4
MAX_KEPT = 40
MAX_VISITED = 24
MAX_CONSUMERS = 2
MAX_NORMS = 4
# An activation made of more steps than this is not recognized.
MAX_CHAIN = 4
SAME_STATISTICS = 1e-5


@dataclass(frozen=True, slots=True)
class NeighborhoodRequest:
    """What of torch's run is kept for one point: `orders` are the times at which its values appear,
    the rest as in DivergenceContext.
    """

    orders: tuple[int, ...]
    expected: tuple[Value, ...]
    next_inputs: tuple[Value, ...]
    steps: tuple[Step, ...]


class Neighborhood:
    """What two runs have around a point; `scopes` by number of the Keras call."""
    def __init__(self, keras: KerasRun, torch: TorchRun, scopes: Mapping[int, TorchScope],
                 locator: Locator) -> None:
        self.keras, self.torch, self.scopes, self.locator = keras, torch, scopes, locator
        self.step_by_order = {step.order: step for step in torch.steps}

    def producers(self, call: LayerCall) -> list[LayerCall]:
        """Return calls that the inputs of `call` came from, up to four steps back, the nearest
        last.
        """
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

    def norms(self, point: DivergencePoint) -> list[LayerCall]:
        """Return the last norms that a point's sum may go around: called before it or inside."""
        call = point.call
        shapes = {*call.input_shapes, *call.output_shapes}
        last = max((call.number, *call.children))
        found = [
            one for one in self.keras.calls[:last + 1]
            if one is not call and is_norm(one) and one.output_shapes[0] in shapes
        ]
        return found[-MAX_NORMS:]

    def consumers(self, call: LayerCall) -> list[LayerCall]:
        """Return calls that take the output of `call`."""
        return [
            other for other in self.keras.leaves()
            if other.number > call.number and any(key in call.outputs for key in other.inputs)
        ]

    def chain(self, call: LayerCall) -> list[LayerCall]:
        """Return calls without weights, each taking the output of the one before: an activation
        made of several steps.
        """
        found: list[LayerCall] = []
        while len(found) < MAX_CHAIN:
            consumers = self.consumers(found[-1] if found else call)
            weightless = next((one for one in consumers if one.leaf is None), None)
            if weightless is None or weightless.output_shapes != call.output_shapes:
                break
            found.append(weightless)
        return found

    def next_layers(self, call: LayerCall) -> list[LayerCall]:
        """Return the next calls of layers with weights that the output of `call` flows into through
        calls without.
        """
        found: list[LayerCall] = []
        visited: set[int] = set()
        waiting = self.consumers(call)
        while waiting and len(visited) < MAX_VISITED:
            one = waiting.pop(0)
            if one.number in visited:
                continue
            visited.add(one.number)
            if one.number in self.scopes:
                found.append(one)
            elif one.leaf is None:
                waiting += self.consumers(one)
        return found[:MAX_CONSUMERS]

    def later_inside(self, call: LayerCall) -> list[LayerCall]:
        """Return the next call of a layer with weights that the same layer makes."""
        around = self.keras.calls[call.parent].children if call.parent else []
        later = (self.keras.calls[one] for one in around if one > call.number)
        return [one for one in later if one.number in self.scopes][:1]

    def request(self, point: DivergencePoint) -> NeighborhoodRequest:
        """Return what may tell why the models part at a point."""
        scope = self.scopes.get(point.call.number)
        next_scopes = [self.scopes[one.number] for one in self.next_layers(point.call)]
        next_inputs = [value for one in next_scopes for value in one.inputs]
        if any(key in self.keras.calls[0].outputs for key in point.call.outputs):
            next_inputs += self.torch.outputs
        known, expected, steps = self._at(point, scope)
        outputs = [value for step in steps for value in step.outputs]
        if point.kind not in ("before", "end"):
            expected += [*self._possible_outputs(point.call, scope, outputs), *next_inputs]
        inputs = [value for step in steps for value in step.inputs]
        norms = [self.scopes[one.number] for one in self.norms(point) if one.number in self.scopes]
        into_norms = [one.inputs[0] for one in norms if one.inputs]
        orders = dict.fromkeys(value.order for value in (*known, *into_norms, *expected,
                                                         *next_inputs, *outputs, *inputs))
        return NeighborhoodRequest(
            tuple(orders)[:MAX_KEPT], tuple(dict.fromkeys(expected)), tuple(next_inputs),
            tuple(dict.fromkeys(steps)))

    def _at(self, point: DivergencePoint,
            scope: TorchScope | None) -> tuple[list[Value], list[Value], list[Step]]:
        """Return values of torch that go into the point, those that its output is expected to be,
        and the operations there.
        """
        if point.kind == "end":
            return [], list(self.torch.outputs), []
        if point.kind == "before":
            expected = list(scope.inputs) if scope is not None else []
            return [], expected, self._steps_in_between(point)
        if scope is not None:
            steps = [*scope.steps, *self._steps_behind(scope.outputs, set(scope.names))]
            steps += self._steps_before(scope.inputs, most=6)
            inputs = [*scope.inputs, *(value for step in scope.steps for value in step.inputs)]
            return inputs, list(scope.outputs), steps
        tolerance = self.locator.tolerance[point.call.number]
        taken = [
            value for key in point.call.inputs
            for value in self.locator.values.find(key, tolerance)
        ]
        steps = self._steps_behind(taken, set())
        for one in self.next_layers(point.call) or self.later_inside(point.call):
            steps += self._steps_before(self.scopes[one.number].inputs, most=4)
        return taken, [], steps

    def _possible_outputs(self, call: LayerCall, scope: TorchScope | None,
                          outputs: list[Value]) -> list[Value]:
        """Return values that are no inputs of the call, those of its size first."""
        known = () if scope is not None else call.inputs
        fresh = [value for value in outputs if not any(_near(value.key, key) for key in known)]
        size = call.output_shapes[0] if call.output_shapes else ()
        return sorted(fresh, key=lambda value: prod(value.shape) != prod(size)) if size else fresh

    def _steps_behind(self, values: Iterable[Value], names: set[str]) -> list[Step]:
        """Return torch's operations that take some values, and those that take what they give, as
        long as no other weights take part.
        """
        found: dict[int, Step] = {}
        keys = [value.key for value in values]
        for _ in range(DEPTH_BEHIND):
            results = []
            for step in self.torch.steps:
                fresh = step.order not in found and not set(step.weights) - names
                if fresh and any(_near(value.key, key) for value in step.inputs for key in keys):
                    found[step.order] = step
                    results += [value.key for value in step.outputs]
            keys = results
            if len(found) > MAX_KEPT:
                break
        return list(found.values())

    def _steps_before(self, values: Iterable[Value], most: int) -> list[Step]:
        """Return torch's operations that led to some values, back to those of weights."""
        found: dict[int, Step] = {}
        waiting = list(values)
        while waiting and len(found) < most:
            step = self.step_by_order.get(waiting.pop(0).order)
            if step is None or step.order in found or step.weights:
                continue
            found[step.order] = step
            waiting += list(step.inputs)
        return list(found.values())

    def _steps_in_between(self, point: DivergencePoint) -> list[Step]:
        """Return torch's operations without weights between what was agreed on last before a point
        and the next layer with weights.
        """
        parent = point.parent or self.keras.calls[0]
        known = [call.outputs for call in point.after] or [parent.inputs]
        found = ([
            value.order for key in keys for value in self.locator.values.find(key, AGREES_BELOW)
        ] for keys in known)
        orders = [max(one) for one in found if one]
        behind = [
            self.scopes[number].steps[0].order
            for number in sorted(self.scopes) if number >= point.call.number
        ]
        first, last = min(orders, default=0), behind[0] if behind else len(self.torch.steps)**2
        return [
            step for step in self.torch.steps if first < step.order <= last and not step.weights
        ][:MAX_KEPT]


@dataclass(frozen=True, slots=True, eq=False)
class CallsAround:
    """The calls around a point, and what is asked of torch's run for it."""

    point: DivergencePoint
    request: NeighborhoodRequest
    parent: LayerCall | None
    producers: list[LayerCall]
    norms: list[LayerCall]
    consumers: list[LayerCall]
    chain: list[LayerCall]

    @classmethod
    def of(cls, point: DivergencePoint, around: Neighborhood) -> CallsAround:
        """Return what stands around a point."""
        call, calls = point.call, around.keras.calls
        inside = [calls[number] for number in call.children]
        producers = (list(point.after)
                     if point.kind == "before" else inside or around.producers(call))
        near = point.parent or (call if inside else calls[call.parent or 0])
        parent = None if not near.number or (point.kind == "inputs" and not inside) else near
        return cls(point, around.request(point), parent, producers, around.norms(point),
                   around.consumers(call)[:2], around.chain(call))

    @property
    def calls(self) -> list[LayerCall]:
        """The calls whose values are kept."""
        parent = [] if self.parent is None else [self.parent]
        return [
            self.point.call, *self.producers, *self.norms, *self.consumers, *self.chain, *parent
        ]


def is_norm(call: LayerCall) -> bool:
    """Whether a call is that of a normalization with weights."""
    return call.leaf is not None and any("Norm" in name for name in call.class_names)


def _near(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two values are the same by the statistics that rounding moves least."""
    return all(
        abs(one - two) < SAME_STATISTICS for one, two in zip(first[:3], second[:3], strict=True))
