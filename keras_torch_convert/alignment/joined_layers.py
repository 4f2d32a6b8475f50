"""Torch layers that one Keras layer takes together: attention's projections, the two convolutions
of a separable one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..rules.families import attention
from ..spec.layer_groups import TorchLayer, last_part
from ..spec.target import TargetLayer

# How many of the stacks, from the first on, belong together; 1 when they do not.
Joins = Callable[[Sequence[TorchLayer]], int]


def joined_by_kind(torch_layers: Sequence[TorchLayer],
                   layers: Sequence[TargetLayer]) -> list[TorchLayer]:
    """The stacks with those joined that belong to one Keras layer.

    It is done for a kind when as many runs of stacks look like it as Keras has layers of it, so
    that nothing is joined by chance.
    """
    kinds: tuple[tuple[tuple[str, ...], Joins],
                 ...] = ((attention.CLASS_NAMES, attention.joins),
                         (("SeparableConv1D", "SeparableConv2D"), _separable))
    result = list(torch_layers)
    for names, joins in kinds:
        wanted = sum(bool(set(names) & set(layer.class_names)) for layer in layers)
        if wanted:
            joined, count = _joined(result, joins)
            result = joined if count == wanted else result
    return result


def one_stack(torch_layers: Sequence[TorchLayer]) -> TorchLayer:
    """All tensors of several stacks as one, under the names of all."""
    modules = {
        name: module for torch_layer in torch_layers
        for name, module in torch_layer.modules.items()
    }
    tensors = tuple(tensor for torch_layer in torch_layers for tensor in torch_layer.tensors)
    return TorchLayer(", ".join(torch_layer.name for torch_layer in torch_layers), tensors, modules)


def _joined(torch_layers: Sequence[TorchLayer], joins: Joins) -> tuple[list[TorchLayer], int]:
    result: list[TorchLayer] = []
    runs = start = 0
    while start < len(torch_layers):
        count = joins(torch_layers[start:])
        runs += count > 1
        result.append(
            one_stack(torch_layers[start:start + count]) if count > 1 else torch_layers[start])
        start += count
    return result, runs


def _separable(torch_layers: Sequence[TorchLayer]) -> int:
    """Two when a depthwise convolution stands before one of size 1 that takes its channels."""
    shapes = [
        tensor.shape for torch_layer in torch_layers[:2]
        for tensor in torch_layer.tensors if last_part(tensor.name) == "weight"
    ]
    if len(shapes) != 2 or len(shapes[0]) < 3 or len(shapes[0]) != len(shapes[1]):
        return 1
    depthwise, pointwise = shapes
    fits = (depthwise[1] == 1 and depthwise[0] == pointwise[1] and set(pointwise[2:]) == {1}
            and set(depthwise[2:]) != {1})
    return 2 if fits else 1
