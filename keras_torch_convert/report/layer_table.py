"""The two lists that a user aligns by: torch layers beside Keras layers, row by row, the first
misfit marked.
"""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

Shape = tuple[int, ...]


class HasShape(Protocol):
    """A tensor or variable, as far as a listing is concerned."""
    @property
    def shape(self) -> Shape:
        """Extents of the axes."""


class TorchRow(Protocol):
    """A torch layer: its name and its tensors in order, as collected."""
    @property
    def layer(self) -> str:
        """Name of the layer."""

    @property
    def tensors(self) -> Sequence[HasShape]:
        """Its tensors."""


class KerasRow(Protocol):
    """A Keras layer: its name, class names, variables in order, and the leaf layers inside it."""
    @property
    def name(self) -> str:
        """Name of the layer."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names along the method resolution order."""

    @property
    def variables(self) -> Sequence[HasShape]:
        """Its weights."""

    @property
    def children(self) -> Sequence[KerasRow]:
        """Leaf layers inside, empty for a layer that owns its weights itself."""


# The two layers are those of the caller: whatever has the attributes of TorchLayer and KerasLayer.
Fit = Callable[[Any, Any], str]

# Narrower than this no row can be read; wider windows than needed are not filled.
NARROWEST = 60
WIDTH_WITHOUT_TERMINAL = 140
SHORTEST_NAME = 9
SHORTEST_SHAPES = 6

SIDE_HEADER = {side: (f"{side} layer", "shapes", "size") for side in ("torch", "Keras")}


@dataclass(frozen=True, slots=True)
class Cell:
    """One side of a row: the layer's name, the shapes of its arrays, their number of elements."""

    name: str
    shapes: tuple[Shape, ...]

    @property
    def parameters(self) -> int:
        """Number of elements of all arrays."""
        return sum(size_of(shape) for shape in self.shapes)

    @property
    def shapes_text(self) -> str:
        """The shapes as (64,3,7,7) (64), four equal ones in a row as 4x(64)."""
        runs = [(shape, len(list(run))) for shape, run in groupby(self.shapes)]
        return " ".join(f"{f'{count}x' if count > 1 else ''}({','.join(map(str, shape))})"
                        for shape, count in runs)


@dataclass(frozen=True, slots=True)
class Row:
    """A torch layer beside the Keras layer at the same place.

    `place` is None for the leaf layers of a nested layer, which are shown under it and are no
    places. `mismatch` says why the two cannot belong together, "" when their shapes fit.
    """

    position: int | None
    torch: Cell | None
    keras: Cell | None
    mismatch: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class LayerTable:
    """Both lists side by side, as text and in a notebook. `keras_listed` is False without a Keras
    model.
    """

    rows: tuple[Row, ...]
    keras_listed: bool = True

    @property
    def first_misfit(self) -> Row | None:
        """The first row whose two layers cannot belong together, None when all fit."""
        return next((row for row in self.rows if row.mismatch), None)

    @property
    def header(self) -> list[str]:
        """Titles of the columns."""
        return ["", *SIDE_HEADER["torch"], *(SIDE_HEADER["Keras"] if self.keras_listed else ())]

    @property
    def misfits(self) -> int:
        """Number of rows whose two layers cannot belong together."""
        return sum(bool(row.mismatch) for row in self.rows)

    def totals(self) -> str:
        """Layers, arrays and parameters of either side, and how many rows do not fit."""
        torch_side = [row.torch for row in self.rows if row.torch and row.position is not None]
        keras_side = [row.keras for row in self.rows if row.keras and row.position is not None]
        text = f"torch: {counts(torch_side)}"
        if self.keras_listed:
            text += f"; Keras: {counts(keras_side)}; "
            text += (
                f"{self.misfits} of "
                f"{len([row for row in self.rows if row.position is not None])} rows do not fit"
                if self.misfits else "every row fits")
        return text

    def __str__(self) -> str:
        """The lists as text, as wide as the terminal."""
        return self.text(shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns)

    def __repr__(self) -> str:
        """The same: what an interactive session shows for the value of a call."""
        return str(self)

    def text(self, width: int) -> str:
        """The lists as text of at most `width` columns (60 at least): long names lose their middle,
        shapes their end.
        """
        width = max(width, NARROWEST)
        table = [cells_of(row, self.keras_listed) for row in self.rows]
        header = self.header
        widths = column_widths([header, *table], width)
        lines = [join_cells(header, widths, " "), "-" * min(width, line_width(widths))]
        first = self.first_misfit
        for row, cells in zip(self.rows, table, strict=True):
            lines.append(join_cells(cells, widths, "!" if row.mismatch else " "))
            if row is first:
                lines += wrapped(f"<- first misalignment: {row.mismatch}", width, indent=4)
        lines.append("-" * min(width, line_width(widths)))
        lines += wrapped(self.totals(), width)
        return "\n".join(lines)

    def to_list(self) -> list[dict[str, Any]]:
        """The rows as plain data."""
        return [{
            "place": row.position, "torch": plain(row.torch), "keras": plain(row.keras),
            "misfit": row.mismatch
        } for row in self.rows]

    def _repr_html_(self) -> str:
        from .notebook import listing_html

        return listing_html(self)


def side_by_side(stacks: Sequence[TorchRow], keras_layers: Sequence[KerasRow] | None = None,
                 names: Sequence[str] | None = None, *, by_callback: Collection[str] = (),
                 fit: Fit | None = None) -> LayerTable:
    """Torch layers beside Keras layers.

    `stacks` are in the order in which they are paired; `names` are the aligned names of the Keras
    layers, by default the layers' own order; None for `keras_layers` lists the torch side alone.
    Layers whose name is in `by_callback` are taken to fit, since a callback may make anything of
    the arrays. `fit` says why two layers cannot belong together, "" when they can; by default the
    shapes decide, see `shape_misfit`.
    """
    if keras_layers is None:
        return LayerTable(
            tuple(Row(place, torch_cell(stack), None) for place, stack in enumerate(stacks)),
            keras_listed=False)
    by_name = {layer.name: layer for layer in keras_layers}
    names = [layer.name for layer in keras_layers] if names is None else list(names)
    check = fit or shape_misfit
    rows: list[Row] = []
    for place in range(max(len(stacks), len(names))):
        stack = stacks[place] if place < len(stacks) else None
        name = names[place] if place < len(names) else None
        layer = by_name.get(name) if name is not None else None
        mismatch = misfit_of(stack, name, layer, by_callback, check)
        keras = None if name is None else Cell(
            name,
            shapes_of(layer.variables) if layer is not None else ())
        rows.append(Row(place, None if stack is None else torch_cell(stack), keras, mismatch))
        if layer is not None:
            rows += [
                Row(None, None, Cell(child.name, shapes_of(child.variables)))
                for child in layer.children
            ]
    return LayerTable(tuple(rows))


def misfit_of(stack: TorchRow | None, name: str | None, layer: KerasRow | None,
              by_callback: Collection[str], check: Fit) -> str:
    """Why the two sides of a row cannot belong together, "" when they can."""
    if name is None:
        return ("the Keras layers are used up: none is left for the torch layer "
                f"'{stack.layer if stack else ''}'")
    if layer is None:
        return (f"there is no Keras layer with weights named '{name}'"
                if name else "no Keras layer is named for this place")
    if stack is None:
        return f"the torch layers are used up: none is left for the Keras layer '{name}'"
    return "" if name in by_callback else check(stack, layer)


def shape_misfit(stack: TorchRow, layer: KerasRow) -> str:
    """Why no reordering of axes brings the torch layer's arrays to the Keras layer's shapes, ""
    when one may.

    Both sides must hold equally many arrays of the same extents, in any order, axes of size 1
    aside. A depthwise kernel is the exception: PyTorch merges channels and multiplier, (channels x
    multiplier, 1, ...), where Keras keeps two axes.
    """
    tensors, variables = shapes_of(stack.tensors), shapes_of(layer.variables)
    if Counter(map(extents, tensors)) == Counter(map(extents, variables)):
        return ""
    merged = any("Depthwise" in kind or "Separable" in kind for kind in layer.class_names)
    if merged and Counter(map(size_of, tensors)) == Counter(map(size_of, variables)):
        return ""
    left, right = Cell(stack.layer, tensors), Cell(layer.name, variables)
    count = "" if len(tensors) == len(
        variables) else f": number of arrays {len(tensors)} against {len(variables)}"
    return (f"torch '{left.name}' {left.shapes_text} cannot fit Keras '{right.name}' "
            f"{right.shapes_text}{count}")


def extents(shape: Shape) -> Shape:
    """The extents of a shape in ascending order, without those of size 1: what no transpose
    changes.
    """
    return tuple(sorted(extent for extent in shape if extent != 1))


def size_of(shape: Shape) -> int:
    """Number of elements."""
    size = 1
    for extent in shape:
        size *= extent
    return size


def shapes_of(arrays: Sequence[HasShape]) -> tuple[Shape, ...]:
    """The shapes as plain tuples."""
    return tuple(tuple(int(extent) for extent in array.shape) for array in arrays)


def torch_cell(stack: TorchRow) -> Cell:
    """The torch side of a row."""
    return Cell(stack.layer, shapes_of(stack.tensors))


def counts(cells: Sequence[Cell]) -> str:
    """Layers, arrays and parameters in words."""
    arrays, parameters = sum(len(cell.shapes) for cell in cells), sum(
        cell.parameters for cell in cells)
    return f"{len(cells):,} layers, {arrays:,} arrays, {parameters:,} parameters"


def plain(cell: Cell | None) -> Mapping[str, Any] | None:
    """One side of a row as plain data."""
    if cell is None:
        return None
    return {
        "name": cell.name, "shapes": [list(shape) for shape in cell.shapes],
        "parameters": cell.parameters
    }


def cells_of(row: Row, keras_listed: bool) -> list[str]:
    """A row's texts, column by column."""
    place = "" if row.position is None else str(row.position)
    cells = [place, *texts_of(row.torch, nested=False)]
    return cells + texts_of(row.keras, nested=row.position is None) if keras_listed else cells


def texts_of(cell: Cell | None, *, nested: bool) -> list[str]:
    """Name, shapes and number of parameters; nested layers are indented."""
    if cell is None:
        return ["", "", ""]
    indent = "  " if nested else ""
    return [indent + (cell.name or "(none)"), indent + cell.shapes_text, f"{cell.parameters:,}"]


NAME_COLUMNS, SHAPE_COLUMNS, NUMBER_COLUMNS = (1, 4), (2, 5), (0, 3, 6)


def column_widths(table: Sequence[Sequence[str]], width: int) -> list[int]:
    """Widths that hold every text, or as much as fits: the widest name or shape column gives way
    first.
    """
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    shortest = dict.fromkeys(NAME_COLUMNS, SHORTEST_NAME) | dict.fromkeys(
        SHAPE_COLUMNS, SHORTEST_SHAPES)
    while line_width(widths) > width:
        shrinkable = [
            column
            for column in shortest if column < len(widths) and widths[column] > shortest[column]
        ]
        if not shrinkable:
            break
        widths[max(shrinkable, key=widths.__getitem__)] -= 1
    return widths


def line_width(widths: Sequence[int]) -> int:
    """Columns that a line takes: the mark and a space, the texts, two spaces between, and a bar
    before the Keras side.
    """
    return 2 + sum(widths) + 2 * (len(widths) - 1) + (2 if len(widths) > 4 else 0)


def join_cells(cells: Sequence[str], widths: Sequence[int], mark: str) -> str:
    """One line of text."""
    texts = []
    for column, (text, width) in enumerate(zip(cells, widths, strict=True)):
        if column in NUMBER_COLUMNS:
            texts.append(text.rjust(width))
        elif column in NAME_COLUMNS:
            texts.append(cut_middle(text, width).ljust(width))
        else:
            texts.append(cut_end(text, width).ljust(width))
    line = "  ".join(texts[:4])
    if len(texts) > 4:
        line += "  | " + "  ".join(texts[4:])
    return f"{mark} {line}".rstrip()


def wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """A sentence in lines; names are not broken."""
    return textwrap.wrap(text, width, initial_indent=" " * indent, subsequent_indent=" " *
                         (indent + 3 if indent else 0), break_long_words=False,
                         break_on_hyphens=False)


def cut_middle(text: str, width: int) -> str:
    """A text that is too long without its middle: layer names differ at both ends."""
    if len(text) <= width:
        return text
    kept = width - 3
    return f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"


def cut_end(text: str, width: int) -> str:
    """A text that is too long without its end."""
    return text if len(text) <= width else f"{text[: width - 3]}..."
