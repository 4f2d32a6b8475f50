"""Faults at both ends: inputs prepared otherwise, a softmax on one side only."""

from __future__ import annotations

from typing import Any

import numpy as np

from .fault import Fault, Pair, Seeded
from .keras_settings import activation_name, setting


def other_preprocessing() -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        torch_input, keras_input = pair.sample
        pair.sample = (torch_input * np.float32(0.5) + np.float32(0.25), keras_input)
        return ("",), ("",)

    return Fault("inputs prepared in another way", ("preprocessing",), pictures, put)


def other_channel_order() -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        torch_input, keras_input = pair.sample
        pair.sample = (np.ascontiguousarray(torch_input[:, ::-1]), keras_input)
        return ("", *(leaf.display_name for leaf in pair.leaves("Conv2D")[:1])), ("",)

    return Fault("channels of the picture in the other order",
                 ("preprocessing", "channel order", "order of values"), pictures, put)


def pictures(pair: Pair) -> list[Any]:
    both = pair.sample
    right = isinstance(both, tuple) and all(
        isinstance(one, np.ndarray) and one.ndim == 4 for one in both)
    return [None] if right else []


def softmax_in_keras() -> Fault:
    def places(pair: Pair) -> list[Any]:
        last = [
            layer for layer in pair.keras_model._flatten_layers() if type(layer).__name__ == "Dense"
        ]
        return last[-1:] if last and activation_name(last[-1]) == "linear" else []

    def put(pair: Pair, layer: Any) -> Seeded:
        setting(layer, activation=pair.framework.activations.softmax)
        return (layer.name,), ()

    # The last Dense of a model without a head is one inside.
    return Fault("softmax at the end of Keras", ("softmax at the end", "extra activation"), places,
                 put)


def softmax_in_torch() -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        pair.torch_module.register_forward_hook(lambda module, args, output: output.softmax(-1))
        return (pair.keras_model.layers[-1].name,), ("",)

    return Fault("softmax at the end of torch", ("softmax at the end",), lambda pair: [None], put)
