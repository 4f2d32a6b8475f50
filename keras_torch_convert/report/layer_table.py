"""The two lists that a user aligns by: torch layers beside Keras layers, row by row, the first
mismatch marked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, zip_longest
from typing import Any

from ..spec.layer_groups import TorchLayer, last_part
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer, TargetVariable
from ..spec.tensor_spec import Shape
from ..util.text import shorten, shorten_middle
from . import html_parts
from .terminal import Line, Style, in_color, terminal_width, wrapped

# Says why a torch layer and a Keras layer cannot belong together, "" when they can.
Fit = Callable[[TorchLayer, TargetLayer], str]

# Narrower than this no row can be read; wider windows than needed are not filled.
NARROWEST = 60
SHORTEST_NAME = 9
SHORTEST_SHAPES = 12
NOTEBOOK_ROWS = 150
# The first mismatch is shown once more at the end when so many rows stand behind it.
REPEATED_BEHIND = 15

NAME_COLUMNS, SHAPE_COLUMNS, SIZE_COLUMNS = (1, 4), (2, 5), (3, 6)
NUMBER_COLUMNS = (0, *SIZE_COLUMNS)


@dataclass(frozen=True, slots=True)
class Cell:
    """One side of a row: the layer's name, and the shapes and names of its arrays."""

    name: str
    shapes: tuple[Shape, ...]
    arrays: tuple[str, ...]

    @classmethod
    def of(cls, name: str, arrays: Sequence[SourceTensor | TargetVariable]) -> Cell:
        """Return the cell of a layer."""
        shapes = tuple(tuple(map(int, array.shape)) for array in arrays)
        return cls(name, shapes, tuple(last_part(array.name) for array in arrays))

    @property
    def parameters(self) -> int:
        """Number of elements of all arrays."""
        return sum(map(math.prod, self.shapes))

    @property
    def shapes_text(self) -> str:
        """The shapes as (64,3,7,7) (64), four equal ones in a row as 4x(64)."""
        runs = [(shape, len(list(run))) for shape, run in groupby(self.shapes)]
        return " ".join(f"{count}x{_shape_text(shape)}" if count > 1 else _shape_text(shape)
                        for shape, count in runs)

    def texts(self, indent: str = "") -> list[str]:
        """Return name, shapes and number of parameters."""
        name, shapes = self.name or ", ".join(self.arrays), self.shapes_text
        return [indent + name, indent + shapes, f"{self.parameters:,}"]

    def array_texts(self) -> list[list[str]]:
        """Return name, shape and number of elements of every array."""
        return [[f"  {name}", f"  {_shape_text(shape)}", f"{math.prod(shape):,}"]
                for name, shape in zip(self.arrays, self.shapes, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Return the cell as plain data."""
        shapes = list(map(list, self.shapes))
        return {
            "name": self.name, "shapes": shapes, "arrays": list(self.arrays),
            "parameters": self.parameters
        }


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
        return f"{text}; Keras: {_counts([row.keras for row in rows])}; {self.fit_text()}"

    def fit_text(self) -> str:
        """Return how many rows do not fit."""
        if not self.mismatches:
            return "every row fits"
        rows = sum(row.position is not None for row in self.rows)
        return f"{self.mismatches} of {rows} rows do not fit"

    def __str__(self) -> str:
        """Return the lists as text, as wide as the terminal."""
        return self.text(terminal_width())

    def __repr__(self) -> str:
        """Return what an interactive session shows: the same in color."""
        return in_color(self.lines(terminal_width()))

    def text(self, width: int, *, tensors: bool = False) -> str:
        """Return the lists as text of at most `width` columns (60 at least), see `lines`."""
        return "\n".join(line.text for line in self.lines(width, tensors=tensors))

    def lines(self, width: int, *, tensors: bool = False) -> list[Line]:
        """Return the lists as styled lines of at most `width` columns (60 at least).

        Where all columns are too wide, the sizes are left out, then shapes lose their end, then
        they are left out too. Only names that are too long even so lose their middle. The first row
        that does not fit is explained where it stands, and once more at the end. `tensors` adds a
        line for each tensor.
        """
        width = max(width, NARROWEST)
        table = [list(self._row_cells(row, tensors)) for row in self.rows]
        layout = _Layout.of([self.header, *chain.from_iterable(table)], width)
        rule = Line("-" * min(width, layout.width))
        lines = [Line(layout.line(self.header), "title"), rule]
        explained: list[Line] = []
        for row, group in zip(self.rows, table, strict=True):
            style: Style = "mismatch" if row.mismatch else ""
            lines += [Line(layout.line(cells, "!" if style else " "), style) for cells in group]
            if row.mismatch and not explained:
                reason = wrapped(f"    <- first misalignment: {row.mismatch}", width)
                explained = [lines[-len(group)], *(Line(text, "bad") for text in reason)]
                lines += explained[1:]
                shown_at = len(lines)
        style = "bad" if explained else ""
        totals = [Line(text, style) for text in wrapped(self.totals(), width)]
        again = [*explained, rule] if explained and len(lines) - shown_at > REPEATED_BEHIND else []
        return [*lines, rule, *again, *totals]

    def _row_cells(self, row: Row, tensors: bool) -> Iterator[list[str]]:
        """Yield the texts of a row, and of each of its tensors when these are asked for."""
        yield self.cells(row)
        sides = [side.array_texts() if side else [] for side in (row.torch, row.keras)]
        for left, right in zip_longest(*sides, fillvalue=["", "", ""]) if tensors else ():
            yield ["", *left, *(right if self.has_keras else ())]

    def to_list(self) -> list[dict[str, Any]]:
        """Return the rows as plain data."""
        return [{
            "position": row.position, "torch": row.torch and row.torch.to_dict(),
            "keras": row.keras and row.keras.to_dict(), "mismatch": row.mismatch
        } for row in self.rows]

    def _repr_html_(self) -> str:
        first, rows = self.first_mismatch, [html_parts.row("th", self.header, NUMBER_COLUMNS)]
        last = -1
        for number in self._notebook_rows():
            row = self.rows[number]
            if number > last + 1:
                left_out = f"{number - last - 1:,} rows: print this table to see them all"
                rows.append(html_parts.note_row("\u22ee", left_out, len(self.header)))
            tint = html_parts.BAD if row.mismatch else ""
            rows.append(html_parts.row("td", self.cells(row), NUMBER_COLUMNS, tint))
            if row is first:
                reason = html_parts.note_row("\u2191 first misalignment:", row.mismatch,
                                             len(self.header))
                rows.append(reason)
            last = number
        return html_parts.table((), rows) + html_parts.text_line(self.totals())

    def _notebook_rows(self) -> list[int]:
        """Return the numbers of the rows that a notebook shows: both ends, and the first mismatch.
        """
        count, first = len(self.rows), self.first_mismatch
        if count <= NOTEBOOK_ROWS:
            return list(range(count))
        middle = count if first is None else self.rows.index(first)
        return [
            number for number in range(count)
            if number < NOTEBOOK_ROWS // 2 or number >= count - 20 or abs(number - middle) <= 10
        ]


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
                Row(position, Cell.of(layer.name, layer.tensors), None)
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
        left = None if torch_layer is None else Cell.of(torch_layer.name, torch_layer.tensors)
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
                f"'{torch_layer.name if torch_layer else ''}'")
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
    left = Cell.of(torch_layer.name, torch_layer.tensors)
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


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns that are shown, and their widths."""

    widths: Mapping[int, int]

    @classmethod
    def of(cls, table: Sequence[Sequence[str]], width: int) -> _Layout:
        """Return the layout in which the table fits into a width, or comes close to it."""
        full = {
            column: max(map(len, texts)) for column, texts in enumerate(zip(*table, strict=True))
        }
        found = cls(full)
        without_sizes = {column: full[column] for column in full if column not in SIZE_COLUMNS}
        names = {column: full[column] for column in without_sizes if column not in SHAPE_COLUMNS}
        for widths, shrinkable, least in ((full, (), 0), (without_sizes, SHAPE_COLUMNS,
                                                          SHORTEST_SHAPES), (names, NAME_COLUMNS,
                                                                             SHORTEST_NAME)):
            found = cls(_shrunk(widths, shrinkable, least, width))
            if found.width <= width:
                break
        return found

    @property
    def width(self) -> int:
        """Width of a line."""
        return _line_width(self.widths)

    def line(self, cells: Sequence[str], mark: str = " ") -> str:
        """Return one line of the table."""
        sides: tuple[list[str], list[str]] = ([], [])
        for column, width in self.widths.items():
            text = cells[column]
            if column in NUMBER_COLUMNS:
                text = text.rjust(width)
            else:
                cut = shorten_middle if column in NAME_COLUMNS else shorten
                text = cut(text, width).ljust(width)
            sides[column > 3].append(text)
        return f"{mark} {'  | '.join('  '.join(side) for side in sides if side)}".rstrip()


def _line_width(widths: Mapping[int, int]) -> int:
    """Return the width of a line: a mark and a space, the texts, two spaces between, and a bar."""
    return 2 + sum(widths.values()) + 2 * (len(widths) - 1) + (2 if max(widths) > 3 else 0)


def _shrunk(widths: Mapping[int, int], columns: Collection[int], least: int,
            width: int) -> dict[int, int]:
    """Return widths of which the widest of some columns give way until a line fits."""
    shrunk = dict(widths)
    while _line_width(shrunk) > width:
        wide = [column for column in columns if shrunk.get(column, 0) > least]
        if not wide:
            break
        shrunk[max(wide, key=shrunk.__getitem__)] -= 1
    return shrunk


def _shape_text(shape: Shape) -> str:
    return f"({','.join(map(str, shape))})"
