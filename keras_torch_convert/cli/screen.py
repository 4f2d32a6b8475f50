"""What the commands print: colors and tables on a terminal, plain text in a pipe, JSON on request.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from ..report.layer_table import LayerTable
from ..report.report import Report, as_plain
from ..report.terminal import Line, Style, in_color, is_terminal, terminal_width, wrapped


def say(text: str = "", style: Style = "") -> None:
    """Print a text, on a terminal in a style."""
    show([Line(text, style)])


def show(lines: Iterable[Line]) -> None:
    """Print lines; on a terminal they are wrapped between words."""
    if is_terminal():
        lines = [
            Line(part, style) for text, style in lines
            for part in wrapped(text, terminal_width()) or [""]
        ]
    print(in_color(lines))


def show_report(report: Report, html: Path | None, as_json: bool,
                lines: Iterable[Line] | None = None) -> None:
    """Print a report, or some lines in its place, or its JSON; write its page where asked for."""
    if html is not None:
        report.to_html(html)
    if as_json:
        show_json(report.to_dict())
    else:
        show(report.lines() if lines is None else lines)


def show_json(data: Any) -> None:
    """Print plain data as JSON with sorted keys."""
    text = json.dumps(as_plain(data), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # A file's name may hold bytes that are no text.
    print(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]],
               right: Sequence[int] = ()) -> None:
    """Print a table: on a terminal its cells are folded to fit, in a pipe nothing is.

    Columns in `right` are aligned right.
    """
    table = [[text.splitlines() or [""] for text in row] for row in (header, *rows)]
    widths = [
        max(len(line) for lines in column for line in lines) for column in zip(*table, strict=True)
    ]
    while is_terminal() and sum(widths) + 2 * len(widths) > terminal_width() and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    for number, row in enumerate(table):
        folded = [[part for line in lines for part in textwrap.wrap(line, width) or [""]]
                  for lines, width in zip(row, widths, strict=True)]
        for cells in zip_longest(*folded, fillvalue=""):
            texts = [
                text.rjust(width) if column in right else text.ljust(width)
                for column, (text, width) in enumerate(zip(cells, widths, strict=True))
            ]
            say("  ".join(texts).rstrip(), "" if number else "title")


def show_layer_table(table: LayerTable, *, tensors: bool = False, paged: bool = False) -> None:
    """Print both lists side by side, as wide as the terminal, a long one page by page."""
    lines = table.lines(terminal_width() - is_terminal(), tensors=tensors)
    if paged and sys.stdout.isatty() and len(lines) > shutil.get_terminal_size().lines:
        # Quit if it fits, keep colors, leave the text on the screen: as git sets its pager.
        os.environ.setdefault("LESS", "FRX")
        click.echo_via_pager(f"{in_color(lines)}\n", color=True)
    else:
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
    shown = sys.stderr.isatty()
    if shown:
        print(f"{text} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
