"""Layers that are fused on one side only: query, key and value in one torch layer, or in one Keras
layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from ...errors import AlignmentError
from ...spec.layer_groups import TorchLayer
from ...spec.target import TargetLayer
from ..names import part_number, words_of
from ..parts import Find, LayerSelection, concat, split, tensors_of_selection

Fit = Callable[[TorchLayer, TargetLayer], bool]

# What the rows of a fused layer are, by the words of its name: the order in which all known models
# have them.
_ORDERS = {"qkv": ("query", "key", "value"), "kv": ("key", "value")}
_ATTENTION = ("query", "key", "value")


def in_parts(torch_layer: TorchLayer, layers: Sequence[TargetLayer], find: Find,
             fit: Fit) -> list[TorchLayer]:
    """The stack as its equal parts, three or two, when each of some Keras layers takes one; [] when
    none does. Its name does not matter for three.
    """
    known = next((order for word, order in _ORDERS.items() if word in words_of(torch_layer.name)),
                 None)
    for names in (known,) if known is not None else (_ATTENTION,):
        try:
            cut = [
                _part(torch_layer, split(torch_layer.name, part, len(names)), name, find)
                for part, name in enumerate(names)
            ]
        except AlignmentError:
            continue
        if any(fit(cut[0], layer) for layer in layers):
            return cut
    return []


def _part(torch_layer: TorchLayer, part: LayerSelection, name: str, find: Find) -> TorchLayer:
    return TorchLayer(f"{torch_layer.name}.{name}", tuple(tensors_of_selection(part, find)),
                      torch_layer.modules)


def put_together(torch_layers: Sequence[TorchLayer], layers: Sequence[TargetLayer], find: Find,
                 fit: Fit) -> list[TorchLayer]:
    """The stacks with query, key and value of one module as one, where some Keras layer that
    nothing else fits takes them so.
    """
    starved = [
        layer
        for layer in layers if not any(fit(torch_layer, layer) for torch_layer in torch_layers)
    ]
    if not starved:
        return list(torch_layers)
    by_module: dict[str, dict[int, TorchLayer]] = defaultdict(dict)
    for torch_layer in torch_layers:
        number = part_number(torch_layer.name.rpartition(".")[2])
        if number is not None:
            by_module[torch_layer.name.rpartition(".")[0]][number] = torch_layer
    whole: dict[str, TorchLayer | None] = {}
    for module, found in by_module.items():
        names = [found[number].name for number in sorted(found)]
        if len(names) < 2:
            continue
        try:
            one = TorchLayer(f"{module}.{'qkv'[-len(names) :]}",
                             tuple(tensors_of_selection(concat(*names), find)),
                             found[min(found)].modules)
        except AlignmentError:
            continue
        if any(fit(one, layer) for layer in starved):
            whole |= {names[0]: one, **dict.fromkeys(names[1:])}
    kept = [whole.get(torch_layer.name, torch_layer) for torch_layer in torch_layers]
    return [torch_layer for torch_layer in kept if torch_layer is not None]
