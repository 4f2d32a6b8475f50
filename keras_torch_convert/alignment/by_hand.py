"""Align by hand: a mapping from Keras layers to torch layers, checked like any other alignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import AlignmentError
from ..plan.plan import Plan
from ..rules.families.position_tables import Resize
from ..spec.layer_groups import TorchLayer, group_by_layer
from ..spec.roles import as_registered
from ..spec.source import Source, SourceTensor
from ..spec.target import Target, TargetLayer
from ..util.text import did_you_mean
from .assemble import plan_of_pairs
from .by_order import hit_by
from .parts import Find, LayerSelection, tensors_of_selection
from .recurrent_layers import parts_of


def plan_from_mapping(source: Source, target: Target,
                      mapping: Mapping[str, LayerSelection | Sequence[LayerSelection]], *,
                      skip_weights: Sequence[str],
                      additional_transfer: Mapping[Any,
                                                   Callable[[list[Any]],
                                                            list[Any]]], skip_layers: Sequence[str],
                      keep_layers: Sequence[str], resize: Resize = None) -> Plan:
    """The Plan that `mapping` describes; see `ktc.align`."""
    collection = group_by_layer(source, skip_weights)
    torch_layers = {
        **parts_of(collection.layers),
        **{torch_layer.name: torch_layer for torch_layer in collection.layers}
    }
    layers = _layers_by_name(target)
    skipped = hit_by(skip_layers, list(torch_layers), "skip_layers", "torch layer")
    kept = hit_by(keep_layers, list(layers), "keep_layers", "Keras layer")
    pairs = _pairs(mapping, lambda name: _tensors(name, torch_layers, source), torch_layers, layers)
    both = [name for name in kept if name in mapping]
    if both:
        raise AlignmentError(
            f"'{both[0]}' is both in the mapping and in keep_layers; take it out of one of them")
    dropped = {
        tensor.name: rule for name, rule in skipped.items() for tensor in torch_layers[name].tensors
    }
    own_values = {
        variable.key: rule for name, rule in kept.items() for variable in layers[name].variables
    }
    return plan_of_pairs(pairs, target, additional_transfer,
                         dropped={**collection.skipped, **dropped}, kept=own_values, resize=resize)


def _pairs(mapping: Mapping[str, LayerSelection | Sequence[LayerSelection]], find: Find,
           torch_layers: Mapping[str, TorchLayer],
           layers: Mapping[str, TargetLayer]) -> list[tuple[TorchLayer, TargetLayer]]:
    pairs = []
    problems = []
    for keras_name, torch_names in mapping.items():
        if keras_name not in layers:
            problems.append(f"no Keras layer with weights is called '{keras_name}'"
                            f"{did_you_mean(keras_name, layers)}")
            continue
        try:
            pairs.append((_stack(torch_names, find, torch_layers), layers[keras_name]))
        except AlignmentError as error:
            problems.append(f"for Keras layer '{keras_name}': {error}")
    if problems:
        raise AlignmentError("; ".join(problems))
    return pairs


def _layers_by_name(target: Target) -> dict[str, TargetLayer]:
    """Top-level layers by name, then the layers inside of them by label."""
    layers = {layer.name: layer for layer in target.layers}
    for inside in (*target.leaves(), *target.inner):
        layers.setdefault(inside.display_name, inside)
    return layers


def _stack(names: LayerSelection | Sequence[LayerSelection], find: Find,
           torch_layers: Mapping[str, TorchLayer]) -> TorchLayer:
    """The tensors of the torch layers, single tensors or parts `names`, each layer's in the order
    that its roles want.
    """
    names = tuple(names) if isinstance(names, Sequence) and not isinstance(names, str) else (names,)
    modules: dict[str, Any] = {}
    for name in names:
        if isinstance(name, str):
            # A single tensor belongs to the module that its layer is.
            layer = name if name in torch_layers else name.rpartition(".")[0]
            modules |= torch_layers[layer].modules if layer in torch_layers else {}
    return TorchLayer(
        ", ".join(map(str, names)),
        tuple(tensor for name in names for tensor in tensors_of_selection(name, find)), modules)


def _tensors(name: str, torch_layers: Mapping[str, TorchLayer],
             source: Source) -> Sequence[SourceTensor]:
    """The tensors of a torch layer, or the one tensor of that name."""
    if name in torch_layers:
        return as_registered(torch_layers[name].tensors)
    if name in source:
        return (source[name],)
    raise AlignmentError(
        f"no torch layer or tensor is called '{name}'{did_you_mean(name, [*torch_layers, *source])}"
    )
