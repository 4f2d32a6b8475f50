"""What the commands print: colors and tables on a terminal, plain text in a pipe, JSON on request.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from ..report.layer_table import LayerTable
from ..report.report import as_plain
from ..report.terminal import Line, Style, in_color, is_terminal, terminal_width, wrapped

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str = "", style: Style = "") -> None:
    """Print a text, on a terminal in a style."""
    show([Line(text, style)])


def show(lines: Iterable[Line]) -> None:
    """Print lines; on a terminal they are wrapped between words."""
    if is_terminal():
        width = terminal_width()
        lines = [
            Line(part, style) for text, style in lines
            for part in (wrapped(text, width) if len(text) > width else [text])
        ]
    print(in_color(lines))


def show_json(data: Any) -> None:
    """Print plain data as JSON with sorted keys."""
    print(json.dumps(as_plain(data), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False))


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]],
               right: Sequence[int] = ()) -> None:
    """Print a table: fitted to the terminal, in a pipe a line for each row and nothing cut off.

    Columns in `right` are aligned right.
    """
    if not is_terminal():
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            texts = [
                text.rjust(width) if column in right else text.ljust(width)
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            ]
            print("  ".join(texts).rstrip())
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, title in enumerate(header):
        table.add_column(title, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    _console().print(table)


def _console() -> Console:
    """Return standard output as rich writes to it, which is imported for a terminal only."""
    from rich.console import Console

    return Console(highlight=False)


def show_layer_table(table: LayerTable, *, tensors: bool = False) -> None:
    """Print both lists side by side, as wide as the terminal."""
    lines = table.lines(terminal_width() - is_terminal(), tensors=tensors)
    print(in_color(lines))


def note(text: str) -> None:
    """Print something on stderr, beside the result."""
    print(text, file=sys.stderr)


@contextmanager
def chatter_on_stderr() -> Iterator[None]:
    """Send what models and frameworks print to stderr: standard output has the result alone."""
    with redirect_stdout(sys.stderr):
        yield


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show on a terminal that something is being done; gone when it is over."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{text} ..."):
        yield
