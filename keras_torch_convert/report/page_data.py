"""What the HTML page shows, as plain data: both lists of layers, the lines between them, what is
proved of each weight.

A layer is what shares a name but for the last part. Lines follow the weights: two layers are
connected when a tensor of one goes into a variable of the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..plan.ledger import LedgerEntry
    from .layer_table import LayerTable
    from .report import Report

# From best to worst; a layer is as good as the worst of its weights.
Proof = Literal["excused", "output", "model", "shape", "doubt", "missing"]
# A pairing that nothing proves is called doubtful below this confidence.
SURE = 0.9
PROOFS: tuple[Proof, ...] = ("excused", "output", "model", "shape", "doubt", "missing")


def page_data(report: Report) -> dict[str, Any]:
    """All that the page needs."""
    back = report.plan is not None and report.plan.reversed
    data = listing_data(
        report.listing) if not report.ledger and report.listing else ledger_layers(report)
    return {
        "title":
            f"{report.source or 'source'} \u2192 {report.target or 'target'}", "verdict":
                report.verdict(), "state":
                    state_of(report),
        "sides": ["Keras", "PyTorch"] if back else ["PyTorch", "Keras"],
        "totals": [[status, count, size, list(rules)]
                   for status, count, size, rules in report.totals()
                   if count] if report.ledger else [],
        "facts": [list(fact) for fact in report.facts()], "tops": [
            [list(top) for top in side] for side in (report.torch_top, report.keras_top)
        ], "warnings":
            list(report.warnings), "notes":
                list(report.notes), "differences": {
                    name: float(f"{value:.3g}") for name, value in report.layer_differences.items()
                }, "threshold":
                    report.threshold, "divergence":
                        divergence(report), **data
    }


def state_of(report: Report) -> str:
    """ "good", "bad" or "open": the color of the verdict."""
    if not report.ledger:
        return "bad" if report.listing is not None and report.listing.misfits else "open"
    if not report.complete or report.equal is False:
        return "bad"
    return "good" if report.equal else "open"


def divergence(report: Report) -> list[str]:
    """Where the models part and why: the Keras layer and the whole text, [] when nothing was found.
    """
    found = report.comparison.first_divergence if report.comparison is not None else None
    return [found.keras_layer, str(found)] if found is not None else []


def ledger_layers(report: Report) -> dict[str, Any]:
    """Both lists from the ledger, each in the order of its own model."""
    sides: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
    layer_of: list[str] = []
    for number, entry in enumerate(report.ledger):
        layer = layer_name(entry)
        layer_of.append(layer)
        sides[entry.side == "target"].setdefault(layer, []).append(number)
    sources = {
        entry.name: number for number, entry in enumerate(report.ledger) if entry.side == "source"
    }
    proofs = proofs_of(report, sources)
    places = [{layer: place for place, layer in enumerate(side)} for side in sides]
    lines: dict[tuple[int, int], None] = {}
    for number, entry in enumerate(report.ledger):
        if entry.side == "target":
            for name in partners(entry, sources):
                lines[places[0][layer_of[sources[name]]], places[1][layer_of[number]]] = None
    doubts = doubts_of(report)
    return {
        "layers": [
            [layer_data(name, numbers, report.ledger, proofs) for name, numbers in side.items()]
            for side in sides
        ], "lines": [[left, right, moved]
                     for (left, right), moved in zip(lines, moved_lines(list(lines)), strict=True)],
        "ledger": [
            entry_data(entry, proof, report.evidence, doubts)
            for entry, proof in zip(report.ledger, proofs, strict=True)
        ]
    }


def entry_data(entry: LedgerEntry, proof: Proof, evidence: Mapping[str, str],
               doubts: Mapping[str, str]) -> list[Any]:
    """One weight; evidence and doubts are those of variables."""
    about = [evidence.get(entry.name, ""), doubts.get(entry.name, "")
            ] if entry.side == "target" else ["", ""]
    named = [entry.side, entry.name, list(entry.shape), entry.dtype, entry.parameters]
    return [*named, entry.status, entry.rule, entry.partner, proof, *about]


def layer_name(entry: LedgerEntry) -> str:
    """The name without its last part; a name of one part is a layer of its own."""
    separator = "/" if "/" in entry.name else "."
    return entry.name.rpartition(separator)[0] or entry.name


def partners(entry: LedgerEntry, sources: Mapping[str, int]) -> Iterable[str]:
    """The tensors of the source that a variable is made of."""
    return [name for name in entry.partner.split(", ") if name in sources]


def layer_data(name: str, numbers: Sequence[int], ledger: Sequence[LedgerEntry],
               proofs: Sequence[Proof]) -> list[Any]:
    """One layer: name, shapes, parameters, the worst proof, and the places of its weights in the
    ledger.
    """
    shapes = [list(ledger[number].shape) for number in numbers]
    worst = max((proofs[number] for number in numbers), key=PROOFS.index)
    return [
        name, shapes,
        sum(ledger[number].parameters for number in numbers), worst,
        list(numbers)
    ]


def proofs_of(report: Report, sources: Mapping[str, int]) -> list[Proof]:
    """What is proved of each entry of the ledger. A tensor that was used is as good as the worst
    variable that it went into.
    """
    doubts = doubts_of(report)
    swaps = {layer for pair in report.comparison.unnoticed_swaps for layer in pair
            } if report.comparison else set()
    proofs: list[Proof] = ["excused"] * len(report.ledger)
    used: dict[int, list[Proof]] = {}
    for number, entry in enumerate(report.ledger):
        if entry.status in ("left over", "unset"):
            proofs[number] = "missing"
        elif entry.status == "set":
            confidence = report.confidence.get(entry.name)
            if layer_name(entry) in swaps or (confidence is None and doubts.get(entry.name)):
                proofs[number] = "doubt"
            elif confidence is None and entry.name in report.evidence:
                proofs[number] = "output"
            elif report.equal:
                proofs[number] = "model"
            else:
                proofs[
                    number] = "doubt" if confidence is not None and confidence < SURE else "shape"
            for name in partners(entry, sources):
                used.setdefault(sources[name], []).append(proofs[number])
    for number, found in used.items():
        proofs[number] = max(found, key=PROOFS.index)
    return proofs


def doubts_of(report: Report) -> dict[str, str]:
    """Variable to what names and shapes cannot prove about it."""
    if report.plan is None:
        return {}
    labels = report.plan.targets
    return {
        labels[one.key].display_name if one.key in labels else one.key: one.doubt
        for one in report.plan.assignments if one.doubt
    }


def moved_lines(lines: Sequence[tuple[int, int]]) -> list[bool]:
    """Which lines cross the others: those outside the longest part that is in order on both sides.
    """
    order = sorted(range(len(lines)), key=lambda number: lines[number])
    tails: list[int] = []
    ends: list[int] = []
    before: dict[int, int | None] = {}
    for number in order:
        place = bisect_right(tails, lines[number][1])
        before[number] = ends[place - 1] if place else None
        tails[place:place + 1] = [lines[number][1]]
        ends[place:place + 1] = [number]
    kept: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        kept.add(last)
        last = before[last]
    return [number not in kept for number in range(len(lines))]


def listing_data(listing: LayerTable) -> dict[str, Any]:
    """Both lists as they would be paired, when nothing was converted; a row that does not fit says
    why.
    """
    layers: list[list[list[Any]]] = [[], []]
    lines: list[list[Any]] = []
    for row in listing.rows:
        places = []
        for side, cell in enumerate((row.torch, row.keras)):
            if cell is not None and row.position is not None:
                proof = "missing" if row.mismatch else "shape"
                layers[side].append([
                    cell.name, [list(shape) for shape in cell.shapes], cell.parameters, proof, [],
                    row.mismatch
                ])
                places.append(len(layers[side]) - 1)
        if len(places) == 2:
            lines.append([*places, False])
    return {"layers": layers, "lines": lines, "ledger": []}
