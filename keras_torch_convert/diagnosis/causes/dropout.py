"""Dropout that is left on: some values are zero, all others are larger by one factor."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ...comparison.arrays import arranged
from ..context import Array, DivergenceContext, Hypothesis
from .bypass import bypass, instead

EVAL = "put the torch module into eval mode, and look for training=True in its forward"
# What torch's dropout is made of where it is not one operation.
DROPPING = ("mul", "mul_", "div", "div_", "native_dropout")


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """On in Keras: its output is its input with dropout. On in torch: so is what torch has where
    Keras has the input.
    """
    if not scene.keras.inputs or not scene.keras.outputs:
        return
    given = scene.keras.inputs[0]
    rate = dropped(given, scene.keras.outputs[0])
    if rate is not None and scene.call.leaf is None:
        said = f"Keras drops {rate:.0%} of the values: dropout is left on"
        todo = "call the Keras model with training=False, and look for training=True inside"
        yield from bypass(scene, "dropout", said, todo, given)
    for number, one in enumerate(scene.keras.inputs[:3]):
        yield from _in_torch(scene, number, one)
    yield from _in_code_of_torch(scene)


def _in_torch(scene: DivergenceContext, number: int, given: Array) -> Iterator[Hypothesis]:
    between = scene.between()
    steps = {step.order: step for step in (*scene.steps, *between)}
    named = [(array, step.path) for order, step in steps.items()
             for array in scene.values.get(order, ())]
    named += [(array, between[-1].path if between else "") for array in scene.torch_inputs]
    for theirs, path in named:
        for array in arranged(theirs, given.shape):
            rate = dropped(given, array)
            if rate is None:
                continue
            inputs = list(scene.keras.inputs)
            inputs[number] = np.asarray(np.where(array == 0, 0, given / (1 - rate)), np.float32)
            trial = scene.run(inputs)
            if trial is not None:
                said = f"torch drops {rate:.0%} of the values: dropout is left on"
                yield Hypothesis("dropout", said, EVAL, trial, at=last_dropout(scene),
                                 torch_at=path)


def _in_code_of_torch(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """torch drops values of what a layer inside gives, in code that Keras has too: the layer around
    run with that.
    """
    if scene.spot.kind != "before" and not scene.call.children:
        return
    for call, captured in reversed(scene.before):
        for step in scene.steps if captured.outputs else ():
            if "dropout" not in step.path and "dropout" not in step.name and step.name not in DROPPING:
                continue
            ours = captured.outputs[0]
            for array in (one for value in scene.values.get(step.order, ())
                          for one in arranged(value, ours.shape)):
                rate = dropped(ours, array)
                if rate is None:
                    continue
                left = np.asarray(np.where(array == 0, 0, ours / (1 - rate)), np.float32)
                trial = scene.around(call.layer, change=partial(instead, left))
                if trial is not None:
                    said = (f"torch drops {rate:.0%} of the values behind '{call.display_name}': "
                            "dropout is left on")
                    yield Hypothesis("dropout", said, EVAL, trial, how="around", torch_at=step.path)


def dropped(before: Array, after: Array) -> float | None:
    """The rate of the dropout that makes `after` of `before`, None when it is none."""
    if before.shape != after.shape or before.dtype.kind != "f" or before.size < 16:
        return None
    left = (after != 0) & (np.abs(before) > 1e-3 * np.abs(before).max())
    lost = (after == 0) & (before != 0)
    if not left.any() or not lost.any():
        return None
    factors = after[left] / before[left]
    factor = float(np.median(factors))
    if factor <= 1.005 or np.abs(factors - factor).max() > 1e-3 * factor:
        return None
    rate = 1 - 1 / factor
    share = float(lost.sum() / (lost.sum() + left.sum()))
    return rate if abs(share - rate) < 0.1 + 2 / np.sqrt(before.size) else None


def last_dropout(scene: DivergenceContext) -> str:
    """The Keras dropout layer that stands before the spot, "" when there is none."""
    return next(
        (call.display_name for call, _ in reversed(scene.before) if "Dropout" in call.class_names),
        "")
