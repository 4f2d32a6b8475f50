"""Trial values for a Keras model's variables that never reach the model itself: Keras 3 runs statelessly, Keras 2 is put back."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ...interrupts import interrupts_held_back
from ...read.target import Target, TargetVariable
from ...save.values import assign_values, read_values
from ...verify.outputs import as_array, leaves_of

SetValue = Callable[[TargetVariable, npt.NDArray[Any]], None]
LayerCall = Callable[..., Any]


@contextmanager
def trial_values(target: Target) -> Iterator[SetValue]:
    """Gives a function that sets a variable for the time of the `with` block. Afterwards the model is as it was, whatever happens."""
    if target.framework == "keras":
        with _stateless() as set_value:
            yield set_value
        return
    journal: dict[str, tuple[TargetVariable, npt.NDArray[Any]]] = {}

    def set_and_remember(variable: TargetVariable, array: npt.NDArray[Any]) -> None:
        if variable.place not in journal:
            journal[variable.place] = (variable, np.array(read_values(target, variable.variable)))
        assign_values(target, variable.variable, array.astype(journal[variable.place][1].dtype))

    try:
        yield set_and_remember
    finally:
        with interrupts_held_back():
            for variable, old in journal.values():
                assign_values(target, variable.variable, old)


@contextmanager
def _stateless() -> Iterator[SetValue]:
    keras = importlib.import_module("keras")
    with keras.StatelessScope() as scope:

        def set_value(variable: TargetVariable, array: npt.NDArray[Any]) -> None:
            tensor = keras.ops.convert_to_tensor(array, dtype=variable.dtype)
            scope.add_update((variable.variable, tensor))

        yield set_value


@contextmanager
def intercepted_calls(
    target: Target, handle: Callable[[Any, LayerCall, tuple[Any, ...], dict[str, Any]], Any]
) -> Iterator[None]:
    """Every call of a Keras layer goes through `handle(layer, call, args, kwargs)` inside the `with` block.

    The class that all layers share is changed for the time: an attribute of one layer would have no effect.
    """
    if target.framework == "keras":
        base = importlib.import_module("keras").layers.Layer
    else:
        base = importlib.import_module("tf_keras").layers.Layer
    original = base.__call__

    def intercepted(layer: Any, *args: Any, **kwargs: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            return original(layer, *args, **kwargs)

        return handle(layer, call, args, kwargs)

    base.__call__ = intercepted
    try:
        yield
    finally:
        base.__call__ = original


def eager_arrays(value: Any) -> Iterator[npt.NDArray[Any]]:
    """The arrays inside a layer's arguments or outputs; symbolic tensors and everything else are passed over."""
    for tensor in leaves_of(value):
        array = None if type(tensor).__name__.startswith("KerasTensor") else _as_array(tensor)
        if array is not None:
            yield array


def _as_array(value: Any) -> npt.NDArray[Any] | None:
    try:
        return as_array(value)
    except (NotImplementedError, AttributeError, TypeError):
        # A symbolic tensor of TensorFlow, or a tracer: the layer is being built, not run.
        return None
