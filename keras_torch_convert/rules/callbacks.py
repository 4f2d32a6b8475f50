"""Which callbacks of `additional_transfer` hit a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import TransferError
from ..plan.expressions import UserCall, key_in_words
from ..spec.target import TargetLayer

_KERAS_PACKAGES = ("keras", "tf_keras")


def calls_for(
        layer: TargetLayer,
        additional_transfer: Mapping[Any, Callable[[list[Any]],
                                                   list[Any]]]) -> tuple[UserCall, ...]:
    """The callbacks that hit `layer`, in dictionary order.

    A string key hits when the layer's name ends with it, a class (or tuple of classes) when the
    layer is an instance of it. A layer class of the other Keras, Keras 3 for a tf_keras model or
    the reverse, hits by its name among the layer's own classes. Raises TransferError for what is no
    dictionary, a key of another type or a value that cannot be called.
    """
    if not isinstance(additional_transfer, Mapping):
        raise TransferError(
            "additional_transfer must be a dict of layer class or ending of a layer name to "
            f"function, got {type(additional_transfer).__name__}")
    calls = []
    for key, function in additional_transfer.items():
        if not callable(function):
            raise TransferError(f"additional_transfer[{key_in_words(key)}] must be a function, got "
                                f"{type(function).__name__}")
        if _hits(key, layer):
            calls.append(UserCall(key_in_words(key), function))
    return tuple(calls)


def keys_without_hit(layers: Iterable[TargetLayer],
                     additional_transfer: Mapping[Any, Any]) -> tuple[str, ...]:
    """Keys of `additional_transfer`, in words, that hit none of the layers."""
    layers = tuple(layers)
    return tuple(
        key_in_words(key)
        for key in additional_transfer if not any(_hits(key, layer) for layer in layers))


def _hits(key: Any, layer: TargetLayer) -> bool:
    if isinstance(key, str):
        return layer.name.endswith(key)
    if isinstance(key, tuple) and key and all(isinstance(part, type) for part in key):
        return any(_hits(part, layer) for part in key)
    if not isinstance(key, type):
        raise TransferError(
            "a key of additional_transfer is the ending of a layer name or a layer class, got "
            f"{key!r} of type {type(key).__name__}")
    if isinstance(layer.layer, key):
        return True
    return key.__module__.split(".", 1)[0] in _KERAS_PACKAGES and key.__name__ in layer.class_names
