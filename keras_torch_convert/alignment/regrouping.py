"""Torch layers as one Keras layer takes them.

Attention's projections and the two convolutions of a separable one are joined. A torch module that
holds several recurrent layers is cut: "rnn.l0", "rnn.l1", "rnn.l0_reverse".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Collection as Names
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..rules.families import attention
from ..rules.families.recurrent import Cell, cells_of, keras_cells
from ..spec.layer_groups import TorchLayer, last_part
from ..spec.target import TargetLayer

# How many of the torch layers, from the first on, belong together; 1 when they do not.
Joins = Callable[[Sequence[TorchLayer]], int]


def joined_by_kind(torch_layers: Sequence[TorchLayer],
                   layers: Sequence[TargetLayer]) -> list[TorchLayer]:
    """Join the torch layers that belong to one Keras layer.

    It is done for a kind of layer when as many runs of torch layers look like it as Keras has
    layers of it, so that nothing is joined by chance.
    """
    result = list(torch_layers)
    separable = ("SeparableConv1D", "SeparableConv2D")
    for names, joins in ((attention.CLASS_NAMES, attention.joins), (separable, _separable)):
        wanted = sum(bool(set(names) & set(layer.class_names)) for layer in layers)
        if wanted:
            joined, count = _joined_runs(result, joins)
            result = joined if count == wanted else result
    return result


def _joined_runs(torch_layers: Sequence[TorchLayer], joins: Joins) -> tuple[list[TorchLayer], int]:
    result: list[TorchLayer] = []
    runs = start = 0
    while start < len(torch_layers):
        count = joins(torch_layers[start:])
        runs += count > 1
        result.append(_as_one(torch_layers[start:start + count]))
        start += count
    return result, runs


def _as_one(torch_layers: Sequence[TorchLayer]) -> TorchLayer:
    if len(torch_layers) == 1:
        return torch_layers[0]
    modules = {name: module for one in torch_layers for name, module in one.modules.items()}
    tensors = tuple(tensor for one in torch_layers for tensor in one.tensors)
    return TorchLayer(", ".join(one.name for one in torch_layers), tensors, modules)


def _separable(torch_layers: Sequence[TorchLayer]) -> int:
    """Return 2 when a depthwise convolution precedes one of size 1 that takes its channels."""
    shapes = [
        tensor.shape for one in torch_layers[:2]
        for tensor in one.tensors if last_part(tensor.name) == "weight"
    ]
    if len(shapes) != 2 or len(shapes[0]) < 3 or len(shapes[0]) != len(shapes[1]):
        return 1
    depthwise, pointwise = shapes
    fits = (depthwise[1] == 1 and depthwise[0] == pointwise[1] and set(pointwise[2:]) == {1}
            and set(depthwise[2:]) != {1})
    return 2 if fits else 1


def recurrent_parts(torch_layers: Iterable[TorchLayer]) -> dict[str, TorchLayer]:
    """Return the parts of recurrent modules by their names.

    "rnn.l0" is layer 0 with all its directions, "rnn.l0_forward" and "rnn.l0_reverse" are one of
    two directions.
    """
    parts: dict[str, TorchLayer] = {}
    for torch_layer in torch_layers:
        cells = _numbered(torch_layer)
        for number in dict.fromkeys(cell.number for cell in cells):
            directions = [cell for cell in cells if cell.number == number]
            for some in (directions, *([cell] for cell in directions)):
                part = _part(torch_layer, some)
                parts.setdefault(part.name, part)
    return parts


def single_cells(torch_layer: TorchLayer) -> list[TorchLayer]:
    """Return each direction of each layer of a recurrent module, [] for any other torch layer."""
    return [_part(torch_layer, [cell]) for cell in _numbered(torch_layer)]


def split_by_order(torch_layers: Sequence[TorchLayer], layers: Sequence[TargetLayer],
                   by_callback: Names[str] = ()) -> list[TorchLayer]:
    """Cut recurrent modules into what the Keras layers at the same positions take.

    A Keras layer with as many cells as the module has takes it whole, a Bidirectional the two
    directions of one layer, a single cell one direction. A module for a layer in `by_callback`
    stays whole: its callback gets all tensors.
    """
    result: list[TorchLayer] = []
    for torch_layer in torch_layers:
        remaining = list(_numbered(torch_layer))
        layer = layers[len(result)] if len(result) < len(layers) else None
        if len(remaining) < 2 or (layer is not None and layer.name in by_callback):
            result.append(torch_layer)
            continue
        count_of_all = len(remaining)
        while remaining:
            layer = layers[len(result)] if len(result) < len(layers) else None
            count = len(keras_cells(layer)) if layer is not None else 0
            taken = remaining[:count] or [
                cell for cell in remaining if cell.number == remaining[0].number
            ]
            remaining = remaining[len(taken):]
            whole = len(taken) == count_of_all
            result.append(torch_layer if whole else _part(torch_layer, taken))
    return result


def cut_where_skipped(torch_layers: Sequence[TorchLayer],
                      patterns: Sequence[str] | str) -> list[TorchLayer]:
    """Cut the recurrent modules that have a part which some pattern of `skip_layers` names."""
    skipped = wildcard(patterns)
    result: list[TorchLayer] = []
    for torch_layer in torch_layers:
        numbers = dict.fromkeys(cell.number for cell in _numbered(torch_layer))
        names = [f"{torch_layer.name}.l{number}" for number in numbers]
        if len(names) > 1 and not skipped.fullmatch(torch_layer.name) and any(
                map(skipped.fullmatch, names)):
            parts = recurrent_parts([torch_layer])
            result += [parts[name] for name in names]
        else:
            result.append(torch_layer)
    return result


def wildcard(patterns: Sequence[str] | str) -> re.Pattern[str]:
    """Return the expression for any of the patterns, in which "*" stands for any text."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    texts = [".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns]
    return re.compile("|".join(texts) if texts else r"(?!)", re.DOTALL)


def _numbered(torch_layer: TorchLayer) -> tuple[Cell, ...]:
    """Return the cells of a recurrent module, () for any other torch layer."""
    cells = cells_of(torch_layer)
    return cells if all(
        cell.number is not None and cell.module == cells[0].module for cell in cells) else ()


def _part(torch_layer: TorchLayer, cells: Sequence[Cell]) -> TorchLayer:
    """Return the tensors of some cells, named by layer, or by direction for one of two."""
    names = {tensor.name for cell in cells for tensor in cell.tensors.values()}
    numbers = dict.fromkeys(cell.number for cell in cells)
    directions = sum(cell.number == cells[0].number for cell in _numbered(torch_layer))
    name = ", ".join(f"{torch_layer.name}.l{number}" for number in numbers)
    if len(cells) == 1 < directions:
        name += "_reverse" if cells[0].reverse else "_forward"
    return replace(torch_layer, name=name,
                   tensors=tuple(one for one in torch_layer.tensors if one.name in names))
