"""What the commands print: colors and tables on a terminal, plain text in a pipe, JSON when asked
for.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from ..report.layer_table import LayerTable
from ..report.report import Report, as_plain

if TYPE_CHECKING:
    from rich.console import Console

GOOD, BAD, ODD = "green", "bold red", "yellow"


def is_terminal() -> bool:
    """True when a person reads what is printed; FORCE_COLOR says so of a pipe as well."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def console() -> Console:
    """Standard output as rich sees it, which minds NO_COLOR and the width of the terminal. rich is
    imported for a terminal only.
    """
    from rich.console import Console

    return Console(highlight=False)


def say(text: str = "", style: str = "") -> None:
    """Print a text, on a terminal in a style."""
    if style and is_terminal():
        console().print(text, style=style, markup=False)
    else:
        print(text)


def show_json(data: Any) -> None:
    """Print plain data as JSON with sorted keys."""
    print(json.dumps(as_plain(data), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False))


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]],
               right: Sequence[int] = ()) -> None:
    """A table: fitted to the terminal, or in a pipe a line for each row and nothing cut off.
    Columns in `right` are aligned right.
    """
    if not is_terminal():
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        for row in (header, *rows):
            texts = [
                text.rjust(width) if column in right else text.ljust(width)
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            ]
            print("  ".join(texts).rstrip())
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, title in enumerate(header):
        table.add_column(title, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(unmarked, row))
    console().print(table)


def show_layer_table(layer_table: LayerTable) -> None:
    """Both lists side by side, as wide as the terminal; on it, rows that do not fit are red."""
    if not is_terminal():
        print(layer_table)
        return
    rules = 0
    explaining = False
    for line in layer_table.text(console().width - 1).splitlines():
        rules += line.startswith("---")
        # The reason of the first mismatch takes as many lines as it needs, which have no bar
        # between two sides.
        explaining = line.startswith("    <-") or (explaining and " | " not in line
                                                   and not line.startswith("-"))
        is_total = rules == 2 and not line.startswith("---") and layer_table.mismatches > 0
        say(line, BAD if explaining or is_total else "red" if line.startswith("!") else "")


def show_report(report: Report) -> None:
    """The report; its last line, the verdict, is green, red, or yellow when nothing is proved."""
    *lines, verdict = str(report).splitlines()
    for line in lines:
        say(line, ODD if line.startswith("WARNING") else "")
    say(verdict, verdict_style(report.equal))


def verdict_style(equal: bool | None) -> str:
    """Green for equal outputs, red for different ones, yellow when nothing is proved."""
    return ODD if equal is None else GOOD if equal else BAD


def unmarked(text: str) -> str:
    """A text whose brackets rich takes for what they are."""
    from rich.markup import escape

    return escape(text)


def note(text: str) -> None:
    """Tell something on stderr, beside the result."""
    print(text, file=sys.stderr)


@contextmanager
def chatter_on_stderr() -> Iterator[None]:
    """What models and frameworks print meanwhile goes to stderr: standard output has the result
    alone.
    """
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
