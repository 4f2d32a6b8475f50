"""What a seeded fault is: the pair that it is put into, where it can be put, and whether a
diagnosis names it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Seeded = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass
class Pair:
    """A torch module, a Keras model that holds its weights, the Plan that put them there, and the
    sample.
    """

    torch_module: Any
    keras_model: Any
    plan: Any
    sample: Any
    calls: dict[str, Any] = field(default_factory=dict)

    @property
    def framework(self) -> Any:
        """keras or tf_keras, whichever the model is of."""
        import importlib

        of_keras2 = any(
            kind.__module__.startswith("tf_keras") for kind in type(self.keras_model).__mro__)
        return importlib.import_module("tf_keras" if of_keras2 else "keras")

    def leaves(self, *kinds: str) -> list[Any]:
        """Layers with variables, of one of these kinds, as they are read."""
        from keras_torch_convert.keras_io.model import read_target

        return [
            leaf for leaf in read_target(self.keras_model).leaves()
            if not kinds or set(kinds) & set(leaf.class_names)
        ]

    def layers(self, *kinds: str) -> list[Any]:
        """All layers of one of these kinds, those inside others too."""
        found: dict[int, Any] = {}
        waiting = list(self.keras_model._flatten_layers())
        for layer in waiting:
            if any(kind.__name__ in kinds for kind in type(layer).__mro__):
                found[id(layer)] = layer
        return list(found.values())

    def modules(self, *kinds: str) -> list[tuple[str, Any]]:
        """torch modules of one of these classes, with their paths."""
        return [(path, module) for path, module in self.torch_module.named_modules()
                if type(module).__name__ in kinds]

    def replace_module(self, path: str, module: Any) -> None:
        """Put another torch module in the place of one without weights."""
        parent, _, name = path.rpartition(".")
        setattr(self.torch_module.get_submodule(parent), name, module)


@dataclass(frozen=True)
class Fault:
    """`places` lists where it can be put, `put` puts it there and gives (Keras layers, torch
    modules) that may be named; `kinds` are right causes.
    """

    name: str
    class_names: tuple[str, ...]
    places: Callable[[Pair], list[Any]]
    put: Callable[[Pair, Any], Seeded]


def number(value: Any) -> Any:
    """One number of an int or a tuple of equal ones."""
    return value[0] if isinstance(value, (tuple, list)) else value


def verdict(divergence: Any, fault: Fault, seeded: Seeded) -> str:
    """ "exact", "unknown" (no cause named), or "wrong", for what a diagnosis says about a seeded
    fault.
    """
    labels, paths = seeded
    if divergence is None or not divergence.kind:
        return "unknown"
    # A label may be that of a layer inside others, or of one that has layers inside.
    named = f"/{divergence.keras_layer}/"
    here = any(f"/{label}/" in named for label in labels if label) or (named == "//"
                                                                       and "" in labels)
    there = any(divergence.torch_module == path for path in paths)
    return "exact" if divergence.kind in fault.class_names and (here or there) else "wrong"
