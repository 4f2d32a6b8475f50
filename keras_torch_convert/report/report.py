"""What a conversion did: one status for every weight, the evidence that it is right, the files.

The report only tells. It prints as text, shows itself in a notebook, and gives plain data for JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import zip_longest
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SaveError
from ..plan.ledger import SOURCE_STATUSES, LedgerEntry
from ..util.atomic_file import write_atomically
from ..util.text import did_you_mean
from .card import card_facts, card_text, file_facts
from .data import ReportData, describe
from .notebook import report_html
from .page import page
from .terminal import Line, in_color, verdict_style

if TYPE_CHECKING:
    from ..comparison.top_classes import TopClass
    from ..comparison.verdict import Comparison


@dataclass(slots=True, eq=False, repr=False)
class Report(ReportData):
    """Everything known about one conversion.

    Printing it gives a summary that fits on one screen; in a notebook it shows itself.

    Attributes:
        source, target: What was read and what was filled, in words.
        ledger: One LedgerEntry for every source tensor and every target variable, () when nothing
            was converted.
        plan: The Plan that was applied, None when nothing was converted.
        alignment: In words, how layers were paired.
        alignment_arguments: The dictionaries and other arguments that paired them.
        callback_hits: Key of `additional_transfer` to the Keras layers that it was called for.
        layer_table: Both lists of layers, side by side.
        path, md5, sha256: The file that was written, None without one.
        seconds: Wall-clock time by stage.
        comparison: The Comparison of both models' outputs, None when they were not run. The next
            ones are its:
        verdict: "equal", "close", "different", or "undecided", also when nothing was compared.
        equal: True for the verdict "equal" only, None for "undecided", False otherwise.
        max_abs_diff: Largest difference of the outputs.
        relative_diff: The same as a fraction of torch's largest output.
        torch_top, keras_top: (class index, name, score) of the best classes, best first.
        input, rescale_mode: In words, what the models were run on.
        warnings, notes: Sentences.
        evidence: Keras layer or variable to the reason why it got its weights, when both models
            were run to align them.
        match_status: Keras layer to how much is known of its match, when both models were run to
            align them: "proven", "proven but for a cause", "proven given its input" (the models
            differ before it, and the cause is proven), "likely" or "by name and shape".
        dictionaries: The classic arguments that say what running both models found, set by
            `keras_reload_from_torch_model`; printing them gives a call.
        layer_differences: Keras layer to how far the statistics of its output are from torch's, in
            order of execution, where that was measured.
        confidence: Display name of a Keras variable to how likely its weight is right, 0 to 1, when
            a checkpoint was aligned that cannot be run.
    """
    def explain(self, name: str) -> str:
        """Say why a Keras layer or variable got its weights, or what became of a torch tensor.

        Args:
            name: "layer" or "layer/variable" of the Keras model, or the name of a torch tensor.

        Returns:
            After an alignment by running: the torch layer, how far its input and output are from
            those in torch, and how many candidates there were. From a checkpoint alone: the
            confidence and its parts. Otherwise what the ledger says.

        Raises:
            KeyError: The name is unknown; the message has the nearest ones.
        """
        found = self.evidence.get(name)
        if found is None:
            variables = [key for key in self.evidence if key.endswith(f"/{name}")]
            found = self.evidence[variables[0]] if len(variables) == 1 else None
        if found is None:
            found = "\n".join(
                _status_sentence(entry)
                for entry in self.ledger if entry.name == name or entry.name.startswith(f"{name}/"))
        if not found:
            names = [*self.evidence, *(entry.name for entry in self.ledger)]
            raise KeyError(f"nothing is known about {name!r}: expected the name of a Keras layer, "
                           f"a Keras variable or a torch tensor{did_you_mean(name, names)}")
        return found

    def __str__(self) -> str:
        """Return the report for a terminal; it begins and ends with the verdict."""
        return "\n".join(line.text for line in self.lines())

    def __repr__(self) -> str:
        """Return what an interactive session shows: the same in color."""
        return in_color(self.lines())

    def lines(self) -> list[Line]:
        """Return the report as styled lines."""
        style = verdict_style(self.verdict)
        verdict = Line(self.summary(), style)
        first = [verdict] if self.verdict == "close" else []
        lines = list(self._totals_lines())
        lines += [f"{label:<11}  {text}" for label, text in self.facts()]
        lines += self._top_lines()
        lines += [f"note: {note}" for note in self.notes]
        styled = [Line(text) for text in lines]
        styled += [Line(f"WARNING: {warning}", "open") for warning in self.warnings]
        if self.comparison is not None and self.comparison.first_divergence is not None:
            styled += map(Line, str(self.comparison.first_divergence).splitlines())
        return [*first, Line(self.headline(), style), *styled, verdict]

    def _totals_lines(self) -> Iterator[str]:
        for total in self.totals() if self.ledger else ():
            if total.is_shown:
                unit = "tensors" if total.status in SOURCE_STATUSES else "variables"
                yield (
                    f"  {total.status:<9}  {total.number:>7,} {unit:<9}  {total.parameters:>14,} "
                    f"parameters   {total.rules_text}").rstrip()

    def _top_lines(self) -> Iterator[str]:
        left, right = (
            [_top_text(entry) for entry in side] for side in (self.torch_top, self.keras_top))
        width = max(map(len, left), default=-3)
        if left or right:
            header = "torch" if left else "", "Keras" if right else ""
            for one, two in [header, *zip_longest(left, right, fillvalue="")]:
                yield f"  {one:<{max(width, 0)}}{' ' * min(width + 3, 3)}{two}".rstrip()

    def ledger_table(self) -> str:
        """Return the whole ledger as text, a line for each tensor and each variable."""
        header = ("side", "name", "shape", "type", "parameters", "status", "rule", "partner")
        table = [header, *map(_ledger_cells, self.ledger)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as strings, numbers, lists and dicts; infinity and NaN are text."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        plan, table, dictionaries = self.plan, self.layer_table, self.dictionaries
        del data["plan"]
        data |= {
            "ok": self.ok, "complete": self.complete, "verdict": self.verdict,
            "summary": self.summary(), "equal": self.equal, "max_abs_diff": self.max_abs_diff,
            "relative_diff": self.relative_diff, "input": self.input,
            "rescale_mode": self.rescale_mode, "torch_top": self.torch_top,
            "keras_top": self.keras_top, "totals": {
                one.status: {"count": one.number, "parameters": one.parameters}
                for one in self.totals()
            }, "pairs": plan.pairs if plan is not None else
                        (), "layer_table": table.to_list() if table is not None else None,
            "dictionaries": str(dictionaries) if dictionaries is not None else None,
            "comparison": self.comparison.to_dict() if self.comparison is not None else None
        }
        plain: dict[str, Any] = as_plain(data)
        return plain

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """Turn the report into JSON, and write that to a file if one is given.

        Args:
            path: The file to write, None (the default) for none; an old one is replaced.

        Returns:
            The JSON text, with sorted keys.
        """
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False,
                          allow_nan=False)
        if path is not None:
            write_atomically(Path(path), f"{text}\n".encode())
        return text

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Write the report as one HTML page that works without a network.

        It has both lists of layers with lines between them, the ledger, and a search.

        Args:
            path: The file to write; an old one is replaced.

        Returns:
            The path.
        """
        path = Path(path)
        write_atomically(path, page(self).encode("utf-8"))
        return path

    # They are what a card says beside the report, each by its name.
    def card(self, path: str | PathLike[str], *, checkpoint: str | PathLike[str] | None = None,
             plan: str | PathLike[str] | None = None, torch_model: str = "", keras_model: str = "",
             comparison: Comparison | None = None, license: str = "", base_model: str = "",
             revision: str = "") -> Path:
        """Write the conversion card: what was converted, how it was proven, and all digests.

        It is a Markdown file with the front matter that the Hugging Face Hub reads.
        `keras-torch-convert recheck` does everything again from the files and compares.

        Args:
            path: The card to write, by custom "x.card.md".
            checkpoint: The file that the weights came from. Default: the source, if it was a file.
            plan: The file of the Plan. Default: it is written beside the card, as "x.plan.json".
            torch_model: What makes the torch module, as on the command line: "timm:resnet50",
                "models.py:net", or with arguments, 'timm:resnet50 {"num_classes": 3}'. Without both
                models the outputs cannot be compared again.
            keras_model: The same for the Keras model.
            comparison: A later Comparison; `ktc.verify` with `plan=` also says which swaps would go
                unnoticed. Default: that of the report.
            license: Of the weights, as the Hub names it ("apache-2.0").
            base_model: The model on the Hub that they come from ("timm/resnet50.a1_in1k").
            revision: Of the checkpoint, such as a commit.

        Returns:
            The path.

        Raises:
            SaveError: The report has no file, or the card cannot be written.

        Example:
            >>> report = ktc.convert("model.pth", keras_model, plan=plan, save="model.h5")
            >>> report.card("model.card.md", license="mit")
            PosixPath('model.card.md')
        """
        path = Path(path)
        if self.path is None or self.plan is None:
            raise SaveError("a card is for a file: convert with save=, and then make the card")
        if checkpoint is None and Path(self.source).is_file():
            checkpoint = self.source
        if plan is None:
            plan = self.plan.save(
                path.with_name(path.name.removesuffix(".md").removesuffix(".card") + ".plan.json"))
        named = {"license": license, "base_model": base_model, "library_name": "keras"}
        about = {key: value for key, value in named.items() if value}
        source = checkpoint and file_facts(Path(checkpoint), path.parent, ("sha256",))
        files = {
            "checkpoint": source or None, "revision": revision,
            "plan": file_facts(Path(plan), path.parent, ("sha256",)),
            "output": file_facts(self.path, path.parent, ("md5", "sha256"))
        }
        models = {"torch": torch_model, "keras": keras_model}
        facts = card_facts(self, files, models, comparison or self.comparison)
        write_atomically(path, card_text(about, facts).encode())
        return path

    def _repr_html_(self) -> str:
        return report_html(self)


def _ledger_cells(entry: LedgerEntry) -> tuple[str, ...]:
    shape = f"({','.join(map(str, entry.shape))})"
    return (entry.side, entry.name, shape, entry.dtype, f"{entry.parameters:,}", entry.status,
            entry.rule, entry.partner)


def _status_sentence(entry: LedgerEntry) -> str:
    """Return one entry as a sentence: "conv/kernel is set from conv.weight (convolution: ...)"."""
    join = " from" if entry.side == "target" else " for"
    partner = f"{join} {entry.partner}" if entry.partner else ""
    rule = f" ({entry.rule})" if entry.rule else ""
    return f"{entry.name} is {entry.status}{partner}{rule}"


def _top_text(entry: TopClass) -> str:
    """Return one of the best classes: index, name when known, score."""
    index, name, score = entry
    return f"{index:>5}  {name or f'class {index}':<24}  {score:>10.4f}"


def as_plain(value: Any) -> Any:
    """Return a value as JSON knows it; what JSON does not know is described in words."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    return str(value) if isinstance(value, Path) else describe(value)
