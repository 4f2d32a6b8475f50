"""A conversion card against its files: everything is done again, and must come out as it says."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Union

import numpy as np

from ..api.file_conversion import apply
from ..api.verification import VerifyOptions, compare_models
from ..errors import ConversionError, SourceError
from ..keras_io.model import read_target
from ..keras_io.weights_file import read_stored
from ..plan.plan import Plan
from ..report.card import (EXACT, NUMBERS, SENTENCES, comparison_facts, file_facts, read_card,
                           weight_facts)
from ..running.inputs import InputRequest, input_pair
from ..torch_io.reader import read
from ..util.text import join_names

# Rounding differs from machine to machine: a number may be so many times as large.
MOST_APART = 4.0
# Makes both models, torch's first, of their names in a card, and the paths of the checkpoint (None
# when the card has none) and the Keras file.
Make = Callable[[str, str, Union[Path, None], Path], tuple[Any, Any]]


class Finding(NamedTuple):
    """One thing that was checked; `problem` is "" when it is as the card says."""

    what: str
    problem: str = ""


def recheck(path: Path, make: Make | None) -> list[Finding]:
    """Do everything again that a card tells, from the files.

    Args:
        path: The card; the files are where it says, seen from its folder.
        make: Makes the models that are run again; None runs nothing.

    Returns:
        What was checked. Where a file differs, what follows from it is not checked any more.

    Raises:
        ConversionError: The card cannot be read, or was changed.
    """
    _, facts = read_card(path)
    return list(_Recheck(path.parent, facts, make).findings())


@dataclass(frozen=True, slots=True)
class _Recheck:
    """The folder and the facts of a card, and what makes the models."""

    folder: Path
    facts: Mapping[str, Any]
    make: Make | None

    def findings(self) -> Iterator[Finding]:
        """Yield what was checked: files, then the conversion, then the outputs."""
        files = [*self._files()]
        yield from files
        if any(finding.problem for finding in files):
            return
        models: tuple[Any, Any] | None = None
        checkpoint = self._path("checkpoint") if self.facts["checkpoint"] else None
        if self.make is not None and self.facts["comparison"] is not None:
            models = self.make(self.facts["torch_model"], self.facts["keras_model"], checkpoint,
                               self._path("output"))
        source = checkpoint or (models and models[0])
        plan = Plan.load(self._path("plan"))
        if source is None:
            yield Finding(
                "conversion", "the card names neither a checkpoint nor a PyTorch model "
                "to convert again")
        else:
            yield from self._conversion(plan, source)
        if models is not None:
            yield from self._outputs(plan, *models)
        elif self.facts["comparison"] is None:
            yield Finding("outputs: the card says that they were not compared")

    def _path(self, kind: str) -> Path:
        name: str = self.facts[kind]["file"]
        if Path(name).is_absolute() or "\\" in name:
            raise ConversionError(f"the card names the file {name!r}, expected a path that begins "
                                  "in its own folder")
        return self.folder / name

    def _files(self) -> Iterator[Finding]:
        for kind in ("checkpoint", "plan", "output"):
            expected = self.facts[kind]
            if expected is None and kind == "checkpoint":
                continue
            path, digests = self._path(kind), sorted(set(expected) & {"md5", "sha256"})
            if "sha256" not in digests or (kind == "output" and "md5" not in digests):
                yield Finding(f"{kind} {path}", "the card has no digest of it")
            elif not path.is_file():
                yield Finding(f"{kind} {path}", "there is no such file")
            else:
                found = file_facts(path, self.folder, digests)
                wrong = [
                    f"{name} is {found[name]}, expected {expected[name]}"
                    for name in ("size", *digests) if found[name] != expected[name]
                ]
                yield Finding(f"{kind} {path}", "; ".join(wrong))

    def _conversion(self, plan: Plan, source: Any) -> Iterator[Finding]:
        """Convert again with the Keras file as template, and compare every value."""
        output = self._path("output")
        with tempfile.TemporaryDirectory() as folder:
            again = Path(folder) / output.name
            report = apply(plan, source, again, template=output, verify=False, durable=False)
            ours, theirs = read_stored(again), read_stored(output)
            paths = [array.path for array in theirs.layout.arrays]
            wrong = [
                one for one in paths
                if not _same(ours.read(one, SourceError), theirs.read(one, SourceError))
            ]
        names = join_names(wrong)
        yield Finding(f"values of {len(paths):,} arrays",
                      f"{names} are not what the plan makes of the source" if wrong else "")
        expected, found = self.facts["weights"], weight_facts(report)
        yield Finding(
            "status of every variable",
            "" if found == expected else f"found {_words(found)}; the card says {_words(expected)}")

    def _outputs(self, plan: Plan, torch_model: Any, keras_model: Any) -> Iterator[Finding]:
        """Run both models again, and compare with what the card says."""
        expected = self.facts["comparison"]
        source, target = read(torch_model), read_target(keras_model)
        inputs = input_pair(source.module, target,
                            InputRequest(picture=bool(expected["rescale_mode"])))
        options = VerifyOptions(len(expected["inputs"]), expected["randomized"] is not None,
                                tolerance=expected["tolerance"])
        with inputs.failures_reported():
            found = comparison_facts(compare_models(source, target, inputs, plan, options))
        for name in EXACT:
            wrong = found[name] != expected[name]
            yield Finding(
                name.replace("_", " "), f"is {found[name]!r}, the card says "
                f"{expected[name]!r}" if wrong else "")
        for name in NUMBERS:
            wrong = not _near(found[name], expected[name], found["rounding"])
            yield Finding(name.replace("_", " "), f"is {found[name]}, the card says "
                          f"{expected[name]}" if wrong else "")
        for name in SENTENCES:
            wrong = _without_numbers(found[name]) != _without_numbers(expected[name])
            yield Finding(name,
                          f"is {found[name]!r}, the card says {expected[name]!r}" if wrong else "")


def _same(one: Any, other: Any) -> bool:
    """Return whether two arrays are the same bit for bit."""
    bits = [np.ascontiguousarray(array).view(np.uint8) for array in (one, other)]
    return (one.shape, one.dtype) == (other.shape, other.dtype) and np.array_equal(bits[0], bits[1])


def _words(weights: Mapping[str, Any]) -> str:
    return join_names(f"{count} {status}" for status, (count, _) in weights.items())


def _near(found: Any, expected: Any, rounding: Any) -> bool:
    """Return whether two numbers are the same but for rounding."""
    if not (isinstance(found, float) and isinstance(expected, float)):
        return bool(found == expected)
    small, large = sorted((abs(found), abs(expected)))
    return large <= MOST_APART * small or (small == 0 and large <= rounding)


def _without_numbers(value: Any) -> str:
    """Return a text without its numbers, which rounding moves, and those that Keras gives names."""
    return re.sub(r"(keras_tensor)_\d+|\d+(\.\d+)?(e[+-]\d+)?", r"\1", str(value))
