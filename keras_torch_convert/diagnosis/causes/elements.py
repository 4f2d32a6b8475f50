"""The same values in another order: flattened maps, joined branches, shuffled channels, tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...comparison.arrays import apart
from ..context import ENOUGH, Array, DivergenceContext, Hypothesis
from . import weights

JOINS = ("Concatenate", "Concat", "Stack")
OTHER_ORDER = "the branches that are joined come in another order in torch"
JOIN_ALIKE = "join them in torch's order in Keras"
SHUFFLES = ("Reshape", "Transpose", "Permute", "Flatten")


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The layer run on torch's input as torch orders it."""
    if not scene.keras.inputs or not scene.torch_inputs or scene.call.leaf is None:
        return
    ours, theirs = scene.keras.inputs[0], scene.torch_inputs[0]
    if ours.size != theirs.size or not same_values(ours, theirs) or apart(theirs, ours) < ENOUGH:
        return
    for array in in_shape(theirs, ours.shape):
        trial = scene.run([array, *scene.keras.inputs[1:]])
        if trial is not None:
            if scene.wrong_before:
                wrong = scene.wrong_before[0]
                yield Hypothesis(wrong.kind, wrong.said, weights.AGAIN, trial,
                                 at=wrong.call.display_name)
            kind, said, at = named(scene, ours, array)
            todo = ("bring the values into torch's order before Keras layer "
                    f"'{scene.call.display_name}'")
            yield Hypothesis(kind, said, todo, trial, at=at)


def same_values(first: Array, second: Array) -> bool:
    """Whether two arrays hold the same values in whatever order."""
    if first.size != second.size:
        return False
    one, two = np.sort(first.ravel().astype(np.float64)), np.sort(second.ravel().astype(np.float64))
    return bool(
        np.abs(one - two).max(initial=0.0) <= 1e-4
        * max(float(np.abs(two).max(initial=0.0)), 1e-30))


def in_shape(array: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """torch's values in the shape of the Keras input, in torch's own order: channels last, else as
    they stand.
    """
    if array.ndim == len(shape) and array.ndim > 2:
        moved = np.moveaxis(array, 1, -1)
        if moved.shape == shape:
            yield np.ascontiguousarray(moved)
    if array.shape == shape:
        yield array
    elif array.ndim != len(shape) or sorted(array.shape) != sorted(shape):
        yield array.reshape(shape)


def named(scene: DivergenceContext, ours: Array, theirs: Array) -> tuple[str, str, str]:
    """Kind, sentence and the Keras layer to blame."""
    joins = [call for call, _ in scene.before if set(call.class_names) & set(JOINS)]
    if joins:
        return "concat order", OTHER_ORDER, joins[-1].display_name
    shuffles = [call for call, _ in scene.before if set(call.class_names) & set(SHUFFLES)]
    at = shuffles[-1].display_name if shuffles else ""
    if ours.ndim == 2 and shuffles:
        said = ("torch flattens its map channels first, Keras channels last, and the rows of the "
                "kernel do not allow for it")
        return "flatten order", said, at
    return "order of values", "the values come in another order in torch", at
