"""The whole diagnosis: both models run once for statistics, once more for the values at each point
where they part, and causes tried there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby, islice
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

from ..comparison.arrays import apart, arranged
from ..comparison.divergence import Difference, FirstDivergence
from ..comparison.measurement import reference_of
from ..comparison.outputs import difference_of
from ..errors import PredictionError
from ..plan.plan import Plan
from ..running.fingerprint import distance, fingerprint
from ..running.keras_calls import Captured, KerasRun, LayerCall, Patch, run_keras_calls
from ..running.keras_values import TrialValues, eager_arrays, trial_values
from ..running.outputs import as_array
from ..running.run import cast_floats
from ..running.torch_steps import TorchRun, run_torch_steps
from ..spec.source import Source
from ..spec.target import Target
from ..util.time_limit import DEFAULT_TIME_LIMIT, TimeLimit
from .causes import hypotheses_of
from .causes.weights import LayerWeights, WrongWeights
from .context import Array, Cause, DivergenceContext, Hypothesis, NormCall, replaced
from .description import UNKNOWN, describe_divergence, difference_of_group, in_torch, with_cause
from .locator import AGREES_BELOW, DivergencePoint, Locator, TorchValues
from .neighborhood import CallsAround, Neighborhood
from .scopes import TorchScope, names_by_layer, scope_of
from .teacher import (EXACT_BELOW, TeacherForcing, is_activation, likeness, most_alike, nearest,
                      possible_outputs, torch_input)

if TYPE_CHECKING:
    from ..running.input_pair import InputPair

FINEST = 8e-7
# A cause that is fixed may show the next one in the same stretch.
MAX_ROUNDS = 5
# So many points are looked at in one run of each model.
BATCH = 6
MAX_POINTS = 120
# With so many places without a cause the models are not the same one.
MAX_UNKNOWN = 18
# So many effects are measured, each by a run.
MAX_EFFECTS = 24
# What makes less of the outputs' difference counts only where its cause is proven.
NEGLIGIBLE_SHARE = 0.01
# What torch has there is like Keras's value by more than this, other values are less.
LIKE = 0.5
# What an effect is when it is no number.
LARGEST = 1e3
# So many causes that hold at one point are tried in the model.
MAX_TRIED = 4

Best = tuple[float, Hypothesis]
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class ForcedRun:
    """One run of the Keras model in which calls of layers with weights gave torch's values, and
    some others what they give with their cause fixed: `patched` has both by number of the call.
    """

    patched: Mapping[int, Array]
    keras: KerasRun
    locator: Locator


@dataclass(slots=True, eq=False)
class _Found:
    """A divergence: `patch` gives the outputs of calls with which the models agree behind it."""

    context: DivergenceContext
    best: Best | None
    divergence: FirstDivergence
    patch: Mapping[int, Array]

    def causes(self) -> dict[Key, Cause]:
        """Return the cause and those that go with it, by what makes two alike; one of no kind when
        none is proven.
        """
        if self.best is None:
            return {("", self.divergence.keras_layer): Cause("", UNKNOWN, "")}
        one = self.best[1]
        every = (Cause(one.kind, one.cause, one.advice), *one.others)
        return {(cause.kind, cause.cause): cause for cause in every}


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
        self.values = TorchValues(self.torch)
        self.masks = [
            array for array in eager_arrays(inputs.keras_inputs)
            if array.dtype.kind in "iub" and array.max(initial=0) <= 1
        ]
        self.plan = plan
        self.names = names_by_layer(plan, source, target)
        self.run_for_statistics()

    def run_for_statistics(self) -> None:
        """Run Keras for statistics, with the weights that its layers hold now."""
        self.weights = LayerWeights(self.source, self.target, self.plan)
        self.keras = self._run_keras()
        self.scopes = self._scopes(self.keras)
        self.candidates = {
            number: possible_outputs(scope, self.torch) for number, scope in self.scopes.items()
        }
        # Calls that were looked at as the place of a difference.
        self.visited = set[int]()
        leaves = self.keras.leaves()
        activated = {key for one in leaves if is_activation(one) for key in one.inputs}
        self.before_activation = {one.number for one in leaves if activated & set(one.outputs)}

    def _run_torch(self, capture: Sequence[int] = ()) -> TorchRun:
        return run_torch_steps(self.source.module, self.inputs.torch_call, self.inputs.torch_inputs,
                               self.tensors, capture, self.dtype)

    def _run_keras(self, patch: Patch | None = None, capture: Sequence[int] = ()) -> KerasRun:
        return run_keras_calls(self.target, self.inputs.keras_call, self.inputs.keras_inputs,
                               capture, patch)

    def _scopes(self, keras: KerasRun) -> dict[int, TorchScope]:
        calls: dict[str, list[LayerCall]] = {}
        for call in keras.leaves():
            if call.leaf is not None and self.names.get(call.leaf.display_name):
                calls.setdefault(call.leaf.display_name, []).append(call)
        scopes = {}
        for layer, uses in calls.items():
            for turn, call in enumerate(uses):
                scope = scope_of(self.names[layer], call.inputs, self.torch, self.modules,
                                 (turn, len(uses)))
                if scope is not None:
                    scopes[call.number] = scope
        return scopes

    def _holds_its_weights(self, call: LayerCall) -> bool | None:
        return self.weights.as_planned(call, self.scopes.get(call.number))

    def _locator(self, keras: KerasRun, patched: Collection[int] = (),
                 agrees_below: float = AGREES_BELOW) -> Locator:
        return Locator(keras, self.values, self.scopes, self._holds_its_weights,
                       [fingerprint(mask) for mask in self.masks], patched, agrees_below)

    def layer_differences(self) -> dict[str, float]:
        """Return, by display name of each layer that makes no calls of others, how far the
        statistics of its output are from the nearest in torch, in order of execution.

        1 stands for 1 and more. A layer that is called several times has the largest.
        """
        found: dict[str, float] = {}
        locator = self._locator(self.keras)
        for call in locator.leaves:
            for apart_by in locator.output_distances[call.number]:
                found[call.display_name] = max(found.get(call.display_name, 0.0),
                                               min(apart_by, 1.0))
        return found

    def result(self, limit: TimeLimit | None = None) -> FirstDivergence | None:
        """Return the divergence that changes the outputs most, with all that differs, as far as
        the time allows: first layers that hold other values than torch's, then what differs where
        they hold torch's.
        """
        wrong = self.weights.wrong(self.keras.calls, self.scopes)
        if not wrong:
            return self.with_right_weights(limit)
        with trial_values(self.target) as set_value:
            effects = self._effects_of_weights(wrong, set_value)
            right = copy(self)
            right.run_for_statistics()
            is_all = right.ends_as_torch()
            found = None if is_all else right.with_right_weights(limit)
        return _with_weights(found, [(divergence, effect) for one, effect in effects
                                     for divergence in self._divergences_of_weights(one)])

    def _effects_of_weights(self, wrong: Sequence[WrongWeights],
                            set_value: TrialValues) -> list[tuple[WrongWeights, float]]:
        """Give layers torch's values, one after the other; return those with which the outputs
        move, and how far.
        """
        effects, left = [], self._outputs({})
        for one in wrong:
            for variable in one.call.leaf.variables if one.call.leaf is not None else ():
                if variable.name in one.planned:
                    set_value(variable, one.planned[variable.name])
            before, left = left, self._outputs({})
            effects.append((one, _moved(before, left)))
        return [pair for pair in effects if pair[1] > FINEST]

    def ends_as_torch(self) -> bool:
        """Whether all that comes out of the Keras model comes out of torch's."""
        return all(
            min((distance(key, value.key)
                 for value in self.torch.outputs), default=inf) < AGREES_BELOW
            for key in self.keras.outputs)

    def _divergences_of_weights(self, one: WrongWeights) -> list[FirstDivergence]:
        scope = self.scopes.get(one.call.number)
        return [
            in_torch(FirstDivergence(one.call.display_name, kind=kind, cause=cause, advice=advice),
                     "" if scope is None else scope.path, self.modules)
            for kind, cause, advice in one.causes
        ]

    def with_right_weights(self, limit: TimeLimit | None) -> FirstDivergence | None:
        """Return what differs where the layers hold torch's values.

        Every layer with weights is given torch's outputs, so that each place is looked at alone.
        """
        torch_values = self._torch_values(
            [value.order for values in self.candidates.values() for value in values])
        found: list[_Found] = []
        patched: dict[int, Array] = {}
        measured = set[int]()
        limit = limit or TimeLimit(DEFAULT_TIME_LIMIT)
        for number in range(MAX_ROUNDS):
            if limit.is_over:
                break
            level = AGREES_BELOW if found or not number else FINEST
            run, points = self._forced(patched, torch_values, level)
            points = [point for point in points if point.call.number not in self.visited
                     ][:MAX_POINTS]
            self.visited |= {point.call.number for point in points}
            good = (one for one in run.patched
                    if one in self.scopes and not run.locator.bad_inputs(run.keras.calls[one]))
            measured |= {*good, *(one.call.number for one in points if one.kind == "layer")}
            # Calls that get or give what a cause makes of two steps.
            fixed = set[int]()
            for first in range(0, len(points), BATCH):
                lost = sum(one.best is None for one in found) >= MAX_UNKNOWN
                for context in () if lost else self.contexts(points[first:first + BATCH], run):
                    if limit.is_over:
                        break
                    if context.call.number in fixed:
                        # Looked at once more where it differs still.
                        self.visited.discard(context.call.number)
                        continue
                    new = self._looked_at(context, run, torch_values)
                    if new.best is not None or context.call.number in new.patch:
                        patched |= new.patch
                    if new.best is not None:
                        is_first_of_two = new.best[1].compare == "consumer"
                        fixed |= {
                            call.number for number in new.patch
                            if number != context.call.number or is_first_of_two
                            for call in (run.keras.calls[number], *self._consumers(number, run))
                        }
                    found.append(new)
            if not points and (found or level == FINEST):
                break
        for context in () if limit.is_over else self._on_torch_inputs(run, measured):
            found.append(self._looked_at(context, run, torch_values))
        # Torch's value at a place has the effects of all before it, and a layer around others gives
        # what those inside make of it: their effects come first.
        found.sort(key=lambda one: (max(
            (one.context.call.number, *one.context.call.children)), one.best is None))
        return self._ranked(_without_consequences(found)) if found else None

    def _on_torch_inputs(self, run: ForcedRun,
                         measured: Collection[int]) -> Iterator[DivergenceContext]:
        """Yield layers whose own input never became torch's, on torch's input, where they give
        something else than torch.
        """
        calls = [run.keras.calls[number] for number in sorted(self.scopes)]
        waiting = [
            DivergencePoint(call, "layer")
            for call in calls if call.inputs and call.number not in measured
        ]
        for first in range(0, len(waiting), BATCH):
            for context in self.contexts(waiting[first:first + BATCH], run):
                given = torch_input(context)
                output = None if given is None else context.run([given])
                if given is None or output is None:
                    continue
                args, kwargs = replaced((context.keras.args, context.keras.kwargs), [given])
                context.keras = Captured(args, kwargs, [given], [output], [output])
                if min((apart(one, output) for one in context.expected),
                       default=0.0) >= EXACT_BELOW:
                    yield context

    def _forced(self, patched: Mapping[int, Array], torch_values: Mapping[int, Sequence[Array]],
                level: float) -> tuple[ForcedRun, list[DivergencePoint]]:
        """Run the Keras model on torch's values, and return the points where the models part."""
        teacher = TeacherForcing(self.scopes, self.candidates, torch_values, self.values,
                                 self._holds_its_weights, self.before_activation, patched)
        keras = self._run_keras(teacher)
        locator = self._locator(keras, teacher.chosen, level)
        own = {
            number: DivergencePoint(keras.calls[number], "layer")
            for number in teacher.differing if not locator.bad_inputs(keras.calls[number])
        }
        points = own | {point.call.number: point for point in locator.points(self.visited)}
        run = ForcedRun(teacher.chosen, keras, locator)
        return run, [points[number] for number in sorted(points)]

    def _looked_at(self, context: DivergenceContext, run: ForcedRun,
                   torch_values: Mapping[int, Sequence[Array]]) -> _Found:
        """Return what was found at a point: the first cause that holds, better one with which the
        calls behind agree too.
        """
        best, patch = None, self._patch(context, None, run)
        for one in islice(self.causes(context), MAX_TRIED):
            tried = self._patch(context, one, run)
            best, patch = (one, tried) if best is None else (best, patch)
            if context.scope is not None or not tried:
                break
            _, points = self._forced({**run.patched, **tried}, torch_values,
                                     run.locator.agrees_below)
            behind = {call.number for number in tried for call in self._consumers(number, run)}
            if not any(point.call.number in behind for point in points):
                best, patch = one, tried
                break
        divergence = describe_divergence(context, best, self.modules)
        return _Found(context, best, divergence, patch)

    def _ranked(self, found: list[_Found]) -> FirstDivergence | None:
        """Return the divergence with the largest effect on the outputs, and all, alike ones as one.

        An effect is how far the outputs move when a divergence is fixed, after those before it;
        what has no cause comes last.
        """
        groups: dict[Key, list[tuple[_Found, Cause]]] = {}
        for one in found:
            for key, cause in one.causes().items():
                groups.setdefault(key, []).append((one, cause))
        effects: dict[Key, float] = {}
        patched: dict[int, Array] = {}
        left = self._outputs({})
        steps = [(keys, list(alike))
                 for keys, alike in groupby(found, key=lambda one: tuple(one.causes()))]
        for keys, alike in steps[:MAX_EFFECTS]:
            patched |= {number: array for one in alike for number, array in one.patch.items()}
            before, left = left, self._outputs(patched)
            for key in keys if any(one.patch for one in alike) else ():
                effects[key] = effects.get(key, 0.0) + _moved(before, left)
        ranked = sorted(groups, key=lambda key: -effects.get(key, 0.0))
        known = [effects.get(key, 0.0) for key in groups if key[0]]
        least = NEGLIGIBLE_SHARE * max(known, default=-inf)
        shown = [key for key in ranked if key[0] or effects.get(key, 0.0) > least]
        differences = tuple(
            difference_of_group([(one.divergence, cause)
                                 for one, cause in groups[key]], effects.get(key)) for key in shown)
        main, cause = groups[shown[0]][0]
        return replace(with_cause(main.divergence, cause, main.best), differences=differences)

    def _outputs(self, patched: Mapping[int, Array]) -> list[Array]:
        """Return the outputs of the Keras model with some calls patched."""
        return self._run_keras(_given(patched), [0]).captured[0].outputs

    def causes(self, context: DivergenceContext) -> Iterator[Best]:
        """Yield the hypotheses that hold, with how near they come."""
        for hypothesis in hypotheses_of(context):
            found = context.distance_of(hypothesis)
            if isfinite(found) and context.explains(hypothesis, found):
                yield found, hypothesis

    def _patch(self, context: DivergenceContext, best: Best | None,
               run: ForcedRun) -> dict[int, Array]:
        """Return outputs of calls with which the models agree behind a point: torch's values where
        those are known, else that of the cause; empty when there are none.
        """
        point, call = context.point, context.call
        if best is not None and best[1].own is not None and call.number not in self.scopes:
            return {call.number: best[1].own}
        is_output = best is not None and (point.kind == "layer" or best[1].compare == "statistics")
        if best is not None and is_output and not best[1].is_inside:
            hypothesis = best[1]
            number = call.number if hypothesis.output_of is None else hypothesis.output_of
            shapes = run.keras.calls[number].output_shapes
            producer = run.locator.producer(call.inputs[0], call) if call.inputs else None
            before = {}
            if hypothesis.given is not None and producer is not None and producer.leaf is None:
                before = {producer.number: hypothesis.given}
            if number in run.patched and number == call.number and hypothesis.compare != "consumer":
                return before | {number: run.patched[number]}
            expected = context.expected if hypothesis.compare == "values" else []
            theirs = nearest(hypothesis.trial, expected)
            patch = before | {number: hypothesis.trial if theirs is None else theirs}
            if shapes and (hypothesis.trial.shape == shapes[0]
                           or self._goes_on_with(patch, hypothesis.trial, shapes[0])):
                return patch
        if point.kind in ("inputs", "end"):
            return {}
        # Behind the point, where it is known what torch has: the next layers with weights.
        if best is not None and call.number in self.scopes and call.number not in run.patched:
            # What its activation made of it was not known before the cause was.
            own = most_alike(context.expected[:1], context.keras.outputs[0])
            return {} if own is None else {call.number: own}
        around = self._around(run)
        if best is None and point.kind == "layer" and call.number not in self.scopes:
            theirs = self._into_the_next(context, run)
            if theirs is not None:
                return {call.number: theirs}
        layers = [call] if call.number in self.scopes else (around.next_layers(call)
                                                            or around.later_inside(call))
        return {one.number: run.patched[one.number] for one in layers if one.number in run.patched}

    def _into_the_next(self, context: DivergenceContext, run: ForcedRun) -> Array | None:
        """Return what torch has in the place of a call's output, known where a layer with weights
        takes that as it is; None where it is not known, or nothing like it.
        """
        call, ours = context.call, context.keras.outputs[0]
        theirs = [
            array for one in self._consumers(call.number, run)
            if one.number in self.scopes and call.outputs[0] in one.inputs
            for array in context.arrays_of(self.scopes[one.number].inputs)
        ]
        found = most_alike(theirs, ours)
        return found if found is not None and likeness(found, ours) > LIKE else None

    def _goes_on_with(self, patch: Mapping[int, Array], trial: Array, shape: tuple[int,
                                                                                   ...]) -> bool:
        """Whether the model runs on with a map of another height in the place of an output."""
        if len(shape) < 3 or (trial.ndim, trial.shape[-1]) != (len(shape), shape[-1]):
            return False
        try:
            with self.inputs.blamed("the Keras model"):
                self._outputs(patch)
        except PredictionError:
            # The layers behind are built for one size.
            return False
        return True

    def _around(self, run: ForcedRun) -> Neighborhood:
        return Neighborhood(run.keras, self.torch, self.scopes, run.locator)

    def _consumers(self, number: int, run: ForcedRun) -> list[LayerCall]:
        return self._around(run).consumers(run.keras.calls[number])

    def contexts(self, points: Sequence[DivergencePoint],
                 run: ForcedRun) -> Iterator[DivergenceContext]:
        """Yield what both models have at some points, from one more run of each."""
        around = self._around(run)
        parts = [CallsAround.of(point, around) for point in points]
        values = self._torch_values([order for one in parts for order in one.request.orders])
        wanted = [call.number for one in parts for call in one.calls]
        captured = self._run_keras(_given(run.patched), wanted).captured
        for one in parts:
            yield self._context(one, run, values, captured)

    def _context(self, part: CallsAround, run: ForcedRun, values: Mapping[int, Sequence[Array]],
                 captured: Mapping[int, Captured]) -> DivergenceContext:
        point, call, parent = part.point, part.point.call, part.parent
        scope, keras = self.scopes.get(call.number), captured[call.number]
        if point.kind != "end":
            # What goes on from the last layer is torch's.
            keras = replace(keras, outputs=keras.own)
        orders = {0, *part.request.orders}

        def pairs(calls: Iterable[LayerCall]) -> list[tuple[LayerCall, Captured]]:
            return [(one, captured[one.number]) for one in calls]

        context = DivergenceContext(
            self.target, point, keras, self.torch,
            lambda array: self.values.nearest(fingerprint(array)), producers=pairs(
                part.producers), consumers=pairs(part.consumers), chain=pairs(part.chain),
            parent=(parent, captured[parent.number]) if parent else None, scope=scope, steps=list(
                part.request.steps), values={
                    order: arrays for order, arrays in values.items() if order in orders
                }, passed_on=next(iter(captured[call.number].outputs), None), masks=self.masks,
            patched=_patched_inside(run, parent, call) if parent else {}, is_first=call.number
            <= min(self.scopes, default=call.number), is_last=any(
                key in run.keras.calls[0].outputs for key in call.outputs))
        paths = dict.fromkeys(step.path for step in context.steps)
        context.modules_here = [self.modules[path] for path in paths if path in self.modules]
        context.modules = self.modules
        context.weighted = {id(one.layer) for one in run.keras.calls if one.leaf is not None}
        context.keras_layers = {
            scope.path: run.keras.calls[number].display_name
            for number, scope in self.scopes.items()
        }
        context.expected = context.arrays_of(part.request.expected)
        context.next_inputs = context.arrays_of(part.request.next_inputs)
        if point.kind == "inputs":
            context.torch_inputs = list(context.values[0])
        elif scope is not None:
            context.torch_inputs = context.arrays_of(scope.inputs)
        context.norms = [self._norm(context, one, captured[one.number]) for one in part.norms]
        if call.leaf is not None:
            context.held = self.weights.held(call.leaf)
            context.planned = self.weights.planned(call.leaf, scope)
            context.torch_weights = self.weights.by_role(scope)
        return context

    def _norm(self, context: DivergenceContext, call: LayerCall, captured: Captured) -> NormCall:
        """Return a call of a norm: Keras's own input is torch's only once all before it is."""
        scope, made = self.scopes.get(call.number), captured.outputs[0]
        theirs = context.arrays_of(scope.inputs[:1]) if scope is not None else []
        given = [array for one in theirs for array in arranged(one, made.shape)]
        given += [array for array in captured.inputs[:1] if array.shape == made.shape]
        return NormCall(call.display_name, tuple(given), made)

    def _torch_values(self, orders: Sequence[int]) -> dict[int, list[Array]]:
        """Return torch's values that appear at some times, from another run; its inputs at 0."""
        values = {
            order: [np.asarray(as_array(tensor)) for tensor in tensors]
            for order, tensors in self._run_torch(orders).captured.items()
        }
        values[0] = [np.asarray(array) for array in eager_arrays(self.inputs.torch_inputs)]
        return values


def _without_consequences(found: list[_Found]) -> list[_Found]:
    """Leave out layers around an unknown difference that differ in no known way themselves: fixing
    that inside has their effect too.
    """
    unknown = {one.context.call.number: one for one in found if one.best is None}
    around = set[int]()
    for number, one in unknown.items():
        inside = [unknown[child] for child in one.context.call.children if child in unknown]
        around |= {number} if inside else set()
        for other in inside[:1]:
            other.patch = {**other.patch, **one.patch}
    return [one for one in found if one.best is not None or one.context.call.number not in around]


def _moved(before: Sequence[Array], after: Sequence[Array]) -> float:
    """Return how far outputs moved, relative to the largest values after it."""
    pairs = [(new, old) for old, new in zip(before, after, strict=True) if new.shape == old.shape]
    return max((min(difference_of(*pair).relative, LARGEST) for pair in pairs), default=LARGEST)


def _with_weights(found: FirstDivergence | None,
                  weights: Sequence[tuple[FirstDivergence, float]]) -> FirstDivergence | None:
    """Return what was found with the layers whose weights are wrong, the largest effect first."""
    if not weights:
        return found
    every = [
        Difference(one.kind, one.cause, one.advice, (one.keras_layer,), (one.torch_module,), effect)
        for one, effect in weights
    ]
    others = found.differences if found is not None else ()
    every = sorted([*every, *others], key=lambda one: -(one.effect or 0.0))
    main, largest = max(weights, key=lambda pair: pair[1])
    if found is not None and found.kind and (found.differences[0].effect or 0.0) > largest:
        main = found
    return replace(main, differences=tuple(every))


def _given(patched: Mapping[int, Array]) -> Patch:
    return lambda call, own: patched.get(call.number)


def _patched_inside(run: ForcedRun, parent: LayerCall,
                    call: LayerCall) -> dict[int, list[Array | None]]:
    """Return torch's outputs of the calls that `parent` makes, by identity of the layer: of those
    before `call`, where that is inside.
    """
    found: dict[int, list[Array | None]] = {}
    for number in parent.children:
        if parent is call or number < call.number:
            one = run.keras.calls[number]
            found.setdefault(id(one.layer), []).append(run.patched.get(number))
    return found
