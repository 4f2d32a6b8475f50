"""A Keras model, of Keras 3 or Keras 2 (tf_keras), as a Target: its layers in order and the
variables they hold.

Which of the two a model belongs to is told by the module of its class, so neither is imported for
the other's model.

The place of a variable is its way through the tree of layers: index and class of each layer among
its siblings that have weights, then the variable's index among those of its layer,
"3:Functional/0:Conv2D/1". Names take no part, since automatic ones change with every instance and
paths repeat.

Variables come in the order that `layer.get_weights()` has while nothing is frozen, so that a frozen
layer is paired like any other: Keras 3 keeps one order anyway, Keras 2 sorts by trainable flags and
is read with all of them lifted.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..errors import TargetError
from ..spec.target import Target, TargetLayer, TargetVariable
from .flattened import flattened_settings
from .keras_private import own_variables, sublayers
from .layer_settings import settings_of
from .weight_order import default_order

Framework = Literal["keras", "tf_keras"]

HOW_TO_BUILD = (
    "pass sample= (its inputs as arrays in the Keras layout), or call model.build((None, "
    "224, 224, 3)) "
    "with the model's own input shape, or run the model once")


def read_target(model: Any, *, sample: Any = None, expand_nested: bool = False,
                whole: Callable[[TargetLayer], bool] | None = None) -> Target:
    """The layers and variables of a Keras model.

    `sample` serves only to build a model that is not built yet: the model is called on it. It is an
    array in the Keras layout, a list or dict of arrays for several inputs, or a tuple of two (torch
    inputs, Keras inputs), whose second part is taken. With `expand_nested` every leaf layer of
    nested models, wrappers and composite layers counts as a layer of the model, named as
    `as_places` says. A layer made of others of which `whole` says True is not taken apart.

    Raises TargetError when `model` is not a Keras model, is not built and no sample can build it,
    or has no weights.
    """
    framework = _framework_of(model)
    _build(model, sample)
    reader = _Reader(framework, flattened_settings(model))
    layers = tuple(reader.top_level_layers(model))
    if not layers:
        raise TargetError(
            f"model {model.name!r} ({type(model).__name__}) has no weights, so there is nothing "
            "to convert into")
    return Target(model=model, name=str(model.name), framework=framework,
                  backend=_backend_of(framework),
                  layers=_expanded(layers, reader.inner, whole) if expand_nested else layers,
                  inner=tuple(reader.inner))


def is_keras_model(model: Any) -> bool:
    """True for a model of Keras 3 or tf_keras; on Keras's torch backend it is a torch.nn.Module
    too.
    """
    return any(base.__name__ == "Model" and base.__module__.split(".")[0] in ("keras", "tf_keras")
               for base in type(model).__mro__)


def _framework_of(model: Any) -> Framework:
    bases = [(base.__module__.split(".")[0], base.__module__, base.__name__)
             for base in type(model).__mro__]
    roots = {root for root, _, name in bases if name == "Model"}
    if "tf_keras" in roots:
        return "tf_keras"
    if "keras" in roots:
        if any(".engine." in module for root, module, _ in bases if root == "keras"):
            raise TargetError(
                "a model of the old `keras` package before version 3: install tf_keras and build "
                "it there")
        return "keras"
    given = f"{type(model).__module__}.{type(model).__qualname__}"
    if any(name == "Layer" and root in {"keras", "tf_keras"} for root, _, name in bases):
        raise TargetError(f"expected a Keras model, got the single layer {given}: wrap it, as in "
                          "keras.Sequential([layer])")
    raise TargetError(f"expected a Keras model (Keras 3 or tf_keras), got {given}")


def _backend_of(framework: Framework) -> str:
    if framework == "tf_keras":
        return "tensorflow"
    return str(importlib.import_module("keras").backend.backend())


def _build(model: Any, sample: Any) -> None:
    if model.built:
        return
    if sample is None:
        raise TargetError(
            f"model {model.name!r} is not built, so its weights do not exist yet: {HOW_TO_BUILD}")
    inputs = sample[1] if isinstance(sample, tuple) and len(sample) == 2 else sample
    try:
        model(inputs)
    except Exception as error:
        raise TargetError(f"model {model.name!r} is not built, and calling it on the sample "
                          f"({_shapes_in_words(inputs)}) failed: {error}") from error
    if not model.built:
        raise TargetError(
            f"model {model.name!r} is still not built after it was called on the sample: "
            f"{HOW_TO_BUILD}")


def _shapes_in_words(inputs: Any) -> str:
    if isinstance(inputs, Mapping):
        return ", ".join(f"{name}: {_shapes_in_words(value)}" for name, value in inputs.items())
    if isinstance(inputs, list | tuple):
        return ", ".join(_shapes_in_words(value) for value in inputs)
    return f"shape {tuple(inputs.shape)}" if hasattr(inputs, "shape") else type(inputs).__name__


def _expanded(layers: Iterable[TargetLayer], inner: Iterable[TargetLayer],
              whole: Callable[[TargetLayer], bool] | None) -> tuple[TargetLayer, ...]:
    kept = {
        id(leaf.layer): one for one in (*inner, *layers) if whole and one.children and whole(one)
        for leaf in one.children
    }
    parts = [
        kept.get(id(leaf.layer), leaf) for layer in layers for leaf in layer.children or (layer,)
    ]
    # A layer that two others share is one place; its first appearance counts.
    return as_places(list({id(part.layer): part for part in reversed(parts)}.values())[::-1])


def as_places(parts: Sequence[TargetLayer]) -> tuple[TargetLayer, ...]:
    """Leaves as top-level layers: under their own names, automatic ones ("conv2d_7") as "name of
    the layer above"_conv2d.

    The number that Keras appends grows with every layer of a session; here it starts anew in each
    layer above. What is the name of several is their label instead.
    """
    found: list[str] = []
    automatic: Counter[tuple[str, str]] = Counter()
    for part in parts:
        above, _, _ = part.display_name.rpartition("/")
        base = part.auto_name
        if not above or base is None:
            found.append(part.name)
            continue
        number = automatic[above, base]
        automatic[above, base] += 1
        found.append(f"{above.rpartition('/')[2]}_{base}" + (f"_{number}" if number else ""))
    count = Counter(found)
    return tuple(
        replace(part, depth=0, name=name if count[name] == 1 else part.display_name)
        for part, name in zip(parts, found, strict=True))


@dataclass(slots=True)
class _Reader:
    """Walks one model; remembers each variable by identity, so that a shared one keeps its first
    place.
    """

    framework: Framework
    flattened: Mapping[int, Mapping[str, Any]]
    known: dict[int, TargetVariable] = field(default_factory=dict)
    inner: list[TargetLayer] = field(default_factory=list)

    def top_level_layers(self, model: Any) -> list[TargetLayer]:
        layers = [layer for layer in _unique(model.layers) if self.weights(layer)]
        found = [
            self.layer(layer, f"{index}:{type(layer).__name__}")
            for index, layer in enumerate(layers)
        ]
        # Layers that the model holds beside its graph, and variables of the model itself, are
        # weights as well.
        for layer in sublayers(model):
            if any(id(weight) not in self.known for weight in self.weights(layer)):
                found.append(self.layer(layer, f"{len(found)}:{type(layer).__name__}"))
        own = [weight for weight in self.weights(model) if id(weight) not in self.known]
        if own:
            found.append(self.leaf(model, own, key="model", names=(), depth=0))
        return found

    def weights(self, layer: Any) -> list[Any]:
        """`layer.weights` in default order; none for a nested model never called, which Keras 2
        refuses to answer.
        """
        if self.framework == "keras":
            return list(layer.weights)
        if not layer.built and hasattr(layer, "layers"):
            return []
        return default_order(layer, lambda layer: list(layer.weights))

    def layer(self, layer: Any, key: str) -> TargetLayer:
        """A top-level layer with the leaves below it."""
        weights = self.weights(layer)
        leaves = self.leaves(layer, weights, key=key, names=(), depth=0, visited=set())
        if [leaf.layer for leaf in leaves] == [layer]:
            return leaves[0]
        return self.made_of(layer, weights, leaves, display_name=str(layer.name), depth=0)

    def made_of(self, layer: Any, weights: list[Any], leaves: list[TargetLayer], *,
                display_name: str, depth: int) -> TargetLayer:
        """A layer that is made of others."""
        return TargetLayer(
            name=str(layer.name), display_name=display_name, class_names=_kinds(layer),
            variables=tuple(self.known[id(weight)] for weight in weights),
            children=tuple(replace(leaf, depth=max(leaf.depth, 1)) for leaf in leaves), depth=depth,
            settings={**settings_of(layer), **self.flattened.get(id(layer), {})}, layer=layer)

    def leaves(self, layer: Any, weights: list[Any], *, key: str, names: tuple[str, ...],
               depth: int, visited: set[int]) -> list[TargetLayer]:
        """The layers at or below `layer` that own variables, ordered by where their first one
        stands in `weights`.
        """
        visited.add(id(layer))
        below = [(sublayer, self.weights(sublayer)) for sublayer in sublayers(layer)]
        below = [(sublayer, weights_below) for sublayer, weights_below in below if weights_below]
        belonging = {id(weight) for _, weights_below in below for weight in weights_below}
        own = _own_weights(layer, weights, belonging)
        found = [self.leaf(layer, own, key=key, names=names, depth=depth)] if own else []
        inner_names = (*names, str(layer.name))
        for index, (sublayer, weights_below) in enumerate(below):
            if id(sublayer) not in visited:
                inner_place = f"{key}/{index}:{type(sublayer).__name__}"
                found += self.leaves(sublayer, weights_below, key=inner_place, names=inner_names,
                                     depth=depth + 1, visited=visited)
        position = {
            self.known[id(weight)].key: index
            for index, weight in reversed(list(enumerate(weights)))
        }
        found.sort(key=lambda leaf: min(position[variable.key] for variable in leaf.variables))
        if depth and below:
            self.inner.append(
                self.made_of(layer, weights, found, display_name="/".join(inner_names),
                             depth=depth))
        return found

    def leaf(self, layer: Any, own: list[Any], *, key: str, names: tuple[str, ...],
             depth: int) -> TargetLayer:
        display_name = "/".join((*names, str(layer.name)))
        variables = tuple(
            self.variable(weight, layer, key=f"{key}/{index}", display_name=display_name)
            for index, weight in enumerate(own))
        return TargetLayer(name=str(layer.name), display_name=display_name,
                           class_names=_kinds(layer), variables=variables, children=(), depth=depth,
                           settings={**settings_of(layer),
                                     **self.flattened.get(id(layer), {})}, layer=layer)

    def variable(self, variable: Any, layer: Any, *, key: str, display_name: str) -> TargetVariable:
        if id(variable) not in self.known:
            name = str(variable.name).split("/")[-1].split(":")[0]
            self.known[id(variable)] = TargetVariable(
                key=key, display_name=f"{display_name}/{name}", name=name,
                shape=tuple(int(extent) for extent in variable.shape),
                dtype=str(getattr(variable.dtype, "name", variable.dtype)),
                trainable=bool(variable.trainable and layer.trainable), variable=variable)
        return self.known[id(variable)]


def _unique(layers: Iterable[Any]) -> list[Any]:
    return list({id(layer): layer for layer in layers}.values())


def _own_weights(layer: Any, weights: list[Any], belonging: set[int]) -> list[Any]:
    """Variables of the layer itself, as it stores them, then those of `weights` that no sublayer
    accounts for.
    """
    counted = {id(weight) for weight in weights}
    own = {id(weight): weight for weight in own_variables(layer) if id(weight) in counted}
    own.update({
        id(weight): weight
        for weight in weights if id(weight) not in belonging and id(weight) not in own
    })
    return list(own.values())


def _kinds(layer: Any) -> tuple[str, ...]:
    """Class names along the method resolution order, up to Keras's own Layer."""
    names = [base.__name__ for base in type(layer).__mro__]
    return tuple(names[:names.index("Layer") + 1] if "Layer" in names else names)
