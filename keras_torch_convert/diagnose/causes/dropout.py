"""Dropout that is left on: some values are zero, all others are larger by one factor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import arranged
from ..scene import Array, Hypothesis, Scene


def hypotheses(scene: Scene) -> Iterator[Hypothesis]:
    """On in Keras: its output is its input with dropout. On in torch: so is what torch has where Keras has the input."""
    if not scene.keras.inputs or not scene.keras.outputs:
        return
    given = scene.keras.inputs[0]
    rate = dropped(given, scene.keras.outputs[0])
    if rate is not None and scene.call.leaf is None:
        said = f"Keras drops {rate:.0%} of the values: dropout is left on"
        todo = "call the Keras model with training=False, and look for training=True inside"
        for following in scene.following:
            yield Hypothesis("dropout", said, todo, given, against=following)
        yield Hypothesis("dropout", said, todo, given, how="next call")
        around = scene.parent_with({}, scene.call.layer, lambda output: given_like(given, output))
        if around is not None:
            yield Hypothesis("dropout", said, todo, around, how="statistics")
    for number, one in enumerate(scene.keras.inputs[:3]):
        yield from _in_torch(scene, number, one)


def _in_torch(scene: Scene, number: int, given: Array) -> Iterator[Hypothesis]:
    between = scene.between()
    steps = {step.order: step for step in (*scene.steps, *between)}
    named = [(array, step.path) for order, step in steps.items() for array in scene.values.get(order, ())]
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
                todo = "put the torch module into eval mode, and look for training=True in its forward"
                yield Hypothesis("dropout", said, todo, trial, at=last_dropout(scene), torch_at=path)


def given_like(array: Array, output: Any) -> Any:
    """The array as a tensor like `output`, of whatever framework."""
    import importlib

    if type(output).__module__.startswith("torch"):
        return importlib.import_module("torch").from_numpy(array.copy()).to(output.device)
    return output * 0 + array


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


def last_dropout(scene: Scene) -> str:
    """The Keras dropout layer that stands before the spot, "" when there is none."""
    return next((call.label for call, _ in reversed(scene.before) if "Dropout" in call.kinds), "")
