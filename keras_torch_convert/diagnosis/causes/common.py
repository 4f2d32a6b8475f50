"""What several families of causes need: another value in the place of a call's output, the number
between two arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..context import Array, DivergenceContext, Hypothesis

FACTOR_BELOW = 1e-4


def linear(x: Any) -> Any:
    """Stand for the activation of a layer that has none."""
    return x


def constant(array: Array, output: object) -> Array:
    """Stand for a layer's output, whatever that is."""
    return array


def bypass(context: DivergenceContext, kind: str, cause: str, advice: str,
           array: Array) -> Iterator[Hypothesis]:
    """Propose that torch goes on with `array` where Keras has the point's output: it goes into the
    next torch layer, or what follows in Keras makes of it what torch has.
    """
    for value in context.next_inputs:
        yield Hypothesis(kind, cause, advice, array, against=value)
    if context.keras.outputs and array.shape == context.keras.outputs[0].shape:
        yield from behind_next_steps(context, kind, cause, advice, array)


def behind_next_steps(context: DivergenceContext, kind: str, cause: str, advice: str,
                      array: Array) -> Iterator[Hypothesis]:
    """Propose `array` in the place of the point's output: the next call, or the layer around, makes
    of it what torch has.
    """
    yield Hypothesis(kind, cause, advice, array, compare="consumer")
    if context.parent is None or context.parent[0] is context.call:
        return
    around = context.around(context.layer, change=partial(constant, array))
    if around is not None:
        yield Hypothesis(kind, cause, advice, **around, own=array)


def ratio_of(one: Array, other: Array) -> float | None:
    """Return the number that makes `one` of `other`, None when there is none but 1."""
    wide = other.astype(np.float64)
    norm = float((wide * wide).sum())
    factor = float((one * wide).sum()) / norm if norm else 0.0
    scale = float(np.abs(one).max(initial=0.0))
    if not factor or abs(factor - 1) < FACTOR_BELOW or not scale:
        return None
    return factor if float(np.abs(one - factor * wide).max()) < FACTOR_BELOW * scale else None
