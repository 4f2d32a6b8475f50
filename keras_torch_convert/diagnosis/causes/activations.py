"""Activations: another function, one that only one side has, one inside the code of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import permutations
from typing import Any

import numpy as np

from ...comparison.arrays import apart, arranged
from ...running.fingerprint import distance, fingerprint
from ...running.keras_calls import LayerCall
from ..context import PROVEN_BELOW, Array, Cause, DivergenceContext, Hypothesis, altered
from .common import bypass, linear, ratio_of
from .order import same_values

# A function is recognized when it gives an output to this part of its largest value.
RECOGNIZED_BELOW = 2e-6
MAX_INPUTS = 3
# So many values are looked at before all are.
SOME = 4096
BISECTIONS = 80
CELL_FUNCTIONS = {"recurrent_activation": "sigmoid", "activation": "tanh"}
SLOPES = (0.01, 0.2, 0.1, 0.3, 0.25, 0.05)


@dataclass(frozen=True, slots=True)
class Function:
    """An element-wise function: its name, what to write for it in Keras and in torch, and how it is
    computed (by torch, in float64).
    """

    name: str
    keras: str
    torch: str
    compute: Callable[[Any], Any]

    def __call__(self, array: Array) -> Array:
        """Apply the function to an array, in float32."""
        import torch

        with torch.no_grad():
            wide = torch.from_numpy(np.ascontiguousarray(array, np.float64))
            return np.asarray(self.compute(wide).numpy(), np.float32)


def identity() -> Function:
    """Return the function of a layer without an activation."""
    return Function("none", 'activation="linear"', "nn.Identity()", linear)


def functions() -> Iterator[Function]:
    """Yield all known functions, the usual ones first."""
    from torch.nn import functional as f

    # A Keras name that is one word stands for activation="...".
    rows: list[tuple[str, str, str, Callable[[Any], Any]]] = [
        ("relu", "relu", "nn.ReLU()", f.relu),
        ("gelu", 'activation="gelu" (approximate=False)', "nn.GELU()", f.gelu),
        ("the tanh approximation of gelu", "keras.activations.gelu(x, approximate=True)",
         'nn.GELU(approximate="tanh")', partial(f.gelu, approximate="tanh")),
        ("silu (swish)", "silu", "nn.SiLU()", f.silu),
        ("hard silu (hard swish)", "hard_silu", "nn.Hardswish()", f.hardswish),
        ("relu6", "relu6", "nn.ReLU6()", f.relu6),
        ("sigmoid", "sigmoid", "nn.Sigmoid()", lambda x: x.sigmoid()),
        ("hard sigmoid (relu6(x + 3) / 6)", 'activation="hard_sigmoid" of Keras 3',
         "nn.Hardsigmoid()", f.hardsigmoid),
        ("hard sigmoid (clip(0.2 x + 0.5))", 'activation="hard_sigmoid" of Keras 2',
         "clip(0.2 * x + 0.5, 0, 1)", lambda x: (0.2 * x + 0.5).clamp(0, 1)),
        ("tanh", "tanh", "nn.Tanh()", lambda x: x.tanh()), ("elu", "elu", "nn.ELU()", f.elu),
        ("selu", "selu", "nn.SELU()", f.selu), ("mish", "mish", "nn.Mish()", f.mish),
        ("softplus", "softplus", "nn.Softplus()", f.softplus),
        ("softsign", "softsign", "nn.Softsign()", f.softsign),
        ("x sigmoid(1.702 x)", "x * sigmoid(1.702 * x)", "quick gelu", lambda x: x *
         (1.702 * x).sigmoid()),
        ("relu squared", "relu(x) ** 2", "relu(x) ** 2", lambda x: f.relu(x)**2),
        ("hard tanh", "hard_tanh", "nn.Hardtanh()", f.hardtanh),
        ("log sigmoid", "log_sigmoid", "nn.LogSigmoid()", f.logsigmoid),
        ("exp", "exponential", "torch.exp", lambda x: x.clamp(max=80).exp()),
        ("celu", "celu", "nn.CELU()", f.celu),
    ]
    for name, keras, torch_name, compute in rows:
        words = f'activation="{keras}"' if keras.isidentifier() else keras
        yield Function(name, words, torch_name, compute)
    for slope in SLOPES:
        yield Function(f"leaky relu with slope {slope:g}", f"LeakyReLU(negative_slope={slope:g})",
                       f"nn.LeakyReLU({slope:g})", partial(f.leaky_relu, negative_slope=slope))


def soft_cap(array: Array, output: Array) -> Function | None:
    """Return the soft cap (cap * tanh(x / cap)) that makes one of the other, None when none does.
    """
    x, y = array.astype(np.float64).ravel(), output.astype(np.float64).ravel()
    if x.shape != y.shape or not x.size:
        return None
    at = int(np.abs(x).argmax())
    most, wanted = abs(float(x[at])), abs(float(y[at]))
    if not 0 < wanted < (1 - RECOGNIZED_BELOW) * most:
        return None
    low, high = wanted, 1e4 * most
    for _ in range(BISECTIONS):
        middle = (low * high)**0.5
        low, high = ((middle, high) if middle * np.tanh(most / middle) < wanted else (low, middle))
    cap = float(f"{high:.4g}")
    if np.abs(cap * np.tanh(x / cap) - y).max() > RECOGNIZED_BELOW * wanted:
        return None
    words = f"{cap:g} * tanh(x / {cap:g})"
    return Function(f"a soft cap of {cap:g}", words, words, lambda x: cap * (x / cap).tanh())


def softmaxes(ndim: int) -> Iterator[Function]:
    """Yield softmax over each axis, the last first."""
    from torch.nn import functional as f

    for axis in (-1, *range(ndim - 1)):
        yield Function(f"softmax over axis {axis}", f"softmax, axis={axis}", f"softmax, dim={axis}",
                       partial(f.softmax, dim=axis))


def recognized(array: Array, output: Array) -> Function | None:
    """Return the function that gives `output` for `array`, None when it is none of the known."""
    if array.shape != output.shape or output.dtype.kind != "f":
        return None
    known = [identity(), *functions(), *(softmaxes(array.ndim) if array.ndim > 1 else ())]
    found = next(
        (function for function in known if apart(function(array), output) < RECOGNIZED_BELOW), None)
    return soft_cap(array, output) if found is None else found


def capped(array: Array, values: Iterable[Array]) -> Iterator[Function]:
    """Yield soft caps that make values of torch's of an array."""
    for value in values:
        for one in arranged(value, array.shape):
            found = soft_cap(array, one)
            if found is not None:
                yield found


# The point is an activation, or a layer that ends in one.


def of_the_layer(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Put another activation in the place of the layer's own."""
    if not context.keras.inputs or not context.keras.outputs or context.point.kind == "before":
        return
    fused = context.has_weights
    if fused and getattr(context.layer, "activation", None) is None:
        return
    before = context.run(activation=linear) if fused else context.keras.inputs[0]
    ours = recognized(before, context.keras.outputs[0]) if before is not None else None
    if before is None or ours is None or (ours.name == "none" and not fused):
        return
    is_softmax = ours.name.startswith("softmax")
    behind = activation_behind(context) if fused and ours.name != "none" else None
    removal = f"give Keras layer '{context.name}' {identity().keras}, or add {ours.torch} in torch"
    known = (*functions(), *(softmaxes(before.ndim) if is_softmax else ()))
    for theirs in (*known, *capped(before, context.expected)):
        if theirs.name == ours.name:
            continue
        if behind is not None and behind[0].name == theirs.name:
            # What torch applies here Keras applies in its next call.
            cause = f"Keras computes {ours.name} before {theirs.name}, torch goes on without"
            yield Hypothesis("extra activation", cause, removal, theirs(before),
                             output_of=behind[1].number)
            continue
        kind = "missing activation" if ours.name == "none" else "activation"
        if "soft cap" in theirs.name and "soft cap" in ours.name:
            kind = "soft cap"
        if is_softmax and theirs.name.startswith("softmax"):
            kind = "softmax axis"
        cause = f"Keras computes {ours.name}, torch {theirs.name}"
        advice = f"give Keras layer '{context.name}' {theirs.keras}, or torch {ours.torch}"
        yield Hypothesis(kind, cause, advice, theirs(before))
        if kind == "softmax axis":
            # Inside fused attention torch's probabilities are known by their statistics.
            yield Hypothesis(kind, cause, advice, theirs(before), compare="statistics")
    if ours.name != "none":
        cause = f"Keras computes {ours.name}, torch goes on without"
        yield from bypass(context, "extra activation", cause, removal, before)
        if fused and context.expected and _only_moved_behind(context):
            yield Hypothesis("extra activation", cause, removal, before,
                             against=context.expected[0])


def _only_moved_behind(context: DivergenceContext) -> bool:
    """Whether all that torch does to what its layer gives alone is to move and scale it."""
    assert context.scope is not None
    given = {value.order for value in context.scope.outputs}
    own = np.sort(context.expected[0], None)
    for step, array in sorted(context.step_results(), key=lambda pair: pair[0].order):
        if len(step.inputs) != 1 or step.inputs[0].order not in given or step.weights:
            continue
        moved = np.sort(array, None)
        if array.size != own.size or not (same_values(own, moved)
                                          or ratio_of(moved, own) is not None):
            return False
        given.add(step.order)
    return True


def of_several_calls(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Put another activation in the place of one that Keras computes in several calls from the
    point on (x + 3, relu6, times 1/6).
    """
    if context.has_weights or not context.keras.inputs:
        return
    given = context.keras.inputs[0]
    for last, captured in context.chain:
        ours = recognized(given, captured.outputs[0]) if captured.outputs else None
        if ours is None or ours.name == "none":
            continue
        for theirs in functions():
            if theirs.name != ours.name:
                cause = (f"from here to '{last.display_name}' Keras computes {ours.name}, torch "
                         f"{theirs.name}")
                advice = (f"put {theirs.keras} in the place of these layers, or {ours.torch} in "
                          "torch")
                yield Hypothesis("activation", cause, advice, theirs(given), output_of=last.number)


def of_cells(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Give the cell of a recurrent layer the functions of torch's, which has no others."""
    if context.point.kind == "before" or not context.is_a("LSTM", "GRU"):
        return
    cell, activations = context.layer.cell, import_module(context.target.framework).activations
    held = {name: getattr(cell, name).__name__ for name in CELL_FUNCTIONS}
    wrong = [name for name, theirs in CELL_FUNCTIONS.items() if held[name] != theirs]
    for names in dict.fromkeys([*((name,) for name in wrong), tuple(wrong)]):
        trial = context.run(
            cell=altered(cell, {name: activations.get(CELL_FUNCTIONS[name]) for name in names}))
        causes = [
            Cause("activation", f"{name} is {held[name]} in Keras and {CELL_FUNCTIONS[name]} in "
                  "torch", f'build the Keras layer with {name}="{CELL_FUNCTIONS[name]}"')
            for name in names
        ]
        if trial is not None and causes:
            yield Hypothesis(*causes[0], trial, others=tuple(causes[1:]))


def activation_behind(context: DivergenceContext) -> tuple[Function, LayerCall] | None:
    """Return the activation that Keras computes behind the point, and the last of its calls."""
    given = context.passed_on
    for call, captured in context.chain if given is not None else ():
        function = (recognized(given, captured.outputs[0])
                    if given is not None and captured.outputs else None)
        if function is not None and function.name != "none":
            return function, call
    return None


# Activations before the point that only torch has.


def idle_before(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Give an activation layer before the point that does nothing what torch computes there."""
    unused = {
        call.display_name for call, _ in context.producers
        if "Activation" in call.class_names and call.inputs == call.outputs
    }
    if unused:
        yield from (one for one in before_the_layer(context) if one.at in unused)


def before_the_layer(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Apply an activation to one of the inputs."""
    if context.point.kind == "before":
        return
    for number, array in enumerate(context.keras.inputs[:MAX_INPUTS]):
        for function in functions():
            trial = context.run_with_input(function(array), number)
            if trial is None:
                continue
            at = _source_with_activation(context, array)
            where = f"after Keras layer '{at}'" if at else f"before Keras layer '{context.name}'"
            yield Hypothesis("missing activation",
                             f"torch computes {function.name} {where}, Keras does not",
                             f"add {function.keras} {where}, or use {identity().torch} in torch",
                             trial, at=at, torch_at=context.path_between)


def _source_with_activation(context: DivergenceContext, array: Array) -> str:
    """Return the call before the point that gave an input and has an activation of its own."""
    key = fingerprint(array)
    found = (call.display_name for call, _ in reversed(context.producers)
             if hasattr(call.layer, "activation") and any(
                 distance(key, output) < 1e-9 for output in call.outputs))
    return next(found, "")


# Activations and gates inside the code of a layer that calls others.


@dataclass(frozen=True, slots=True)
class Formula:
    """What code makes of one or two values that layers before gave: a function of the first, and
    with a second one a product, behind it or inside.
    """

    function: Function
    names: tuple[str, ...]
    arrays: tuple[Array, ...]
    is_inside: bool = False

    def __call__(self, among: slice = slice(None)) -> Array:
        """Return the values, some of them only."""
        first, *second = (array.ravel()[among] for array in self.arrays)
        if self.is_inside:
            return self.function(first * second[0])
        return self.function(first) * second[0] if second else self.function(first)

    def __str__(self) -> str:
        """Return the formula in words."""
        name = "" if self.function.name == "none" else self.function.name
        if self.is_inside:
            return f"{name}({' * '.join(self.names)})"
        return " * ".join((f"{name}({self.names[0]})", *self.names[1:]))


def inside_code(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Compute what goes into a layer from what layers before it gave, in every usual way: one gives
    what Keras has, another what torch has.
    """
    if context.point.kind != "before" or not context.expected or not context.keras.inputs:
        return
    ours = context.keras.inputs[0]
    operands = list(_operands(context, ours.size))
    every = list(_formulas(operands, ours))
    for theirs in arranged(context.expected[0], ours.shape) if every else ():
        for one in _formulas(operands, theirs):
            alike = (
                own for own in every if (own.names, own.is_inside) == (one.names, one.is_inside))
            own = next(alike, every[0])
            same = own.names == one.names and own.is_inside == one.is_inside
            kind = "gate" if not same else (
                "missing activation" if own.function.name == "none" else
                "extra activation" if one.function.name == "none" else "activation")
            advice = (f"compute {one.function.keras} there in Keras, or {own.function.torch} in "
                      "torch" if same else f"compute {one} in Keras")
            given = one.arrays[0] * one.arrays[1] if one.is_inside else one.arrays[0]
            yield Hypothesis(kind, f"Keras computes {own}, torch {one}", advice,
                             one().reshape(ours.shape), against=theirs,
                             torch_at=context.path_of_value(one.function(given)))


def _operands(context: DivergenceContext,
              size: int) -> Iterator[tuple[tuple[str, ...], tuple[Array, ...]]]:
    """Yield one value, or two of one size, that layers before gave: also the halves of one."""
    given = [(f"'{call.display_name}'", captured.outputs[0])
             for call, captured in reversed(context.producers)
             if captured.outputs and captured.outputs[0].dtype.kind == "f"]
    whole = [one for one in given if one[1].size == size]
    yield from (((name,), (array,)) for name, array in whole)
    pairs = list(permutations(whole, 2))
    for name, array in given:
        if array.size == 2 * size and array.shape[-1] % 2 == 0:
            halves = zip((f"the first half of {name}", f"the second half of {name}"),
                         np.split(array, 2, -1), strict=True)
            pairs += permutations(halves, 2)
    yield from (((one[0], two[0]), (one[1], two[1])) for one, two in pairs)


def _formulas(operands: Iterable[tuple[tuple[str, ...], tuple[Array, ...]]],
              wanted: Array) -> Iterator[Formula]:
    """Yield the formulas that give a value."""
    some = slice(0, SOME)
    part = wanted.ravel()[some]
    scale = max(float(np.abs(part).max(initial=0.0)), 1e-30)
    for names, arrays in operands:
        for function in (identity(), *functions()):
            for is_inside in (False, True) if len(arrays) == 2 else (False,):
                one = Formula(function, names, arrays, is_inside)
                if np.abs(one(some) - part).max() < PROVEN_BELOW * scale and apart(
                        one().reshape(wanted.shape), wanted) < RECOGNIZED_BELOW:
                    yield one
