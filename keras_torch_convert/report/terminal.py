"""Lines of text with a style, and how a terminal shows them: in color and wrapped between words."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Literal, NamedTuple

Style = Literal["", "title", "good", "bad", "open", "mismatch"]
# The SGR codes of ECMA-48; yellow for what is neither good nor bad.
CODES = {"title": "1", "good": "32", "bad": "1;31", "open": "33", "mismatch": "31"}


class Line(NamedTuple):
    """One line of text, without its end. A table's lines are never wrapped."""

    text: str
    style: Style = ""


def is_terminal() -> bool:
    """Return whether a person reads what is printed; FORCE_COLOR says so of a pipe as well."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def terminal_width() -> int:
    """Return the number of columns; without a terminal, COLUMNS or 140."""
    return shutil.get_terminal_size((140, 24)).columns


def in_color(lines: Iterable[Line]) -> str:
    """Return the lines as one text, with colors where standard output shows them.

    NO_COLOR (https://no-color.org) in the environment switches colors off.
    """
    colored = is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return "\n".join(f"\x1b[{CODES[style]}m{text}\x1b[0m" if colored and style else text
                     for text, style in lines)


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines; what follows an indented line is indented more, names are not broken.
    """
    lines = []
    for line in text.splitlines():
        indent = line[:len(line) - len(line.lstrip())]
        lines += textwrap.wrap(line, width, subsequent_indent=f"{indent}  " if indent else "",
                               break_long_words=False, break_on_hyphens=False)
    return lines


def verdict_style(verdict: str) -> Style:
    """Return the color of a verdict."""
    styles: dict[str, Style] = {"equal": "good", "different": "bad"}
    return styles.get(verdict, "open")
