"""Where all layers agree and the outputs do not: what only one model does at its end, or was given
at its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...comparison.arrays import arranged
from ...comparison.divergence import SOFTMAX_AT_THE_END
from ..context import DivergenceContext, Hypothesis
from .activations import capped, functions, softmaxes
from .common import linear
from .operations import affine, factor_of_outputs


def at_the_end(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Do something more behind the last layer."""
    if not context.keras.outputs:
        return
    ours = context.keras.outputs[0]
    yield from factor_of_outputs(context)
    for function in (*softmaxes(ours.ndim), *functions(), *capped(ours, context.expected)):
        is_softmax = function.name.startswith("softmax")
        advice = ('build the Keras model with classifier_activation="softmax", or take the softmax '
                  "off torch"
                  if is_softmax else f"add {function.keras} at the end of the Keras model")
        kind = "soft cap" if "soft cap" in function.name else "missing activation"
        yield Hypothesis(SOFTMAX_AT_THE_END if is_softmax else kind,
                         f"torch's output is {function.name} of what Keras gives", advice,
                         function(ours))


def softmax_only_in_keras(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Take the softmax off the end of the Keras model."""
    layer = context.layer
    activation = getattr(layer, "activation", None)
    name = str(getattr(activation, "__name__", type(layer).__name__)).lower()
    if name != "softmax" or not context.is_last:
        return
    logits = context.run(activation=linear) if context.has_weights else context.keras.inputs[0]
    if logits is not None:
        cause = "the Keras model ends in a softmax and torch gives logits: they are equal up to it"
        yield Hypothesis(SOFTMAX_AT_THE_END, cause,
                         "build the Keras model with classifier_activation=None", logits)


def at_the_beginning(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Give Keras inputs with another factor and offset for each channel, or with channels in the
    other order.
    """
    if not context.keras.inputs or not context.torch_inputs:
        return
    ours, theirs = context.keras.inputs[0], context.torch_inputs[0]
    candidates = {"": ours, " with its channels in the other order (RGB and BGR)": ours[..., ::-1]}
    for array in arranged(theirs, ours.shape):
        for words, candidate in candidates.items():
            pair = affine(array, candidate)
            if pair is not None:
                trial = np.asarray(candidate * np.asarray(pair[0]) + np.asarray(pair[1]),
                                   np.float32)
                yield Hypothesis(
                    "preprocessing",
                    f"torch's input is Keras's{words} times {pair[0]} plus {pair[1]}: the models "
                    "were given differently prepared inputs",
                    "prepare both inputs alike: rescale_mode=, or include_preprocessing of the "
                    "Keras model", trial, against=array)
