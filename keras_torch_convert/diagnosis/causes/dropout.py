"""Dropout that is left on: some values are zero, all others are larger by one factor."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ...comparison.arrays import arranged
from ..context import Array, Cause, DivergenceContext, Hypothesis
from .common import bypass, constant

EVAL = "put the torch module into eval mode, and look for training=True in its forward"
# What torch's dropout is made of where it is not one operation.
DROPPING = ("mul", "mul_", "div", "div_", "native_dropout")
MAX_INPUTS = 3
MIN_SIZE = 16


def hypotheses(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Look for dropout between input and output in Keras, and between Keras's input and what torch
    has there.
    """
    if not context.keras.inputs or not context.keras.outputs:
        return
    given = context.keras.inputs[0]
    rate = rate_of(given, context.keras.outputs[0])
    if rate is not None and not context.has_weights:
        cause = f"Keras drops {rate:.0%} of the values: dropout is left on"
        advice = "call the Keras model with training=False, and look for training=True inside"
        yield from bypass(context, "dropout", cause, advice, given)
        yield from _in_both(context, Cause("dropout", cause, advice), given)
    for number, one in enumerate(context.keras.inputs[:MAX_INPUTS]):
        yield from _in_torch(context, number, one)
    yield from _in_code_of_torch(context)


def _in_both(context: DivergenceContext, ours: Cause, given: Array) -> Iterator[Hypothesis]:
    """Drop what torch drops where Keras drops something else."""
    for dropped, cause, path in _of_torch(context, given):
        yield Hypothesis(*ours, dropped, torch_at=path, others=(cause,))


def _in_torch(context: DivergenceContext, number: int, given: Array) -> Iterator[Hypothesis]:
    for dropped, cause, path in _of_torch(context, given):
        trial = context.run_with_input(dropped, number)
        if trial is not None:
            yield Hypothesis(*cause, trial, at=_last_dropout(context), torch_at=path)


def _of_torch(context: DivergenceContext,
              given: Array) -> Iterator[tuple[Array, Cause, str | None]]:
    """Yield what torch's dropout makes of a value, with the module that it stands in."""
    between = context.steps_between()
    steps = {step.order: step for step in (*context.steps, *between)}
    found: list[tuple[Array, str | None]] = [(array, step.path) for order, step in steps.items()
                                             for array in context.values.get(order, ())]
    found += [(array, between[-1].path if between else None) for array in context.torch_inputs]
    for theirs, path in found:
        for array in arranged(theirs, given.shape):
            rate = rate_of(given, array)
            if rate is not None:
                cause = f"torch drops {rate:.0%} of the values: dropout is left on"
                yield _dropped(given, array, rate), Cause("dropout", cause, EVAL), path


def _in_code_of_torch(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Drop what torch drops of what a layer inside gives, in code that Keras has too."""
    if context.parent is None or (context.point.kind != "before" and not context.call.children):
        return
    results = [(step, array) for step, array in context.step_results()
               if "dropout" in step.path or "dropout" in step.name or step.name in DROPPING]
    for call, captured in reversed(context.producers):
        for step, value in results if captured.outputs else ():
            ours = captured.outputs[0]
            for array in arranged(value, ours.shape):
                rate = rate_of(ours, array)
                change = partial(constant, _dropped(ours, array,
                                                    rate)) if rate is not None else None
                trial = context.around(call.layer, change=change) if change is not None else None
                if trial is not None:
                    cause = (f"torch drops {rate:.0%} of the values behind '{call.display_name}': "
                             "dropout is left on")
                    yield Hypothesis("dropout", cause, EVAL, torch_at=step.path, **trial)


def rate_of(before: Array, after: Array) -> float | None:
    """Return the rate of the dropout that makes `after` of `before`, None when it is none."""
    if before.shape != after.shape or before.dtype.kind != "f" or before.size < MIN_SIZE:
        return None
    left = (after != 0) & (np.abs(before) > 1e-3 * np.abs(before).max())
    lost = (after == 0) & (before != 0)
    # All that is negative and nothing else is lost in a relu behind a factor.
    if not left.any() or not lost.any() or before[lost].max() < 0 < before[left].min():
        return None
    factors = after[left] / before[left]
    factor = float(np.median(factors))
    if factor <= 1.005 or np.abs(factors - factor).max() > 1e-3 * factor:
        return None
    rate = 1 - 1 / factor
    share = float(lost.sum() / (lost.sum() + left.sum()))
    return rate if abs(share - rate) < 0.1 + 2 / np.sqrt(before.size) else None


def _dropped(given: Array, pattern: Array, rate: float) -> Array:
    return np.asarray(np.where(pattern == 0, 0, given / (1 - rate)), np.float32)


def _last_dropout(context: DivergenceContext) -> str:
    """Return the Keras dropout layer that stands before the point, "" when there is none."""
    found = (call.display_name
             for call, _ in reversed(context.producers) if "Dropout" in call.class_names)
    return next(found, "")
