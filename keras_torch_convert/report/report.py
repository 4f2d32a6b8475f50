"""What a conversion did, as data: one status for every weight, the evidence that it is right, the
files.

The report only tells. It prints as text, shows itself in a notebook, and gives plain data for JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..plan.difference import LEFT_OUT
from ..plan.ledger import INCOMPLETE, SOURCE_STATUSES, TARGET_STATUSES, LedgerEntry, Status
from ..util.atomic_file import new_file

if TYPE_CHECKING:
    from ..alignment.dictionaries import ClassicDictionaries
    from ..comparison.prediction import Predictions
    from ..comparison.verdict import Comparison
    from ..plan.plan import Plan
    from .layer_table import LayerTable

TopClass = tuple[int, str, float]

# How the rules begin by which the caller lets variables keep their values.
_KEPT_AS_TOLD = ("keep_layers", LEFT_OUT)


@dataclass(slots=True, eq=False, repr=False)
class Report:
    """Everything known about one conversion.

    - `source`, `target`: what was read and what was filled, in words
    - `ledger`: one entry for every source tensor and every target variable, () when nothing was
      converted
    - `plan`: the recipe that was applied, None when nothing was converted
    - `alignment`: in words how layers were paired; `alignment_arguments`: the dictionaries and
      other arguments that did it
    - `callback_hits`: key of `additional_transfer` to the Keras layers that it was called for
    - `listing`: both lists of layers, side by side
    - `path`, `md5`, `sha256`: the file written, None without one
    - `seconds`: wall-clock time by stage
    - `equal`: True or False when both models were run on the same input, None when that was not
      possible or proved nothing
    - `max_abs_diff`, `relative_diff`: largest difference of the outputs, and the same as a fraction
      of torch's largest one
    - `threshold`: the `relative_diff` up to which outputs count as equal
    - `torch_top`, `keras_top`: (class index, name, score) of the best classes, best first
    - `input`, `rescale_mode`: in words what the models were run on
    - `warnings`, `notes`: sentences
    - `evidence`: Keras layer and variable to the reason why it got its weights, when both models
      were run to align them
    - `dictionaries`: the classic arguments that say what running both models found, set by
      `keras_reload_from_torch_model`; printing them gives a call
    - `layer_differences`: Keras layer to how far the statistics of its output are from torch's, in
      order of execution, where that was measured
    - `confidence`: label of a Keras variable to how likely its weight is right, 0 to 1, when a
      checkpoint was aligned that cannot be run
    - `comparison`: the whole Comparison that `equal` and the differences come from, None when none
      was made
    """

    source: str = ""
    target: str = ""
    ledger: tuple[LedgerEntry, ...] = ()
    plan: Plan | None = None
    alignment: str = ""
    alignment_arguments: Mapping[str, Any] = field(default_factory=dict)
    callback_hits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    listing: LayerTable | None = None
    path: Path | None = None
    md5: str | None = None
    sha256: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    equal: bool | None = None
    max_abs_diff: float | None = None
    relative_diff: float | None = None
    threshold: float | None = None
    torch_top: tuple[TopClass, ...] = ()
    keras_top: tuple[TopClass, ...] = ()
    input: str = ""
    rescale_mode: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    evidence: Mapping[str, str] = field(default_factory=dict)
    dictionaries: ClassicDictionaries | None = None
    layer_differences: Mapping[str, float] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    comparison: Comparison | None = None

    def explain(self, name: str) -> str:
        """Why a Keras layer or variable ("layer" or "layer/variable") got its weights, or what
        became of a torch tensor.

        After an alignment by running: the torch layer, how far its input and output are from those
        in torch, and how many candidates there were. From a checkpoint alone: the confidence and
        its parts. In every other case what the ledger says. KeyError, with the nearest names, for
        an unknown name.
        """
        found = self.evidence.get(name)
        if found is None:
            known = [key for key in self.evidence if key.endswith(f"/{name}")]
            found = self.evidence[known[0]] if len(known) == 1 else None
        if found is None:
            told = [
                entry
                for entry in self.ledger if entry.name == name or entry.name.startswith(f"{name}/")
            ]
            found = "\n".join(map(status_in_words, told))
        if not found:
            names = [*self.evidence, *(entry.name for entry in self.ledger)]
            near = ", ".join(repr(one) for one in get_close_matches(name, names, n=3))
            raise KeyError(
                f"there is nothing to tell of {name!r}: expected the name of a Keras layer, a "
                "Keras variable or a torch tensor" + (f"; nearest: {near}" if near else ""))
        return found

    @property
    def complete(self) -> bool:
        """True when every source tensor is used or skipped and every target variable set or kept.
        """
        return bool(self.ledger) and not any(entry.status in INCOMPLETE for entry in self.ledger)

    @property
    def ok(self) -> bool:
        """True when the ledger is complete and the outputs are not known to differ."""
        return self.complete and self.equal is not False

    def add(self, predictions: Predictions) -> None:
        """Take over what running both models gave."""
        if predictions.comparison is not None:
            self.add_comparison(predictions.comparison)
        self.torch_top, self.keras_top = predictions.torch_top, predictions.keras_top
        self.input, self.rescale_mode = predictions.input, predictions.rescale_mode
        self.notes = tuple(dict.fromkeys((*self.notes, *predictions.notes)))

    def add_comparison(self, comparison: Comparison) -> None:
        """Take over how far the outputs are apart."""
        self.comparison = comparison
        self.layer_differences = comparison.layer_differences or self.layer_differences
        self.equal, self.threshold = comparison.equal, comparison.threshold
        self.max_abs_diff, self.relative_diff = comparison.max_abs_diff, comparison.relative_diff
        self.notes = (*self.notes, *comparison.notes)

    def totals(self) -> list[tuple[Status, int, int, tuple[str, ...]]]:
        """For every status: its name, number of tensors or variables, their parameters, and the
        rules that led to it.
        """
        rows: list[tuple[Status, int, int, tuple[str, ...]]] = []
        for status in SOURCE_STATUSES + TARGET_STATUSES:
            entries = [entry for entry in self.ledger if entry.status == status]
            rules = (tuple(dict.fromkeys(
                entry.rule for entry in entries if entry.rule)) if status in ("skipped",
                                                                              "kept") else ())
            rows.append((status, len(entries), sum(entry.parameters for entry in entries), rules))
        return rows

    def verdict(self) -> str:
        """One sentence: whether both models' outputs are equal and by how much they differ, or that
        it is unproven.
        """
        if not self.ledger:
            return "nothing was converted"
        if self.equal is None:
            return "unproven: the outputs of the two models were not shown to be equal"
        size = self.difference_text()
        if self.equal:
            return f"outputs are equal: {size}"
        return (
            f"OUTPUTS DIFFER: {size or 'they have no common shape'}; look at the alignment, and "
            "at the notes above"
            f"{self.kept_in_words()}")

    def kept_in_words(self) -> str:
        """What was told to keep its own values, as a possible cause of different outputs at the end
        of a sentence; "" when nothing was.
        """
        kept = [
            entry.name for entry in self.ledger
            if entry.status == "kept" and entry.rule.startswith(_KEPT_AS_TOLD)
        ]
        return f"; own values were kept, as you said, in {listed(kept)}, which may be why" if kept else ""

    def difference_text(self) -> str:
        """The largest difference in words, "" when nothing was compared."""
        if self.relative_diff is None or self.max_abs_diff is None:
            return ""
        bound = "" if self.threshold is None else f" (equal is up to {self.threshold:.0e})"
        return (f"largest difference {self.max_abs_diff:.2e}, {self.relative_diff:.2e} of torch's "
                f"largest output{bound}")

    def __str__(self) -> str:
        """The summary for a terminal; its last line is the verdict."""
        lines = [f"{self.source or 'source'} -> {self.target or 'target'}"]
        lines += self.totals_lines()
        lines += [f"{label:<11}  {text}" for label, text in self.facts()]
        lines += self.predictions_lines()
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"WARNING: {warning}" for warning in self.warnings]
        if self.comparison is not None and self.comparison.first_divergence is not None:
            lines.append(str(self.comparison.first_divergence))
        lines.append(self.verdict())
        return "\n".join(lines)

    def __repr__(self) -> str:
        """The same summary: what an interactive session shows for the value of a call."""
        return str(self)

    def totals_lines(self) -> list[str]:
        """The totals as a small table; statuses that did not occur are left out, but for those that
        must be empty.
        """
        if not self.ledger:
            return []
        lines = []
        for status, count, parameters, rules in self.totals():
            if count or status in INCOMPLETE:
                unit = "tensors" if status in SOURCE_STATUSES else "variables"
                line = f"  {status:<9}  {count:>7,} {unit:<9}  {parameters:>14,} parameters"
                lines.append(line + (f"   {'; '.join(rules[:3])}{'; ...' if len(rules) > 3 else ''}"
                                     if rules else ""))
        return lines

    def facts(self) -> list[tuple[str, str]]:
        """What there is to say in a line each: label and text."""
        facts = []
        if self.alignment:
            facts.append(("alignment", self.alignment))
        facts += [("", f"{name}={argument_text(value)}")
                  for name, value in self.alignment_arguments.items()]
        for key, layers in self.callback_hits.items():
            facts.append(("callback", f"{key} -> {listed(layers) if layers else 'no layer'}"))
        if self.path is not None:
            facts.append(("file", str(self.path)))
        if self.md5 is not None:
            facts.append(("md5", self.md5))
        if self.seconds:
            stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in self.seconds.items())
            facts.append(("seconds", f"{stages}; in all {sum(self.seconds.values()):.2f}"))
        if self.input:
            facts.append(("input", self.input +
                          (f"; rescaled by {self.rescale_mode}" if self.rescale_mode else "")))
        return facts

    def predictions_lines(self) -> list[str]:
        """The best classes of both models side by side."""
        if not self.torch_top and not self.keras_top:
            return []
        left, right = [top_text(entry) for entry in self.torch_top
                      ], [top_text(entry) for entry in self.keras_top]
        width = max([len(text) for text in left] + [len("torch") if left else 0])
        gap = "   " if left else ""
        lines = [f"  {'torch' if left else '':<{width}}{gap}{'Keras' if right else ''}".rstrip()]
        for row in range(max(len(left), len(right))):
            first = left[row] if row < len(left) else ""
            second = right[row] if row < len(right) else ""
            lines.append(f"  {first:<{width}}{gap}{second}".rstrip())
        return lines

    def ledger_table(self) -> str:
        """The whole ledger as text, a line for each source tensor and each target variable."""
        rows = [ledger_cells(entry) for entry in self.ledger]
        table = [LEDGER_HEADER, *rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(LEDGER_HEADER))]
        return "\n".join("  ".join(
            text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
                         for row in table)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data: strings, numbers, lists and dicts. Numbers that JSON lacks come
        as "inf" and "nan".
        """
        data = {
            "source": self.source, "target": self.target, "ok": self.ok, "complete": self.complete,
            "equal": self.equal, "verdict": self.verdict(), "max_abs_diff": self.max_abs_diff,
            "relative_diff": self.relative_diff, "threshold": self.threshold,
            "torch_top": self.torch_top, "keras_top": self.keras_top, "input": self.input,
            "rescale_mode": self.rescale_mode, "alignment": self.alignment, "alignment_arguments":
                self.alignment_arguments, "callback_hits": self.callback_hits, "totals": {
                    status: {"count": count, "parameters": size}
                    for status, count, size, _ in self.totals()
                }, "ledger": [ledger_data(entry) for entry in self.ledger],
            "pairs": self.plan.pairs if self.plan is not None else
                     (), "listing": self.listing.to_list() if self.listing is not None else None,
            "path": self.path, "md5": self.md5, "sha256": self.sha256, "seconds": self.seconds,
            "warnings": self.warnings, "notes": self.notes, "evidence": self.evidence,
            "dictionaries": str(self.dictionaries) if self.dictionaries is not None else None,
            "layer_differences": self.layer_differences, "confidence": self.confidence,
            "comparison": self.comparison.to_dict() if self.comparison is not None else None
        }
        plain: dict[str, Any] = as_plain(data)
        return plain

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """The report as JSON text with sorted keys, also written to `path` when one is given."""
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False,
                          allow_nan=False)
        if path is not None:
            with new_file(Path(path)) as file:
                file.write(f"{text}\n".encode())
        return text

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Write the report as one HTML page that works without a network: both lists of layers with
        lines between them, the ledger, a search. Returns the path.
        """
        from .page import page

        path = Path(path)
        with new_file(path) as file:
            file.write(page(self).encode("utf-8"))
        return path

    def _repr_html_(self) -> str:
        from .notebook import report_html

        return report_html(self)


LEDGER_HEADER = ("side", "name", "shape", "type", "parameters", "status", "rule", "partner")


def ledger_cells(entry: LedgerEntry) -> tuple[str, ...]:
    """One ledger entry as texts, in the order of LEDGER_HEADER."""
    shape = f"({','.join(map(str, entry.shape))})"
    return (entry.side, entry.name, shape, entry.dtype, f"{entry.parameters:,}", entry.status,
            entry.rule, entry.partner)


def status_in_words(entry: LedgerEntry) -> str:
    """One ledger entry as a sentence: "conv/kernel is set from conv.weight (convolution: ...)"."""
    join = " from" if entry.side == "target" else " for"
    partner = f"{join} {entry.partner}" if entry.partner else ""
    rule = f" ({entry.rule})" if entry.rule else ""
    return f"{entry.name} is {entry.status}{partner}{rule}"


def ledger_data(entry: LedgerEntry) -> dict[str, Any]:
    """One ledger entry as plain data."""
    return {name: getattr(entry, name) for name in LedgerEntry.__dataclass_fields__}


def top_text(entry: TopClass) -> str:
    """One of the best classes: index, name when known, score."""
    index, name, score = entry
    return f"{index:>5}  {name or 'class ' + str(index):<24}  {score:>10.4f}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a line, the rest counted."""
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"


def argument_text(value: Any, most: int = 300) -> str:
    """An argument of the conversion in a line; the whole of it is in `alignment_arguments`."""
    text = described(value) if callable(value) else repr(value)
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def as_plain(value: Any) -> Any:
    """A value made of what JSON knows; what it does not know is given in words."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    return str(value) if isinstance(value, Path) else described(value)


def described(value: Any) -> str:
    """Something that is no plain data in words that are the same in every run: a function by its
    name, not its address.
    """
    name = getattr(value, "__qualname__", None)
    return f"{getattr(value, '__module__', '')}.{name}" if name else repr(value)
