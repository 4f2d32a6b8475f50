"""Faults that make a Keras layer compute something else: dropout left on, another way to join,
batch statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .fault import Fault, Pair, Seeded


def turned_into(layer: Any, call: Callable[..., Any]) -> None:
    """The layer computes something else from now on."""
    layer.__class__ = type(type(layer).__name__, (type(layer),), {"call": call})


def keras_dropout() -> Fault:
    def put(pair: Pair, layer: Any) -> Seeded:
        def call(self: Any, inputs: Any, training: Any = None) -> Any:
            shape = tuple(inputs.shape)
            mask = np.random.default_rng(0).random(shape) > 0.3
            return inputs * (mask / 0.7).astype("float32")

        turned_into(layer, call)
        return (layer.name,), ()

    return Fault("dropout left on in Keras", ("dropout",), lambda pair: pair.layers("Dropout"), put)


def keras_merge(name: str, compute: Callable[[list[Any]], Any]) -> Fault:
    def put(pair: Pair, layer: Any) -> Seeded:
        turned_into(layer, lambda self, inputs: compute(inputs))
        return (layer.name,), ()

    return Fault(name, ("merge", "branch scale", "missing operation"),
                 lambda pair: pair.layers("Add"), put)


def concat_order() -> Fault:
    def put(pair: Pair, layer: Any) -> Seeded:
        own = type(layer).call
        turned_into(layer, lambda self, inputs: own(self, list(inputs)[::-1]))
        return (layer.name,), ()

    return Fault("branches joined in another order", ("concat order",),
                 lambda pair: pair.layers("Concatenate"), put)


def keras_batch_statistics() -> Fault:
    def put(pair: Pair, leaf: Any) -> Seeded:
        own = type(leaf.layer).call

        def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            axes = tuple(range(len(inputs.shape) - 1))
            ops = getattr(pair.framework, "ops", None)
            if ops is None:
                import tensorflow as tf

                mean, variance = tf.nn.moments(inputs, axes)
            else:
                mean, variance = ops.mean(inputs, axes), ops.var(inputs, axes)
            normal = (inputs - mean) / (variance + self.epsilon)**0.5
            normal = normal if self.gamma is None else normal * self.gamma
            return normal if self.beta is None else normal + self.beta

        assert own is not None
        turned_into(leaf.layer, call)
        return (leaf.display_name,), ()

    return Fault("batch statistics in Keras", ("batch statistics",),
                 lambda pair: pair.leaves("BatchNormalization"), put)
