"""Convert every pair of the registry with nothing told about the alignment, and judge each from
outside.

    python tests/zoo/run.py [--quick] [--name kimm_resnet18 ...] [--family kimm ...]
                            [--write docs/zoo.md] [--json FILE]

Each pair runs in a process of its own. Afterward both models run on an input that the conversion
never saw, and the difference is taken here, not from the report: a pair counts as converted when it
is below 1e-3 of the largest output and below 2 % of what the output moves by from one input to
another. A report that says equal where that does not hold is a false claim. The Plan of a converted
pair is then applied to a checkpoint of the torch weights, and the file loaded into a fresh Keras
model, which must hold the converted one's values bit for bit. Ends with 1 when there is a false
claim or a replay failed, or with --quick when a pair was not converted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from registry import PAIRS, QUICK, Pair

TOLERANCE = 1e-3
PART_OF_SENSITIVITY = 0.02
LIMIT_SECONDS = 300
# Begins the line in which a pair's own process answers; the packages print much besides.
ANSWER = "judged: "
PACKAGES = [
    "torch", "torchvision", "timm", "transformers", "keras", "keras-hub", "kimm",
    "keras-cv-attention-models", "tf-keras", "tensorflow-cpu", "numpy"
]

INTRODUCTION = """# Pairs that nobody prepared

How well does `ktc.convert(torch_model, keras_model, sample=...)` do on models that were not written
for it? `make zoo` tries every pair of tests/zoo/registry.py and writes this page
(tests/zoo/run.py). Each pair has random weights and a process of its own, and nothing tells the
conversion which layers belong together.

- **difference**: after the conversion both models run on an input that it never saw. This is the
  largest difference between their outputs, as a part of the largest output. The judge computes it,
  not the package.
- **sensitivity**: how far the output of the PyTorch model moves from one input to another, as a
  part of the largest output.
- **converted**: yes if the difference is below {tolerance:g}, and below {part:.0%} of the
  sensitivity.
- **claim**: the verdict of the report; none if the conversion was refused. A false claim is a
  report that says equal for a pair that was not converted.
- **replay**: the Plan is applied to a checkpoint of the torch weights, and a new Keras model loads
  the file. It is equal if that model has the values of the converted one, bit for bit.
"""


def judge(pair: Pair) -> dict[str, Any]:
    """Convert one pair in this process and compare the models on another input."""
    import keras_torch_convert as ktc

    result: dict[str, Any] = {}
    try:
        torch_model, keras_model = pair.build()
    except Exception as error:  # the packages' own constructors may fail with anything
        return {
            "reason":
                f"does not build: {type(error).__name__}: {' '.join(str(error).split())[-300:]}"
        }
    first, other = pair.inputs(1), pair.inputs(2)
    start = time.perf_counter()
    try:
        report = ktc.convert(torch_model, keras_model, sample=first, torch_call=pair.torch_call,
                             keras_call=pair.keras_call, strict=pair.strict)
        result |= {"claims": report.equal, "verdict": report.verdict, "notes": [report.summary()]}
    except ktc.ConversionError as error:
        report = None
        result["reason"] = f"{type(error).__name__}: {error}"
    result["seconds"] = time.perf_counter() - start
    expected, got = pair.run_torch(torch_model, other[0]), pair.run_keras(keras_model, other[1])
    scale = float(np.abs(expected).max()) or 1.0
    result["sensitivity"] = float(
        np.abs(expected - pair.run_torch(torch_model, first[0])).max()) / scale
    if expected.ndim == 4 and expected.shape != got.shape:
        expected = expected.transpose(0, 2, 3, 1)
    if expected.shape == got.shape:
        result["difference"] = float(np.abs(expected.astype(np.float64) - got).max()) / scale
    if report is not None and converted(result):
        # Said now: should the replay be too long for the limit, the conversion still counts.
        print(f"\n{ANSWER}{json.dumps(result)}", flush=True)
        result["replay"] = replay(pair, report.plan, torch_model, keras_model)
    return result


def replay(pair: Pair, plan: Any, torch_model: Any, keras_model: Any) -> str:
    """Apply the Plan to a checkpoint of the torch weights; "equal" when a fresh Keras model that
    loads the file holds the live one's values, else why not.
    """
    import torch

    import keras_torch_convert as ktc

    with tempfile.TemporaryDirectory() as folder:
        checkpoint, file = Path(folder) / "weights.pth", Path(folder) / "replayed.weights.h5"
        torch.save(torch_model.state_dict(), checkpoint)
        try:
            ktc.apply(plan, checkpoint, file, strict=pair.strict)
            fresh = pair.keras_model()
            fresh.load_weights(file)
        except Exception as error:  # whatever Keras or the package raises is the answer
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    expected, found = keras_model.get_weights(), fresh.get_weights()
    if len(expected) != len(found):
        return f"{len(found)} weights instead of {len(expected)}"
    differ = sum(
        one.tobytes() != other.tobytes() for one, other in zip(expected, found, strict=True))
    return f"{differ} of {len(expected)} weights differ" if differ else "equal"


def run_pair(pair: Pair) -> dict[str, Any]:
    """The judgment of one pair, made in a process of its own."""
    environment = {
        **os.environ, **pair.environment, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"
    }
    command = [sys.executable, __file__, "--judge", pair.name]
    try:
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True,
                              timeout=LIMIT_SECONDS)
        output, ending = done.stdout, f"the process died: {' '.join(done.stderr.split())[-300:]}"
    except subprocess.TimeoutExpired as error:
        # In spite of text=True the output so far comes as bytes.
        output = (error.stdout or b"").decode(errors="replace")
        ending = f"over the limit of {LIMIT_SECONDS} seconds"
    answers = [line for line in output.splitlines() if line.startswith(ANSWER)]
    if not answers:
        return {"reason": ending}
    found: dict[str, Any] = json.loads(answers[-1].removeprefix(ANSWER))
    return {**found, "replay": ending} if converted(found) and "replay" not in found else found


def converted(result: dict[str, Any]) -> bool:
    """Whether the outputs agree, as the judge sees it."""
    if "reason" in result or "difference" not in result:
        return False
    return bool(result["difference"] < min(TOLERANCE, PART_OF_SENSITIVITY * result["sensitivity"]))


def in_short(result: dict[str, Any]) -> str:
    """Why a pair was not converted, for a cell of a table."""
    if converted(result):
        return ""
    reason = result.get("reason") or "; ".join(result.get("notes", ())) or "the outputs differ"
    return " ".join(reason.split()).replace("|", "/")[:420]


def line_of(name: str, result: dict[str, Any]) -> str:
    """One pair for a terminal."""
    state = "converted" if converted(result) else "NOT converted"
    replayed = f"replay: {result['replay']}" if "replay" in result else ""
    return (f"{name:36s} {state:14s} {result.get('difference', float('nan')):9.1e} "
            f"{result.get('seconds', 0):7.1f} s  "
            f"{replayed}{in_short(result)[:150]}")


def page(results: dict[str, dict[str, Any]]) -> str:
    """The results as a page of the documentation."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    lines = [
        INTRODUCTION.format(tolerance=TOLERANCE, part=PART_OF_SENSITIVITY),
        (f"{len(results)} of the {len(PAIRS)} pairs of the registry; {date.today().isoformat()}, "
         f"Python {platform.python_version()}, {os.cpu_count()} processors, {versions}."), "",
        "| family | pairs | converted | replayed | false claims | seconds |",
        "| --- | --- | --- | --- | --- | --- |"
    ]
    families = list(dict.fromkeys(PAIRS[name].family for name in results))
    for family in [*families, "all"]:
        of_it = [
            result for name, result in results.items() if family in ("all", PAIRS[name].family)
        ]
        seconds = sum(result.get("seconds", 0) for result in of_it)
        lines.append(f"| {family} | {len(of_it)} | {sum(map(converted, of_it))} | "
                     f"{sum(one.get('replay') == 'equal' for one in of_it)} | "
                     f"{sum(map(is_false_claim, of_it))} | {seconds:.0f} |")
    lines += [
        "",
        ("| pair | Keras and torch | converted | difference | sensitivity | seconds | claim | "
         "replay | why not |"), "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    ]
    for name, result in results.items():
        number = [
            f"{result[key]:.1e}" if key in result else "" for key in ("difference", "sensitivity")
        ]
        claim = result.get("verdict", "none")
        yes = "yes" if converted(result) else "no"
        seconds = f"{result['seconds']:.1f}" if "seconds" in result else ""
        replay_of = str(result.get("replay", "")).replace("|", "/")
        lines.append(
            f"| {name} | {PAIRS[name].words} | {yes} | {number[0]} | {number[1]} | {seconds} | "
            f"{claim} | {replay_of} | {in_short(result)} |")
    return "\n".join(lines) + "\n"


def is_false_claim(result: dict[str, Any]) -> bool:
    """True when the report says equal and the judge does not."""
    return result.get("claims") is True and not converted(result)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pairs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", action="append", default=[], choices=sorted(PAIRS),
                        metavar="NAME")
    parser.add_argument("--family", action="append", default=[])
    parser.add_argument("--quick", action="store_true", help="eight small pairs")
    parser.add_argument("--write", help="the page to write")
    parser.add_argument(
        "--json", help="the results as data; pairs that stand in it already are not run again")
    parser.add_argument("--judge", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.judge:
        print(f"\n{ANSWER}{json.dumps(judge(PAIRS[options.judge]))}", flush=True)
        return 0
    known = json.loads(Path(
        options.json).read_text()) if options.json and Path(options.json).exists() else {}
    wanted = [
        name for name, pair in PAIRS.items()
        if (name in QUICK if options.quick else True) and (not options.name or name in options.name)
        and (not options.family or pair.family in options.family)
    ]
    results = {}
    for name in wanted:
        results[name] = known[name] if name in known else run_pair(PAIRS[name])
        print(line_of(name, results[name]), flush=True)
        if options.json:
            Path(options.json).write_text(json.dumps({**known, **results}, indent=1))
    if options.write:
        Path(options.write).write_text(page(results))
    count, false = sum(map(converted, results.values())), sum(map(is_false_claim, results.values()))
    # A result kept in --json from before replays were made has none.
    unreplayed = [
        name for name, result in results.items() if result.get("replay", "equal") != "equal"
    ]
    print(f"{false} false claims, {len(unreplayed)} converted pairs not replayed "
          f"{' '.join(unreplayed)}".rstrip())
    print(f"{count} passed, {len(results) - count} failed")
    return int(false > 0 or bool(unreplayed) or (options.quick and count < len(results)))


if __name__ == "__main__":
    sys.exit(main())
