"""The whole diagnosis: both models run once for statistics, once more for the values at each point
where they part, and causes tried there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

from ..comparison.arrays import arranged
from ..comparison.divergence import FirstDivergence
from ..comparison.measurement import reference_of
from ..plan.plan import Plan
from ..running.fingerprint import distance, fingerprint
from ..running.keras_calls import KerasRun, LayerCall, run_keras_calls
from ..running.keras_values import eager_arrays
from ..running.outputs import as_array
from ..running.run import cast_floats
from ..running.torch_steps import TorchRun, run_torch_steps
from ..spec.source import Source
from ..spec.target import Target
from .causes import hypotheses_of
from .causes.weights import LayerWeights
from .context import Array, DivergenceContext, Hypothesis
from .description import describe_divergence
from .locator import AGREES_BELOW, DivergencePoint, Locator
from .neighborhood import Neighborhood
from .scopes import TorchScope, names_by_layer, scope_of

if TYPE_CHECKING:
    from ..running.input_pair import InputPair

# Statistics that differ by less than this part of the outputs' difference are looked at only when
# nothing else is left.
PART_OF_OUTPUT = 1e-3
COARSEST = 3e-4
FINEST = 8e-7
MAX_DIVERGENCES = 8
# What is left of the outputs' difference below this share counts only where its cause is proven.
NEGLIGIBLE_SHARE = 0.01
MAX_UNKNOWN = 2
# Inputs of a point that are further apart than the first are replaced by torch's before causes are
# tried, as long as they are nearer than the second, value by value.
EXACT_BELOW = 3e-7
NEARLY_BELOW = 0.02
# So many causes that hold at one point are tried in the model.
MAX_CANDIDATES = 4

Best = tuple[float, Hypothesis]


@dataclass(frozen=True, slots=True, eq=False)
class PatchedRun:
    """One run of the Keras model in which some calls gave other outputs than their own, by number,
    compared with torch's run.
    """

    patched: Mapping[int, Array]
    keras: KerasRun
    locator: Locator


@dataclass(slots=True, eq=False)
class _Found:
    """A divergence, and how much of the outputs' difference it makes."""

    effect: float
    context: DivergenceContext
    best: Best | None
    divergence: FirstDivergence

    def is_same(self, other: _Found) -> bool:
        """Whether a cause was met again: at the same layer, or where another call takes the same
        value.
        """
        ours, theirs = (one.best[1] if one.best is not None else None for one in (self, other))
        same_layer = self.divergence.keras_layer == other.divergence.keras_layer
        if ours is None or theirs is None:
            return same_layer and ours is theirs
        if same_layer and ours.cause == theirs.cause:
            return True
        same_input = self.context.call.inputs == other.context.call.inputs
        return ours.kind == theirs.kind and (same_input or (same_layer and bool(theirs.at)))


class Diagnosis:
    """Where two models part at `inputs`, and why. Neither model is changed.

    `result` looks for all points; `run`, `locate`, `context` and `causes` do it for one, with any
    values behind the other layers.
    """
    def __init__(self, source: Source, target: Target, inputs: InputPair,
                 plan: Plan | None) -> None:
        """Run both models for statistics."""
        self.source, self.target = source, target
        module = source.module
        # Rounding of a half type would look like a divergence everywhere.
        self.dtype = dtype = reference_of(module, inputs).dtype
        self.inputs = inputs if dtype is None else replace(
            inputs, torch_inputs=cast_floats(inputs.torch_inputs, dtype))
        own = [
            *module.named_parameters(remove_duplicate=False),
            *module.named_buffers(remove_duplicate=False)
        ]
        # Tied weights must stay one tensor.
        detached = {
            id(tensor): tensor.detach() if dtype is None else cast_floats(tensor, dtype)
            for _, tensor in own
        }
        self.tensors = {
            name: detached[id(tensor)] for name, tensor in own if tensor.is_floating_point()
        }
        self.modules = dict(module.named_modules())
        self.torch = self._run_torch()
        self.masks = [
            array for array in eager_arrays(inputs.keras_inputs)
            if array.dtype.kind in "iub" and array.max(initial=0) <= 1
        ]
        self.weights = LayerWeights(source, target, plan)
        self.names = names_by_layer(plan, source, target)
        keras = self._run_keras({})
        self.scopes = self._scopes(keras)
        self.unpatched = PatchedRun({}, keras, self._locator(keras))

    def _run_torch(self, capture: Sequence[int] = ()) -> TorchRun:
        return run_torch_steps(self.source.module, self.inputs.torch_call, self.inputs.torch_inputs,
                               self.tensors, capture, self.dtype)

    def _run_keras(self, patched: Mapping[int, Array], capture: Sequence[int] = ()) -> KerasRun:
        return run_keras_calls(self.target, self.inputs.keras_call, self.inputs.keras_inputs,
                               capture, patched)

    def _scopes(self, keras: KerasRun) -> dict[int, TorchScope]:
        scopes = {}
        for call in keras.leaves():
            names = self.names.get(call.leaf.display_name) if call.leaf is not None else None
            scope = scope_of(names, call.inputs, self.torch, self.modules) if names else None
            if scope is not None:
                scopes[call.number] = scope
        return scopes

    def _locator(self, keras: KerasRun, agrees_below: float = AGREES_BELOW) -> Locator:
        return Locator(keras, self.torch, self.scopes,
                       lambda call: self.weights.as_planned(call, self.scopes.get(call.number)),
                       [fingerprint(mask) for mask in self.masks], agrees_below)

    def layer_differences(self) -> dict[str, float]:
        """Return, by display name of each layer that makes no calls of others, how far the
        statistics of its output are from the nearest in torch, in order of execution.

        1 stands for 1 and more. A layer that is called several times has the largest.
        """
        found: dict[str, float] = {}
        locator = self.unpatched.locator
        for call in locator.leaves:
            for apart_by in locator.output_distances[call.number]:
                found[call.display_name] = max(found.get(call.display_name, 0.0),
                                               min(apart_by, 1.0))
        return found

    def result(self, difference: float) -> FirstDivergence | None:
        """Return the divergence that changes the outputs most, with its cause and those of the
        others; `difference` is that of the outputs, relative to the largest one.

        Each point that is found is patched with torch's value before the next is looked for.
        """
        run, found = self.unpatched, list[_Found]()
        first = left = self._outputs_distance(run)
        visited, unknown = set[int](), 0
        while len(visited) < MAX_DIVERGENCES:
            share = left / first if found and 0 < first < inf else 1.0
            run, point = self.locate(run, difference * share, is_first=not found)
            if point is None or point.call.number in visited:
                break
            visited.add(point.call.number)
            context = self.context(point, run)
            best, patched = self._proven(context, run)
            unknown += best is None
            if best is None and ((found and share <= NEGLIGIBLE_SHARE) or unknown > MAX_UNKNOWN):
                break
            divergence = describe_divergence(context, best, run.keras, self.modules)
            before, left = left, self._outputs_distance(patched) if patched is not None else 0.0
            new = _Found(before - left, context, best, divergence)
            same = next((one for one in found if one.is_same(new)), None)
            if same is not None:
                same.effect += new.effect
            else:
                found.append(new)
            if patched is None:
                break
            run = patched
        ranked = [one.divergence for one in sorted(found, key=lambda one: -one.effect)]
        also = tuple(f"{one.keras_layer or 'inputs'}: {one.cause}" for one in ranked[1:])
        return replace(ranked[0], also=also) if ranked else None

    def _proven(self, context: DivergenceContext,
                run: PatchedRun) -> tuple[Best | None, PatchedRun | None]:
        """Return the first cause that holds, better one with which the calls behind agree too, and
        the run with it fixed; None when it is not known which value torch has there.
        """
        first: tuple[Best, PatchedRun | None] | None = None
        for best in islice(self.causes(context), MAX_CANDIDATES):
            patch = self._patch(context, best)
            patched = self.run({**run.patched, **patch}) if patch else None
            if patched is None or context.scope is not None:
                return best, patched
            _, point = self.locate(patched, 0.0, is_first=False)
            consumers = [call.number for number in patch for call in self._consumers(number)]
            if point is None or point.call.number not in consumers:
                return best, patched
            first = first or (best, None)
        if first is not None:
            return first
        patch = self._patch(context, None)
        return None, self.run({**run.patched, **patch}) if patch else None

    def run(self, patched: Mapping[int, Array]) -> PatchedRun:
        """Run the Keras model with other outputs in the place of some calls' own."""
        keras = self._run_keras(patched)
        return PatchedRun(patched, keras, self._locator(keras))

    def locate(self, run: PatchedRun, difference: float, *,
               is_first: bool = True) -> tuple[PatchedRun, DivergencePoint | None]:
        """Return the first point where the models part by as much as matters for a difference of
        the outputs, else by less.
        """
        levels = {min(max(difference * PART_OF_OUTPUT, AGREES_BELOW), COARSEST), AGREES_BELOW}
        for level in sorted(levels | ({FINEST} if is_first else set()), reverse=True):
            locator = self._locator(run.keras, level)
            point = locator.first()
            if point is not None:
                return replace(run, locator=locator), point
        return run, None

    def _outputs_distance(self, run: PatchedRun) -> float:
        """Return how far the outputs of the Keras model are from the nearest of torch, by their
        statistics.
        """
        ends = [value.key for value in self.torch.outputs]
        distances = (
            min((distance(key, end) for end in ends), default=inf) for key in run.keras.outputs)
        return max(distances, default=inf)

    def causes(self, context: DivergenceContext) -> Iterator[Best]:
        """Yield the hypotheses that hold, with how near they come."""
        for hypothesis in hypotheses_of(context):
            found = context.distance_of(hypothesis)
            if isfinite(found) and context.explains(hypothesis, found):
                yield found, hypothesis

    def _patch(self, context: DivergenceContext, best: Best | None) -> dict[int, Array]:
        """Return outputs of calls with which the models agree at a point: torch's value where that
        is known, else that of the cause; empty when there are none.
        """
        point, call = context.point, context.call
        if best is not None and point.kind == "layer":
            hypothesis = best[1]
            number = call.number if hypothesis.output_of is None else hypothesis.output_of
            shapes = self.unpatched.keras.calls[number].output_shapes
            if shapes and hypothesis.trial.shape == shapes[0]:
                expected = context.expected if hypothesis.compare == "values" else []
                theirs = _nearest(hypothesis.trial, expected)
                return {number: hypothesis.trial if theirs is None else theirs}
        if point.kind in ("inputs", "end"):
            return {}
        # Behind the point, where it is known what torch has: the next layers with weights.
        layers = [call] if call.number in self.scopes else self._around(
            self.unpatched).next_layers(call)
        values = self._torch_values(
            [value.order for one in layers for value in self.scopes[one.number].outputs])
        keras = self._run_keras({}, [one.number for one in layers]).captured
        patch = {}
        for one in layers:
            order = self.scopes[one.number].outputs[0].order
            for array in keras[one.number].outputs[:1]:
                theirs = _nearest(array, values.get(order, ()), within=inf)
                if theirs is not None:
                    patch[one.number] = theirs
        return patch

    def _around(self, run: PatchedRun) -> Neighborhood:
        return Neighborhood(run.keras, self.torch, self.scopes, run.locator)

    def _consumers(self, number: int) -> list[LayerCall]:
        return self._around(self.unpatched).consumers(self.unpatched.keras.calls[number])

    def context(self, point: DivergencePoint, run: PatchedRun) -> DivergenceContext:
        """Return what both models have at a point, from one more run of each."""
        call, keras = point.call, run.keras
        scope = self.scopes.get(call.number)
        around = self._around(run)
        inside = [keras.calls[number] for number in call.children]
        producers = list(
            point.after) if point.kind == "before" else inside or around.producers(call)
        consumers, chain = around.consumers(call)[:2], around.chain(call)
        request = around.request(point)
        parent = call if inside else keras.calls[call.parent] if call.parent else None
        parent = None if point.kind == "inputs" and not inside else parent
        values = self._torch_values(request.orders)
        patched = {
            **run.patched, **self._exact_inputs(run, [call, *([parent] if parent else [])], values)
        }
        wanted = [call, *producers, *consumers, *chain, *([parent] if parent else [])]
        captured = self._run_keras(patched, [one.number for one in wanted]).captured
        context = DivergenceContext(
            self.target, point, captured[call.number], self.torch,
            lambda array: run.locator.index.nearest(fingerprint(array)), producers=[
                (one, captured[one.number]) for one in producers
            ], consumers=[(one, captured[one.number]) for one in consumers], chain=[
                (one, captured[one.number]) for one in chain
            ], parent=(parent, captured[parent.number]) if parent else None, scope=scope,
            steps=list(request.steps), values=values, masks=self.masks,
            patched=_patched_inside(keras, parent, run.patched) if parent else {},
            is_first=call.number <= min(self.scopes, default=call.number), is_last=any(
                key in keras.calls[0].outputs for key in call.outputs))
        context.expected = context.arrays_of(request.expected)
        context.next_inputs = context.arrays_of(request.next_inputs)
        if point.kind == "inputs":
            context.torch_inputs = list(context.values[0])
        elif scope is not None:
            context.torch_inputs = context.arrays_of(scope.inputs)
        self._add_weights(
            context, [*(one for one in around.earlier(call) if one not in producers), *producers])
        return context

    def _exact_inputs(self, run: PatchedRun, calls: Sequence[LayerCall],
                      values: Mapping[int, Sequence[Array]]) -> dict[int, Array]:
        """Return torch's values for the calls that give the inputs of some, where those agree
        nearly only: what is wrong before must not hide the cause.
        """
        locator = run.locator
        wanted: dict[int, list[Array]] = {}
        inputs = [
            (one, key, apart) for one in calls
            for key, apart in zip(one.inputs, locator.input_distances[one.number], strict=True)
        ]
        for call, key, apart in inputs:
            tolerance = locator.tolerance[call.number]
            producer = locator.producer(key, call)
            if producer is not None and EXACT_BELOW < apart < tolerance:
                found = locator.index.find(key, tolerance)
                wanted[producer.number] = [
                    array for value in found for array in values.get(value.order, ())
                ]
        captured = self._run_keras(run.patched, list(wanted)).captured if wanted else {}
        exact = {
            number: _nearest(captured[number].outputs[0], arrays, within=NEARLY_BELOW)
            for number, arrays in wanted.items()
        }
        return {number: array for number, array in exact.items() if array is not None}

    def _add_weights(self, context: DivergenceContext, before: Iterable[LayerCall]) -> None:
        leaf = context.call.leaf
        if leaf is not None:
            context.held = self.weights.held(leaf)
            context.planned = self.weights.planned(leaf, context.scope)
            context.owners = self.weights.owners(context.held, context.planned, leaf)
        context.wrong_weights = self.weights.wrong(reversed(list(before)), self.scopes)

    def _torch_values(self, orders: Sequence[int]) -> dict[int, list[Array]]:
        """Return torch's values that appear at some times, from another run; its inputs at 0."""
        values = {
            order: [np.asarray(as_array(tensor)) for tensor in tensors]
            for order, tensors in self._run_torch(orders).captured.items()
        }
        values[0] = [np.asarray(array) for array in eager_arrays(self.inputs.torch_inputs)]
        return values


def _patched_inside(keras: KerasRun, parent: LayerCall,
                    patched: Mapping[int, Array]) -> dict[int, Array]:
    """Return the patched outputs of layers that a call makes once, by identity of the layer."""
    inside = [keras.calls[number] for number in parent.children]
    layers = [id(one.layer) for one in inside]
    return {
        id(one.layer): patched[one.number]
        for one in inside if one.number in patched and layers.count(id(one.layer)) == 1
    }


def _nearest(trial: Array, values: Iterable[Array], within: float = COARSEST) -> Array | None:
    """Return the value of torch's that is nearest to a trial, in its shape; None when none is
    nearer than `within`.
    """
    best, best_array = within, None
    scale = max(float(np.abs(trial).max(initial=0.0)), 1e-30)
    for array in (array for value in values for array in arranged(value, trial.shape)):
        distance = float(np.abs(array - trial).max(initial=0.0)) / scale
        if distance < best:
            best, best_array = distance, array
    return best_array
