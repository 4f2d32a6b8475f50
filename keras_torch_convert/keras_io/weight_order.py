"""The order in which Keras lists the weights of a layer, and what frozen layers do to it.

Keras 2 orders `layer.weights` by trainable flags, and the legacy .h5 file of both versions lists
the trainable weights of each layer of `model.layers` first. Loading puts them back by position. So
a nested model saved with some of its layers frozen is read wrongly, without any error, by the same
model freshly built: its values land in other variables. Where the frozen state would change the
order, those layers are saved as if unfrozen, and the file then loads rightly into a model that its
code just built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..spec.target import Target
from ..util.interrupts import deferred_sigint
from .keras_private import (all_layers, flagged_variables, is_trainable, own_trainable_variables,
                            set_trainable)


def default_order(layer: Any, order: Callable[[Any], list[Any]]) -> list[Any]:
    """Return `order(layer)` as it is while nothing at or below the layer is frozen."""
    if all(map(is_trainable, all_layers(layer))):
        return order(layer)
    with _unfrozen(layer):
        return order(layer)


def legacy_order(layer: Any) -> list[Any]:
    """Return the weights of a layer as a legacy file lists them at this moment."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def default_legacy_order(layer: Any) -> list[Any]:
    """Return the weights of a layer as a legacy file lists them when nothing in it is frozen."""
    return default_order(layer, legacy_order)


@contextmanager
def saved_as_built(target: Target) -> Iterator[tuple[str, ...]]:
    """Let every layer list its weights as a freshly built model does; yields notes on what changed.

    Layers whose frozen state does not touch the order keep it, so that it is saved. All flags are
    restored at the end.
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
    with _unfrozen(*changed), _flags_kept([model]):
        set_trainable(model, True)
        yield tuple(notes)


def _order_depends_on_flags(model: Any, layer: Any) -> bool:
    if is_trainable(model) and all(map(is_trainable, all_layers(layer))):
        return False
    default = _identities(default_legacy_order(layer))
    with _frozen_downward(model):
        loaded = _identities(legacy_order(layer))
    return _identities(legacy_order(layer)) != default or loaded != default


def _notes_on_single_variables(model: Any) -> Iterator[str]:
    # Keras 3 can freeze one variable of a trainable layer; whether the model's own code does so is
    # unknown here.
    for layer in model.layers:
        below = all_layers(layer)
        alone = any(not variable.trainable for one in below if is_trainable(one)
                    for variable in own_trainable_variables(one))
        created = {id(variable) for one in below for variable in own_trainable_variables(one)}
        as_created = sorted(layer.weights, key=lambda weight: id(weight) not in created)
        if alone and _identities(default_legacy_order(layer)) != _identities(as_created):
            yield (f"single variables of {layer.name} are frozen: this legacy .h5 file loads "
                   "rightly only into a model with the same variables frozen, save as .weights.h5 "
                   "to be free of that")


@contextmanager
def _unfrozen(*roots: Any) -> Iterator[None]:
    """Make every layer at or below the roots trainable, as the code that built them left it.

    A variable that was frozen alone, while its layer was not, stays as it is: layers with LoRA do
    so by design.
    """
    layers = [layer for root in roots for layer in all_layers(root)]
    with _flags_kept(layers):
        for layer in layers:
            _set_flags(layer, True)
        yield


@contextmanager
def _frozen_downward(root: Any) -> Iterator[None]:
    """Freeze every layer below a frozen one, as Keras does when it rebuilds a saved model."""
    layers = all_layers(root)
    frozen = {
        id(below) for layer in layers if not is_trainable(layer) for below in all_layers(layer)
    }
    with _flags_kept(layers):
        for layer in layers:
            if id(layer) in frozen:
                _set_flags(layer, False)
        yield


def _set_flags(layer: Any, trainable: bool) -> None:
    if is_trainable(layer) != trainable:
        set_trainable(layer, trainable)
        for variable in flagged_variables(layer):
            variable.trainable = trainable


@contextmanager
def _flags_kept(layers: Sequence[Any]) -> Iterator[None]:
    """Restore the trainable flags of layers and of their variables at the end."""
    of_layers = [(layer, is_trainable(layer)) for layer in layers]
    of_variables = [
        (variable, variable.trainable) for layer in layers for variable in flagged_variables(layer)
    ]
    try:
        yield
    finally:
        with deferred_sigint():
            for layer, trainable in of_layers:
                set_trainable(layer, trainable)
            for variable, trainable in of_variables:
                if variable.trainable != trainable:
                    variable.trainable = trainable


def _identities(variables: list[Any]) -> list[int]:
    return [id(variable) for variable in variables]
