"""Trial values for a Keras model's variables that never reach the model itself: Keras 3 runs
statelessly, Keras 2 is put back.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..keras_io.keras_private import operation_modules
from ..keras_io.values import assign_values, read_values
from ..spec.target import Target, TargetVariable
from ..util.interrupts import deferred_sigint
from .outputs import as_array, leaves_of

LayerCall = Callable[..., Any]


class TrialValues(Protocol):
    """Sets a variable for a time; `reset` lets it have its own value again.

    `on_read` is called with each Keras 3 variable without a trial value before it is read.
    """

    on_read: Callable[[Any], None] | None

    def __call__(self, variable: TargetVariable, array: npt.NDArray[Any]) -> None:
        """Give the variable a trial value."""

    def reset(self, variable: TargetVariable) -> None:
        """Let the variable have its own value."""


@contextmanager
def trial_values(target: Target) -> Iterator[TrialValues]:
    """Give a function that sets a variable for the time of the `with` block.

    Afterward the model is as it was, whatever happens.
    """
    if target.framework == "keras":
        values = _Stateless(importlib.import_module("keras"))
        with values.scope:
            yield values
        return
    journal = _Journal(target)
    try:
        yield journal
    finally:
        with deferred_sigint():
            journal.rollback()


class _Stateless:
    """Values that only the scope knows of."""
    def __init__(self, keras: Any) -> None:
        self.keras = keras
        self.on_read: Callable[[Any], None] | None = None
        values = self

        class Scope(keras.StatelessScope):  # type: ignore[misc]
            def get_current_value(self, variable: Any) -> Any:
                if values.on_read is not None and id(variable) not in self.state_mapping:
                    values.on_read(variable)
                return super().get_current_value(variable)

        self.scope = Scope()

    def __call__(self, variable: TargetVariable, array: npt.NDArray[Any]) -> None:
        tensor = self.keras.ops.convert_to_tensor(array, dtype=variable.dtype)
        self.scope.add_update((variable.variable, tensor))

    def reset(self, variable: TargetVariable) -> None:
        self.scope.state_mapping.pop(id(variable.variable), None)


class _Journal:
    """Values written into the variables, and what they were before."""
    def __init__(self, target: Target) -> None:
        self.target = target
        self.on_read: Callable[[Any], None] | None = None
        self.before: dict[str, tuple[TargetVariable, npt.NDArray[Any]]] = {}

    def __call__(self, variable: TargetVariable, array: npt.NDArray[Any]) -> None:
        if variable.key not in self.before:
            self.before[variable.key] = (variable,
                                         np.array(read_values(self.target, variable.variable)))
        assign_values(self.target, variable.variable,
                      array.astype(self.before[variable.key][1].dtype))

    def reset(self, variable: TargetVariable) -> None:
        if variable.key in self.before:
            assign_values(self.target, variable.variable, self.before[variable.key][1])

    def rollback(self) -> None:
        for variable, _ in self.before.values():
            self.reset(variable)


@contextmanager
def intercepted_calls(target: Target,
                      handle: Callable[[Any, LayerCall, tuple[Any, ...], dict[str, Any]],
                                       Any], *, operations: bool = False) -> Iterator[None]:
    """Send every call of a Keras layer through `handle(layer, call, args, kwargs)`.

    With `operations` also those of a functional Keras 3 model's graph that are no layers (`x + y`).
    The class that all layers share is changed for the time of the `with` block: an attribute of one
    layer would have no effect.
    """
    if target.framework == "keras":
        keras = importlib.import_module("keras")
        bases = [keras.layers.Layer, *([keras.Operation] if operations else [])]
    else:
        bases = [importlib.import_module("tf_keras").layers.Layer]
    originals = [base.__call__ for base in bases]
    try:
        for base in bases:
            base.__call__ = _intercepted(base.__call__, handle)
        yield
    finally:
        for base, original in zip(bases, originals, strict=True):
            base.__call__ = original


def _intercepted(original: LayerCall, handle: Callable[..., Any]) -> LayerCall:
    def intercepted(layer: Any, *args: Any, **kwargs: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            return original(layer, *args, **kwargs)

        return handle(layer, call, args, kwargs)

    return intercepted


@contextmanager
def intercepted_functions(
        target: Target, names: Collection[str],
        handle: Callable[[str, LayerCall, tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
    """Send calls of these functions of `keras.ops`, in whatever code, through `handle(name, call,
    args, kwargs)`; Keras 2 has none.
    """
    modules = operation_modules() if target.framework == "keras" else []
    originals = [(module, name, getattr(module, name)) for module in modules
                 for name in names if hasattr(module, name)]
    try:
        for module, name, original in originals:
            setattr(module, name, _intercepted_function(name, original, handle))
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


def _intercepted_function(name: str, original: LayerCall, handle: Callable[..., Any]) -> LayerCall:
    return lambda *args, **kwargs: handle(name, original, args, kwargs)


def eager_arrays(value: Any) -> Iterator[npt.NDArray[Any]]:
    """Yield the arrays inside a layer's arguments or outputs, but no symbolic tensors."""
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


def as_tensor_like(array: npt.NDArray[Any], output: Any, target: Target) -> Any:
    """Return the array as a tensor of the type that a layer's `output` has."""
    if target.framework == "keras":
        keras = importlib.import_module("keras")
        return keras.ops.convert_to_tensor(array,
                                           dtype=keras.backend.standardize_dtype(output.dtype))
    return importlib.import_module("tensorflow").convert_to_tensor(array, dtype=output.dtype)
