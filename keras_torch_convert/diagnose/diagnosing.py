"""The whole diagnosis: both models run once for statistics, once more for the values at the place where they part, and causes tried out there."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..align.running.fingerprint import Fingerprint, distance, fingerprint
from ..align.running.keras_values import eager_arrays
from ..collect import Stack
from ..errors import TransferError
from ..plan import Add, Assignment, Plan
from ..read.source import Source
from ..read.target import Target, TargetLayer
from ..save.values import read_values
from ..transfer.evaluation import Evaluation
from ..transfer.layer import assign_layer
from ..verify.outputs import as_array
from .arrays import apart
from .causes import RULES, ends, hypotheses_of, weights
from .divergence import FirstDivergence
from .keras_calls import KerasRun, LayerCall, run_keras_calls
from .locating import AGREES_BELOW, Locator, Spot
from .pairing import Place, names_by_layer, place_of
from .scene import Array, Hypothesis, Scene, WrongWeights
from .torch_steps import Step, TorchRun, Value, run_torch_steps

if TYPE_CHECKING:
    from ..align.running.inputs import Runs

# How far behind a place torch's values are looked at: an activation, a scale, a sum.
DEPTH_BEHIND = 4
# Statistics that differ by less than this part of the outputs' difference are not taken for its cause at first; see `Diagnosis.result`.
PART_OF_OUTPUT = 1e-3
COARSEST = 3e-4
FINEST = 8e-7
MOST_KEPT = 40
# A cause that leaves more of the outputs' difference than this is not the main one; so many are passed over.
SHARE_OF_MAIN_CAUSE = 0.5
MOST_PASSED = 4
# With these mended the layer's output is what goes on, without a change anywhere else.
OF_THE_LAYER_ALONE = ("epsilon", "activation")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What of torch's run is kept for one spot."""

    orders: tuple[int, ...]
    expected: tuple[Value, ...]
    following: tuple[Value, ...]
    steps: tuple[Step, ...]


class Diagnosis:
    """Where two models part at the inputs of `runs`, and why. Neither model is changed."""

    def __init__(self, source: Source, target: Target, runs: Runs, plan: Plan | None) -> None:
        """Run both models for statistics."""
        self.source, self.target, self.runs, self.plan = source, target, runs, plan
        module = source.module
        own = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        # Tied weights must stay one tensor.
        detached = {id(tensor): tensor.detach() for _, tensor in own}
        self.values = {name: detached[id(tensor)] for name, tensor in own if tensor.is_floating_point()}
        self.modules = dict(module.named_modules())
        self.torch = self._run_torch()
        self.mended: dict[int, Array] = {}
        self.keras = self._run_keras()
        self.names = names_by_layer(plan, source, target)
        self.places = self._places()
        self.holding: dict[str, bool | None] = {}
        self.locator = self._locator(AGREES_BELOW)

    def _run_torch(self, capture: tuple[int, ...] = ()) -> TorchRun:
        return run_torch_steps(self.source.module, self.runs.torch_call, self.runs.torch_inputs, self.values, capture)

    def _places(self) -> dict[int, Place]:
        places = {}
        for call in self.keras.leaves():
            names = self.names.get(call.leaf.label) if call.leaf is not None else None
            place = place_of(names, call.inputs, self.torch, self.modules) if names else None
            if place is not None:
                places[call.number] = place
        return places

    def _locator(self, agrees_below: float) -> Locator:
        masks = [fingerprint(array) for array in self._masks()]
        return Locator(self.keras, self.torch, self.places, self._holds_its_weights, masks, agrees_below)

    def _masks(self) -> list[Array]:
        """Inputs of whole numbers that are all 0 or 1."""
        arrays = eager_arrays(self.runs.keras_inputs)
        return [array for array in arrays if array.dtype.kind in "iub" and array.max(initial=0) <= 1]

    def _holds_its_weights(self, call: LayerCall) -> bool | None:
        """For a layer whose output torch has nowhere by itself, because a sum of tensors went into it or it depends on no data: whether it holds what the plan says."""
        leaf = call.leaf
        if leaf is None or self.plan is None or call.children:
            return None
        if leaf.label not in self.holding:
            self.holding[leaf.label] = None
            own = {variable.place for variable in leaf.variables}
            expressions = [one.expression for one in self.plan.assignments if one.place in own]
            # The rows that a table gives are settled by its values and the numbers that go in, which both models share.
            table = any("Embedding" in kind for kind in call.kinds)
            unseen = table or call.number not in self.places or any(isinstance(one, Add) for one in expressions)
            wanted = self._wanted_weights(leaf, self.places.get(call.number)) if unseen else {}
            if wanted:
                held = self._held(leaf)
                self.holding[leaf.label] = all(weights.equal(held[name], value) for name, value in wanted.items())
        return self.holding[leaf.label]

    def layer_differences(self) -> dict[str, float]:
        """Label of each layer that makes no calls of others to how far the statistics of its output are from the nearest in torch, in order of execution.

        1 stands for 1 and more. A layer that is called several times has the largest.
        """
        found: dict[str, float] = {}
        for call in self.locator.leaves:
            for apart_by in self.locator.apart_out[call.number]:
                found[call.label] = max(found.get(call.label, 0.0), min(apart_by, 1.0))
        return found

    def result(self, difference: float) -> FirstDivergence | None:
        """The first divergence with its cause; `difference` is that of the outputs, relative to the largest one.

        Differences that are small beside that of the outputs are passed over, and looked at only where there is no larger one. So is a cause that,
        mended, leaves more than half of the outputs' difference, as long as there is another; it is said beside that one.
        """
        unmended = self.keras, self.locator
        passed: list[FirstDivergence] = []
        try:
            while True:
                found = self._first(difference)
                if found is None:
                    return passed[0] if passed else None
                scene, best = found
                said = replace(self._said(scene, best), also=tuple(f"{one.keras_layer}: {one.cause}" for one in passed))
                share = self._share_left(scene, best[1]) if best is not None and len(passed) < MOST_PASSED else 0.0
                if share <= SHARE_OF_MAIN_CAUSE:
                    return said
                passed.append(replace(said, also=()))
                difference *= share
        finally:
            (self.keras, self.locator), self.mended = unmended, {}

    def _first(self, difference: float) -> tuple[Scene, tuple[float, Hypothesis] | None] | None:
        """The first spot where the models part by as much as matters for a difference of the outputs, and its cause."""
        levels = {min(max(difference * PART_OF_OUTPUT, AGREES_BELOW), COARSEST), AGREES_BELOW, FINEST}
        for level in sorted(levels, reverse=True):
            self.locator = self._locator(level)
            spot = self.locator.first()
            if spot is not None:
                scene = self.scene(spot)
                return scene, self.cause(scene)
        return None

    def _share_left(self, scene: Scene, hypothesis: Hypothesis) -> float:
        """The part of the outputs' difference that is left when the Keras model runs with a cause mended; 0 when that cannot be tried."""
        outputs, before = scene.keras.outputs, self._outputs_apart()
        mends = scene.spot.kind == "layer" and scene.call.leaf is not None and hypothesis.kind in OF_THE_LAYER_ALONE
        if not mends or not outputs or outputs[0].shape != hypothesis.trial.shape or not 0 < before < inf:
            return 0.0
        self.mended[scene.call.number] = hypothesis.trial
        self.keras = self._run_keras()
        self.locator = self._locator(AGREES_BELOW)
        return self._outputs_apart() / before

    def _outputs_apart(self) -> float:
        """How far the outputs of the Keras model are from the nearest of torch, by their statistics."""
        ends = [value.key for value in self.torch.outputs]
        return max((min((distance(key, end) for end in ends), default=inf) for key in self.keras.outputs), default=inf)

    def _run_keras(self, capture: Sequence[int] = ()) -> KerasRun:
        runs = self.runs
        return run_keras_calls(self.target, runs.keras_call, runs.keras_inputs, capture, self.mended)

    def cause(self, scene: Scene) -> tuple[float, Hypothesis] | None:
        """The first hypothesis that holds, and how near it comes."""
        rules = {"inputs": (ends.at_the_beginning,), "end": (ends.at_the_end,)}.get(scene.spot.kind, RULES)
        for hypothesis in hypotheses_of(scene, rules):
            agreement = scene.agreement_of(hypothesis)
            if isfinite(agreement) and scene.settles(hypothesis, agreement):
                return agreement, hypothesis
        return None

    def scene(self, spot: Spot) -> Scene:
        """Both models run once more, for the values at the spot."""
        call = spot.call
        place = self.places.get(call.number)
        inside = [self.keras.calls[number] for number in call.children]
        chain = list(spot.after) if spot.kind == "before" else inside or self._chain(call)
        behind = self._behind(call)
        wanted = self._wanted(spot, place, behind)
        again = self._run_torch(wanted.orders)
        kept: dict[int, list[Array]] = {
            order: [np.asarray(as_array(tensor)) for tensor in tensors] for order, tensors in again.captured.items()
        }
        kept[0] = [np.asarray(array) for array in eager_arrays(self.runs.torch_inputs)]
        along = self._along(call)
        around = [call.number] if inside else [call.parent] if call.parent and spot.kind != "inputs" else []
        keras = self._run_keras([*around, *(one.number for one in (call, *chain, *behind[:2], *along))]).captured
        scene = Scene(
            self.target,
            spot,
            keras[call.number],
            self.torch,
            lambda array: self.locator.index.nearest(fingerprint(array)),
            before=[(one, keras[one.number]) for one in chain],
            behind=behind,
            next_calls=[(one, keras[one.number]) for one in behind[:2]],
            along=[(one, keras[one.number]) for one in along],
            parent=(self.keras.calls[around[0]], keras[around[0]]) if around else None,
            place=place,
            steps=list(wanted.steps),
            values=kept,
        )
        scene.expected = [array for value in wanted.expected if (array := scene.array_of(value)) is not None]
        scene.following = [array for value in wanted.following if (array := scene.array_of(value)) is not None]
        if spot.kind == "inputs":
            scene.torch_inputs = kept[0]
        elif place is not None:
            scene.torch_inputs = [array for value in place.inputs if (array := scene.array_of(value)) is not None]
        self._add_weights(scene, call.leaf, place)
        around_it = self.keras.calls[call.parent] if call.parent else None
        earlier = [
            one
            for one in self.keras.leaves()
            if around_it is not None and around_it.number < one.number < call.number and one not in chain
        ]
        scene.wrong_before = self._wrong_before([*earlier, *chain])
        scene.masks = self._masks()
        firsts = list(self.places)
        scene.is_before_all_weights = not firsts or call.number <= min(firsts)
        scene.is_last = any(key in self.keras.calls[0].outputs for key in call.outputs)
        return scene

    def _chain(self, call: LayerCall) -> list[LayerCall]:
        """Calls that the inputs of `call` came from, up to four steps back, the nearest last."""
        found: dict[int, LayerCall] = {}
        waiting = [(call, 0)]
        while waiting:
            one, depth = waiting.pop()
            for key in one.inputs if depth < 4 else ():
                producer = self.locator.producer(key, one)
                if producer is not None and producer.number not in found:
                    found[producer.number] = producer
                    if producer.leaf is None:
                        waiting.append((producer, depth + 1))
        return [found[number] for number in sorted(found)]

    def _along(self, call: LayerCall) -> list[LayerCall]:
        """Calls without weights that follow one another, each taking the output of the one before: an activation made of several steps."""
        found: list[LayerCall] = []
        while len(found) < 4:
            behind = [one for one in self._behind(found[-1] if found else call) if one.leaf is None]
            if not behind or behind[0].output_shapes != call.output_shapes:
                break
            found.append(behind[0])
        return found

    def _behind(self, call: LayerCall) -> list[LayerCall]:
        """Calls that take the output of `call`."""
        return [
            other
            for other in self.keras.leaves()
            if other.number > call.number and any(key in call.outputs for key in other.inputs)
        ]

    def _wanted(self, spot: Spot, place: Place | None, behind: list[LayerCall]) -> _Wanted:
        values: list[Value] = []
        expected: list[Value] = []
        steps: list[Step] = []
        if spot.kind == "end":
            expected = list(self.torch.outputs)
        elif spot.kind == "before":
            steps = self._steps_in_between(spot)
            expected = list(place.inputs) if place is not None else []
        elif place is not None:
            expected = list(place.outputs)
            steps = list(place.steps)
            values = [*place.inputs, *(value for step in place.steps for value in step.inputs)]
            steps += self._steps_behind(place.outputs, set(place.names))
            steps += self._steps_before(place.inputs, most=6)
        else:
            index = self.locator.index
            taken = [
                value for key in spot.call.inputs for value in index.find(key, self.locator.tolerance[spot.call.number])
            ]
            steps = self._steps_behind(taken, set())
            values = taken
            steps += [
                step for other in self._next_places(spot.call) for step in self._steps_before(other.inputs, most=4)
            ]
        size = spot.call.output_shapes[0] if spot.call.output_shapes else ()
        outputs = [value for step in steps for value in step.outputs]
        following = [value for other in self._next_places(spot.call) for value in other.inputs]
        if spot.kind not in ("before", "end"):
            known = () if place is not None else spot.call.inputs
            fresh = [value for value in outputs if not any(_near(value.key, key) for key in known)]
            expected += sorted(fresh, key=lambda value: np.prod(value.shape) != np.prod(size)) if size else fresh
            expected += following
        values += [*expected, *following, *outputs, *(value for step in steps for value in step.inputs)]
        orders = dict.fromkeys(value.order for value in values)
        return _Wanted(
            tuple(orders)[:MOST_KEPT], tuple(dict.fromkeys(expected)), tuple(following), tuple(dict.fromkeys(steps))
        )

    def _steps_behind(self, values: Any, names: set[str]) -> list[Step]:
        """torch's operations that take some values, and those that take what they give, as far as no other weights take part."""
        found: dict[int, Step] = {}
        keys = [value.key for value in values]
        for _ in range(DEPTH_BEHIND):
            following = []
            for step in self.torch.steps:
                fresh = step.order not in found and not set(step.weights) - names
                if fresh and any(_near(value.key, key) for value in step.inputs for key in keys):
                    found[step.order] = step
                    following += [value.key for value in step.outputs]
            keys = following
            if len(found) > MOST_KEPT:
                break
        return list(found.values())

    def _steps_before(self, values: Any, most: int = 16) -> list[Step]:
        """torch's operations that led to some values, back to those of weights."""
        by_order = {step.order: step for step in self.torch.steps}
        found: dict[int, Step] = {}
        waiting = list(values)
        while waiting and len(found) < most:
            step = by_order.get(waiting.pop(0).order)
            if step is None or step.order in found or step.weights:
                continue
            found[step.order] = step
            waiting += list(step.inputs)
        return list(found.values())

    def _steps_in_between(self, spot: Spot) -> list[Step]:
        """torch's operations without weights between what was agreed on last before a spot and the next layer with weights."""
        parent = self.keras.calls[spot.call.parent or 0]
        known = [*parent.inputs, *(key for call in spot.after for key in call.outputs)]
        orders = [value.order for key in known for value in self.locator.index.find(key, AGREES_BELOW)]
        behind = [self.places[number].steps[0].order for number in sorted(self.places) if number >= spot.call.number]
        first, last = max(orders, default=0), behind[0] if behind else len(self.torch.steps) ** 2
        return [step for step in self.torch.steps if first < step.order <= last and not step.weights][:MOST_KEPT]

    def _next_places(self, call: LayerCall) -> list[Place]:
        """torch's places of the next layers with weights that the output of `call` flows into through calls without."""
        found: list[Place] = []
        seen: set[int] = set()
        waiting = self._behind(call)
        while waiting and len(seen) < 24:
            one = waiting.pop(0)
            if one.number in seen:
                continue
            seen.add(one.number)
            if one.number in self.places:
                found.append(self.places[one.number])
            elif one.leaf is None:
                waiting += self._behind(one)
        return found[:2]

    def _add_weights(self, scene: Scene, leaf: TargetLayer | None, place: Place | None) -> None:
        """What the layer's variables hold, and what torch's values make of them."""
        if leaf is None:
            return
        scene.held = self._held(leaf)
        scene.wanted = self._wanted_weights(leaf, place)
        owners = {name: self._owner(scene.held[name], leaf) for name in scene.wanted}
        scene.owners = {name: owner for name, owner in owners.items() if owner}

    def _wrong_before(self, chain: list[LayerCall]) -> list[WrongWeights]:
        """Layers of a chain that hold other values than torch's, the nearest first."""
        found = []
        for call in reversed(chain):
            if call.leaf is None:
                continue
            held, wanted = self._held(call.leaf), self._wanted_weights(call.leaf, self.places.get(call.number))
            wrong = {name: held[name] for name in wanted if not weights.equal(held[name], wanted[name])}
            if wrong:
                owners = {name: owner for name in wrong if (owner := self._owner(held[name], call.leaf))}
                kind, said = weights.in_words(wrong, wanted, owners)
                names = ", ".join(f"{call.label}/{name}" for name in wrong)
                found.append(WrongWeights(call, kind, f"{names}: {said}", wanted))
        return found

    def _held(self, leaf: TargetLayer) -> dict[str, Array]:
        return {v.name: np.array(as_array(read_values(self.target, v.variable))) for v in leaf.variables}

    def _wanted_weights(self, leaf: TargetLayer, place: Place | None) -> dict[str, Array]:
        evaluation = Evaluation(self.source)
        by_place = {assignment.place: assignment for assignment in self._assignments(leaf, place)}
        wanted = {}
        for variable in leaf.variables:
            assignment = by_place.get(variable.place)
            if assignment is None:
                continue
            try:
                values = evaluation.values(assignment.expression, "float32", variable.label)
            except (ValueError, KeyError):
                # A callback's result is known to the one conversion that called it.
                continue
            if values.shape == variable.shape:
                wanted[variable.name] = values
        return wanted

    def _assignments(self, leaf: TargetLayer, place: Place | None) -> tuple[Assignment, ...]:
        if self.plan is not None:
            return self.plan.assignments
        if place is None:
            return ()
        tensors = tuple(self.source[name] for name in place.names if name in self.source)
        try:
            return assign_layer(Stack(place.path, tensors), leaf)
        except TransferError:
            # Without a rule for the pair nothing is known of what its weights should be.
            return ()

    def _owner(self, held: Array, leaf: TargetLayer) -> str:
        """The variable of another layer that the plan gives just these values, "" when there is none."""
        if self.plan is None or held.size < 2 or np.ptp(held) == 0:
            return ""
        evaluation = Evaluation(self.source)
        own = {variable.place for variable in leaf.variables}
        variables = self.target.variables
        for assignment in self.plan.assignments:
            variable = variables.get(assignment.place)
            if variable is None or variable.place in own or variable.shape != held.shape:
                continue
            try:
                values = evaluation.values(assignment.expression, "float32", variable.label)
            except (ValueError, KeyError):
                continue
            if np.array_equal(values, held):
                return variable.label
        return ""

    def _said(self, scene: Scene, best: tuple[float, Hypothesis] | None) -> FirstDivergence:
        """The result in words."""
        spot, call = scene.spot, scene.call
        agreement, hypothesis = best if best is not None else (None, None)
        label = call.label
        operation = "" if call.leaf is not None else call.kinds[0]
        if spot.kind == "before" and call.parent is not None:
            parent = self.keras.calls[call.parent]
            label = parent.label or label
            operation = f"code of its own, before '{call.label}'"
        elif spot.kind in ("inputs", "end"):
            label = "" if spot.kind == "inputs" else label
            operation = "the models' inputs" if spot.kind == "inputs" else "behind the last layer"
        if hypothesis is not None and hypothesis.at:
            label = hypothesis.at
        path = hypothesis.torch_at if hypothesis is not None and hypothesis.torch_at else self._torch_path(scene)
        if (
            hypothesis is not None
            and hypothesis.kind == "activation"
            and call.leaf is not None
            and not hypothesis.torch_at
        ):
            path = scene.path_of_value(hypothesis.trial) or path
        module = self.modules.get(path)
        outputs = scene.keras.inputs if spot.kind in ("before", "inputs") else scene.keras.outputs
        difference = scene.difference if spot.kind not in ("before", "inputs") else None
        if spot.kind == "before" and scene.expected and outputs:
            difference = apart(scene.expected[0], outputs[0])
        torch_side = scene.torch_inputs if spot.kind == "inputs" else scene.expected
        cause = "unknown: none of the known causes makes the outputs equal"
        if hypothesis is not None:
            cause = f"{hypothesis.cause}: with that mended the outputs agree to {agreement:.0e}"
        return FirstDivergence(
            label,
            torch_module=path,
            torch_class=type(module).__name__ if module is not None else "",
            torch_source=source_of(module),
            operation=operation,
            keras_shape=tuple(outputs[0].shape) if outputs else (),
            torch_shape=tuple(torch_side[0].shape) if torch_side else (),
            difference=difference if difference is not None and isfinite(difference) else None,
            kind=hypothesis.kind if hypothesis is not None else "",
            cause=cause,
            advice=hypothesis.advice if hypothesis is not None else "",
            agreement=agreement,
        )

    def _torch_path(self, scene: Scene) -> str:
        if scene.place is not None:
            return scene.place.path
        return next((step.path for step in scene.steps), "")


def source_of(module: Any) -> str:
    """File and line of a module's forward, "" when it has no Python source."""
    if module is None:
        return ""
    try:
        forward = inspect.unwrap(type(module).forward)
        return f"{Path(inspect.getsourcefile(forward) or '').name}:{inspect.getsourcelines(forward)[1]}"
    except (TypeError, OSError):
        # Scripted modules and built-in ones.
        return ""


def _near(first: Fingerprint, second: Fingerprint) -> bool:
    return abs(first[0] - second[0]) < 1e-5 and abs(first[1] - second[1]) < 1e-5 and abs(first[2] - second[2]) < 1e-5
