"""Small pieces of HTML for a notebook, readable on light and dark pages, also where no script runs.

Colors are translucent tints over whatever the page has, and text keeps the page's own color.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

CELL = "padding:1px 8px;border-bottom:1px solid rgba(128,128,128,.3);vertical-align:top;"
BANNER = "margin:.4em 0;padding:.3em .7em;border-radius:4px;"
TABLE = "border-collapse:collapse;margin:.4em 0;color:inherit;font-size:inherit"
GOOD, BAD, OPEN = "rgba(40,160,80,.22)", "rgba(220,60,40,.25)", "rgba(200,150,30,.22)"


def table(header: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table of rows made by `row`; without a header when that is empty."""
    return f'<table style="{TABLE}">{row("th", header) if header else ""}{"".join(rows)}</table>'


def row(tag: str, texts: Sequence[str], right: Collection[int] = (), tint: str = "") -> str:
    """Return one row of "td" or "th" cells; the columns in `right` are aligned right."""
    style = f' style="background:{tint}"' if tint else ""
    cells = (cell(tag, text, column in right) for column, text in enumerate(texts))
    return f"<tr{style}>{''.join(cells)}</tr>"


def cell(tag: str, text: str, right: bool = False) -> str:
    """Return one cell; long words break only when the page is too narrow."""
    style = f"{CELL}text-align:{'right' if right else 'left'};overflow-wrap:break-word"
    indent = "&nbsp;" * (2 * (len(text) - len(text.lstrip())))
    return f'<{tag} style="{style}">{indent}{escape(text.lstrip())}</{tag}>'


def note_row(label: str, text: str, columns: int) -> str:
    """Return a row of one cell that begins below the second column and spans the others."""
    content = f"<b>{escape(label)}</b> {escape(text)}"
    return (f'<tr><td></td><td colspan="{columns - 1}" style="{CELL}text-align:left">'
            f"{content}</td></tr>")


def text_line(text: str) -> str:
    """Return a line of plain text."""
    return f"<div>{escape(text)}</div>"


def banner(text: str, tint: str) -> str:
    """Return a line that stands out by its background."""
    return f'<div style="{BANNER}background:{tint}">{escape(text)}</div>'


def sentence(label: str, text: str, tint: str = "") -> str:
    """Return a labeled sentence, dimmed unless it has a tint."""
    style = f"background:{tint}" if tint else "opacity:.8"
    return f'<div style="{style};padding:0 .7em">{escape(label)}: {escape(text)}</div>'
