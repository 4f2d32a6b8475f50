"""The two lists that a user aligns by: torch layers beside Keras layers, row by row, the first
mismatch marked.
"""

from __future__ import annotations

import math
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..spec.layer_groups import TorchLayer
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer, TargetVariable
from ..spec.tensor_spec import Shape
from ..util.text import shorten, shorten_middle
from . import html_parts

# Says why a torch layer and a Keras layer cannot belong together, "" when they can.
Fit = Callable[[TorchLayer, TargetLayer], str]

# Narrower than this no row can be read; wider windows than needed are not filled.
NARROWEST = 60
WIDTH_WITHOUT_TERMINAL = 140
SHORTEST_NAME = 9
SHORTEST_SHAPES = 6

NAME_COLUMNS, SHAPE_COLUMNS, NUMBER_COLUMNS = (1, 4), (2, 5), (0, 3, 6)


@dataclass(frozen=True, slots=True)
class Cell:
    """One side of a row: the layer's name and the shapes of its arrays."""

    name: str
    shapes: tuple[Shape, ...]

    @classmethod
    def of(cls, name: str, arrays: Iterable[SourceTensor | TargetVariable]) -> Cell:
        """Return the cell of a layer."""
        return cls(name, tuple(tuple(map(int, array.shape)) for array in arrays))

    @property
    def parameters(self) -> int:
        """Number of elements of all arrays."""
        return sum(map(math.prod, self.shapes))

    @property
    def shapes_text(self) -> str:
        """The shapes as (64,3,7,7) (64), four equal ones in a row as 4x(64)."""
        runs = [(shape, len(list(run))) for shape, run in groupby(self.shapes)]
        return " ".join(f"{f'{count}x' if count > 1 else ''}({','.join(map(str, shape))})"
                        for shape, count in runs)

    def texts(self, indent: str = "") -> list[str]:
        """Return name, shapes and number of parameters."""
        return [indent + (self.name or "(none)"), indent + self.shapes_text, f"{self.parameters:,}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the cell as plain data."""
        shapes = list(map(list, self.shapes))
        return {"name": self.name, "shapes": shapes, "parameters": self.parameters}


@dataclass(frozen=True, slots=True)
class Row:
    """A torch layer beside the Keras layer at the same position.

    `position` is None for the leaf layers of a nested layer, which are shown under it and have
    none. `mismatch` says why the two cannot belong together, "" when their shapes fit.
    """

    position: int | None
    torch: Cell | None
    keras: Cell | None
    mismatch: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class LayerTable:
    """Both lists side by side, as text and in a notebook.

    Attributes:
        rows: One Row for each position, and one for each leaf layer of a nested Keras layer.
        has_keras: False without a Keras model: then the torch side stands alone.
    """

    rows: tuple[Row, ...]
    has_keras: bool = True

    @property
    def first_mismatch(self) -> Row | None:
        """The first row whose two layers cannot belong together, None when all fit."""
        return next((row for row in self.rows if row.mismatch), None)

    @property
    def mismatches(self) -> int:
        """Number of rows whose two layers cannot belong together."""
        return sum(bool(row.mismatch) for row in self.rows)

    @property
    def header(self) -> list[str]:
        """Titles of the columns."""
        sides = ("torch", "Keras") if self.has_keras else ("torch",)
        return ["", *(text for side in sides for text in (f"{side} layer", "shapes", "size"))]

    def cells(self, row: Row) -> list[str]:
        """Return a row's texts, column by column; nested layers are indented."""
        nested = "  " if row.position is None else ""
        torch = row.torch.texts() if row.torch else ["", "", ""]
        keras = row.keras.texts(nested) if row.keras else ["", "", ""]
        position = "" if row.position is None else str(row.position)
        return [position, *torch, *(keras if self.has_keras else ())]

    def totals(self) -> str:
        """Return layers, arrays and parameters of either side, and how many rows do not fit."""
        rows = [row for row in self.rows if row.position is not None]
        text = f"torch: {_counts([row.torch for row in rows])}"
        if not self.has_keras:
            return text
        fit = f"{self.mismatches} of {len(rows)} rows do not fit"
        return (f"{text}; Keras: {_counts([row.keras for row in rows])}; "
                f"{fit if self.mismatches else 'every row fits'}")

    def __str__(self) -> str:
        """Return the lists as text, as wide as the terminal."""
        return self.text(shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns)

    __repr__ = __str__

    def text(self, width: int) -> str:
        """Return the lists as text of at most `width` columns (60 at least).

        Long names lose their middle, shapes their end.
        """
        width = max(width, NARROWEST)
        table = [self.cells(row) for row in self.rows]
        widths = _column_widths([self.header, *table], width)
        rule = "-" * min(width, _line_width(widths))
        lines = [_line(self.header, widths, " "), rule]
        first = self.first_mismatch
        for row, cells in zip(self.rows, table, strict=True):
            lines.append(_line(cells, widths, "!" if row.mismatch else " "))
            if row is first:
                lines += _wrapped(f"<- first misalignment: {row.mismatch}", width, indent=4)
        return "\n".join([*lines, rule, *_wrapped(self.totals(), width)])

    def to_list(self) -> list[dict[str, Any]]:
        """Return the rows as plain data."""
        return [{
            "position": row.position, "torch": row.torch and row.torch.to_dict(),
            "keras": row.keras and row.keras.to_dict(), "mismatch": row.mismatch
        } for row in self.rows]

    def _repr_html_(self) -> str:
        first, rows = self.first_mismatch, [html_parts.row("th", self.header, NUMBER_COLUMNS)]
        for row in self.rows:
            rows.append(
                html_parts.row("td", self.cells(row), NUMBER_COLUMNS,
                               html_parts.BAD if row.mismatch else ""))
            if row is first:
                rows.append(
                    html_parts.note_row("\u2191 first misalignment:", row.mismatch,
                                        len(self.header)))
        return html_parts.table((), rows) + html_parts.text_line(self.totals())


def side_by_side(torch_layers: Sequence[TorchLayer],
                 keras_layers: Sequence[TargetLayer] | None = None,
                 names: Sequence[str] | None = None, *, by_callback: Collection[str] = (),
                 fit: Fit | None = None) -> LayerTable:
    """Put torch layers beside Keras layers.

    Args:
        torch_layers: In the order in which they are paired.
        keras_layers: The layers of the Keras model; None lists the torch side alone.
        names: The aligned names of the Keras layers, by default the layers' own order.
        by_callback: Names of Keras layers that are taken to fit, since a callback may make
            anything of the arrays.
        fit: Says why two layers cannot belong together, "" when they can; by default the shapes
            decide, see `shape_mismatch`.

    Returns:
        The table.
    """
    if keras_layers is None:
        return LayerTable(
            tuple(
                Row(position, Cell.of(layer.layer, layer.tensors), None)
                for position, layer in enumerate(torch_layers)), has_keras=False)
    by_name = {layer.name: layer for layer in keras_layers}
    names = list(by_name) if names is None else list(names)
    rows: list[Row] = []
    for position in range(max(len(torch_layers), len(names))):
        torch_layer = torch_layers[position] if position < len(torch_layers) else None
        name = names[position] if position < len(names) else None
        layer = by_name.get(name) if name is not None else None
        if torch_layer is None or layer is None:
            mismatch = _missing_side(torch_layer, name, layer)
        else:
            mismatch = "" if name in by_callback else (fit or shape_mismatch)(torch_layer, layer)
        left = None if torch_layer is None else Cell.of(torch_layer.layer, torch_layer.tensors)
        right = None if name is None else Cell.of(name, layer.variables if layer else ())
        rows.append(Row(position, left, right, mismatch))
        for child in layer.children if layer is not None else ():
            rows.append(Row(None, None, Cell.of(child.name, child.variables)))
    return LayerTable(tuple(rows))


def _missing_side(torch_layer: TorchLayer | None, name: str | None,
                  layer: TargetLayer | None) -> str:
    """Return what is missing in a row that lacks a torch layer or a Keras layer."""
    if name is None:
        return ("the Keras layers are used up: none is left for the torch layer "
                f"'{torch_layer.layer if torch_layer else ''}'")
    if layer is None:
        return (f"there is no Keras layer with weights named '{name}'"
                if name else "no Keras layer is named for this place")
    return f"the torch layers are used up: none is left for the Keras layer '{name}'"


def shape_mismatch(torch_layer: TorchLayer, layer: TargetLayer) -> str:
    """Say why no transpose makes the torch layer's shapes those of the Keras layer, "" if one may.

    Both sides must hold equally many arrays of the same extents, in any order, axes of size 1
    aside. A depthwise kernel is the exception: PyTorch merges channels and multiplier, (channels x
    multiplier, 1, ...), where Keras keeps two axes.
    """
    left = Cell.of(torch_layer.layer, torch_layer.tensors)
    right = Cell.of(layer.name, layer.variables)
    if Counter(map(_extents, left.shapes)) == Counter(map(_extents, right.shapes)):
        return ""
    merged = any("Depthwise" in name or "Separable" in name for name in layer.class_names)
    if merged and Counter(map(math.prod, left.shapes)) == Counter(map(math.prod, right.shapes)):
        return ""
    counts = len(left.shapes), len(right.shapes)
    count = "" if counts[0] == counts[1] else f": number of arrays {counts[0]} against {counts[1]}"
    return (f"torch '{left.name}' {left.shapes_text} cannot fit Keras '{right.name}' "
            f"{right.shapes_text}{count}")


def _extents(shape: Shape) -> Shape:
    """Return what no transpose changes: the extents in order, without those of size 1."""
    return tuple(sorted(extent for extent in shape if extent != 1))


def _counts(cells: Iterable[Cell | None]) -> str:
    """Return the number of layers, arrays and parameters in words."""
    found = [cell for cell in cells if cell is not None]
    arrays = sum(len(cell.shapes) for cell in found)
    parameters = sum(cell.parameters for cell in found)
    return f"{len(found):,} layers, {arrays:,} arrays, {parameters:,} parameters"


def _column_widths(table: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return widths that hold every text, or as much as fits.

    The widest column of names or shapes gives way first.
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    shortest = dict.fromkeys(NAME_COLUMNS, SHORTEST_NAME)
    shortest |= dict.fromkeys(SHAPE_COLUMNS, SHORTEST_SHAPES)
    while _line_width(widths) > width:
        shrinkable = [
            column
            for column, least in shortest.items() if column < len(widths) and widths[column] > least
        ]
        if not shrinkable:
            break
        widths[max(shrinkable, key=widths.__getitem__)] -= 1
    return widths


def _line_width(widths: Sequence[int]) -> int:
    """Return the width of a line: a mark and a space, the texts, two spaces between, and a bar."""
    return 2 + sum(widths) + 2 * (len(widths) - 1) + (2 if len(widths) > 4 else 0)


def _line(cells: Sequence[str], widths: Sequence[int], mark: str) -> str:
    texts = []
    for column, (text, width) in enumerate(zip(cells, widths, strict=True)):
        if column in NUMBER_COLUMNS:
            texts.append(text.rjust(width))
        else:
            cut = shorten_middle if column in NAME_COLUMNS else shorten
            texts.append(cut(text, width).ljust(width))
    keras = "  | " + "  ".join(texts[4:]) if len(texts) > 4 else ""
    return f"{mark} {'  '.join(texts[:4])}{keras}".rstrip()


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """Return a sentence in lines; names are not broken."""
    following = " " * (indent + 3 if indent else 0)
    return textwrap.wrap(text, width, initial_indent=" " * indent, subsequent_indent=following,
                         break_long_words=False, break_on_hyphens=False)
