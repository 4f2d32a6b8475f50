"""One torch module that holds several recurrent layers, as the torch layers that Keras layers take:
"rnn.l0", "rnn.l1", "rnn.l0_reverse".
"""

from __future__ import annotations

import re
from collections.abc import Collection as Names
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..rules.families.recurrent import Cell, cells_of, keras_cells
from ..spec.layer_groups import TorchLayer
from ..spec.target import TargetLayer


def parts_of(torch_layers: Iterable[TorchLayer]) -> dict[str, TorchLayer]:
    """The names by which parts of recurrent modules go, beside the modules' own names.

    "rnn.l0" is layer 0 with all its directions, "rnn.l0_forward" and "rnn.l0_reverse" are one of
    two directions.
    """
    parts: dict[str, TorchLayer] = {}
    for torch_layer in torch_layers:
        cells = _numbered(torch_layer)
        for number in dict.fromkeys(cell.number for cell in cells):
            of_layer = [cell for cell in cells if cell.number == number]
            parts[f"{torch_layer.name}.l{number}"] = _joined(torch_layer, of_layer)
            if len(of_layer) > 1:
                for cell in of_layer:
                    parts[_direction(torch_layer, cell)] = _joined(torch_layer, [cell])
    return parts


def split_by_order(torch_layers: Sequence[TorchLayer], layers: Sequence[TargetLayer],
                   by_callback: Names[str] = ()) -> list[TorchLayer]:
    """The stacks with recurrent modules cut up into what the Keras layers at their places take.

    A Keras layer with as many cells as the module has takes it whole, a Bidirectional the two
    directions of one layer, a single cell one direction. Whatever stands at its place, a module for
    a layer in `by_callback` stays whole: its callback gets all tensors.
    """
    result: list[TorchLayer] = []
    for torch_layer in torch_layers:
        remaining = list(_numbered(torch_layer))
        layer = layers[len(result)] if len(result) < len(layers) else None
        if len(remaining) < 2 or (layer is not None and layer.name in by_callback):
            result.append(torch_layer)
            continue
        whole = tuple(remaining)
        while remaining:
            layer = layers[len(result)] if len(result) < len(layers) else None
            count = len(keras_cells(layer)) if layer is not None else 0
            taken = remaining[:count] or [
                cell for cell in remaining if cell.number == remaining[0].number
            ]
            remaining = remaining[len(taken):]
            result.append(torch_layer if tuple(taken) ==
                          whole else _named(torch_layer, taken, whole))
    return result


def skipped_apart(torch_layers: Sequence[TorchLayer],
                  patterns: Sequence[str] | str) -> list[TorchLayer]:
    """The stacks, those of which some pattern of `skip_layers` names a part cut into their layers.
    """
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    expressions = [
        re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
        for pattern in patterns
    ]

    def hit(name: str) -> bool:
        return any(expression.fullmatch(name) for expression in expressions)

    result: list[TorchLayer] = []
    for torch_layer in torch_layers:
        numbers = list(dict.fromkeys(cell.number for cell in _numbered(torch_layer)))
        names = [f"{torch_layer.name}.l{number}" for number in numbers]
        if len(names) > 1 and not hit(torch_layer.name) and any(hit(name) for name in names):
            parts = parts_of([torch_layer])
            result += [parts[name] for name in names]
        else:
            result.append(torch_layer)
    return result


def _numbered(torch_layer: TorchLayer) -> tuple[Cell, ...]:
    cells = cells_of(torch_layer)
    return cells if all(
        cell.number is not None and cell.module == cells[0].module for cell in cells) else ()


def _named(torch_layer: TorchLayer, taken: Sequence[Cell], whole: Sequence[Cell]) -> TorchLayer:
    numbers = list(dict.fromkeys(cell.number for cell in taken))
    of_layer = [cell for cell in whole if cell.number == numbers[0]]
    if len(taken) == 1 and len(of_layer) > 1:
        return _joined(torch_layer, taken)
    return replace(_joined(torch_layer, taken),
                   name=", ".join(f"{torch_layer.name}.l{number}" for number in numbers))


def _joined(torch_layer: TorchLayer, cells: Sequence[Cell]) -> TorchLayer:
    """The tensors of some cells of a stack as a stack of their own, called by layer, or by
    direction for a single one of two.
    """
    names = {tensor.name for cell in cells for tensor in cell.tensors.values()}
    alone = len(cells) == 1 and sum(
        cell.number == cells[0].number for cell in _numbered(torch_layer)) > 1
    layer = _direction(torch_layer, cells[0]) if alone else f"{torch_layer.name}.l{cells[0].number}"
    return replace(torch_layer, name=layer,
                   tensors=tuple(tensor for tensor in torch_layer.tensors if tensor.name in names))


def _direction(torch_layer: TorchLayer, cell: Cell) -> str:
    return f"{torch_layer.name}.l{cell.number}_{'reverse' if cell.reverse else 'forward'}"
