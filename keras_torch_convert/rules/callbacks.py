"""A user's callbacks: which layers they hit, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import TransferError
from ..plan.expressions import Expression, Permute, Reshape, Tensor, UserCall, describe_key
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer

Transfer = Callable[[list[Any]], list[Any]]
_KERAS_PACKAGES = ("keras", "tf_keras")
# The default transforms of keras_cv_attention_models: the first class that fits counts, subclasses
# included, so in Keras 2 a Conv2DTranspose is a Conv2D and in Keras 3 it is not.
_DEFAULT_TRANSFORMS = {
    "DepthwiseConv2D": (2, 3, 0, 1), "Conv2D": (2, 3, 1, 0), "PReLU": None, "Conv1D": (2, 1, 0),
    "Dense": None
}


def calls_for(layer: TargetLayer, additional_transfer: Mapping[Any,
                                                               Transfer]) -> tuple[UserCall, ...]:
    """Return the callbacks that hit a layer, in dictionary order.

    Args:
        layer: The Keras layer.
        additional_transfer: A string key hits when the layer's name ends with it, a class (or tuple
            of classes) when the layer is an instance of it. A layer class of the other Keras, Keras
            3 for a tf_keras model or the reverse, hits by its name among the layer's own classes.

    Raises:
        TransferError: It is no dictionary, has a key of another type, or a value that cannot be
            called.
    """
    if not isinstance(additional_transfer, Mapping):
        raise TransferError(
            "additional_transfer must be a dict of layer class or ending of a layer name to "
            f"function, got {type(additional_transfer).__name__}")
    calls = []
    for key, function in additional_transfer.items():
        if not callable(function):
            raise TransferError(f"additional_transfer[{describe_key(key)}] must be a function, got "
                                f"{type(function).__name__}")
        if _hits(key, layer):
            calls.append(UserCall(describe_key(key), function))
    return tuple(calls)


def keys_without_hit(layers: Iterable[TargetLayer],
                     additional_transfer: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the keys of `additional_transfer`, in words, that hit none of the layers."""
    layers = tuple(layers)
    return tuple(
        describe_key(key)
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


def callback_operands(layer: TargetLayer,
                      tensors: Sequence[SourceTensor]) -> tuple[Expression, ...]:
    """Return the tensors of one layer as keras_cv_attention_models gives them to a callback.

    Recipes in use were written against exactly these arrays.

    Raises:
        ValueError: The first tensor has another rank than the layer's default transform wants.
    """
    operands: list[Expression] = [Tensor(tensor.name) for tensor in tensors]
    name = next((name for name in _DEFAULT_TRANSFORMS if name in layer.class_names), None)
    if not tensors or name is None:
        return tuple(operands)
    shape, axes = tensors[0].shape, _DEFAULT_TRANSFORMS[name]
    if name == "PReLU":
        operands[0] = Reshape(operands[0], (1, 1, *shape))
    elif axes is None:
        operands[0] = Permute(operands[0], tuple(reversed(range(len(shape)))))
    elif len(shape) == len(axes):
        operands[0] = Permute(operands[0], axes)
    else:
        raise ValueError(f"the default transform of {name} permutes a tensor of {len(axes)} axes "
                         f"before the callback runs, got '{tensors[0].name}' of shape {shape}")
    if name == "Conv2D" and len(tensors) > 2:
        squeezed = tuple(extent for extent in tensors[2].shape if extent != 1)
        operands[2] = Reshape(operands[2], squeezed)
    return tuple(operands)
