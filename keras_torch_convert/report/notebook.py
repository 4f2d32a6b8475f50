"""The report as a piece of HTML for a notebook: small tables, and the whole page folded below."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ..plan.expressions import tensors_of
from .data import ReportData
from .html_parts import BAD, GOOD, OPEN, banner, preformatted, row, sentence, table, text_line
from .page import page

TINTS = {"equal": GOOD, "close": OPEN, "different": BAD, "undecided": OPEN}
# A notebook is saved with all that it shows: a larger page belongs in a file of its own.
MOST_CHARACTERS_OF_PAGE = 80_000


def report_html(report: ReportData) -> str:
    """Return the summary as HTML without scripts, style sheets or links, and, folded, the page in a
    frame of its own.
    """
    return ('<div style="font-size:90%;line-height:1.45;max-width:70em">'
            f"{''.join(_parts(report))}</div>")


def _parts(report: ReportData) -> Iterator[str]:
    tint = BAD if report.ledger and not report.complete else TINTS[report.verdict]
    yield banner(report.summary(), tint)
    yield text_line(report.headline())
    found = report.comparison.first_divergence if report.comparison is not None else None
    if found is not None:
        yield preformatted(str(found))
    if report.ledger:
        totals = ((one.status, f"{one.number:,}", f"{one.parameters:,}", one.rules_text)
                  for one in report.totals() if one.is_shown)
        yield table(("status", "count", "parameters", "rule"),
                    (row("td", cells, right=(1, 2)) for cells in totals))
    if facts := report.facts():
        yield table((), (row("td", fact) for fact in facts))
    if report.torch_top or report.keras_top:
        yield _top_classes(report)
    yield from (sentence("warning", text, OPEN) for text in report.warnings)
    yield from (sentence("note", text) for text in report.notes)
    if code := alignment_code(report):
        yield _copied("the same alignment as code, without a search", code)
    yield _embedded_page(report)


def alignment_code(report: ReportData) -> str:
    """Return Python code that pairs the layers as this report says, "" when that takes more.

    The models are called as in the documentation, `torch_model` and `keras_model`.
    """
    if report.dictionaries is not None:
        return str(report.dictionaries)
    call = "keras_reload_from_torch_model(torch_model, keras_model"
    if report.alignment_arguments:
        given = report.alignment_arguments.items()
        if any(callable(value) for _, value in given) or report.callback_hits:
            return ""
        return "".join([f"ktc.{call}", *(f",\n    {name}={value!r}" for name, value in given), ")"])
    pairs = _plain_pairs(report)
    if not pairs:
        return ""
    lines = "".join(f"    {keras_name!r}: {torch_name!r},\n" for torch_name, keras_name in pairs)
    return (
        f"mapping = {{\n{lines}}}\nplan = ktc.align(torch_model, keras_model, mapping=mapping)\n"
        "report = ktc.convert(torch_model, keras_model, plan=plan)")


def _plain_pairs(report: ReportData) -> tuple[tuple[str, str], ...]:
    """Return the pairs of layers, () unless each is one whole layer on both sides."""
    plan = report.plan
    if plan is None or plan.reversed or plan.kept or plan.constants:
        return ()
    made_of: dict[str, set[str]] = {}
    for one in plan.assignments:
        keras_name = plan.targets[one.key].display_name.rpartition("/")[0]
        made_of.setdefault(keras_name, set()).update(
            name.rpartition(".")[0] for name in tensors_of(one.expression))
    found = {keras_name: {torch_name} for torch_name, keras_name in plan.pairs}
    return plan.pairs if found == made_of and len(found) == len(plan.pairs) else ()


def _copied(title: str, code: str) -> str:
    """Return code, folded, with a button that copies it where scripts run."""
    copy = "navigator.clipboard.writeText(this.nextElementSibling.textContent)"
    return ('<details style="margin:.4em 0"><summary style="cursor:pointer">'
            f'{escape(title)}</summary><button onclick="{copy}">copy</button>'
            f"{preformatted(code)}</details>")


def _top_classes(report: ReportData) -> str:
    sides = [("torch", report.torch_top), ("Keras", report.keras_top)]
    sides = [(title, top) for title, top in sides if top]
    rows = []
    for rank in range(max(len(top) for _, top in sides)):
        cells: list[str] = []
        for _, top in sides:
            index, name, score = top[rank] if rank < len(top) else ("", " ", None)
            cells += [str(index), name or f"class {index}", "" if score is None else f"{score:.4f}"]
        rows.append(row("td", cells, right=(0, 2, 3, 5)))
    return table([text for title, _ in sides for text in ("", title, "score")], rows)


def _embedded_page(report: ReportData) -> str:
    """Return the whole page behind a line that opens it; a large one is only mentioned."""
    text = escape(page(report))
    if len(text) > MOST_CHARACTERS_OF_PAGE:
        return "<div>both lists of layers and the ledger, with a search: report.to_html(path)</div>"
    return (
        '<details style="margin:.4em 0"><summary style="cursor:pointer">both lists of layers, '
        "the ledger, a search</summary>"
        f'<iframe srcdoc="{text}" sandbox="allow-scripts" loading="lazy" title="report" '
        'style="width:100%;height:60em;border:1px solid rgba(128,128,128,.4)"></iframe></details>')
