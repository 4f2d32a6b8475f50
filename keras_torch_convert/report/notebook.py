"""The report and the listing as pieces of HTML for a notebook: small tables, readable on light and
on dark pages, also where no script runs.

Colors are translucent greys and tints over whatever the page has, and text keeps the page's own
color.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from .layer_table import cells_of

if TYPE_CHECKING:
    from .layer_table import LayerTable
    from .report import Report

CELL = "padding:1px 8px;border-bottom:1px solid rgba(128,128,128,.3);vertical-align:top;"
BANNER = "margin:.4em 0;padding:.3em .7em;border-radius:4px;"
TABLE = "border-collapse:collapse;margin:.4em 0;color:inherit;font-size:inherit"

TINTS = {True: "rgba(40,160,80,.22)", False: "rgba(220,60,40,.25)", None: "rgba(200,150,30,.22)"}
# A notebook is saved with all that it shows: a larger page belongs into a file of its own.
MOST_CHARACTERS_OF_PAGE = 2_000_000


def report_html(report: Report) -> str:
    """The summary as HTML without scripts, style sheets or links, and below it, folded, the page in
    a frame of its own.
    """
    sound = report.equal if report.complete else (False if report.ledger else None)
    parts = [
        '<div style="font-size:90%;line-height:1.45;max-width:70em">',
        (f"<div><b>{escape(report.source or 'source')}</b> &#8594; "
         f"<b>{escape(report.target or 'target')}</b></div>"),
        f'<div style="{BANNER}background:{TINTS[sound]}">{escape(report.verdict())}</div>'
    ]
    if report.comparison is not None and report.comparison.first_divergence is not None:
        parts.append(
            f'<pre style="{BANNER}">{escape(str(report.comparison.first_divergence))}</pre>')
    if report.ledger:
        totals = [(status, f"{count:,}", f"{parameters:,}", "; ".join(rules[:3]) +
                   ("; ..." if len(rules) > 3 else ""))
                  for status, count, parameters, rules in report.totals()
                  if count or status in ("left over", "unset")]
        parts.append(table(("status", "count", "parameters", "rule"), totals, right=(1, 2)))
    facts = report.facts()
    if facts:
        parts.append(table((), facts))
    if report.torch_top or report.keras_top:
        parts.append(tops_table(report))
    parts += sentences("warning", report.warnings) + sentences("note", report.notes)
    parts.append(embedded_page(report))
    parts.append("</div>")
    return "".join(parts)


def listing_html(listing: LayerTable) -> str:
    """Both lists side by side; rows that do not fit are tinted, the first one explained."""
    header = listing.header
    numbers = [column for column, title in enumerate(header) if title in ("", "size")]
    first = listing.first_misfit
    parts = [
        f'<table style="{TABLE}"><tr>',
        *(cell("th", text, column in numbers) for column, text in enumerate(header)), "</tr>"
    ]
    for row in listing.rows:
        parts.append(f'<tr style="background:{TINTS[False]}">' if row.mismatch else "<tr>")
        parts += [
            cell("td", text, column in numbers)
            for column, text in enumerate(cells_of(row, listing.keras_listed))
        ]
        parts.append("</tr>")
        if row is first:
            reason = f"<b>&#8593; first misalignment:</b> {escape(row.mismatch)}"
            parts.append(f'<tr><td></td><td colspan="{len(header) - 1}" '
                         f'style="{CELL}text-align:left">{reason}</td></tr>')
    parts.append(f"</table><div>{escape(listing.totals())}</div>")
    return "".join(parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A small table; columns named in `right` are aligned right."""
    parts = [f'<table style="{TABLE}">']
    if header:
        parts.append("<tr>" + "".join(
            cell("th", text, column in right) for column, text in enumerate(header)) + "</tr>")
    for row in rows:
        parts.append("<tr>" + "".join(
            cell("td", text, column in right) for column, text in enumerate(row)) + "</tr>")
    parts.append("</table>")
    return "".join(parts)


def cell(tag: str, text: str, right: bool) -> str:
    """One cell; long words break only when the page is too narrow."""
    align = "right" if right else "left"
    indent = "&nbsp;" * (2 * (len(text) - len(text.lstrip())))
    return (
        f'<{tag} '
        f'style="{CELL}text-align:{align};overflow-wrap:break-word">{indent}{escape(text.lstrip())}</{tag}>'
    )


def tops_table(report: Report) -> str:
    """The best classes of both models side by side."""
    rows = []
    for place in range(max(len(report.torch_top), len(report.keras_top))):
        row: list[str] = []
        for top in (report.torch_top, report.keras_top):
            if place < len(top):
                index, name, score = top[place]
                row += [str(index), name or f"class {index}", f"{score:.4f}"]
            elif top:
                row += ["", "", ""]
        rows.append(row)
    header: list[str] = []
    for title, top in (("torch", report.torch_top), ("Keras", report.keras_top)):
        header += ["", title, "score"] if top else []
    return table(header, rows, right=(0, 2, 3, 5))


def sentences(label: str, texts: Sequence[str]) -> list[str]:
    """Warnings or notes, a line each; warnings are tinted."""
    tint = f"background:{TINTS[None]};" if label == "warning" else "opacity:.8;"
    return [f'<div style="{tint}padding:0 .7em">{label}: {escape(text)}</div>' for text in texts]


def embedded_page(report: Report) -> str:
    """The whole page behind a line that opens it; a large one is only mentioned."""
    from .page import page

    text = page(report)
    if len(text) > MOST_CHARACTERS_OF_PAGE:
        return "<div>both lists of layers and the ledger, with a search: report.to_html(path)</div>"
    return (
        '<details style="margin:.4em 0"><summary style="cursor:pointer">both lists of layers, '
        'the ledger, a search</summary>'
        f'<iframe srcdoc="{escape(text)}" sandbox="allow-scripts" loading="lazy" title="report" '
        'style="width:100%;height:60em;border:1px solid rgba(128,128,128,.4)"></iframe></details>')
