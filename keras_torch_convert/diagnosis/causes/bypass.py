"""torch goes on with another value than the one that Keras gives there: where torch has no such
value by itself, what follows tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..context import Array, DivergenceContext, Hypothesis


def bypass(scene: DivergenceContext, kind: str, cause: str, advice: str,
           array: Array) -> Iterator[Hypothesis]:
    """`array` in the place of the spot's output: it goes into the next torch layer, or what follows
    in Keras makes of it what torch has.
    """
    for following in scene.following:
        yield Hypothesis(kind, cause, advice, array, against=following)
    if scene.keras.outputs and array.shape == scene.keras.outputs[0].shape:
        yield from behind_next_steps(scene, kind, cause, advice, array)


def behind_next_steps(scene: DivergenceContext, kind: str, cause: str, advice: str,
                      array: Array) -> Iterator[Hypothesis]:
    """`array` in the place of the spot's output: the next call, or the layer around, makes of it
    what torch has.
    """
    yield Hypothesis(kind, cause, advice, array, how="next call")
    around = scene.around(scene.call.layer, change=partial(instead, array))
    if around is not None:
        yield Hypothesis(kind, cause, advice, around, how="around")


def instead(array: Array, output: object) -> Array:
    """A change of a layer's output that puts `array` in its place."""
    return array
