"""The rules of transfer/ in alignment by running: all variables of a Keras layer from the weights
of one torch unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ...errors import TransferError
from ...rules.families.attention import is_attention
from ...rules.families.recurrent import keras_cells
from ...rules.layer import assign_layer
from ...spec.layer_groups import TorchLayer, group_by_layer
from ...spec.source import Source
from ...spec.target import Target, TargetLayer
from ..regrouping import recurrent_parts
from .candidates import LayerMapping
from .transforms import VariableMapping


def layers_of_layers(target: Target) -> dict[int, TargetLayer]:
    """By identity the Keras layers whose leaves are filled together: recurrent ones, attention,
    wrappers of one layer.
    """
    made_of_others = [layer for layer in (*target.layers, *target.inner) if layer.children]
    return {
        id(layer.layer): layer for layer in made_of_others
        if len(layer.children) == 1 or keras_cells(layer) or is_attention(layer)
    }


def _without_made_map(layer: TargetLayer) -> TargetLayer:
    """The layer without what the graph says of its outputs: in which order torch counts them is
    found by running (unflattening.py).
    """
    if "gives_map" not in layer.settings:
        return layer
    return replace(
        layer,
        settings={name: value for name, value in layer.settings.items() if name != "gives_map"})


class LayerRules:
    """The torch layers of a source, for the rules that look at a whole layer."""
    def __init__(self, source: Source) -> None:
        """Stack the tensors of `source` by layer."""
        torch_layers = group_by_layer(source).layers
        self.stack_of: Mapping[str, TorchLayer] = {
            tensor.name: torch_layer for torch_layer in torch_layers
            for tensor in torch_layer.tensors
        }
        self.parts = tuple(recurrent_parts(torch_layers).values())

    def layer_mappings(self, names: tuple[str, ...], layer: TargetLayer) -> Iterator[LayerMapping]:
        """What the rule of the layer's kind makes of the weights `names`, taken together; of a
        recurrent module also of its single layers.
        """
        layer = _without_made_map(layer)
        for torch_layer in self._stacks(names):
            try:
                assignments = assign_layer(torch_layer, layer)
            except TransferError:  # the rule says that these two do not fit
                continue
            if any(one.constants for one in assignments):
                continue
            variables = {variable.key: variable for variable in layer.variables}
            entries = tuple((variables[one.key], VariableMapping(one.expression, one.rule, 0))
                            for one in assignments)
            if len(entries) == len(variables):
                yield LayerMapping(entries, 0)

    def _stacks(self, names: tuple[str, ...]) -> Iterator[TorchLayer]:
        owners = list({
            id(self.stack_of[name]): self.stack_of[name] for name in names if name in self.stack_of
        }.values())
        if not owners:
            return
        modules = {
            path: module for torch_layer in owners for path, module in torch_layer.modules.items()
        }
        display_name = ", ".join(torch_layer.name for torch_layer in owners)
        tensors = [tensor for torch_layer in owners for tensor in torch_layer.tensors]
        taken = tuple(tensor for tensor in tensors if tensor.name in names)
        # What a parametrized weight is computed from is a buffer in part, which no operation on
        # data shows.
        with_buffers = tuple(
            tensor for tensor in tensors if tensor.name in names or tensor.kind == "buffer")
        yield TorchLayer(display_name, taken, modules)
        if len(with_buffers) > len(taken):
            yield TorchLayer(display_name, with_buffers, modules)
        yield from (
            part for part in self.parts if any(tensor.name in names for tensor in part.tensors))
