"""The whole diagnosis: both models run once for statistics, once more for the values at the place
where they part, and causes tried out there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

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
from .causes import RULES, ends, hypotheses_of
from .context import Array, DivergenceContext, Hypothesis
from .description import described
from .layer_pairs import TorchPlace, names_by_layer, place_of
from .layer_weights import LayerWeights
from .locating import AGREES_BELOW, DivergencePoint, Locator
from .neighborhood import Neighborhood

if TYPE_CHECKING:
    from ..running.input_pair import InputPair

# Statistics that differ by less than this part of the outputs' difference are not taken for its
# cause at first; see `Diagnosis.result`.
PART_OF_OUTPUT = 1e-3
COARSEST = 3e-4
FINEST = 8e-7
# A cause that leaves more of the outputs' difference than this is not the main one; so many are
# passed over.
SHARE_OF_MAIN_CAUSE = 0.5
MOST_PASSED = 4
# With these mended the layer's output is what goes on, without a change anywhere else.
OF_THE_LAYER_ALONE = ("epsilon", "activation")


class Diagnosis:
    """Where two models part at `inputs`, and why. Neither model is changed."""
    def __init__(self, source: Source, target: Target, inputs: InputPair,
                 plan: Plan | None) -> None:
        """Run both models for statistics."""
        self.source, self.target, self.plan = source, target, plan
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
        self.values = {
            name: detached[id(tensor)] for name, tensor in own if tensor.is_floating_point()
        }
        self.modules = dict(module.named_modules())
        self.torch = self._run_torch()
        self.patched: dict[int, Array] = {}
        self.keras = self._run_keras()
        self.weights = LayerWeights(source, target, plan)
        self.names = names_by_layer(plan, source, target)
        self.places = self._places()
        self.locator = self._locator(AGREES_BELOW)

    def _run_torch(self, capture: tuple[int, ...] = ()) -> TorchRun:
        return run_torch_steps(self.source.module, self.inputs.torch_call, self.inputs.torch_inputs,
                               self.values, capture, self.dtype)

    def _places(self) -> dict[int, TorchPlace]:
        places = {}
        for call in self.keras.leaves():
            names = self.names.get(call.leaf.display_name) if call.leaf is not None else None
            place = place_of(names, call.inputs, self.torch, self.modules) if names else None
            if place is not None:
                places[call.number] = place
        return places

    def _locator(self, agrees_below: float) -> Locator:
        masks = [fingerprint(array) for array in self._masks()]
        return Locator(self.keras, self.torch, self.places, self._holds_its_weights, masks,
                       agrees_below)

    def _masks(self) -> list[Array]:
        """Inputs of whole numbers that are all 0 or 1."""
        arrays = eager_arrays(self.inputs.keras_inputs)
        return [
            array for array in arrays if array.dtype.kind in "iub" and array.max(initial=0) <= 1
        ]

    def _holds_its_weights(self, call: LayerCall) -> bool | None:
        return self.weights.as_planned(call, self.places.get(call.number))

    def layer_differences(self) -> dict[str, float]:
        """Label of each layer that makes no calls of others to how far the statistics of its output
        are from the nearest in torch, in order of execution.

        1 stands for 1 and more. A layer that is called several times has the largest.
        """
        found: dict[str, float] = {}
        for call in self.locator.leaves:
            for apart_by in self.locator.apart_out[call.number]:
                found[call.display_name] = max(found.get(call.display_name, 0.0),
                                               min(apart_by, 1.0))
        return found

    def result(self, difference: float) -> FirstDivergence | None:
        """The first divergence with its cause; `difference` is that of the outputs, relative to the
        largest one.

        Differences that are small beside that of the outputs are passed over, and looked at only
        where there is no larger one. So is a cause that, mended, leaves more than half of the
        outputs' difference, as long as there is another; it is said beside that one.
        """
        unmended = self.keras, self.locator
        passed: list[FirstDivergence] = []
        try:
            while True:
                found = self._first(difference)
                if found is None:
                    return passed[0] if passed else None
                scene, best = found
                said = replace(described(scene, best, self.keras, self.modules),
                               also=tuple(f"{one.keras_layer}: {one.cause}" for one in passed))
                share = self._share_left(
                    scene, best[1]) if best is not None and len(passed) < MOST_PASSED else 0.0
                if share <= SHARE_OF_MAIN_CAUSE:
                    return said
                passed.append(replace(said, also=()))
                difference *= share
        finally:
            (self.keras, self.locator), self.patched = unmended, {}

    def _first(
            self,
            difference: float) -> tuple[DivergenceContext, tuple[float, Hypothesis] | None] | None:
        """The first spot where the models part by as much as matters for a difference of the
        outputs, and its cause.
        """
        levels = {
            min(max(difference * PART_OF_OUTPUT, AGREES_BELOW), COARSEST), AGREES_BELOW, FINEST
        }
        for level in sorted(levels, reverse=True):
            self.locator = self._locator(level)
            spot = self.locator.first()
            if spot is not None:
                scene = self.scene(spot)
                return scene, self.cause(scene)
        return None

    def _share_left(self, scene: DivergenceContext, hypothesis: Hypothesis) -> float:
        """The part of the outputs' difference that is left when the Keras model runs with a cause
        mended; 0 when that cannot be tried.
        """
        outputs, before = scene.keras.outputs, self._outputs_apart()
        mends = scene.spot.kind == "layer" and scene.call.leaf is not None and hypothesis.kind in OF_THE_LAYER_ALONE
        if not mends or not outputs or outputs[
                0].shape != hypothesis.trial.shape or not 0 < before < inf:
            return 0.0
        self.patched[scene.call.number] = hypothesis.trial
        self.keras = self._run_keras()
        self.locator = self._locator(AGREES_BELOW)
        return self._outputs_apart() / before

    def _outputs_apart(self) -> float:
        """How far the outputs of the Keras model are from the nearest of torch, by their
        statistics.
        """
        ends = [value.key for value in self.torch.outputs]
        return max(
            (min((distance(key, end) for end in ends), default=inf) for key in self.keras.outputs),
            default=inf)

    def _run_keras(self, capture: Sequence[int] = ()) -> KerasRun:
        inputs = self.inputs
        return run_keras_calls(self.target, inputs.keras_call, inputs.keras_inputs, capture,
                               self.patched)

    def cause(self, scene: DivergenceContext) -> tuple[float, Hypothesis] | None:
        """The first hypothesis that holds, and how near it comes."""
        rules = {"inputs": (ends.at_the_beginning,), "end": (ends.at_the_end,
                                                            )}.get(scene.spot.kind, RULES)
        for hypothesis in hypotheses_of(scene, rules):
            found = scene.distance_of(hypothesis)
            if isfinite(found) and scene.explains(hypothesis, found):
                return found, hypothesis
        return None

    def scene(self, spot: DivergencePoint) -> DivergenceContext:
        """Both models run once more, for the values at the spot."""
        call, place = spot.call, self.places.get(spot.call.number)
        surroundings = Neighborhood(self.keras, self.torch, self.places, self.locator)
        inside = [self.keras.calls[number] for number in call.children]
        chain = list(spot.after) if spot.kind == "before" else inside or surroundings.chain(call)
        behind, along = surroundings.behind(call), surroundings.along(call)
        wanted = surroundings.wanted(spot, place)
        values = self._values_of_torch(wanted.orders)
        around = [call.number
                 ] if inside else [call.parent] if call.parent and spot.kind != "inputs" else []
        keras = self._run_keras(
            [*around, *(one.number for one in (call, *chain, *behind[:2], *along))]).captured
        scene = DivergenceContext(
            self.target, spot, keras[call.number], self.torch,
            lambda array: self.locator.index.nearest(fingerprint(array)), before=[
                (one, keras[one.number]) for one in chain
            ], behind=behind, next_calls=[(one, keras[one.number]) for one in behind[:2]], along=[
                (one, keras[one.number]) for one in along
            ], parent=(self.keras.calls[around[0]], keras[around[0]]) if around else None,
            place=place, steps=list(wanted.steps), values=values, masks=self._masks(),
            is_before_all_weights=call.number <= min(self.places, default=call.number),
            is_last=any(key in self.keras.calls[0].outputs for key in call.outputs))
        scene.expected, scene.following = scene.arrays_of(wanted.expected), scene.arrays_of(
            wanted.following)
        if spot.kind == "inputs":
            scene.torch_inputs = values[0]
        elif place is not None:
            scene.torch_inputs = scene.arrays_of(place.inputs)
        if call.leaf is not None:
            scene.held, scene.wanted = self.weights.held(call.leaf), self.weights.wanted(
                call.leaf, place)
            scene.owners = self.weights.owners(scene.held, scene.wanted, call.leaf)
        earlier = [one for one in surroundings.earlier(call) if one not in chain]
        scene.wrong_before = self.weights.wrong(reversed([*earlier, *chain]), self.places)
        return scene

    def _values_of_torch(self, orders: tuple[int, ...]) -> dict[int, list[Array]]:
        """torch's values that appear at some times, in another run; its inputs at time 0."""
        captured = self._run_torch(orders).captured
        values = {
            order: [np.asarray(as_array(tensor)) for tensor in tensors]
            for order, tensors in captured.items()
        }
        values[0] = [np.asarray(array) for array in eager_arrays(self.inputs.torch_inputs)]
        return values
