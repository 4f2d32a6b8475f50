"""What a report holds, as plain data: what the text, the notebook and the page are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..plan.difference import LEFT_OUT
from ..plan.ledger import INCOMPLETE, SOURCE_STATUSES, TARGET_STATUSES, LedgerEntry, Status
from ..util.text import join_names, shorten
from .layer_table import LayerTable

if TYPE_CHECKING:
    from ..alignment.dictionaries import ClassicDictionaries
    from ..comparison.top_classes import TopClass
    from ..comparison.verdict import Comparison, Verdict
    from ..plan.plan import Plan

# How the rules begin by which the caller lets variables keep their values.
_KEPT_BY_THE_CALLER = ("keep_layers", LEFT_OUT)


class StatusTotal(NamedTuple):
    """How many tensors or variables have a status, their parameters, and the rules that led to it.
    """

    status: Status
    number: int
    parameters: int
    rules: tuple[str, ...]

    @property
    def is_shown(self) -> bool:
        """True for a status that occurred, and for those that must be empty."""
        return self.number > 0 or self.status in INCOMPLETE

    @property
    def rules_text(self) -> str:
        """The first rules."""
        return join_names(self.rules, 3, separator="; ", empty="")


@dataclass(slots=True, eq=False, repr=False)
class ReportData:
    """The fields of a Report, which documents them, and what follows from them."""

    source: str = ""
    target: str = ""
    ledger: tuple[LedgerEntry, ...] = ()
    plan: Plan | None = None
    alignment: str = ""
    alignment_arguments: Mapping[str, Any] = field(default_factory=dict)
    callback_hits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    layer_table: LayerTable | None = None
    path: Path | None = None
    md5: str | None = None
    sha256: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    evidence: Mapping[str, str] = field(default_factory=dict)
    match_status: Mapping[str, str] = field(default_factory=dict)
    dictionaries: ClassicDictionaries | None = None
    layer_differences: Mapping[str, float] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    comparison: Comparison | None = None

    @property
    def complete(self) -> bool:
        """True when every source tensor is used or skipped and every target variable set or kept.
        """
        return bool(self.ledger) and not any(entry.status in INCOMPLETE for entry in self.ledger)

    @property
    def ok(self) -> bool:
        """True when the ledger is complete and the verdict is not "different"."""
        return self.complete and self.verdict != "different"

    @property
    def verdict(self) -> Verdict:
        """The verdict of the comparison, "undecided" without one."""
        return "undecided" if self.comparison is None else self.comparison.verdict

    @property
    def equal(self) -> bool | None:
        """True for the verdict "equal" only, None for "undecided", False otherwise."""
        return None if self.comparison is None else self.comparison.equal

    @property
    def max_abs_diff(self) -> float | None:
        """Largest difference of the outputs, None when they were not compared."""
        return None if self.comparison is None else self.comparison.max_abs_diff

    @property
    def relative_diff(self) -> float | None:
        """The same as a fraction of torch's largest output."""
        return None if self.comparison is None else self.comparison.relative_diff

    @property
    def torch_top(self) -> tuple[TopClass, ...]:
        """(class index, name, score) of torch's best classes, best first."""
        return () if self.comparison is None else self.comparison.torch_top

    @property
    def keras_top(self) -> tuple[TopClass, ...]:
        """(class index, name, score) of the Keras model's best classes, best first."""
        return () if self.comparison is None else self.comparison.keras_top

    @property
    def input(self) -> str:
        """What the models were run on first, in words, "" when they were not run."""
        return self.comparison.inputs[0] if self.comparison and self.comparison.inputs else ""

    @property
    def rescale_mode(self) -> str:
        """How a picture was brought to the models' range, "" without one."""
        return "" if self.comparison is None else self.comparison.rescale_mode

    def totals(self) -> list[StatusTotal]:
        """Count tensors and variables by status, those that did not occur included."""
        totals = []
        for status in SOURCE_STATUSES + TARGET_STATUSES:
            entries = [entry for entry in self.ledger if entry.status == status]
            rules = dict.fromkeys(entry.rule for entry in entries if entry.rule)
            totals.append(
                StatusTotal(status, len(entries), sum(entry.parameters for entry in entries),
                            tuple(rules) if status in ("skipped", "kept") else ()))
        return totals

    def headline(self) -> str:
        """Return the verdict in a word or two, and what was converted into what."""
        verdict: str = self.verdict
        if not self.ledger:
            verdict = "not converted"
        elif self.comparison is None:
            verdict = "not compared"
        return f"{verdict}: {self.source or 'source'} -> {self.target or 'target'}"

    def summary(self) -> str:
        """Return the verdict in one sentence, with how far the outputs differ, and why."""
        if not self.ledger:
            table = self.layer_table
            fits = f": {table.fit_text()}" if table is not None and table.has_keras else ""
            return f"nothing was converted{fits}"
        if self.comparison is None:
            return "unproven: the outputs of the two models were not compared"
        if self.verdict != "different":
            return self.comparison.summary()
        found = self.comparison.first_divergence
        causes = found.causes() if found is not None else ()
        why = f"cause: {'; '.join(causes)}" if causes else "look at the alignment and the notes"
        return f"{self.comparison.summary()}; {why}{self.kept_text()}"

    def kept_text(self) -> str:
        """Return what kept its own values, as a possible cause at the end of a sentence, or ""."""
        kept = [
            entry.name for entry in self.ledger
            if entry.status == "kept" and entry.rule.startswith(_KEPT_BY_THE_CALLER)
        ]
        if not kept:
            return ""
        return f"; own values were kept, as you said, in {join_names(kept)}, which may be why"

    def facts(self) -> list[tuple[str, str]]:
        """Return what there is to say in a line each: label and text."""
        facts = [("alignment", self.alignment), ("layers", _matches_text(self.match_status))]
        facts += [("", f"{name}={_argument_text(value)}")
                  for name, value in self.alignment_arguments.items()]
        facts += [("callback", f"{key} -> {join_names(layers, empty='no layer')}")
                  for key, layers in self.callback_hits.items()]
        facts += [("file", str(self.path or "")), ("md5", self.md5 or "")]
        if self.seconds:
            stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in self.seconds.items())
            facts.append(("seconds", f"{stages}; in all {sum(self.seconds.values()):.2f}"))
        rescaled = f"; rescaled by {self.rescale_mode}" if self.rescale_mode else ""
        facts.append(("input", self.input and self.input + rescaled))
        return [(label, text) for label, text in facts if text]


def _matches_text(found: Mapping[str, str]) -> str:
    """Return how many layers have which status, with the names of those that nothing proves."""
    labels: dict[str, list[str]] = {}
    for label, status in found.items():
        labels.setdefault(status, []).append(label)
    if set(labels) <= {"proven"}:
        return ""
    return ", ".join(f"{len(having):,} {status}"
                     + (f" ({join_names(having, 3)})" if "proven" not in status else "")
                     for status, having in labels.items())


def _argument_text(value: Any) -> str:
    """Return an argument in a line; the whole of it is in `alignment_arguments`."""
    return shorten(describe(value) if callable(value) else repr(value), 300)


def describe(value: Any) -> str:
    """Return words for a value that are the same in every run: a function's name, not its address.
    """
    name = getattr(value, "__qualname__", None)
    return f"{getattr(value, '__module__', '')}.{name}" if name else repr(value)
