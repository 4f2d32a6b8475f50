"""A Keras model, of Keras 3 or Keras 2 (tf_keras), as a Target: its layers and their variables.

Which of the two a model belongs to shows in the module of its class, so neither is imported for the
other's model.

The key of a variable is its path through the tree of layers: index and class of each layer among
its siblings that have weights, then the variable's index among those of its layer,
"3:Functional/0:Conv2D/1". Names take no part, since automatic ones change with every instance and
Keras's own paths repeat.

Variables come in the order that `layer.get_weights()` has while nothing is frozen, so that a frozen
layer is paired like any other: Keras 3 keeps one order anyway, Keras 2 sorts by trainable flags and
is read with all of them lifted.
"""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Literal

from ..errors import TargetError
from ..spec.target import Target, TargetLayer, TargetVariable
from ..util.text import join_names
from .flattened import flattened_settings
from .keras_private import (ADAPTER_NAMES, attributes_of, built_ndim, own_variables, sublayers,
                            unique)
from .weight_order import default_order

Framework = Literal["keras", "tf_keras"]

_HOW_TO_RUN = "pass sample= (its inputs as arrays in the Keras layout), or run the model once"
_HOW_TO_BUILD = (f"{_HOW_TO_RUN}, or call model.build((None, 224, 224, 3)) with the model's own "
                 "input shape")
# The hyperparameters that decide how weights are laid out or used.
_SETTINGS = ("rank", "filters", "units", "kernel_size", "strides", "padding", "output_padding",
             "dilation_rate", "groups", "depth_multiplier", "data_format", "use_bias", "input_dim",
             "output_dim", "axis", "epsilon", "momentum", "scale", "center", "shared_axes",
             "equation", "num_heads", "key_dim", "value_dim", "reset_after", "go_backwards",
             "return_sequences", "merge_mode", "mask_zero")
_PLAIN = (bool, int, float, str)


def read_target(model: Any, *, sample: Any = None, expand_nested: bool = False,
                whole: Callable[[TargetLayer], bool] | None = None) -> Target:
    """Return the layers and variables of a Keras model.

    Args:
        model: The model, of Keras 3 or tf_keras.
        sample: Inputs to build a model with that is not built yet: the model is called on them. An
            array in the Keras layout, a list or dict of arrays for several inputs, or a tuple of
            two (torch inputs, Keras inputs), whose second part is taken.
        expand_nested: Let every leaf layer of nested models, wrappers and composite layers count
            as a layer of the model.
        whole: Returns True for layers made of others that are not taken apart then.

    Raises:
        TargetError: `model` is not a Keras model, is not built and no sample can build it, or has
            no weights.
    """
    framework = _framework_of(model)
    _build(model, sample)
    reader = _Reader(framework, flattened_settings(model))
    layers = tuple(reader.top_level_layers(model))
    if not layers:
        raise TargetError(
            f"model {model.name!r} ({type(model).__name__}) has no weights, so there is nothing "
            "to convert into")
    _check_not_quantized(layers)
    if expand_nested:
        layers = _expanded(layers, reader.inner, whole)
    return Target(model=model, name=str(model.name), framework=framework,
                  backend=_backend_of(framework), layers=layers, inner=tuple(reader.inner),
                  adapters=tuple(reader.adapters.values()))


def _check_not_quantized(layers: Iterable[TargetLayer]) -> None:
    """Raise TargetError for a model that holds codes in place of weights."""
    modes = {leaf.display_name: mode for layer in layers for leaf in layer.children or (layer,)
             if (mode := getattr(leaf.layer, "quantization_mode", None))}  # yapf: disable
    if modes:
        mode = next(iter(modes.values()))
        raise TargetError(
            f"the Keras model is quantized ({mode}) in {join_names(modes, 3, quoted=True)}, whose "
            "variables hold codes and scales, no weights: convert into the float model, then call "
            f"model.quantize({mode!r})")


def is_keras_model(model: Any) -> bool:
    """Return whether an object is a model of Keras 3 or tf_keras.

    On Keras's torch backend it is a torch.nn.Module too.
    """
    return any(
        name == "Model" and root in ("keras", "tf_keras") for root, _, name in _bases_of(model))


def _bases_of(model: Any) -> list[tuple[str, str, str]]:
    """Return package, module and name of the classes of an object."""
    return [(base.__module__.split(".")[0], base.__module__, base.__name__)
            for base in type(model).__mro__]


def _framework_of(model: Any) -> Framework:
    bases = _bases_of(model)
    roots = {root for root, _, name in bases if name == "Model"}
    if "tf_keras" in roots:
        return "tf_keras"
    if "keras" in roots:
        if any(".engine." in module for root, module, _ in bases if root == "keras"):
            raise TargetError("a model of the old `keras` package before version 3: install "
                              "tf_keras and build it there")
        return "keras"
    given = f"{type(model).__module__}.{type(model).__qualname__}"
    if any(name == "Layer" and root in {"keras", "tf_keras"} for root, _, name in bases):
        raise TargetError(f"expected a Keras model, got the single layer {given}: wrap it, as in "
                          "keras.Sequential([layer])")
    if isinstance(model, type):
        raise TargetError(f"expected a Keras model, got the class {model.__name__}: build it first")
    if isinstance(model, (str, PathLike)):
        path = os.fsdecode(model)
        how = ("build the model and load the weights into it, with model.load_weights" if
               path.endswith((".weights.h5",
                              ".weights.json")) else "load it first, with keras.models.load_model")
        raise TargetError(f"expected a Keras model, got the path '{path}': {how}({path!r})")
    raise TargetError(f"expected a Keras model (Keras 3 or tf_keras), got {given}")


def _backend_of(framework: Framework) -> str:
    if framework == "tf_keras":
        return "tensorflow"
    return str(importlib.import_module("keras").backend.backend())


def _build(model: Any, sample: Any) -> None:
    # Keras takes a model whose class has no `build` for built once that was called.
    is_only_said = model.built and not model.weights and not all(layer.built
                                                                 for layer in model.layers)
    if model.built and not is_only_said:
        return
    if sample is None:
        how = _HOW_TO_RUN if is_only_said else _HOW_TO_BUILD
        raise TargetError(
            f"model {model.name!r} is not built, so its weights do not exist yet: {how}")
    inputs = sample[1] if isinstance(sample, tuple) and len(sample) == 2 else sample
    try:
        model(inputs)
    except Exception as error:
        raise TargetError(f"model {model.name!r} is not built, and calling it on the sample "
                          f"({_describe_shapes(inputs)}) failed: {error}") from error
    if not model.built:
        raise TargetError(f"model {model.name!r} is still not built after it was called on the "
                          f"sample: {_HOW_TO_BUILD}")


def _describe_shapes(inputs: Any) -> str:
    if isinstance(inputs, Mapping):
        return ", ".join(f"{name}: {_describe_shapes(value)}" for name, value in inputs.items())
    if isinstance(inputs, list | tuple):
        return ", ".join(map(_describe_shapes, inputs))
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
    # A layer that two others share counts once, where it appears first.
    return as_top_level(list({id(part.layer): part for part in reversed(parts)}.values())[::-1])


def as_top_level(leaves: Sequence[TargetLayer]) -> tuple[TargetLayer, ...]:
    """Return leaves as top-level layers, under their own names.

    An automatic one ("conv2d_7") gets the name of the layer above it: "block_conv2d". The number
    that Keras appends grows with every layer of a session; here it starts again in each layer
    above. Where several would have one name they have their display name instead.
    """
    names: list[str] = []
    automatic: Counter[tuple[str, str]] = Counter()
    for leaf in leaves:
        above, _, _ = leaf.display_name.rpartition("/")
        base = leaf.auto_name
        if not above or base is None:
            names.append(leaf.name)
            continue
        number = automatic[above, base]
        automatic[above, base] += 1
        names.append(f"{above.rpartition('/')[2]}_{base}" + (f"_{number}" if number else ""))
    count = Counter(names)
    return tuple(
        replace(leaf, depth=0, name=name if count[name] == 1 else leaf.display_name)
        for leaf, name in zip(leaves, names, strict=True))


@dataclass(slots=True)
class _Reader:
    """Walks through one model; knows each variable by identity, so that a shared one keeps its
    first key.
    """

    framework: Framework
    flattened: Mapping[int, Mapping[str, Any]]
    known: dict[int, TargetVariable] = field(default_factory=dict)
    inner: list[TargetLayer] = field(default_factory=list)
    weights_of: dict[int, list[Any]] = field(default_factory=dict)
    adapters: dict[int, TargetVariable] = field(default_factory=dict)

    def top_level_layers(self, model: Any) -> list[TargetLayer]:
        layers = [layer for layer in unique(model.layers) if self.weights(layer)]
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
        """Return `layer.weights` in default order.

        None for a nested model that was never called, which Keras 2 refuses to answer.
        """
        found = self.weights_of.get(id(layer))
        if found is None:
            if self.framework == "keras":
                found = [weight for weight in layer.weights if not self.is_adapter(weight)]
            elif not layer.built and hasattr(layer, "layers"):
                found = []
            else:
                found = default_order(layer, lambda layer: list(layer.weights))
            self.weights_of[id(layer)] = found
        return found

    def is_adapter(self, weight: Any) -> bool:
        """Return whether Keras's enable_lora made a variable, and note it."""
        if id(weight) not in self.adapters and weight.name in ADAPTER_NAMES:
            path = str(weight.path)
            self.adapters[id(weight)] = TargetVariable(f"adapter:{path}", path, str(weight.name),
                                                       tuple(map(int, weight.shape)),
                                                       str(weight.dtype), bool(weight.trainable),
                                                       weight)
        return id(weight) in self.adapters

    def layer(self, layer: Any, key: str) -> TargetLayer:
        """Return a top-level layer with the leaves below it."""
        weights = self.weights(layer)
        leaves = self.leaves(layer, weights, key=key, names=(), depth=0, visited=set())
        if [leaf.layer for leaf in leaves] == [layer]:
            return leaves[0]
        return self.composite(layer, weights, leaves, (str(layer.name),), 0)

    def composite(self, layer: Any, weights: list[Any], leaves: list[TargetLayer],
                  names: tuple[str, ...], depth: int) -> TargetLayer:
        """Return a layer that is made of others."""
        variables = tuple(self.known[id(weight)] for weight in weights)
        children = tuple(replace(leaf, depth=max(leaf.depth, 1)) for leaf in leaves)
        return self.target_layer(layer, "/".join(names), variables, children, depth)

    def target_layer(self, layer: Any, display_name: str, variables: tuple[TargetVariable, ...],
                     children: tuple[TargetLayer, ...], depth: int) -> TargetLayer:
        return TargetLayer(name=str(layer.name), display_name=display_name,
                           class_names=_class_names(layer), variables=variables, children=children,
                           depth=depth,
                           settings={**settings_of(layer),
                                     **self.flattened.get(id(layer), {})}, layer=layer)

    def leaves(self, layer: Any, weights: list[Any], *, key: str, names: tuple[str, ...],
               depth: int, visited: set[int]) -> list[TargetLayer]:
        """Return the layers at or below `layer` that own variables, by where their first one
        stands in `weights`.
        """
        visited.add(id(layer))
        below = [(sublayer, self.weights(sublayer)) for sublayer in sublayers(layer)]
        below = [(sublayer, weights_below) for sublayer, weights_below in below if weights_below]
        accounted = {id(weight) for _, weights_below in below for weight in weights_below}
        own = _own_weights(layer, weights, accounted)
        found = [self.leaf(layer, own, key=key, names=names, depth=depth)] if own else []
        names = (*names, str(layer.name))
        for index, (sublayer, weights_below) in enumerate(below):
            if id(sublayer) not in visited:
                found += self.leaves(sublayer, weights_below,
                                     key=f"{key}/{index}:{type(sublayer).__name__}", names=names,
                                     depth=depth + 1, visited=visited)
        position = {
            self.known[id(weight)].key: index
            for index, weight in reversed(list(enumerate(weights)))
        }
        found.sort(key=lambda leaf: min(position[variable.key] for variable in leaf.variables))
        if depth and below:
            self.inner.append(self.composite(layer, weights, found, names, depth))
        return found

    def leaf(self, layer: Any, own: list[Any], *, key: str, names: tuple[str, ...],
             depth: int) -> TargetLayer:
        display_name = "/".join((*names, str(layer.name)))
        variables = tuple(
            self.variable(weight, layer, f"{key}/{index}", display_name)
            for index, weight in enumerate(own))
        return self.target_layer(layer, display_name, variables, (), depth)

    def variable(self, variable: Any, layer: Any, key: str, display_name: str) -> TargetVariable:
        if id(variable) not in self.known:
            name = str(variable.name).split("/")[-1].split(":")[0]
            self.known[id(variable)] = TargetVariable(
                key=key, display_name=f"{display_name}/{name}", name=name,
                shape=tuple(int(extent) for extent in variable.shape),
                dtype=str(getattr(variable.dtype, "name", variable.dtype)),
                trainable=bool(variable.trainable and layer.trainable), variable=variable)
        return self.known[id(variable)]


def adapter_of(layer: Any) -> tuple[Any, Any, float]:
    """Return both matrices that Keras's enable_lora gave a layer, None without, and the number that
    their product is multiplied by.
    """
    for what in ("kernel", "embeddings") if getattr(layer, "lora_enabled", False) else ():
        if (first := getattr(layer, f"lora_{what}_a", None)) is not None:
            return first, getattr(layer, f"lora_{what}_b"), layer.lora_alpha / layer.lora_rank
    return None, None, 1.0


def _own_weights(layer: Any, weights: list[Any], accounted: set[int]) -> list[Any]:
    """Return the variables of the layer itself, as it stores them, then those of `weights` that no
    sublayer accounts for.
    """
    own = {id(weight): weight for weight in own_variables(layer)}
    held = {id(weight): weight for weight in weights}
    unaccounted = [one for one in held if one not in accounted and one not in own]
    return [held[one] for one in (*own, *unaccounted) if one in held]


def _class_names(layer: Any) -> tuple[str, ...]:
    """Return class names along the method resolution order, up to Keras's own Layer."""
    names = [base.__name__ for base in type(layer).__mro__]
    return tuple(names[:names.index("Layer") + 1] if "Layer" in names else names)


def settings_of(layer: Any) -> dict[str, Any]:
    """Return the hyperparameters that a layer has, under their Keras names, as plain values.

    Numbers, strings, None and tuples of these are kept, a list as a tuple. `activation` and
    `recurrent_activation` are names; `input_rank` is the number of axes that the layer was built
    for, batch axis included.
    """
    settings: dict[str, Any] = {}
    for name in attributes_of(layer, _SETTINGS):
        plain, value = _plain(getattr(layer, name))
        if plain:
            settings[name] = value
    for name in attributes_of(layer, ("activation", "recurrent_activation")):
        function = getattr(layer, name)
        if function is not None:
            known_as = getattr(function, "__name__", None) or getattr(function, "name", None)
            settings[name] = str(known_as or type(function).__name__)
    ndim = built_ndim(layer)
    return settings if ndim is None else {**settings, "input_rank": ndim}


def _plain(value: Any) -> tuple[bool, Any]:
    if value is None or isinstance(value, _PLAIN):
        return True, value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _plain(value.item())
    if isinstance(value, list | tuple):
        parts = [_plain(part) for part in value]
        return all(plain for plain, _ in parts), tuple(part for _, part in parts)
    return False, None
