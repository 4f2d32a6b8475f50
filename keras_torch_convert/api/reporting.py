"""What the stages of a conversion found, and the Report that is made of it: the one place where
Reports are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..alignment.activations.outcome import Alignment
from ..alignment.static.proposal import StaticAlignment
from ..comparison.verdict import Comparison
from ..keras_io.write_from_layout import WrittenFile
from ..plan.executor import CheckedPlan
from ..plan.ledger import LedgerEntry
from ..plan.plan import Plan
from ..report.layer_table import LayerTable
from ..report.report import Report
from ..spec.source import Source
from ..spec.target import Target
from ..util.text import join_names, percent

if TYPE_CHECKING:
    from ..alignment.dictionaries import ClassicDictionaries


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Count the time spent inside toward a stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


@dataclass(slots=True)
class Stages:
    """What the stages of a conversion have found so far.

    - `source`, `target`: both sides as they were read
    - `seconds`: wall-clock time by stage
    - `alignment`: how layers were paired, in words or as running or comparing names found it
    - `arguments`, `layer_table`, `dictionaries`: those of the classic functions; the table may be
      made only for the report, by a function that is told which pairs are known to fit
    - `fitting`: those pairs
    - `checked`, `plan`: the Plan checked against both sides, and with callbacks recorded
    - `comparison`: how far the outputs are apart, None when they were not compared
    - `saved`: the file that was written, None without one
    - `warnings`, `notes`: sentences, in the order in which they came up
    """

    source: Source
    target: Target | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    alignment: Alignment | StaticAlignment | str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    layer_table: LayerTable | Callable[[Collection[tuple[str, str]]], LayerTable] | None = None
    fitting: Collection[tuple[str, str]] = ()
    dictionaries: ClassicDictionaries | None = None
    checked: CheckedPlan | None = None
    plan: Plan | None = None
    comparison: Comparison | None = None
    saved: WrittenFile | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def report(self) -> Report:
        """Return the Report of what is known now."""
        if callable(self.layer_table):
            self.layer_table = self.layer_table(self.fitting)
        found, comparison, saved = self.alignment, self.comparison, self.saved
        checked, placeholders = self.checked, self.source.placeholders
        ran = found if isinstance(found, Alignment) else None
        static = found if isinstance(found, StaticAlignment) else None
        differences = (comparison.layer_differences if comparison is not None else None) or {}
        notes = [
            *self.source.notes, *([("objects beside the weights were read as inert placeholders: "
                                    f"{join_names(placeholders, None)}")] if placeholders else []),
            *self.notes, *(ran.notes() if ran is not None else
                           ()), *(comparison.notes if comparison is not None else
                                  ()), *(saved.notes if saved is not None else ())
        ]
        confidence = static.confidence if static is not None else {}
        statuses = _statuses(ran, comparison)
        answered = ran.answered_doubts(statuses) if ran is not None and statuses else frozenset()
        return Report(
            source=self.source.origin,
            target=describe_target(self.target) if self.target is not None else "",
            ledger=tuple(_with_confidence(entry, confidence)
                         for entry in (checked.ledger if checked is not None else ())),
            plan=self.plan, alignment=found if isinstance(found, str) else found.summary(),
            alignment_arguments=self.arguments,
            callback_hits=checked.callback_hits if checked is not None else {},
            layer_table=self.layer_table, seconds=self.seconds, comparison=comparison,
            path=saved.path if saved is not None else None,
            md5=saved.digests.get("md5") if saved is not None else None,
            sha256=saved.digests.get("sha256") if saved is not None else None,
            warnings=tuple(one for one in self.warnings if one not in answered),
            notes=tuple(dict.fromkeys(notes)), confidence=confidence,
            evidence=(ran.evidence() if ran is not None else
                      static.evidence if static is not None else {}),
            match_status=statuses,
            layer_differences=differences
            or (ran.output_distances() if ran is not None else {}),
            dictionaries=self.dictionaries)  # yapf: disable


def _statuses(alignment: Alignment | None, comparison: Comparison | None) -> dict[str, str]:
    """Return how much is known of each layer's match, by the causes that the comparison proved."""
    if alignment is None:
        return {}
    found = None if comparison is None else comparison.first_divergence
    differences = () if found is None else found.differences
    explained = {name for one in differences if one.kind for name in one.keras_layers}
    return alignment.statuses(explained, bool(differences) and all(one.kind for one in differences))


def report_of_file(source: str, target: str, plan: Plan, checked: CheckedPlan, saved: WrittenFile,
                   start: float, sentences: tuple[tuple[str, ...], tuple[str, ...]]) -> Report:
    """Return the Report of a conversion from file to file.

    Args:
        source: What was read.
        target: What was written, in words.
        plan: The Plan that was applied.
        checked: The same, checked against both sides.
        saved: The file that was written.
        start: `time.perf_counter()` at the beginning.
        sentences: Warnings and notes.
    """
    warnings, notes = sentences
    return Report(source=source, target=target, ledger=checked.ledger, plan=plan, path=saved.path,
                  md5=saved.digests.get("md5"), sha256=saved.digests.get("sha256"),
                  seconds={"apply": time.perf_counter() - start},
                  warnings=(*checked.warnings, *warnings), notes=notes)


def describe_target(target: Target) -> str:
    """Return a Keras model, or a torch module that is filled, in a few words."""
    if target.framework == "torch":
        return f"module {target.name} (torch)"
    framework = f"Keras on {target.backend}" if target.framework == "keras" else target.framework
    return f"{target.name} ({framework})"


def _with_confidence(entry: LedgerEntry, confidence: Mapping[str, float]) -> LedgerEntry:
    """Return an entry that says how likely its weight is right, where nothing proves it."""
    if entry.side != "target" or entry.status != "set" or entry.name not in confidence:
        return entry
    rule = f"{entry.rule}; unproven, confidence {percent(confidence[entry.name])}"
    return replace(entry, rule=rule)
