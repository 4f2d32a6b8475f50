"""Where all layers agree and the outputs do not: what only one model does at its end, or was given
at its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...comparison.arrays import arranged
from ...comparison.divergence import SOFTMAX_AT_THE_END
from ..context import Array, DivergenceContext, Hypothesis
from .activations import linear
from .functions import functions, softmaxes
from .structure import affine, factor_of_outputs


def at_the_end(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """torch does something more behind the last layer."""
    if not scene.keras.outputs:
        return
    ours = scene.keras.outputs[0]
    yield from factor_of_outputs(scene)
    for function in (*softmaxes(ours.ndim), *functions()):
        softmax = function.name.startswith("softmax")
        kind = SOFTMAX_AT_THE_END if softmax else "missing activation"
        todo = (
            'build the Keras model with classifier_activation="softmax", or take the softmax off '
            'torch' if softmax else f"add {function.keras} at the end of the Keras model")
        yield Hypothesis(kind, f"torch's output is {function.name} of what Keras gives", todo,
                         function(ours))


def softmax_only_in_keras(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """Keras ends in a softmax that torch does not have: its input is torch's output."""
    layer = scene.call.layer
    name = str(getattr(getattr(layer, "activation", None), "__name__",
                       type(layer).__name__)).lower()
    if name != "softmax" or not scene.is_last:
        return
    logits = scene.keras.inputs[0] if scene.call.leaf is None else scene.run(activation=linear)
    if logits is not None:
        said = "the Keras model ends in a softmax and torch gives logits: they are equal up to it"
        yield Hypothesis(SOFTMAX_AT_THE_END, said,
                         "build the Keras model with classifier_activation=None", logits)


def at_the_beginning(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The inputs differ by a factor and an offset for each channel, or by the order of channels."""
    if not scene.keras.inputs or not scene.torch_inputs:
        return
    ours, theirs = scene.keras.inputs[0], scene.torch_inputs[0]
    for array in arranged(theirs, ours.shape):
        for words, candidate in (("", ours), (" with its channels in the other order (RGB and BGR)",
                                              ours[..., ::-1])):
            pair = affine(array, candidate)
            if pair is not None:
                yield Hypothesis(
                    "preprocessing",
                    (f"torch's input is Keras's{words} times {pair[0]} plus {pair[1]}: the models "
                     "were given differently prepared inputs"),
                    ("prepare both inputs alike: rescale_mode=, or include_preprocessing of the "
                     "Keras model"), _mended(candidate, pair), against=array)


def _mended(array: Array, pair: tuple[list[float], list[float]]) -> Array:
    return np.asarray(array * np.asarray(pair[0]) + np.asarray(pair[1]), np.float32)
