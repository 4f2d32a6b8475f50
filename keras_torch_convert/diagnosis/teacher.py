"""torch's values in the place of what Keras layers with weights give: each layer then works on what
torch gives it, and what differs in one is seen in no other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from ..comparison.arrays import apart, arranged, channels_last, orders
from ..comparison.outputs import cosine_of, difference_of
from ..running.fingerprint import distance, fingerprint
from ..running.keras_calls import LayerCall, cell_of
from ..running.torch_steps import Step, TorchRun, Value
from .causes.activations import recognized
from .context import Array, DivergenceContext, called, replaced
from .locator import TorchValues
from .scopes import TorchScope

# A layer that computes on torch's own values what torch does reads 0 to 4e-7 of the largest value,
# the tanh approximation of gelu 8e-5 and more.
EXACT_BELOW = 2e-5
# A cause's value is near torch's when the difference is less.
NEAR = 3e-4
SAME_STATISTICS = 8e-7
STEPS_BEHIND = 2
MAX_CANDIDATES = 6


@dataclass(slots=True, eq=False)
class TeacherForcing:
    """What one run of the Keras model is given: called after each call of a layer.

    `arrays` are torch's values by the time at which they appeared, `candidates` those that a call
    may give, `patched` what some calls give in any case, `before_activation` the calls behind which
    Keras has an activation. `chosen` are the values that were given, by number of the call;
    `differing` the calls that gave something else of their own, with how far that is from torch's.
    """

    scopes: Mapping[int, TorchScope]
    candidates: Mapping[int, Sequence[Value]]
    arrays: Mapping[int, Sequence[Array]]
    values: TorchValues
    holds_its_weights: Callable[[LayerCall], bool | None]
    before_activation: Collection[int]
    patched: Mapping[int, Array]
    chosen: dict[int, Array] = field(default_factory=dict)
    differing: dict[int, float] = field(default_factory=dict)

    def __call__(self, call: LayerCall, own: Array) -> Array | None:
        """Return torch's value for a call that gave `own`, None to leave that."""
        scope = self.scopes.get(call.number)
        if call.number in self.patched:
            self.chosen[call.number] = self.patched[call.number]
            return self.patched[call.number]
        if scope is None or self.holds_its_weights(call) is not None:
            return None
        found = [(difference_of(array, own).relative, array) for array in self._arrays(call, own)]
        apart, array = min(found, key=lambda pair: pair[0], default=(np.inf, None))
        if apart >= EXACT_BELOW:
            if self.values.nearest_output(fingerprint(own), scope) < SAME_STATISTICS:
                return None
            if not _takes_the_input(call, scope):
                return None
            self.differing[call.number] = apart
            array = self._likeliest(call, own)
        if array is not None:
            self.chosen[call.number] = array
        return array

    def _arrays(self, call: LayerCall, own: Array) -> Iterable[Array]:
        for value in self.candidates[call.number]:
            for kept in self.arrays.get(value.order, ()):
                yield from arranged(kept, own.shape)

    def _likeliest(self, call: LayerCall, own: Array) -> Array | None:
        """Return what torch has where a layer gives something else: the output of its own layer,
        behind the activation where the Keras layer ends in one; None where that is not known.
        """
        alike = (most_alike(self.arrays.get(value.order, ()), own)
                 for value in self.candidates[call.number])
        # Steps inside a recurrent layer give something of another size.
        fitting = [array for array in alike if array is not None]
        if not fitting:
            return None
        before, *behind = fitting
        activation = getattr(call.layer, "activation", None)
        # That of a cell stands inside.
        is_linear = getattr(activation, "__name__", "linear") == "linear" or cell_of(
            call.layer) is not None
        if is_linear or call.number in self.before_activation:
            return before
        for after in behind:
            function = recognized(before, after)
            if function is not None and function.name != "none":
                return after
        return None


def is_activation(call: LayerCall) -> bool:
    """Whether a call is that of an activation layer."""
    return call.leaf is None and bool({"Activation", "ReLU", "LeakyReLU", "ELU"}
                                      & set(call.class_names))


def _takes_the_input(call: LayerCall, scope: TorchScope) -> bool:
    """Whether a call gets the input of torch's layer, or something of its size: a map may be of
    another height.
    """
    return any(
        prod(shape) == prod(value.shape) or distance(key, value.key) < SAME_STATISTICS or (
            len(shape) == len(value.shape) > 2 and shape[-1] == value.shape[1])
        for key, shape in zip(call.inputs, call.input_shapes, strict=True)
        for value in scope.inputs)


def most_alike(values: Iterable[Array], own: Array) -> Array | None:
    """Return the arrangement of torch's values that is most like what Keras has; one that merges or
    splits no axes before one that does.
    """
    found = [array for value in values for array in arranged(value, own.shape)]
    whole = [array for value in values for array in _moved(value, own.shape)] or found
    if len(whole) < 2:
        return next(iter(whole), None)
    return max(whole, key=lambda array: likeness(array, own))


def likeness(first: Array, second: Array) -> float:
    """Return the centered correlation of two arrays of one shape."""
    return cosine_of(first - first.mean(), second - second.mean()) or 0.0


def _moved(value: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield a value with its axes in the orders that give a shape, that of a map first."""
    for perm in sorted(orders(value.ndim), key=lambda perm: perm[1:2] != (2,)):
        moved = value.transpose(perm)
        if [one for one in moved.shape if one != 1] == [one for one in shape if one != 1]:
            yield np.ascontiguousarray(moved).reshape(shape)


def nearest(trial: Array, values: Iterable[Array], within: float = NEAR) -> Array | None:
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


def torch_input(context: DivergenceContext) -> Array | None:
    """Return torch's input in the place of a Keras layer's one input, padded by the layer that pads
    it in Keras; None where it is the same already or of another kind.
    """
    if len(context.keras.inputs) != 1 or not context.torch_inputs:
        return None
    # Keras 3 pads by an operation inside of the layer.
    padding = next(
        ((call, captured) for call, captured in context.producers[-1:]
         if call.class_names[0].startswith(("ZeroPadding", "Pad")) and call.leaf is None), None)
    theirs = context.torch_inputs[0]
    own = (context.keras if padding is None else padding[1]).inputs[0]
    given = most_alike([theirs], own)
    if given is None and own.ndim > 2:
        # A map of half the size, or twice, behind other strides; not a padded one.
        given = channels_last(theirs, own.shape[-1])
        sizes = sorted((given.size, own.size))
        given = given if sizes[1] > 1.7**(given.ndim - 2) * sizes[0] else None
    if given is None or apart(given, own) < EXACT_BELOW:
        return None
    if padding is None:
        return given
    call, captured = padding
    args, kwargs = replaced((captured.args, captured.kwargs), [given])
    return called(context.target, call.layer, args, kwargs)


def possible_outputs(scope: TorchScope, torch: TorchRun) -> tuple[Value, ...]:
    """Return the values of torch that a Keras layer may give: those of its own layer, the likeliest
    first, and those of the next operations that take nothing else.
    """
    taking: dict[int, list[Step]] = {}
    for step in torch.steps:
        if len(step.inputs) == 1 and not step.weights:
            taking.setdefault(step.inputs[0].order, []).append(step)
    # The last operation with weights comes first: a module may end in an activation of its own.
    own = [
        value for step in sorted(scope.steps, key=lambda step: -step.order)
        for value in step.outputs
    ]
    found = [*own[:1], *scope.outputs, *own[1:]]
    reached = [value.order for value in own[:1]]
    for _ in range(STEPS_BEHIND):
        behind = [
            value for order in reached for step in taking.get(order, ()) for value in step.outputs
        ]
        found += behind
        reached = [value.order for value in behind]
    return tuple(dict.fromkeys(found))[:MAX_CANDIDATES]
