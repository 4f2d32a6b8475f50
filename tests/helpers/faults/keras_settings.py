"""Faults that change a setting of a Keras layer: an epsilon, an activation, a padding, a dilation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .fault import Fault, Pair, Seeded, number


def setting(layer: Any, **values: Any) -> None:
    """Change attributes of a layer past Keras's own bookkeeping."""
    for name, value in values.items():
        layer.__dict__[name] = value


def keras_epsilon(*kinds: str) -> Fault:
    def put(pair: Pair, leaf: Any) -> Seeded:
        setting(leaf.layer, epsilon=leaf.layer.epsilon * 20 + 2e-2)
        return (leaf.display_name,), ()

    return Fault(f"epsilon of Keras {kinds[0]}", ("epsilon",), lambda pair: pair.leaves(*kinds),
                 put)


def activation_name(layer: Any) -> str:
    function = getattr(layer, "activation", None)
    return str(getattr(function, "__name__", "")) if callable(function) else ""


def keras_activation(old: str, new: str, kinds: tuple[str, ...] = ("activation",)) -> Fault:
    """Another function in a Keras layer that has an activation."""
    def function(pair: Pair) -> Callable[[Any], Any]:
        activations = pair.framework.activations
        special = {
            "gelu tanh":
                lambda x: activations.gelu(x, approximate=True), "leaky relu":
                    lambda x: (activations.relu(x, negative_slope=0.1)
                               if hasattr(activations, "relu6") else activations.relu(x, alpha=0.1))
        }
        return special.get(new) or getattr(activations, new)

    def places(pair: Pair) -> list[Any]:
        return [layer for layer in pair.layers("Layer") if activation_name(layer) == old]

    def put(pair: Pair, layer: Any) -> Seeded:
        setting(layer, activation=function(pair))
        return (layer.name,), ()

    return Fault(f"Keras {old} is {new}", kinds, places, put)


def extra_activation() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [
            leaf
            for leaf in pair.leaves("Conv2D", "Dense") if activation_name(leaf.layer) == "linear"
        ]

    def put(pair: Pair, leaf: Any) -> Seeded:
        setting(leaf.layer, activation=pair.framework.activations.relu)
        return (leaf.display_name,), ()

    return Fault("activation that only Keras has", ("extra activation", "activation"), places, put)


def convolutions(pair: Pair) -> list[Any]:
    return [
        leaf
        for leaf in pair.leaves("Conv2D", "DepthwiseConv2D") if number(leaf.layer.kernel_size) > 1
    ]


def keras_dilation() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [
            leaf for leaf in convolutions(pair)
            if leaf.layer.padding == "same" and number(leaf.layer.strides) == 1
        ]

    def put(pair: Pair, leaf: Any) -> Seeded:
        setting(leaf.layer, dilation_rate=(2, 2))
        return (leaf.display_name,), ()

    return Fault("dilation of a Keras convolution", ("dilation",), places, put)


def users_of(layer: Any) -> list[Any]:
    """Layers that take a layer's output in a functional model."""
    nodes = getattr(layer, "_outbound_nodes", None) or getattr(layer, "outbound_nodes", [])
    return [getattr(node, "operation", None) or getattr(node, "layer", None) for node in nodes]


def zero_paddings(pair: Pair, *, pooling: bool) -> list[Any]:
    """Padding layers of equal width on all sides, those before pooling or those before
    convolutions.
    """
    found = []
    for one, other in (
        (pad, user) for pad in pair.layers("ZeroPadding2D") for user in users_of(pad)):
        pads = getattr(one, "padding", None)
        square = isinstance(pads, tuple) and len({edge for pair_ in pads for edge in pair_
                                                 }) == 1 and pads[0][0] > 0
        if type(one).__name__ == "ZeroPadding2D" and square and (
                "Pooling" in type(other).__name__) == pooling:
            found.append((one, other))
    return found


def shifted_padding(*, pooling: bool) -> Fault:
    """Padding as SAME puts it: more at the end than at the beginning."""
    def put(pair: Pair, place: Any) -> Seeded:
        layer, user = place
        width = layer.padding[0][0]
        setting(layer, padding=((width - 1, width + 1), (width - 1, width + 1)))
        return (user.name, layer.name), ()

    kinds = ("pooling padding",) if pooling else ("padding",)
    return Fault(f"asymmetric padding of a Keras {'pooling' if pooling else 'convolution'}", kinds,
                 lambda pair: zero_paddings(pair, pooling=pooling), put)


def keras_setting(name: str, kinds: tuple[str, ...], layers: tuple[str, ...],
                  **values: Any) -> Fault:
    """Other settings of Keras layers of one of these classes."""
    def put(pair: Pair, layer: Any) -> Seeded:
        setting(layer, **values)
        return (layer.name,), ()

    return Fault(name, kinds, lambda pair: pair.layers(*layers), put)


def keras_attention_scale() -> Fault:
    def attribute(layer: Any) -> str:
        names = [
            name for name in ("_inverse_sqrt_key_dim", "scale")
            if isinstance(getattr(layer, name, None), float)
        ]
        attends = any(word in type(layer).__name__.lower() for word in ("attention", "msa"))
        return names[0] if names and attends else ""

    def put(pair: Pair, layer: Any) -> Seeded:
        name = attribute(layer)
        setting(layer, **{name: getattr(layer, name) * 2})
        return (layer.name,), ()

    def places(pair: Pair) -> list[Any]:
        return [layer for layer in pair.layers("Layer") if attribute(layer)]

    return Fault("scale of Keras's attention", ("attention scale",), places, put)
