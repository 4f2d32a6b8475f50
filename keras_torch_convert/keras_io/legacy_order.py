"""The order of weights inside a legacy .h5 file, and what frozen layers do to it.

Such a file lists the weights of each layer of `model.layers` as Keras orders them for it: trainable
ones first. Loading puts them back by position. So a nested model saved with some of its layers
frozen is read wrongly, without any error, by the same model freshly built: its values land in other
variables. Where the frozen state would change the order, those layers are saved as if unfrozen, and
the file then loads rightly into a model that its code just built.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..spec.target import Target
from .trainability import (all_layers, default_order, frozen_downwards, own_trainable_variables,
                           unfrozen)


def legacy_order(layer: Any) -> list[Any]:
    """Weights of a layer as a legacy file lists them at this moment."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def default_legacy_order(layer: Any) -> list[Any]:
    """Weights of a layer as a legacy file lists them when nothing in the layer is frozen."""
    return default_order(layer, legacy_order)


@contextmanager
def saved_as_built(target: Target) -> Iterator[tuple[str, ...]]:
    """While inside, every layer lists its weights as a freshly built model does; yields what that
    changes, in words.

    Layers whose frozen state does not touch the order keep it, so that it is saved. All flags are
    put back at the end.
    """
    model = target.model
    changed = [layer for layer in model.layers if _order_depends_on_flags(model, layer)]
    notes = list(_notes_on_single_variables(model))
    if not changed:
        yield tuple(notes)
        return
    names = ", ".join(str(layer.name) for layer in changed)
    notes.append(f"frozen layers are stored as trainable in {names}: "
                 "a legacy .h5 file stored frozen would load wrongly into a freshly built model")
    # A frozen model freezes all its layers again when Keras rebuilds it from the file, so that flag
    # cannot stay either.
    with unfrozen(*changed), _root_unfrozen(model):
        yield tuple(notes)


def _order_depends_on_flags(model: Any, layer: Any) -> bool:
    if model._trainable and all(below._trainable for below in all_layers(layer)):
        return False
    default = _identities(default_legacy_order(layer))
    with frozen_downwards(model):
        loaded = _identities(legacy_order(layer))
    return _identities(legacy_order(layer)) != default or loaded != default


def _notes_on_single_variables(model: Any) -> Iterator[str]:
    """Keras 3 can freeze one variable of a trainable layer; whether the model's own code does so is
    unknown here.
    """
    for layer in model.layers:
        alone = {
            id(variable) for below in all_layers(layer) if below._trainable
            for variable in own_trainable_variables(below) if not variable.trainable
        }
        order = default_legacy_order(layer)
        created = {
            id(variable) for below in all_layers(layer)
            for variable in own_trainable_variables(below)
        }
        if alone and _identities(order) != _identities(
                sorted(layer.weights, key=lambda weight: id(weight) not in created)):
            yield (f"single variables of {layer.name} are frozen: this legacy .h5 file loads "
                   "rightly only into a model "
                   "with the same variables frozen, save as .weights.h5 to be free of that")


@contextmanager
def _root_unfrozen(model: Any) -> Iterator[None]:
    trainable = model._trainable
    try:
        model._trainable = True
        yield
    finally:
        model._trainable = trainable


def _identities(variables: list[Any]) -> list[int]:
    return [id(variable) for variable in variables]
