"""Small pieces of HTML for a notebook, readable on light and dark pages, also where no script runs.

Colors are translucent tints over whatever the page has, and text keeps the page's own color. A
notebook is saved with all that it shows, so that attributes are short.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

BANNER = "margin:.4em 0;padding:.3em .7em;border-radius:4px;"
TABLE = '<table cellpadding="3" rules="rows" style="border-collapse:collapse;margin:.4em 0">'
GOOD, BAD, OPEN = "rgba(0,150,110,.2)", "rgba(200,30,100,.2)", "rgba(200,120,0,.22)"


def table(header: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table of rows made by `row`; without a header when that is empty."""
    return f"{TABLE}{row('th', header) if header else ''}{''.join(rows)}</table>"


def row(tag: str, texts: Sequence[str], right: Collection[int] = (), tint: str = "") -> str:
    """Return one row of "td" or "th" cells; the columns in `right` are aligned right."""
    style = f' style="background:{tint}"' if tint else ""
    cells = (cell(tag, text, column in right) for column, text in enumerate(texts))
    return f"<tr{style}>{''.join(cells)}</tr>"


def cell(tag: str, text: str, right: bool = False) -> str:
    """Return one cell."""
    indent = "&nbsp;" * (2 * (len(text) - len(text.lstrip())))
    align = "right" if right else "left"
    return f'<{tag} align="{align}">{indent}{escape(text.lstrip())}</{tag}>'


def note_row(label: str, text: str, columns: int) -> str:
    """Return a row of one cell that begins below the second column and spans the others."""
    content = f"<b>{escape(label)}</b> {escape(text)}"
    return f'<tr><td></td><td align="left" colspan="{columns - 1}">{content}</td></tr>'


def text_line(text: str) -> str:
    """Return a line of plain text."""
    return f"<div>{escape(text)}</div>"


def preformatted(text: str) -> str:
    """Return text or code of several lines, which wrap where the page is narrow."""
    return f'<pre style="{BANNER}white-space:pre-wrap">{escape(text)}</pre>'


def banner(text: str, tint: str) -> str:
    """Return a line that stands out by its background."""
    return f'<div style="{BANNER}background:{tint}"><b>{escape(text)}</b></div>'


def sentence(label: str, text: str, tint: str = "") -> str:
    """Return a labeled sentence, dimmed unless it has a tint."""
    style = f"background:{tint}" if tint else "opacity:.8"
    return f'<div style="{style};padding:0 .7em">{escape(label)}: {escape(text)}</div>'
