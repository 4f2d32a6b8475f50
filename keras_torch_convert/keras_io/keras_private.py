"""Everything that the package reads of Keras without a public name for it, for Keras 3 and Keras 2.

No other file uses a private attribute of Keras, so a new version of Keras is looked at here alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# The variables that `enable_lora` adds to a layer.
ADAPTER_NAMES = ("lora_kernel_a", "lora_kernel_b", "lora_embeddings_a", "lora_embeddings_b")


def attributes_of(layer: Any, names: Iterable[str]) -> list[str]:
    """Return the names for which `hasattr(layer, name)` is true; asked one by one, it takes long on
    layers that are torch modules when the answer is no.
    """
    of_class, dictionaries = _class_attributes(layer.__class__)
    if dictionaries is not None:
        held = layer.__dict__
        inside = [name for name in dictionaries for name in held.get(name, ())]
        names = [name for name in names if name in held or name in of_class or name in inside]
    return [name for name in names if hasattr(layer, name)]


# Where a torch module keeps what its `__getattr__` finds.
_OF_MODULES = ("_modules", "_parameters", "_buffers")


@cache
def _class_attributes(layer_class: Any) -> tuple[frozenset[str], tuple[str, ...] | None]:
    """Return the attributes that a class gives its instances, and in which of their dictionaries
    its `__getattr__` looks: None when that is not torch's.
    """
    found = getattr(layer_class, "__getattr__", None)
    torchs = getattr(found, "__qualname__", "") == "Module.__getattr__"
    return frozenset(dir(layer_class)), () if found is None else _OF_MODULES if torchs else None


def sublayers(layer: Any) -> list[Any]:
    """Return the layers directly below a layer, each once."""
    return unique(layer._flatten_layers(include_self=False, recursive=False))


def all_layers(layer: Any) -> list[Any]:
    """Return the layer itself and every layer below it, each once."""
    return unique(layer._flatten_layers())


def own_trainable_variables(layer: Any) -> list[Any]:
    """Return the variables that the layer itself created as trainable, whatever was frozen since.
    """
    if hasattr(layer, "_trainable_variables"):
        return list(layer._trainable_variables)
    return list(layer._trainable_weights)


def own_variables(layer: Any) -> list[Any]:
    """Return the variables that the layer itself holds, as Keras stores them: trainable ones first.
    """
    if hasattr(layer, "_non_trainable_variables"):
        return own_trainable_variables(layer) + list(layer._non_trainable_variables)
    return own_trainable_variables(layer) + list(layer._non_trainable_weights)


def flagged_variables(layer: Any) -> list[Any]:
    """Return the layer's own variables with a trainable flag that can change: those of Keras 3."""
    return list(getattr(layer, "_trainable_variables", ()))


def is_trainable(layer: Any) -> bool:
    """Return the layer's own trainable flag."""
    return bool(layer._trainable)


def set_trainable(layer: Any, trainable: bool) -> None:
    """Set the layer's own flag; the public setter would reach down into its sublayers."""
    layer._trainable = trainable


@contextmanager
def tensor_held(variable: Any, tensor: Any) -> Iterator[None]:
    """While inside, a Keras variable on torch holds another tensor, of any shape."""
    own = variable._value
    variable._value = tensor
    try:
        yield
    finally:
        variable._value = own


def built_ndim(layer: Any) -> int | None:
    """Return the number of axes of the input that a layer was built for, batch axis included."""
    # Keras 3 keeps the shapes by argument name, Keras 2 the shape.
    shapes = getattr(layer, "_build_shapes_dict", None)
    shape = shapes.get("input_shape") if isinstance(shapes, dict) else getattr(
        layer, "_build_input_shape", None)
    try:
        return len(shape) if shape is not None and not isinstance(shape, dict) else None
    except (TypeError, ValueError):
        return None


def calls_of(layer: Any) -> list[Any]:
    """Return the nodes of the graph at which a layer was called."""
    return list(getattr(layer, "_inbound_nodes", ()))


def origin_of(tensor: Any) -> tuple[Any, Any, int] | None:
    """Return the layer and the node that made a symbolic tensor, and its index among the outputs.
    """
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return None
    layer, node_index, tensor_index = history
    return layer, layer._inbound_nodes[node_index], tensor_index


def inputs_of(node: Any) -> list[Any]:
    """Return the tensors that go into a node, in order."""
    return list(node.keras_inputs if hasattr(node, "keras_inputs") else node.input_tensors)


def unique(layers: Any) -> list[Any]:
    """Return layers in order, each once."""
    return list({id(layer): layer for layer in layers}.values())


def operation_modules() -> list[Any]:
    """Return the modules whose functions `keras.ops` calls by name; none of Keras 2."""
    import importlib

    backend = importlib.import_module("keras.src.backend")
    return [backend.nn, backend.numpy]


@contextmanager
def tensorflow_left_alone() -> Iterator[None]:
    """Let Keras save without importing TensorFlow, for seconds, only to ask whether an object is of
    one of its types: where nobody imported it, none is.
    """
    lazy = getattr(sys.modules.get("keras.src.utils.module_utils"), "tensorflow", None)
    state = vars(lazy) if lazy is not None and "tensorflow" not in sys.modules else {}
    unknown = "_available" in state and state["_available"] is None
    if unknown:
        state["_available"] = False
    try:
        yield
    finally:
        if unknown:
            state["_available"] = None
