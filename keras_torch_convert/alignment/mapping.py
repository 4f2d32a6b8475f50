"""Align by a mapping from Keras layers to torch layers, checked like any other alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Union

from ..errors import AlignmentError
from ..plan.plan import Plan
from ..rules.callbacks import Transfer
from ..rules.families.position_tables import Resize
from ..spec.layer_groups import TorchLayer, group_by_layer
from ..spec.roles import as_registered
from ..spec.source import Source, SourceTensor
from ..spec.target import Target, TargetLayer
from ..util.text import did_you_mean
from .assemble import plan_of_pairs
from .by_order import PairingOptions, hit_by
from .parts import LayerSelection, tensors_of_selection
from .regrouping import recurrent_parts

Mapped = Mapping[str, Union[LayerSelection, Sequence[LayerSelection]]]


def plan_from_mapping(source: Source, target: Target, mapping: Mapped, options: PairingOptions, *,
                      skip_weights: Sequence[str], additional_transfer: Mapping[Any, Transfer],
                      resize: Resize = None) -> Plan:
    """Make the Plan that a mapping describes; see `ktc.align`."""
    groups = group_by_layer(source, skip_weights)
    torch_layers = recurrent_parts(groups.layers) | {one.name: one for one in groups.layers}
    layers = _layers_by_name(target)
    skipped = hit_by(options.skip_layers, list(torch_layers), "skip_layers", "torch layer")
    kept = hit_by(options.keep_layers, list(layers), "keep_layers", "Keras layer")
    pairs = _pairs(mapping, torch_layers, layers, source)
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
    return plan_of_pairs(pairs, target, additional_transfer, dropped={**groups.skipped, **dropped},
                         kept=own_values, resize=resize)


def _layers_by_name(target: Target) -> dict[str, TargetLayer]:
    """Return the top-level layers by name, then the layers inside of them by display name."""
    layers = {layer.name: layer for layer in target.layers}
    for inside in (*target.leaves(), *target.inner):
        layers.setdefault(inside.display_name, inside)
    return layers


def _pairs(mapping: Mapped, torch_layers: Mapping[str, TorchLayer], layers: Mapping[str,
                                                                                    TargetLayer],
           source: Source) -> list[tuple[TorchLayer, TargetLayer]]:
    pairs = []
    problems = []
    for keras_name, torch_names in mapping.items():
        if keras_name not in layers:
            problems.append(f"no Keras layer with weights is called '{keras_name}'"
                            f"{did_you_mean(keras_name, layers)}")
            continue
        try:
            pairs.append((_selected(torch_names, torch_layers, source), layers[keras_name]))
        except AlignmentError as error:
            problems.append(f"for Keras layer '{keras_name}': {error}")
    if problems:
        raise AlignmentError("; ".join(problems))
    return pairs


def _selected(names: LayerSelection | Sequence[LayerSelection],
              torch_layers: Mapping[str, TorchLayer], source: Source) -> TorchLayer:
    """Return torch layers, single tensors or parts of such as one torch layer."""
    def find(name: str) -> Sequence[SourceTensor]:
        if name in torch_layers:
            return as_registered(torch_layers[name].tensors)
        if name in source:
            return (source[name],)
        raise AlignmentError(f"no torch layer or tensor is called '{name}'"
                             f"{did_you_mean(name, [*torch_layers, *source])}")

    names = tuple(names) if isinstance(names, Sequence) and not isinstance(names, str) else (names,)
    modules: dict[str, Any] = {}
    for name in (name for name in names if isinstance(name, str)):
        # A single tensor belongs to the module that its layer is.
        owner = name if name in torch_layers else name.rpartition(".")[0]
        modules |= torch_layers[owner].modules if owner in torch_layers else {}
    tensors = (tensor for name in names for tensor in tensors_of_selection(name, find))
    return TorchLayer(", ".join(map(str, names)), tuple(tensors), modules)
