"""The place where two models part, with the values that met there: what a hypothesis about the
cause is tried out on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, prod
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..comparison.arrays import apart
from ..running.fingerprint import distance, fingerprint
from ..running.keras_calls import Captured, LayerCall
from ..running.keras_values import (TrialValues, as_tensor_like, eager_arrays, intercepted_calls,
                                    trial_values)
from ..running.run import no_grad, preserve_rng_state
from ..running.torch_steps import Step, TorchRun, Value
from ..spec.target import Target
from .layer_pairs import TorchPlace
from .locating import DivergencePoint

Array = npt.NDArray[Any]

# What agrees when the cause is right reads 1e-7 to 1e-5, in half the cases at once much less than
# without.
ENOUGH = 3e-5
PART_OF_DIFFERENCE = 0.05
# Where rounding was large already, a cause still makes a large difference this many times smaller.
NEAR = 3e-4
# What a call changes by less it hands on.
SAME_VALUES = 1e-6
# torch's operations between two layers are followed this far back.
LONGEST_WAY = 8


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """A possible cause: `trial` is what comes out when it is mended, to be compared with what torch
    gives there.

    `how`: the spot's output compared value by value; by statistics with all that torch computes,
    where it is not known which value it should be; or put through the next Keras call, whose output
    is compared by statistics. "around" is the output of the layer around the spot, by statistics.
    `at` names another Keras layer than the spot's, `torch_at` another module, when the change is to
    be made there. `against` is what `trial` is compared with, None for any of the values that torch
    has there.
    """

    kind: str
    cause: str
    advice: str
    trial: Array
    at: str = ""
    against: Array | None = None
    torch_at: str = ""
    how: Literal["values", "statistics", "next call", "around"] = "values"


@dataclass(frozen=True, slots=True, eq=False)
class WrongWeights:
    """A call of a layer that holds other values than torch's: the kind of mistake, a sentence, and
    the values that it should hold.
    """

    call: LayerCall
    kind: str
    said: str
    wanted: Mapping[str, Array]


@dataclass(slots=True, eq=False)
class DivergenceContext:
    """All that is known about one spot.

    `keras` are the values of the spot's call, `before` those of the calls that its input came from
    (the nearest last), `behind` the calls that take its output. `place` is the torch layer,
    `torch_inputs` what goes into it. `expected` are torch's values that the output may have to be,
    the likeliest first (for a spot "before" a layer: that layer's input), `following` what goes
    into the next torch layers with weights. `next_calls` are the values of the calls that take the
    spot's output, `along` those of calls without weights that follow one another, `parent` those of
    the call around it. `values` are torch's values by the order of the operation that gave them, 0
    for the inputs. `held` and `wanted` are the layer's variables as they are and as torch's values
    make them, by name; `owners` names for a variable that holds what belongs to another one that
    other; `wrong_before` are the calls before that hold wrong weights. `masks` are inputs of whole
    numbers.
    """

    target: Target
    spot: DivergencePoint
    keras: Captured
    torch: TorchRun
    seen: Callable[[Array], float]
    before: list[tuple[LayerCall, Captured]] = field(default_factory=list)
    behind: list[LayerCall] = field(default_factory=list)
    place: TorchPlace | None = None
    torch_inputs: list[Array] = field(default_factory=list)
    expected: list[Array] = field(default_factory=list)
    following: list[Array] = field(default_factory=list)
    next_calls: list[tuple[LayerCall, Captured]] = field(default_factory=list)
    along: list[tuple[LayerCall, Captured]] = field(default_factory=list)
    parent: tuple[LayerCall, Captured] | None = None
    wrong_before: list[WrongWeights] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    values: Mapping[int, Sequence[Array]] = field(default_factory=dict)
    held: Mapping[str, Array] = field(default_factory=dict)
    wanted: Mapping[str, Array] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    masks: Sequence[Array] = ()
    is_before_all_weights: bool = False
    is_last: bool = False

    @property
    def call(self) -> LayerCall:
        """The Keras call."""
        return self.spot.call

    @property
    def module(self) -> Any:
        """The torch module of the layer, None when there is none."""
        return None if self.place is None else self.place.module

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the Keras layer."""
        from ..keras_io.model import settings_of

        return settings_of(self.call.layer)

    @property
    def difference(self) -> float:
        """How far the Keras output is from what torch most likely has there."""
        if not self.keras.outputs or not self.expected:
            return inf
        return apart(self.expected[0], self.keras.outputs[0])

    def distance(self, trial: Array, against: Array | None = None) -> float:
        """How near a trial comes to one of the values that torch has there."""
        candidates = self.expected if against is None else [against]
        return min((apart(array, trial) for array in candidates), default=inf)

    def distance_of(self, hypothesis: Hypothesis) -> float:
        """How near the trial of a hypothesis comes to torch."""
        if hypothesis.how in ("statistics", "around"):
            return self.seen(hypothesis.trial)
        if hypothesis.how == "next call":
            return self.followed(hypothesis.trial)[0]
        return self.distance(hypothesis.trial, hypothesis.against)

    def followed(self, output: Array) -> tuple[float, float]:
        """How near torch comes what the next call makes of `output` in the place of the spot's own,
        and what it makes of that.
        """
        for call, captured in self.next_calls if self.keras.outputs else ():
            own = self.keras.outputs[0]
            taken = [one.shape == own.shape and np.array_equal(one, own) for one in captured.inputs]
            if not any(taken):
                continue
            arrays = [
                output if is_own else one
                for one, is_own in zip(captured.inputs, taken, strict=True)
            ]
            args, kwargs = replaced((captured.args, captured.kwargs), arrays)
            result = called(self.target, call.layer, args, kwargs)
            if result is not None and distance(fingerprint(result),
                                               fingerprint(output)) > SAME_VALUES:
                # A call that changes nothing cannot tell anything.
                return self.seen(result), self.seen(captured.outputs[0])
        return inf, inf

    def around_with_weights(self, wrong: WrongWeights) -> Array | None:
        """What the layer around the spot gives when a layer inside holds what it should."""
        if self.parent is None or wrong.call.leaf is None:
            return None
        with trial_values(self.target) as set_value:
            for variable in wrong.call.leaf.variables:
                if variable.name in wrong.wanted:
                    set_value(variable, wrong.wanted[variable.name])
            return self.around()

    def around(self, layer: Any = None, *, settings: Mapping[str, Any] = MappingProxyType({}),
               change: Callable[[Any], Any] | None = None) -> Array | None:
        """What the layer around the spot gives: as it is, with other `settings`, or with those, or
        the output, of one `layer` inside changed.

        For a spot "before" a call: what goes into that call then.
        """
        if self.parent is None:
            return None
        call, captured = self.parent
        before: list[Array] = []

        def handle(inner: Any, run: Any, args: Any, kwargs: Any) -> Any:
            if inner is self.call.layer and self.spot.kind == "before" and not before:
                before.extend(np.array(array) for array in eager_arrays((args, kwargs)))
            changed_layer = inner is layer and bool(settings)
            output = altered(inner, settings)(*args, **kwargs) if changed_layer else run(
                *args, **kwargs)
            if inner is not layer or change is None:
                return output
            changed = change(output)
            return as_tensor_like(changed, output, self.target) if isinstance(
                changed, np.ndarray) else changed

        with intercepted_calls(self.target, handle):
            around = altered(call.layer, settings) if layer is None else call.layer
            output = called(self.target, around, captured.args, captured.kwargs)
        return output if self.spot.kind != "before" else next(iter(before), None)

    def explains(self, hypothesis: Hypothesis, distance: float) -> bool:
        """Whether a trial comes so near that its hypothesis is the cause."""
        if distance >= max(ENOUGH, NEAR):
            # Most fail here, which spares them the run as it is.
            return False
        difference = self.baseline_distance(hypothesis)
        enough = max(ENOUGH, NEAR * min(difference, 1.0))
        return distance < enough and distance < PART_OF_DIFFERENCE * difference

    def baseline_distance(self, hypothesis: Hypothesis) -> float:
        """How far what a hypothesis is judged by is from torch as long as nothing is mended."""
        if hypothesis.how == "statistics" and self.keras.outputs:
            return self.seen(self.keras.outputs[0])
        if hypothesis.how == "next call":
            # A next call that hardly moves with its input agrees whatever goes in.
            return self.followed(hypothesis.trial)[1]
        if hypothesis.how == "around" and (unmended := self.around()) is not None:
            return self.seen(unmended)
        return self.difference

    def step_named(self, names: Collection[str]) -> Step | None:
        """The first torch operation at this place of one of these names."""
        return next((step for step in self.steps if step.name in names), None)

    def array_of(self, value: Value) -> Array | None:
        """A value of torch's that was kept."""
        found = [
            array for array in self.values.get(value.order, ()) if array.size == prod(value.shape)
        ]
        same = [array for array in found if distance(fingerprint(array), value.key) < 1e-9]
        same.sort(key=lambda array: array.shape != value.shape)
        return next(iter(same), None)

    def arrays_of(self, values: Iterable[Value]) -> list[Array]:
        """Those of some values of torch's that were kept."""
        return [array for value in values if (array := self.array_of(value)) is not None]

    def path_of_value(self, array: Array) -> str:
        """The torch module in which the operation runs that gave a value, "" when it is not known.
        """
        for step in self.steps:
            if any(apart(value, array) < ENOUGH for value in self.values.get(step.order, ())):
                return step.path
        return ""

    def between(self) -> list[Step]:
        """torch's operations on the shortest way from a value that the Keras layer gets to what
        goes into the torch layer, () when there is none.
        """
        if self.place is None or not self.place.inputs:
            return []
        by_order = {step.order: step for step in self.torch.steps}
        waiting: list[tuple[Value, tuple[Step, ...]]] = [(self.place.inputs[0], ())]
        seen: set[int] = set()
        while waiting:
            value, way = waiting.pop(0)
            if any(distance(value.key, key) < 1e-5 for key in self.call.inputs):
                return list(way)
            step = by_order.get(value.order)
            if step is not None and step.order not in seen and len(way) < LONGEST_WAY:
                seen.add(step.order)
                waiting += [(one, (step, *way)) for one in step.inputs]
        return []

    @property
    def path_between(self) -> str:
        """The torch module in which the last of these operations runs, "" when there is none."""
        steps = self.between()
        return steps[-1].path if steps else ""

    def arguments_with(self, array: Array) -> tuple[Any, Any]:
        """The arguments of the call with `array` as its first."""
        args, kwargs = replaced((self.keras.args, self.keras.kwargs), [array])
        return args, kwargs

    def probabilities(self) -> list[tuple[Array, str]]:
        """What torch's softmaxes at this place give, those inside fused attention too, and the
        module in which each runs.
        """
        found = [(array, step.path) for step in self.steps if "softmax" in step.name
                 for array in self.values.get(step.order, ())]
        for step in self.steps:
            if not step.name.startswith("_scaled_dot_product") or len(step.inputs) != 3:
                continue
            query, key = (self.array_of(value) for value in step.inputs[:2])
            if query is None or key is None or query.shape[:-2] != key.shape[:-2]:
                continue
            scale = step.settings.get("scale") or query.shape[-1]**-0.5
            scores = scale * query.astype(np.float64) @ np.swapaxes(key, -1, -2)
            powers = np.exp(scores - scores.max(-1, keepdims=True))
            found.append((np.asarray(powers / powers.sum(-1, keepdims=True),
                                     np.float32), step.path))
        return found

    def query_key_value(self) -> tuple[Array, Array, Array] | None:
        """Query, key and value as (batch, places, heads, width): torch's, where they went into one
        operation, else the last Keras outputs of that rank.
        """
        for step in self.steps:
            if step.name.startswith("_scaled_dot_product") and len(step.inputs) >= 3:
                arrays = [self.array_of(value) for value in step.inputs[:3]]
                if all(array is not None and array.ndim == 4 for array in arrays):
                    query, key, value = (
                        np.moveaxis(array, 1, 2) for array in arrays if array is not None)
                    return query, key, value
        of_rank = [out for _, one in self.before for out in one.outputs[:1] if out.ndim == 4]
        if len(of_rank) < 3:
            return None
        query, key, value = of_rank[-3:]
        return query, key, value

    def class_names(self, *names: str) -> bool:
        """Whether the Keras layer is of one of these kinds."""
        return any(kind in names for kind in self.call.class_names)

    def run(self, inputs: Sequence[Array] | None = None, **settings: Any) -> Array | None:
        """The Keras layer's output for other inputs, with other settings (its own attributes); None
        when it cannot be called so.

        A copy of the layer is called: the layer itself keeps its settings.
        """
        args, kwargs = self.keras.args, self.keras.kwargs
        if inputs is not None:
            args, kwargs = replaced((args, kwargs), list(inputs))
        return called(self.target, altered(self.call.layer, settings), args, kwargs)

    @contextmanager
    def weights(self, values: Mapping[str, Array]) -> Iterator[None]:
        """Other values for variables of the layer, by name, inside the `with` block."""
        with trial_values(self.target) as set_value:
            self.set_weights(values, set_value)
            yield

    def set_weights(self, values: Mapping[str, Array], set_value: TrialValues) -> None:
        """Give variables of the layer other values by `set_value`."""
        for variable in self.call.leaf.variables if self.call.leaf is not None else ():
            if variable.name in values:
                set_value(variable, values[variable.name])


def altered(layer: Any, settings: Mapping[str, Any]) -> Any:
    """A layer that shares everything with `layer` but the attributes in `settings`; `layer` itself
    is not touched.
    """
    if not settings:
        return layer
    other = object.__new__(type(layer))
    other.__dict__.update(layer.__dict__)
    other.__dict__.update(settings)
    return other


def called(target: Target, layer: Any, args: Any, kwargs: Any) -> Array | None:
    """The first array that a layer gives, None when it refuses its input."""
    with no_grad(target), preserve_rng_state():
        try:
            output = layer(*args, **kwargs)
        except (ValueError, TypeError, RuntimeError, AttributeError, KeyError, IndexError,
                ArithmeticError):
            # A setting or a shape that this layer cannot have: then it is not the cause.
            return None
    return next((np.array(array) for array in eager_arrays(output) if array.size), None)


def replaced(structure: Any, arrays: list[Array]) -> Any:
    """A structure of arguments with its tensors replaced by `arrays`, in order, as long as there
    are any.
    """
    if isinstance(structure, dict):
        return {name: replaced(item, arrays) for name, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(replaced(item, arrays) for item in structure)
    if arrays and hasattr(structure, "shape") and hasattr(structure, "dtype"):
        return arrays.pop(0)
    return structure
