"""What the stages found, put into the Report: the one place where it is written."""

from __future__ import annotations

from dataclasses import replace

from ..alignment.activations.search import Alignment
from ..alignment.static.proposal import StaticAlignment
from ..plan.ledger import LedgerEntry
from ..report.report import Report
from ..util.text import percent


def add_alignment(report: Report, found: Alignment | StaticAlignment) -> None:
    """Say how the alignment was found; without a proof each weight gets its confidence."""
    report.alignment = found.summary()
    if isinstance(found, Alignment):
        report.evidence, report.layer_differences = found.evidence(), found.output_distances()
        report.notes = (*report.notes, *found.notes())
    else:
        report.evidence, report.confidence = found.evidence, found.confidence
        report.ledger = tuple(_with_confidence(entry, report) for entry in report.ledger)


def _with_confidence(entry: LedgerEntry, report: Report) -> LedgerEntry:
    if entry.side != "target" or entry.status != "set" or entry.name not in report.confidence:
        return entry
    return replace(
        entry, rule=f"{entry.rule}; unproven, confidence {percent(report.confidence[entry.name])}")
