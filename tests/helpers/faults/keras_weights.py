"""Faults that change what the variables of Keras layers hold."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from .fault import Fault, Pair, Seeded


def variable_of(leaf: Any, *names: str) -> Any:
    return next((variable for variable in leaf.variables if variable.name in names), None)


def values_of(variable: Any) -> np.ndarray:
    value = variable.variable
    value = value.value.detach().cpu().numpy() if hasattr(value.value, "detach") else value.numpy()
    return np.array(value)


def changed_weights(
    name: str, kinds: tuple[str, ...], wanted: Callable[[Any, Any],
                                                        bool], change: Callable[[np.ndarray],
                                                                                np.ndarray],
    variables: tuple[str, ...] = ("kernel", "depthwise_kernel"), layers: tuple[str, ...] = ()
) -> Fault:
    """A variable of a Keras layer with its values changed."""
    def places(pair: Pair) -> list[Any]:
        found = ((leaf, variable_of(leaf, *variables)) for leaf in pair.leaves(*layers))
        return [(leaf, one) for leaf, one in found if one is not None and wanted(leaf, one)]

    def put(pair: Pair, place: Any) -> Seeded:
        leaf, variable = place
        before = values_of(variable)
        after = change(before)
        assert after.shape == before.shape
        variable.variable.assign(np.array(after, order="C"))
        return (leaf.display_name,), ()

    return Fault(name, kinds, places, put)


def exchanged(name: str, first: tuple[str, ...], second: tuple[str, ...]) -> Fault:
    """Two variables of one layer hold each other's values."""
    def places(pair: Pair) -> list[Any]:
        found = (
            (leaf, variable_of(leaf, *first), variable_of(leaf, *second)) for leaf in pair.leaves())
        return [place for place in found if place[1] is not None and place[2] is not None]

    def put(pair: Pair, place: Any) -> Seeded:
        leaf, one, other = place
        values = values_of(one), values_of(other)
        one.variable.assign(np.abs(values[1]) if "variance" in one.name else values[1])
        other.variable.assign(np.abs(values[0]) + 0.05 if "variance" in other.name else values[0])
        return (leaf.display_name,), ()

    return Fault(name, ("swapped weights", "weights"), places, put)


def swapped_layers(name: str, *kinds: str) -> Fault:
    """Two layers of one kind and shape hold each other's weights."""
    def places(pair: Pair) -> list[Any]:
        groups: dict[Any, list[Any]] = {}
        for leaf in pair.leaves(*kinds):
            groups.setdefault(
                (leaf.class_name, tuple(variable.shape for variable in leaf.variables)),
                []).append(leaf)
        return [pair_ for leaves in groups.values() for pair_ in pairwise(leaves)]

    def put(pair: Pair, place: Any) -> Seeded:
        for one, other in zip(place[0].variables, place[1].variables, strict=True):
            values = values_of(one), values_of(other)
            one.variable.assign(values[1])
            other.variable.assign(values[0])
        return (place[0].display_name, place[1].display_name), ()

    return Fault(name, ("swapped weights",), places, put)


def rolled_blocks(array: np.ndarray, blocks: int) -> np.ndarray:
    width = array.shape[-1] // blocks
    return np.roll(array, width, axis=-1)


def unflattened(array: np.ndarray, channels: int) -> np.ndarray:
    """Rows of a Dense kernel behind a flattened map, in the order channels first."""
    rows = array.shape[0] // channels
    return array.reshape(rows, channels, -1).transpose(1, 0, 2).reshape(array.shape)


def flatten_order() -> Fault:
    def places(pair: Pair) -> list[Any]:
        layers = list(pair.keras_model._flatten_layers())
        found = []
        for one, other in pairwise(layers):
            if type(one).__name__ == "Flatten" and type(other).__name__ == "Dense":
                shape = one.input.shape if hasattr(one.input, "shape") else ()
                if len(shape) == 4 and shape[1] > 1:
                    leaf = next(leaf for leaf in pair.leaves() if leaf.layer is other)
                    found.append((leaf, int(shape[-1])))
        return found

    def put(pair: Pair, place: Any) -> Seeded:
        leaf, channels = place
        variable = variable_of(leaf, "kernel")
        variable.variable.assign(np.ascontiguousarray(unflattened(values_of(variable), channels)))
        return (leaf.display_name, "flatten"), ()

    return Fault("missing permutation behind Flatten", ("flatten order",), places, put)
