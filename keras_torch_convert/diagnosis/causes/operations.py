"""What stands between two layers on one side only: scales, sums, whole operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ...comparison.arrays import apart, arranged
from ...running.keras_calls import Captured
from ..context import Array, Cause, DivergenceContext, Hypothesis
from .common import bypass, linear, ratio_of
from .norm_position import instead_of_norm
from .order import JOIN_ALIKE, JOINS, OTHER_ORDER, same_values

PREPARING = ("Rescaling", "Normalization", "Resizing", "CenterCrop")
# A sum with a table of positions counts as no layer of its own.
SUMS = ("add", "sub", "mul")
SAME_MERGE = 1e-6
MAX_EXPECTED = 6
MAX_CHANNELS = 16


def hypotheses(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Try a factor, another way to join branches, an operation that only one side has."""
    if not context.keras.inputs:
        return
    if context.point.kind != "before":
        yield from _merged(context)
        yield from _extra(context)
        yield from _factor_of_inputs(context)
        yield from factor_of_outputs(context)
        yield from _factor_before_activation(context)
    if context.has_weights:
        yield from _missing_before_layer(context)
    else:
        yield from _missing_before_operation(context)


def _extra(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Go on with one of the inputs: the operation has no counterpart in torch."""
    prepares = context.is_a(*PREPARING)
    if context.has_weights and not prepares:
        return
    kind, advice = "extra operation", (f"take '{context.name}' out of the Keras model, or compute "
                                       "it in torch too")
    if prepares or context.is_first:
        kind = "preprocessing"
        advice = ("build the Keras model without preprocessing (include_preprocessing=False), or "
                  "prepare torch's input alike")
    inputs = context.keras.inputs
    for number, array in enumerate(inputs):
        which = "its input" if len(inputs) == 1 else f"its input number {number + 1} alone"
        cause = (f"torch goes on with {which} where Keras computes {context.call.class_names[0]} "
                 f"'{context.name}'")
        yield from bypass(context, kind, cause, advice, array)


def _merged(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Join two values in another way."""
    inputs = context.keras.inputs
    if context.has_weights or len(inputs) != 2 or any(one.dtype.kind != "f" for one in inputs):
        return
    first, second = inputs
    merges: dict[str, Callable[[], Array]] = {
        "the sum": lambda: first + second, "the product": lambda: first * second,
        "the mean": lambda: (first + second) / 2, "the largest": lambda: np.maximum(first, second),
        "the difference": lambda: first - second,
        "the first times the sigmoid of the second": lambda: first / (1 + np.exp(-second))
    }
    try:
        results = {name: np.asarray(merge(), np.float32) for name, merge in merges.items()}
    except ValueError:
        # The shapes do not fit.
        return
    ours = next((name for name, result in results.items()
                 if apart(result, context.keras.outputs[0]) < SAME_MERGE), None)
    for name, result in results.items():
        if name != ours:
            cause = (f"Keras takes {ours or context.call.class_names[0]} of two values, torch "
                     f"{name}")
            yield Hypothesis("merge", cause, f"take {name} in Keras layer '{context.name}' too",
                             result)
    if ours in ("the sum", "the mean"):
        merged = Cause("merge", f"Keras takes {ours} of two values, torch the sum",
                       f"take the sum in Keras layer '{context.name}' too")
        yield from _weighted_sum(context, first, second, (merged,) if ours == "the mean" else ())


def _weighted_sum(context: DivergenceContext, first: Array, second: Array,
                  others: tuple[Cause, ...]) -> Iterator[Hypothesis]:
    """Add one branch times a number."""
    for theirs in context.expected if first.shape == second.shape else ():
        for array in arranged(theirs, first.shape):
            for which, kept, scaled in (("second", first, second), ("first", second, first)):
                change = (array - kept).astype(np.float64)
                norm = float((scaled.astype(np.float64)**2).sum())
                factor = float((change * scaled).sum()) / norm if norm else 0.0
                cause = (f"torch multiplies the {which} of the two values that are added by "
                         f"{factor:.6g}, Keras does not")
                yield Hypothesis("branch scale", cause,
                                 f"multiply that branch by {factor:.6g} in Keras",
                                 np.asarray(kept + factor * scaled, np.float32), others=others)


# One number between what both have.


def factor_of_outputs(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Multiply the output."""
    for ours in context.keras.outputs[:1]:
        for factor in _factors(context, ours):
            yield Hypothesis("scale", f"torch's output is {factor:.6g} times that of Keras",
                             f"multiply by {factor:.6g} behind '{context.name}' in Keras",
                             np.asarray(ours * factor, np.float32))


def _factors(context: DivergenceContext, ours: Array) -> Iterator[float]:
    for theirs in context.expected[:MAX_EXPECTED]:
        for array in arranged(theirs, ours.shape):
            factor = ratio_of(array, ours)
            if factor is not None:
                yield factor


def _factor_before_activation(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Multiply what goes into the activation that the layer ends in."""
    activation = getattr(context.layer, "activation", None) if context.has_weights else None
    before = context.run(activation=linear) if activation is not None else None
    if activation is None or before is None:
        return
    for factor in _factors(context, before):
        trial = context.run(activation=partial(_scaled, activation, factor))
        if trial is not None:
            yield Hypothesis(
                "scale",
                f"torch's output is {factor:.6g} times that of Keras before the activation",
                f"multiply by {factor:.6g} before the activation of '{context.name}' in Keras",
                trial)


def _scaled(activation: Callable[[Any], Any], factor: float, x: Any) -> Any:
    return activation(x * factor)


def _factor_of_inputs(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Multiply the input of a layer with weights."""
    given = context.keras.inputs[0]
    for theirs in context.torch_inputs[:1] if context.has_weights else ():
        for array in arranged(theirs, given.shape):
            factor = ratio_of(array, given)
            trial = (context.run_with_input(np.asarray(given * factor, np.float32))
                     if factor is not None else None)
            if trial is not None:
                cause = (f"torch multiplies the input of the layer by {factor:.6g}, Keras does "
                         "not")
                yield Hypothesis("preprocessing" if context.is_first else "scale", cause,
                                 f"multiply by {factor:.6g} before '{context.name}' in Keras",
                                 trial, torch_at=context.path_between)


# Operations that Keras lacks.


def _missing_before_layer(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Run a layer on torch's input: what torch computes in between is missing in Keras."""
    steps = context.steps_between() if context.torch_inputs else []
    if not steps or any(step.weights and step.name.strip("_") not in SUMS for step in steps):
        return
    given = context.keras.inputs[0]
    for array in arranged(context.torch_inputs[0], given.shape):
        trial = context.run([array])
        if trial is None:
            continue
        pair = affine(array, given) if context.is_first else None
        if pair is not None:
            cause = (f"torch's input is Keras's times {pair[0]} plus {pair[1]}: only one side "
                     "prepares its input (rescale_mode, preprocessing)")
            yield Hypothesis("preprocessing", cause, "prepare the inputs of both models alike",
                             trial)
            continue
        between = ", ".join(dict.fromkeys(step.name.strip("_") for step in steps))
        yield Hypothesis(
            "missing operation", f"torch computes {between} before this layer, Keras does not",
            f"compute the same before Keras layer '{context.name}', or leave it out in torch",
            trial, at=_unused_join(context), torch_at=steps[0].path, given=array)


def _missing_before_operation(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Run a call without weights on each value that torch makes of its input."""
    given = context.keras.inputs[0]
    joins = [
        call.display_name for call, _ in context.producers if set(call.class_names) & set(JOINS)
    ]
    for step, value in context.every_value():
        for array in arranged(value, given.shape):
            trial = context.run([array])
            # What the call leaves as it is may be what the call itself gives: it tells nothing
            # about what comes before.
            if trial is None or same_values(array, trial):
                continue
            if joins and step.name == "cat" and same_values(given, array):
                yield Hypothesis("concat order", OTHER_ORDER, JOIN_ALIKE, trial, at=joins[-1],
                                 torch_at=step.path, given=array)
                continue
            other = instead_of_norm(context, step, trial, array)
            if other is not None:
                yield other
                continue
            factor = ratio_of(array, given)
            if factor is not None:
                yield Hypothesis(
                    "scale", f"torch multiplies by {factor:.6g} before Keras layer "
                    f"'{context.name}', Keras does not",
                    f"multiply by {factor:.6g} before '{context.name}' in Keras", trial,
                    torch_at=step.path, given=array)
                continue
            unused = _unused_join(context)
            where = (f"in the place of Keras layer '{unused}'"
                     if unused else f"before Keras layer '{context.name}'")
            held = context.keras_layers.get(step.path)
            holder = "no Keras layer holds" if held is None else f"Keras layer '{held}' holds"
            owner = (f" in layer '{step.path}', whose weights {holder}," if step.weights else "")
            cause = f"torch computes {step.name.strip('_')}{owner} {where}, Keras does not"
            yield Hypothesis("missing operation", cause, f"compute the same {where}", trial,
                             at=unused, torch_at=step.path, given=array)


def _unused_join(context: DivergenceContext) -> str:
    """Return the last call before that takes several values and gives one of them as it is."""
    found = (call.display_name
             for call, captured in reversed(context.producers) if _gives_an_input(captured))
    return next(found, "")


def _gives_an_input(captured: Captured) -> bool:
    return len(captured.inputs) > 1 and any(
        np.array_equal(one, output) for output in captured.outputs[:1] for one in captured.inputs)


def affine(theirs: Array, ours: Array) -> tuple[list[float], list[float]] | None:
    """Return factor and offset by channel that make torch's input of Keras's."""
    factors, offsets = [], []
    if ours.shape[-1] > MAX_CHANNELS:
        return None
    for channel in range(ours.shape[-1]):
        x, y = (array[..., channel].ravel().astype(np.float64) for array in (ours, theirs))
        if x.size < 3 or np.ptp(x) == 0:
            return None
        factor, offset = np.polyfit(x, y, 1)
        if np.abs(factor * x + offset - y).max() > 1e-4 * max(float(np.abs(y).max()), 1e-30):
            return None
        factors.append(round(float(factor), 6))
        offsets.append(round(float(offset), 6))
    return factors, offsets
