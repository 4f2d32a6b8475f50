"""The conversion card: one Markdown file with YAML front matter, as on the Hugging Face Hub, that
says what was converted from what, how it was proven, and the digests to check it again by.

The front matter has all facts, each value as JSON, which is YAML too. The body is written from
them, so that a card whose body says anything else was changed. The format of the front matter is
that of https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConversionError
from ..plan.ledger import TARGET_STATUSES
from ..util.file_limits import read_text
from ..util.hash_workers import digests_of
from ..util.text import shorten
from .data import ReportData

if TYPE_CHECKING:
    from ..comparison.verdict import Comparison

VERSION = 1
PACKAGES = ("keras-torch-convert", "numpy", "h5py", "torch", "keras", "tf-keras")
# What is compared as it is, as a number that rounding may move, and as text whose numbers may move.
EXACT = ("verdict", "randomized", "unnoticed_swaps", "rescale_mode", "softmax_only_in",
         "top5_agree", "tolerance")
NUMBERS = ("max_abs_diff", "relative_diff", "rounding", "noise", "sensitivity", "instability")
SENTENCES = ("inputs", "cause", "settings", "notes")
# What a card must say, and of which types.
_FILE = {"file": str, "size": int, "sha256": str}
_TYPES: dict[str, Any] = {
    "card": int, "source": str, "target": str, "checkpoint": (dict, type(None)), "revision": str,
    "plan": dict, "output": dict, "torch_model": str, "keras_model": str, "made_with": dict,
    "weights": dict, "comparison": (dict, type(None))
}
_LINE = re.compile(r"^(  )?([a-z0-9_]+):(?: (.*))?$")


def file_facts(path: Path, folder: Path, digests: Sequence[str]) -> dict[str, Any]:
    """Return the name of a file, seen from the folder of the card, its size and its digests."""
    name = Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    return {"file": name, "size": path.stat().st_size, **digests_of(path, digests)}


def comparison_facts(found: Comparison) -> dict[str, Any]:
    """Return what a card says of a comparison."""
    divergence = found.first_divergence
    return {
        "verdict": found.verdict, "tolerance": found.tolerance, "top5_agree": found.top5_agree,
        **{name: _number(getattr(found, name)) for name in NUMBERS},
        "inputs": list(found.inputs), "rescale_mode": found.rescale_mode,
        "softmax_only_in": found.softmax_only_in,
        "randomized": None if found.randomized is None else found.randomized.verdict,
        "unnoticed_swaps": [list(pair) for pair in found.unnoticed_swaps],
        "settings": list(found.settings), "notes": list(found.notes),
        "cause": "" if divergence is None else f"{divergence.keras_layer}: {divergence.cause}"
    }  # yapf: disable


def _number(value: float | None) -> float | str | None:
    """Return a number as JSON knows it: infinity and NaN are text."""
    return value if value is None or math.isfinite(value) else str(value)


def weight_facts(report: ReportData) -> dict[str, list[int]]:
    """Return the number of variables of each status, and of their parameters."""
    return {
        total.status: [total.number, total.parameters]
        for total in report.totals() if total.status in TARGET_STATUSES and total.number
    }


def card_facts(report: ReportData, files: Mapping[str, Any], models: Mapping[str, str],
               comparison: Comparison | None) -> dict[str, Any]:
    """Return all that a card says of a conversion."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "card": VERSION, "source": report.source, "target": report.target,
        **files, "torch_model": models["torch"], "keras_model": models["keras"],
        "made_with": versions, "weights": weight_facts(report),
        "comparison": None if comparison is None else comparison_facts(comparison)
    }


def card_text(about: Mapping[str, str], facts: Mapping[str, Any]) -> str:
    """Return the whole card.

    Args:
        about: What the Hub reads: license, base_model and others.
        facts: Those of `card_facts`.
    """
    lines = ["---", *(f"{key}: {_json(value)}" for key, value in about.items()), "conversion:"]
    lines += [f"  {key}: {_json(value)}" for key, value in facts.items()]
    lines += [f"  facts_sha256: {_json(_digest(about, facts))}", "---", "", *_body(about, facts)]
    return "\n".join(lines) + "\n"


def read_card(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what a card says, as `card_text` takes it.

    Raises:
        ConversionError: It is no card, or not as it was written.
    """
    try:
        text = read_text(path, ConversionError, "a conversion card")
        head = text.split("---\n")[1]
        about, facts = _parsed(head)
        facts.pop("facts_sha256", None)
        _check_types(facts)
        written = card_text(about, facts)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConversionError(f"{path} is not a conversion card: {type(error).__name__}: "
                              f"{shorten(str(error), 200)}") from error
    if facts.get("card") != VERSION:
        raise ConversionError(f"{path} is a card of version {facts.get('card')}, expected "
                              f"{VERSION}; update keras-torch-convert")
    if text != written:
        number = _first_difference(text, written)
        raise ConversionError(
            f"{path} was changed after it was written: line {number} is not what its facts say")
    return about, facts


def _parsed(head: str) -> tuple[dict[str, str], dict[str, Any]]:
    about: dict[str, str] = {}
    facts: dict[str, Any] = {}
    for line in head.splitlines():
        found = _LINE.match(line)
        if found is None:
            raise ValueError(f"{line[:60]!r} is not a line of a card")
        indent, key, value = found.groups()
        if key != "conversion" or indent:
            (facts if indent else about)[key] = json.loads(value)
    return about, facts


def _check_types(facts: Mapping[str, Any]) -> None:
    """Raise ValueError unless the facts are all there and nothing else is."""
    files = [(facts["plan"], _FILE), (facts["output"], _FILE | {"md5": str})]
    files += [(facts["checkpoint"], _FILE)] if facts["checkpoint"] is not None else []
    for found, expected in [(facts, _TYPES), *files]:
        if set(found) != set(expected):
            raise ValueError(f"its facts are {sorted(found)}, expected {sorted(expected)}")
        wrong = [key for key, kind in expected.items() if not isinstance(found[key], kind)]
        if wrong:
            raise ValueError(f"{wrong[0]} is {found[wrong[0]]!r}")
    compared, names = facts["comparison"], {*EXACT, *NUMBERS, *SENTENCES}
    if compared is not None and set(compared) != names:
        raise ValueError(f"its comparison says {sorted(compared)}, expected {sorted(names)}")


def _first_difference(text: str, other: str) -> int:
    """Return the number of the first line that differs."""
    pairs = zip(text.split("\n"), other.split("\n"), strict=False)
    same = next((number for number, (one, two) in enumerate(pairs) if one != two), None)
    return 1 + (min(text.count("\n"), other.count("\n")) if same is None else same)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _digest(about: Mapping[str, str], facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(_json([about, facts]).encode()).hexdigest()


def _body(about: Mapping[str, str], facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the readable part, line by line."""
    found, output, source = facts["comparison"], facts["output"], facts["checkpoint"]
    yield f"# {output['file']}"
    yield ""
    base = f" of `{about['base_model']}`" if about.get("base_model") else ""
    yield (f"PyTorch weights{base} as a Keras file, converted by "
           "[keras_torch_convert](https://pypi.org/project/keras-torch-convert/).")
    yield ""
    yield from _comparison_lines(found)
    yield "## Files"
    yield ""
    yield "| | file | bytes | sha256 |"
    yield "| --- | --- | --- | --- |"
    for label, file in (("source", source), ("plan", facts["plan"]), ("result", output)):
        if file is not None:
            yield f"| {label} | `{file['file']}` | {file['size']:,} | `{file['sha256']}` |"
    yield ""
    yield f"The md5 of the result is `{output['md5']}`. The source was {facts['source']}."
    if facts["revision"]:
        yield f"Its revision is `{facts['revision']}`."
    yield ""
    yield "## Weights"
    yield ""
    for status, (number, parameters) in facts["weights"].items():
        yield f"- {status}: {number:,} variables, {parameters:,} parameters"
    yield ""
    yield "## Check it again"
    yield ""
    yield "```shell"
    yield "keras-torch-convert recheck CARD.md"
    yield "```"
    yield ""
    versions = ", ".join(f"{name} {version}" for name, version in facts["made_with"].items())
    yield (f"PyTorch model: `{facts['torch_model'] or 'not named'}`. Keras model: "
           f"`{facts['keras_model'] or 'not named'}`. Made with {versions}.")


def _comparison_lines(found: Mapping[str, Any] | None) -> Iterator[str]:
    yield "## Proof"
    yield ""
    if found is None:
        yield "The outputs of the two models were not compared."
        yield ""
        return
    yield f"**{found['verdict']}**: the outputs of both models on {len(found['inputs'])} inputs."
    yield ""
    for label, key in (("largest difference", "max_abs_diff"),
                       ("as a fraction of PyTorch's largest output",
                        "relative_diff"), ("fraction that rounding explains",
                                           "rounding"), ("fraction that was accepted", "tolerance"),
                       ("noise floor: PyTorch against a wider type",
                        "noise"), ("sensitivity: from one input to another", "sensitivity"),
                       ("change when every weight is changed by 1e-4", "instability")):
        value = found[key]
        text = f"{value:.2e}" if isinstance(value, float) else value
        yield f"- {label}: {'not measured' if value is None else text}"
    swaps = [f"{one} with {other}" for one, other in found["unnoticed_swaps"]]
    unseen = "not looked for" if found["randomized"] is None else "; ".join(swaps) or "none"
    yield f"- with random values in both models: {found['randomized'] or 'not compared'}"
    yield f"- swaps that would go unnoticed: {unseen}"
    yield f"- inputs: {'; '.join(found['inputs'])}"
    yield f"- preprocessing of pictures: {found['rescale_mode'] or 'no picture was used'}"
    known = [found["cause"], *found["settings"], *found["notes"]]
    yield f"- known differences: {'; '.join(filter(None, known)) or 'none'}"
    yield ""
