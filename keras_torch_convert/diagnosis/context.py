"""The place where two models part, with the values that meet there: what hypotheses about the cause
are tried on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, isnan, prod
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..comparison.arrays import apart
from ..keras_io.model import settings_of
from ..running.fingerprint import distance, fingerprint
from ..running.keras_calls import Captured, LayerCall
from ..running.keras_values import (as_tensor_like, eager_arrays, intercepted_calls,
                                    intercepted_functions, trial_values)
from ..running.run import no_grad, preserve_rng_state
from ..running.torch_steps import Step, TorchRun, Value
from ..spec.target import Target
from .locator import DivergencePoint
from .scopes import TorchScope

_LOG = logging.getLogger(__name__)
Array = npt.NDArray[Any]

# With the right cause the values agree to 1e-7 to 1e-5, and much better than without it.
PROVEN_BELOW = 3e-5
SHARE_OF_BASELINE = 0.05
# Where rounding is large already, a cause must still explain all but this part of the difference.
PROVEN_SHARE = 3e-4
# A call that changes its input by less hands it on.
UNCHANGED_BELOW = 1e-6
MAX_STEPS_BACK = 8
# Functions of keras.ops that are looked at in a layer's code.
CODE = ("softmax", "dot_product_attention", "matmul", "einsum", "tanh")
NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


class Cause(NamedTuple):
    """What differs: its kind, a sentence, and what to do."""

    kind: str
    cause: str
    advice: str


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """A possible cause: `trial` is the Keras value with the cause fixed.

    `compare` says how it is judged: "values" against `against`, or against any value that torch may
    have there; "statistics" against all that torch computes; "consumer" by what the next Keras call
    makes of it, by statistics; "parent" when `trial` is a value of the layer around, by statistics.
    `at` and `torch_at` name the Keras layer and the torch module to change where these are not the
    point's. `output_of` is the number of the call whose output `trial` replaces, when that is not
    the point's; `given` is what the call before must give for it. `instead` is what stands in the
    place of `trial` as long as nothing is fixed, where that is another value than the output;
    `is_inside` says that both go into a layer further on inside the layer around. `own` is what
    the point's call gives with the cause fixed, where `trial` is another value; `others` are
    further causes that must be fixed with this one.
    """

    kind: str
    cause: str
    advice: str
    trial: Array
    at: str = ""
    against: Array | None = None
    torch_at: str | None = None
    compare: Literal["values", "statistics", "consumer", "parent"] = "values"
    output_of: int | None = None
    given: Array | None = None
    instead: Array | None = None
    is_inside: bool = False
    own: Array | None = None
    others: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class CodeCall:
    """A call of a function of `keras.ops` in the code of a layer; `number` counts them."""

    number: int
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: list[Array]
    output: Array


@dataclass(frozen=True, slots=True, eq=False)
class NormCall:
    """A call of a Keras norm: what goes in, in torch and in Keras, in the shape that comes out."""

    name: str
    given: tuple[Array, ...]
    made: Array


@dataclass(slots=True, eq=False)
class DivergenceContext:
    """All that is known about one divergence point.

    Keras: `keras` are the values of the point's call; `producers` the calls that its input came
    from, the nearest last; `norms` the last norms before it; `consumers` the calls that take its
    output; `chain` calls without weights that follow one another; `parent` the call around it.
    torch: `scope` is the use of the layer's weights, `torch_inputs` what goes into it; `expected`
    are values that the output may have to be, the likeliest first (for a point "before" a layer:
    that layer's input); `next_inputs` what goes into the next torch layers with weights; `steps`
    the operations around, `modules_here` the modules in which they run, `values` their results by
    order (0: the model's inputs); `modules` all of torch, `keras_layers` those of Keras that hold
    their weights, by path. Weights: `held` and `planned` are the layer's variables as they are and
    as torch's values make them; `torch_weights` are torch's by role. `masks` are inputs of zeros
    and ones, `patched` what layers inside the parent give in this run instead of their own output,
    by identity, call by call; `weighted` are all those with weights; `passed_on` is what the calls
    behind got instead of the point's output. `nearest` is the distance of an array to the nearest
    value of torch, by statistics.
    """

    target: Target
    point: DivergencePoint
    keras: Captured
    torch: TorchRun
    nearest: Callable[[Array], float]
    producers: list[tuple[LayerCall, Captured]] = field(default_factory=list)
    norms: list[NormCall] = field(default_factory=list)
    consumers: list[tuple[LayerCall, Captured]] = field(default_factory=list)
    chain: list[tuple[LayerCall, Captured]] = field(default_factory=list)
    parent: tuple[LayerCall, Captured] | None = None
    scope: TorchScope | None = None
    torch_inputs: list[Array] = field(default_factory=list)
    expected: list[Array] = field(default_factory=list)
    next_inputs: list[Array] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    values: Mapping[int, Sequence[Array]] = field(default_factory=dict)
    held: Mapping[str, Array] = field(default_factory=dict)
    planned: Mapping[str, Array] = field(default_factory=dict)
    torch_weights: Mapping[str, Array] = field(default_factory=dict)
    masks: Sequence[Array] = ()
    patched: Mapping[int, Sequence[Array | None]] = field(default_factory=dict)
    weighted: Collection[int] = ()
    modules_here: Sequence[Any] = ()
    modules: Mapping[str, Any] = field(default_factory=dict)
    keras_layers: Mapping[str, str] = field(default_factory=dict)
    passed_on: Array | None = None
    values_around: list[Array] | None = None
    is_first: bool = False
    is_last: bool = False

    @property
    def call(self) -> LayerCall:
        """The Keras call."""
        return self.point.call

    @property
    def layer(self) -> Any:
        """The Keras layer."""
        return self.point.call.layer

    @property
    def name(self) -> str:
        """Display name of the Keras layer."""
        return self.point.call.display_name

    @property
    def has_weights(self) -> bool:
        """Whether the Keras layer owns variables."""
        return self.point.call.leaf is not None

    @property
    def module(self) -> Any:
        """The torch module of the layer, None when there is none."""
        return None if self.scope is None else self.scope.module

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the Keras layer."""
        return settings_of(self.layer)

    def is_a(self, *class_names: str) -> bool:
        """Whether the Keras layer is of one of these classes."""
        return any(name in class_names for name in self.call.class_names)

    # How near a trial comes to torch.

    @property
    def difference(self) -> float:
        """Distance of the Keras output from what torch most likely has there."""
        if not self.keras.outputs or not self.expected:
            return inf
        return apart(self.expected[0], self.keras.outputs[0])

    def distance_of(self, hypothesis: Hypothesis) -> float:
        """Distance of a hypothesis's trial from torch."""
        if hypothesis.compare in ("statistics", "parent"):
            return self.nearest(hypothesis.trial)
        if hypothesis.compare == "consumer":
            return self._through_consumer(hypothesis.trial)
        candidates = self.expected if hypothesis.against is None else [hypothesis.against]
        return min((apart(array, hypothesis.trial) for array in candidates), default=inf)

    def baseline_distance(self, hypothesis: Hypothesis) -> float:
        """The same distance as long as nothing is fixed."""
        if hypothesis.compare == "statistics" and self.keras.outputs:
            return self.nearest(self.keras.outputs[0])
        if hypothesis.compare == "consumer":
            # A consumer that hardly moves with its input agrees whatever goes in.
            return self._through_consumer(self.keras.outputs[0])
        if hypothesis.instead is not None:
            return self.nearest(hypothesis.instead)
        return self.difference

    def explains(self, hypothesis: Hypothesis, distance: float) -> bool:
        """Whether a trial comes so near that its hypothesis is the cause."""
        if distance >= max(PROVEN_BELOW, PROVEN_SHARE):
            # Most fail here, which spares them the run as it is.
            return False
        baseline = self.baseline_distance(hypothesis)
        # What is not even a number is as far from torch as can be.
        baseline = inf if isnan(baseline) else baseline
        enough = max(PROVEN_BELOW, PROVEN_SHARE * min(baseline, 1.0))
        return distance < enough and distance < SHARE_OF_BASELINE * baseline

    def _through_consumer(self, output: Array) -> float:
        """Return the distance from torch of what the next call makes of `output` in the place of
        the point's own.
        """
        own = self.passed_on
        if own is None:
            return inf
        for call, captured in self.consumers:
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
                                               fingerprint(output)) > UNCHANGED_BELOW:
                # A call that changes nothing proves nothing.
                return self.nearest(result)
        return inf

    # Trials.

    def run(self, inputs: Sequence[Array] | None = None, **settings: Any) -> Array | None:
        """Return the layer's output for other inputs, with other attributes; None when it cannot be
        called so. A copy is called: the layer itself keeps its settings.
        """
        args, kwargs = self.keras.args, self.keras.kwargs
        if inputs is not None:
            args, kwargs = replaced((args, kwargs), list(inputs))
        return called(self.target, altered(self.layer, settings), args, kwargs)

    def run_with_input(self, array: Array, number: int = 0) -> Array | None:
        """Return the layer's output with one of its inputs replaced."""
        inputs = list(self.keras.inputs)
        inputs[number] = array
        return self.run(inputs)

    def code_calls(self) -> list[CodeCall]:
        """Return the calls of functions of `keras.ops` that tell of attention in the layer around,
        in order; none of Keras 2.
        """
        found: list[CodeCall] = []

        def handle(name: str, run: Any, args: Any, kwargs: Any) -> Any:
            output = run(*args, **kwargs)
            inputs, outputs = ([np.array(array) for array in eager_arrays(one)]
                               for one in ((args, kwargs), output))
            if outputs:
                found.append(CodeCall(len(found), name, args, kwargs, inputs, outputs[0]))
            return output

        if self.parent is not None:
            with intercepted_functions(self.target, CODE, handle):
                self._values_around(None, NO_SETTINGS, None)
        return found

    def around_code(self, code: CodeCall, array: Array) -> dict[str, Any] | None:
        """Run the layer around the point with another output of one function in its code."""
        count = iter(range(code.number + 1))

        def handle(name: str, run: Any, args: Any, kwargs: Any) -> Any:
            output = run(*args, **kwargs)
            is_it = next(count, None) == code.number
            return as_tensor_like(array, output, self.target) if is_it else output

        if self.parent is None:
            return None
        with intercepted_functions(self.target, CODE, handle):
            return self._moved(self._values_around(None, NO_SETTINGS, None))

    def around(self, layer: Any = None, *, settings: Mapping[str, Any] = NO_SETTINGS,
               change: Callable[[Any], Any] | None = None) -> dict[str, Any] | None:
        """Run the layer around the point with other `settings`, or with those, or the output, of
        one `layer` inside changed.

        Returns the first value that moves, as fields of a Hypothesis: what goes into a layer with
        weights further on inside, else the output; None when nothing does. For a point "before" a
        call: what goes into that call.
        """
        return None if self.parent is None else self._moved(
            self._values_around(layer, settings, change))

    def _moved(self, values: list[Array]) -> dict[str, Any] | None:
        assert self.parent is not None
        if self.values_around is None:
            self.values_around = self._values_around(None, NO_SETTINGS, None)
        pairs = list(zip(values, self.values_around, strict=False))
        if self.parent[0] is self.call:
            # What goes on from here is the output.
            pairs = pairs[-1:]
        for number, (trial, instead) in enumerate(pairs):
            if trial.shape != instead.shape or not np.array_equal(trial, instead):
                is_inside = self.point.kind == "before" or number < len(pairs) - 1
                return {
                    "trial": trial, "instead": instead, "is_inside": is_inside, "compare": "parent",
                    "output_of": self.parent[0].number
                }
        return None

    def _values_around(self, layer: Any, settings: Mapping[str, Any],
                       change: Callable[[Any], Any] | None) -> list[Array]:
        assert self.parent is not None
        call, captured = self.parent
        found: list[Array] = []
        reached = self.point.kind != "before"
        patched = {layer: list(arrays) for layer, arrays in self.patched.items()}

        def handle(inner: Any, run: Any, args: Any, kwargs: Any) -> Any:
            nonlocal reached
            reached = reached or inner is self.layer
            if reached and id(inner) in self.weighted:
                found.extend(np.array(array) for array in eager_arrays((args, kwargs)))
            changes_settings = inner is layer and bool(settings)
            output = (altered(inner, settings) if changes_settings else run)(*args, **kwargs)
            theirs = patched[id(inner)].pop(0) if patched.get(id(inner)) else None
            if theirs is not None and not changes_settings:
                output = as_tensor_like(theirs, output, self.target)
            if inner is not layer or change is None:
                return output
            changed = change(output)
            is_array = isinstance(changed, np.ndarray)
            return as_tensor_like(changed, output, self.target) if is_array else changed

        with intercepted_calls(self.target, handle):
            outer = altered(call.layer, settings) if layer is None else call.layer
            output = called(self.target, outer, captured.args, captured.kwargs)
        return [] if output is None else [*found, output]

    @contextmanager
    def weights(self, values: Mapping[str, Array]) -> Iterator[None]:
        """Give variables of the layer other values for a time."""
        leaf = self.call.leaf
        with trial_values(self.target) as set_value:
            for variable in leaf.variables if leaf is not None else ():
                if variable.name in values:
                    set_value(variable, values[variable.name])
            yield

    def applied(self, function: Callable[[Any], Any], array: Array) -> Array | None:
        """Return what a function of the framework's tensors gives, None when it is of others."""
        try:
            return next(eager_arrays(function(as_tensor_like(array, array, self.target))), None)
        except Exception as refusal:
            _LOG.debug("a trial was refused: %s", refusal)
            return None

    # What torch has.

    def step_named(self, names: Collection[str]) -> Step | None:
        """Return the first torch operation here of one of these names."""
        return next((step for step in self.steps if step.name in names), None)

    def array_of(self, value: Value) -> Array | None:
        """Return a value of torch's that was kept."""
        found = [
            array for array in self.values.get(value.order, ())
            if array.size == prod(value.shape) and distance(fingerprint(array), value.key) < 1e-9
        ]
        return min(found, key=lambda array: array.shape != value.shape, default=None)

    def arrays_of(self, values: Iterable[Value]) -> list[Array]:
        """Return those of some values of torch's that were kept."""
        return [array for value in values if (array := self.array_of(value)) is not None]

    def step_results(self) -> Iterator[tuple[Step, Array]]:
        """Yield torch's operations here with each of their results."""
        for step in self.steps:
            for array in self.values.get(step.order, ()):
                yield step, array

    def every_value(self) -> Iterator[tuple[Step, Array]]:
        """Yield the values that were kept, what goes in here too, with the operations that gave
        them.
        """
        by_order = {step.order: step for step in self.torch.steps}
        yield from self.step_results()
        here = {step.order for step in self.steps}
        for order, arrays in self.values.items():
            if order in by_order and order not in here:
                yield from ((by_order[order], array) for array in arrays)

    def path_of_value(self, array: Array) -> str:
        """Return the torch module whose operation gave a value, "" when it is not known."""
        found = (
            step.path for step, value in self.step_results() if apart(value, array) < PROVEN_BELOW)
        return next(found, "")

    def comes_from(self, step: Step, array: Array) -> bool:
        """Whether torch's operation, or one shortly before it without weights, takes a value."""
        by_order, key = {one.order: one for one in self.torch.steps}, fingerprint(array)
        waiting, visited = [step], set[int]()
        while waiting and len(visited) < MAX_STEPS_BACK:
            one = waiting.pop(0)
            if any(distance(value.key, key) < 1e-5 for value in one.inputs):
                return True
            visited.add(one.order)
            waiting += [
                by_order[value.order] for value in one.inputs if value.order not in visited
                and value.order in by_order and not by_order[value.order].weights
            ]
        return False

    def steps_between(self) -> list[Step]:
        """Return torch's operations on the shortest way from a value that the Keras layer gets to
        the torch layer's input.
        """
        if self.scope is None or not self.scope.inputs:
            return []
        by_order = {step.order: step for step in self.torch.steps}
        waiting: list[tuple[Value, tuple[Step, ...]]] = [(self.scope.inputs[0], ())]
        visited: set[int] = set()
        while waiting:
            value, steps = waiting.pop(0)
            if any(distance(value.key, key) < 1e-5 for key in self.call.inputs):
                return list(steps)
            step = by_order.get(value.order)
            if step is not None and step.order not in visited and len(steps) < MAX_STEPS_BACK:
                visited.add(step.order)
                waiting += [(one, (step, *steps)) for one in step.inputs]
        return []

    @property
    def path_between(self) -> str | None:
        """The torch module in which the last of these operations runs, None without one."""
        steps = self.steps_between()
        return steps[-1].path if steps else None


def altered(layer: Any, settings: Mapping[str, Any]) -> Any:
    """Return a layer that shares everything with `layer` but the attributes in `settings`."""
    if not settings:
        return layer
    other = object.__new__(type(layer))
    other.__dict__.update(layer.__dict__)
    other.__dict__.update(settings)
    return other


def called(target: Target, layer: Any, args: Any, kwargs: Any) -> Array | None:
    """Return the first array that a layer gives, None when it refuses its input."""
    with no_grad(target), preserve_rng_state():
        try:
            output = layer(*args, **kwargs)
        except Exception as refusal:
            # A setting or a shape that this layer cannot have, which each framework refuses by
            # errors of its own: then it is not the cause.
            _LOG.debug("a trial was refused: %s", refusal)
            return None
    return next((np.array(array) for array in eager_arrays(output) if array.size), None)


def replaced(structure: Any, arrays: list[Array]) -> Any:
    """Return arguments with their first tensors replaced by `arrays`, in order."""
    if isinstance(structure, dict):
        return {name: replaced(item, arrays) for name, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(replaced(item, arrays) for item in structure)
    if arrays and hasattr(structure, "shape") and hasattr(structure, "dtype"):
        return arrays.pop(0)
    return structure
