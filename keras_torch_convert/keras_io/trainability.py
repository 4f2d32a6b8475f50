"""Trainable flags of layers and variables: read, changed for a moment, put back exactly.

Keras 2 orders `layer.weights` by these flags, and the legacy .h5 file of both versions lists the
trainable weights of a layer first. So whoever needs the order that a freshly built model has looks
at the layers while nothing is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..util.interrupts import deferred_sigint


def all_layers(layer: Any) -> list[Any]:
    """The layer itself and every layer below it, each once."""
    found: dict[int, Any] = {}
    for below in layer._flatten_layers():
        found.setdefault(id(below), below)
    return list(found.values())


def own_trainable_variables(layer: Any) -> list[Any]:
    """Variables that the layer itself created as trainable, whatever was frozen since."""
    return list(layer._trainable_variables if hasattr(layer, "_trainable_variables") else layer.
                _trainable_weights)


def own_variables(layer: Any) -> list[Any]:
    """Variables that the layer itself holds, those created as trainable first, as Keras stores
    them.
    """
    if hasattr(layer, "_trainable_variables"):
        return [*layer._trainable_variables, *layer._non_trainable_variables]
    return [*layer._trainable_weights, *layer._non_trainable_weights]


@contextmanager
def unfrozen(*roots: Any) -> Iterator[None]:
    """Every layer at or below the roots trainable, as the code that built them left it; all flags
    put back at the end.

    A variable that was frozen alone, while its layer was not, stays as it is: layers with LoRA do
    so by design.
    """
    layers = [layer for root in roots for layer in all_layers(root)]
    with _flags_kept(layers):
        for layer in layers:
            _set_trainable(layer, True)
        yield


@contextmanager
def frozen_downwards(root: Any) -> Iterator[None]:
    """Every layer below a frozen one frozen too: what Keras makes of the flags when it rebuilds a
    saved model.
    """
    layers = all_layers(root)
    frozen = {id(below) for layer in layers if not layer._trainable for below in all_layers(layer)}
    with _flags_kept(layers):
        for layer in layers:
            if id(layer) in frozen:
                _set_trainable(layer, False)
        yield


def _set_trainable(layer: Any, trainable: bool) -> None:
    # The attribute, not the property: the setter reaches down into sublayers, and each one is
    # visited here anyway.
    if layer._trainable != trainable:
        layer._trainable = trainable
        for variable in _flagged_variables(layer):
            variable.trainable = trainable


def _flagged_variables(layer: Any) -> list[Any]:
    """Variables with a trainable flag of their own that can change: those of Keras 3."""
    return list(getattr(layer, "_trainable_variables", ()))


@contextmanager
def _flags_kept(layers: Sequence[Any]) -> Iterator[None]:
    of_layers = [(layer, layer._trainable) for layer in layers]
    of_variables = [
        (variable, variable.trainable) for layer in layers for variable in _flagged_variables(layer)
    ]
    try:
        yield
    finally:
        with deferred_sigint():
            for layer, trainable in of_layers:
                layer._trainable = trainable
            for variable, trainable in of_variables:
                if variable.trainable != trainable:
                    variable.trainable = trainable


def default_order(layer: Any, order: Callable[[Any], list[Any]]) -> list[Any]:
    """`order(layer)` as it is while nothing at or below the layer is frozen."""
    if all(below._trainable for below in all_layers(layer)):
        return order(layer)
    with unfrozen(layer):
        return order(layer)
