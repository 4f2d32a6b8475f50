"""The report as one HTML file that needs nothing else: no network, no other file.

The page itself is in template/. Its data are both lists of layers, the lines between them, and what
is proven of each weight. A layer is what shares a name but for the last part. Lines follow the
weights: two layers are connected when a tensor of one goes into a variable of the other.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, Literal

from ..plan.ledger import LedgerEntry
from .data import ReportData
from .layer_table import LayerTable

# From best to worst; a layer is as good as the worst of its weights.
Proof = Literal["excused", "output", "model", "shape", "doubt", "missing"]
PROOFS: tuple[Proof, ...] = ("excused", "output", "model", "shape", "doubt", "missing")
# A pairing that nothing proves is called doubtful below this confidence.
SURE = 0.9


def page(report: ReportData) -> str:
    """Return the whole page."""
    data = page_data(report)
    # "</script>" inside a string would end the element that the data stands in.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "TITLE": escape(report.headline()), "VERDICT": escape(data["summary"]),
        "STYLE": _template("page.css"), "DATA": text, "SCRIPT": _template("page.js")
    }
    result = _template("page.html")
    for name, part in parts.items():
        result = result.replace(f"<!--{name}-->", part, 1)
    return result


@cache
def _template(name: str) -> str:
    return (files(__package__) / "template" / name).read_text(encoding="utf-8")


def page_data(report: ReportData) -> dict[str, Any]:
    """Return all that the page shows, as plain data."""
    if report.layer_table is not None and not report.ledger:
        lists = _unconverted_lists(report.layer_table)
    else:
        lists = _converted_lists(report)
    back = report.plan is not None and report.plan.reversed
    return {
        "title": f"{report.source or 'source'} \u2192 {report.target or 'target'}",
        "verdict": report.verdict, "summary": report.summary(), "state": _state(report),
        "sides": ["Keras", "PyTorch"] if back else ["PyTorch", "Keras"], "totals": [
            total for total in report.totals() if total.number
        ], "facts": report.facts(), "tops": [report.torch_top, report.keras_top],
        "warnings": report.warnings, "notes": report.notes, "differences": {
            name: float(f"{value:.3g}") for name, value in report.layer_differences.items()
        }, "threshold": None if report.comparison is None else report.comparison.tolerance,
        "divergence": _divergence(report), **lists
    }


def _state(report: ReportData) -> Literal["good", "bad", "open"]:
    """Return the color of the verdict."""
    if not report.ledger:
        return "bad" if report.layer_table is not None and report.layer_table.mismatches else "open"
    if not report.complete or report.verdict == "different":
        return "bad"
    return "good" if report.equal else "open"


def _divergence(report: ReportData) -> dict[str, str] | None:
    """Return where the models part, why, and what to do."""
    found = report.comparison.first_divergence if report.comparison is not None else None
    return None if found is None else {
        "layer": found.keras_layer, "module": found.torch_module, "cause": found.cause,
        "fix": found.advice, "text": str(found)
    }


def _converted_lists(report: ReportData) -> dict[str, Any]:
    """Return both lists from the ledger, each in the order of its own model."""
    ledger = report.ledger
    sources = {entry.name: number for number, entry in enumerate(ledger) if entry.side == "source"}
    proofs = _proofs(report, sources)
    sides: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
    layers = [_layer_name(entry) for entry in ledger]
    for number, entry in enumerate(ledger):
        sides[entry.side == "target"].setdefault(layers[number], []).append(number)
    positions = [{layer: position for position, layer in enumerate(side)} for side in sides]
    lines = list(
        dict.fromkeys((positions[0][layers[tensor]], positions[1][layers[number]])
                      for number, entry in enumerate(ledger) if entry.side == "target"
                      for tensor in _partners(entry, sources)))
    doubts = _doubts(report)
    return {
        "layers": [[
            _layer(name, [ledger[number] for number in numbers],
                   max((proofs[number] for number in numbers), key=PROOFS.index), numbers)
            for name, numbers in side.items()
        ] for side in sides],
        "lines": [[*line, moved] for line, moved in zip(lines, moved_lines(lines), strict=True)],
        "ledger": [
            _weight(entry, proof, report.evidence, doubts)
            for entry, proof in zip(ledger, proofs, strict=True)
        ]
    }


def _layer_name(entry: LedgerEntry) -> str:
    """Return the name without its last part; a name of one part is a layer of its own."""
    separator = "/" if "/" in entry.name else "."
    return entry.name.rpartition(separator)[0] or entry.name


def _layer(name: str, entries: Sequence[LedgerEntry], proof: Proof,
           numbers: Sequence[int]) -> list[Any]:
    shapes = [entry.shape for entry in entries]
    return [name, shapes, sum(entry.parameters for entry in entries), proof, numbers]


def _weight(entry: LedgerEntry, proof: Proof, evidence: Mapping[str, str],
            doubts: Mapping[str, str]) -> list[Any]:
    """Return one weight; evidence and doubts are those of variables."""
    about = [evidence.get(entry.name, ""), doubts.get(entry.name, "")]
    return [
        entry.side, entry.name, entry.shape, entry.dtype, entry.parameters, entry.status,
        entry.rule, entry.partner, proof, *(about if entry.side == "target" else ["", ""])
    ]


def _partners(entry: LedgerEntry, sources: Mapping[str, int]) -> Iterator[int]:
    """Yield the numbers of the tensors that a variable is made of."""
    return (sources[name] for name in entry.partner.split(", ") if name in sources)


def _proofs(report: ReportData, sources: Mapping[str, int]) -> list[Proof]:
    """Return what is proven of each entry of the ledger.

    A tensor that was used is as good as the worst variable that it went into.
    """
    doubts = _doubts(report)
    swaps = report.comparison.unnoticed_swaps if report.comparison is not None else ()
    doubtful = {layer for pair in swaps for layer in pair}

    def proof_of_set(entry: LedgerEntry) -> Proof:
        confidence = report.confidence.get(entry.name)
        if _layer_name(entry) in doubtful or (confidence is None and entry.name in doubts):
            return "doubt"
        if confidence is None and entry.name in report.evidence:
            return "output"
        if report.equal:
            return "model"
        return "doubt" if confidence is not None and confidence < SURE else "shape"

    proofs: list[Proof] = []
    used: dict[int, list[Proof]] = {}
    for entry in report.ledger:
        if entry.status in ("left over", "unset"):
            proofs.append("missing")
        elif entry.status == "set":
            proofs.append(proof_of_set(entry))
            for number in _partners(entry, sources):
                used.setdefault(number, []).append(proofs[-1])
        else:
            proofs.append("excused")
    for number, found in used.items():
        proofs[number] = max(found, key=PROOFS.index)
    return proofs


def _doubts(report: ReportData) -> dict[str, str]:
    """Return what names and shapes cannot prove, by the display name of a variable."""
    plan = report.plan
    return {} if plan is None else {
        plan.targets[one.key].display_name if one.key in plan.targets else one.key: one.doubt
        for one in plan.assignments if one.doubt
    }


def moved_lines(lines: Sequence[tuple[int, int]]) -> list[bool]:
    """Return which lines cross the others: all but the longest part in order on both sides."""
    tails: list[int] = []
    ends: list[int] = []
    before: dict[int, int | None] = {}
    for number in sorted(range(len(lines)), key=lines.__getitem__):
        length = bisect_right(tails, lines[number][1])
        before[number] = ends[length - 1] if length else None
        tails[length:length + 1] = [lines[number][1]]
        ends[length:length + 1] = [number]
    kept: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        kept.add(last)
        last = before[last]
    return [number not in kept for number in range(len(lines))]


def _unconverted_lists(layer_table: LayerTable) -> dict[str, Any]:
    """Return both lists as they would be paired; a row that does not fit says why."""
    layers: tuple[list[list[Any]], list[list[Any]]] = ([], [])
    lines = []
    for row in (row for row in layer_table.rows if row.position is not None):
        for side, cell in zip(layers, (row.torch, row.keras), strict=True):
            if cell is not None:
                proof = "missing" if row.mismatch else "shape"
                side.append([cell.name, cell.shapes, cell.parameters, proof, [], row.mismatch])
        if row.torch is not None and row.keras is not None:
            lines.append([len(layers[0]) - 1, len(layers[1]) - 1, False])
    return {"layers": layers, "lines": lines, "ledger": []}
