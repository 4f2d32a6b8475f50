"""Seed faults of every kind into pairs drawn from the registry, and count what `verify` says about
them.

    python tests/zoo/run_faults.py --seed 1 [--pairs 10] [--name kimm_resnet18 ...]
                                   [--fault epsilon ...] [--write docs/diagnosis.md] [--json FILE]

Pairs are drawn by the seed; one that does not convert, or whose models are found to differ by
themselves (which is said, with the cause), is replaced by the next. Each runs in a process of its
own: it is converted once, verified without a fault, and then gets one fault after the other (of
`--faults` kinds, drawn by the seed), each at a place drawn by the seed, and is put back. A fault is
named exactly when the kind of cause and the Keras layer or torch module are right, wrongly when a
cause was named that is not; places where no output shows the fault are drawn anew. Ends with 1 when
a cause was named wrongly, a pair without a fault was blamed, or fewer than 90 % were named exactly.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from registry import PAIRS
from registry import Pair as Registered

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.helpers.faults import Fault, Pair, every_fault, values_of, verdict

MOST_PLACES = 3
LIMIT_SECONDS = 900
NOT_COUNTED = ("invisible", "does not run")


def run_pair(name: str, seed: int, wanted: Sequence[str], most: int) -> dict[str, Any]:
    """Every fault in one pair, in this process."""
    import keras_torch_convert as ktc

    registered = PAIRS[name]
    try:
        torch_model, keras_model = registered.build()
        sample = registered.inputs(1)
        calls = {"torch_call": registered.torch_call, "keras_call": registered.keras_call}
        report = ktc.convert(torch_model, keras_model, sample=sample, strict=registered.strict,
                             **calls)
    except Exception as error:
        # A pair that cannot be built or converted is none to seed faults into.
        return {"converted": False, "reason": f"{type(error).__name__}: {str(error)[:200]}"}
    if report.verdict not in ("equal", "close"):
        return {"converted": False, "reason": "not shown to be equal"}
    clean = ktc.verify(torch_model, keras_model, plan=report.plan, sample=sample, **calls)
    divergence = clean.first_divergence
    if divergence is not None and divergence.cause and divergence.kind:
        return {
            "converted": False,
            "reason": f"differs by itself: {divergence.keras_layer}: {divergence.cause}"
        }
    result = {"converted": True, "blamed": divergence is not None, "faults": []}
    faults = [
        fault for fault in every_fault() if not wanted or any(word in fault.name for word in wanted)
    ]
    shown = 0
    for fault in random.Random(f"{seed} {name}").sample(faults, len(faults)):
        if shown >= most:
            break
        found = run_fault(registered, fault,
                          Pair(torch_model, keras_model, report.plan, sample, calls), seed)
        if found:
            shown += found["said"] not in NOT_COUNTED
            result["faults"].append(found)
            print(f"{name:32s} {fault.name:48s} {found['said']:9s} {found.get('text', '')[:200]}",
                  flush=True)
    return result


def run_fault(registered: Registered, fault: Fault, whole: Pair,
              seed: int) -> dict[str, Any] | None:
    """One fault at a place drawn by the seed, None when there is no place for it."""
    import keras_torch_convert as ktc

    count = len(fault.places(whole))
    generator = random.Random(f"{seed} {registered.name} {fault.name}")
    said: dict[str, Any] | None = None
    for number in generator.sample(range(count), min(count, MOST_PLACES)):
        pair = Pair(copy.deepcopy(whole.torch_module), whole.keras_model, whole.plan, whole.sample,
                    whole.calls)
        with rollback(pair):
            seeded = fault.put(pair, fault.places(pair)[number])
            start = time.perf_counter()
            try:
                result = ktc.verify(pair.torch_module, pair.keras_model, plan=pair.plan,
                                    sample=pair.sample, inputs=1, randomized=False, **pair.calls)
            except ktc.PredictionError as error:
                said = {"fault": fault.name, "said": "does not run", "text": str(error)[:200]}
                continue
            if result.first_divergence is None and not result.unexplained:
                said = {"fault": fault.name, "said": "invisible"}
                continue
            divergence = result.first_divergence
            place = ("" if divergence is None else
                     f"{divergence.keras_layer} {divergence.torch_module}: {divergence.kind}: "
                     f"{divergence.cause}")
            return {
                "fault": fault.name, "said": verdict(divergence, fault, seeded),
                "text": f"seeded {seeded}; {place}", "seconds": time.perf_counter() - start,
                "notes": [note for note in result.notes if "internal error" in note]
            }
    return said


@contextmanager
def rollback(pair: Pair) -> Iterator[None]:
    """Attributes, classes and weights of all layers of the Keras model as before afterward."""
    layers = [(layer, layer.__class__, dict(layer.__dict__)) for layer in pair.layers("Layer")]
    weights = [
        (variable, values_of(variable)) for leaf in pair.leaves() for variable in leaf.variables
    ]
    try:
        yield
    finally:
        for layer, kind, attributes in layers:
            layer.__class__ = kind
            layer.__dict__.clear()
            layer.__dict__.update(attributes)
        for variable, values in weights:
            if not np.array_equal(values_of(variable), values):
                variable.variable.assign(values)


def in_a_process(name: str, seed: int, wanted: Sequence[str], most: int) -> dict[str, Any]:
    """The same in a process of its own, in the environment that the pair needs."""
    pair = PAIRS[name]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "result.json")
        command = [sys.executable, __file__, "--seed", str(seed), "--one", name, "--json", str(out)]
        command += ["--faults", str(most)]
        command += [part for word in wanted for part in ("--fault", word)]
        environment = {
            **os.environ, **pair.environment, "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3"
        }
        try:
            subprocess.run(command, env=environment, timeout=LIMIT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return {"converted": False, "reason": "took too long"}
        return json.loads(
            out.read_text()) if out.exists() else {"converted": False, "reason": "no answer"}


def table(results: dict[str, dict[str, Any]], left_out: dict[str, str], seed: int) -> list[str]:
    """The results as lines of Markdown: a row for each kind of fault; and what was drawn and left
    out.
    """
    by_fault: dict[str, Counter[str]] = {}
    for result in results.values():
        for found in result["faults"]:
            by_fault.setdefault(found["fault"], Counter())[found["said"]] += 1
    lines = [
        f"Seed {seed}: {', '.join(results)}.", "",
        "| fault | seeded | named exactly | cause unknown | named wrongly |"
    ]
    lines.append("| --- | --- | --- | --- | --- |")
    total: Counter[str] = Counter()
    for name, counts in by_fault.items():
        shown = sum(count for said, count in counts.items() if said not in NOT_COUNTED)
        total.update(counts)
        if shown:
            lines.append(f"| {name} | {shown} | {counts['exact']} | {counts['unknown']} | "
                         f"{counts['wrong']} |")
    shown = sum(count for said, count in total.items() if said not in NOT_COUNTED)
    lines.append(f"| **all** | **{shown}** | **{total['exact']}** | **{total['unknown']}** | "
                 f"**{total['wrong']}** |")
    blamed = sum(result["blamed"] for result in results.values())
    lines += ["", f"Pairs without a fault that were blamed: {blamed} of {len(results)}.", ""]
    lines += [f"Left out: {name} ({reason.splitlines()[0]})." for name, reason in left_out.items()
             ] + [""]
    return lines


def passed(results: dict[str, dict[str, Any]]) -> bool:
    """Whether enough was named exactly and nothing wrongly."""
    said = Counter(found["said"] for result in results.values() for found in result["faults"])
    shown = said["exact"] + said["unknown"] + said["wrong"]
    return not said["wrong"] and said["exact"] >= 0.9 * shown and not any(r["blamed"]
                                                                          for r in results.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--name", action="append", default=[])
    parser.add_argument("--faults", type=int, default=1000,
                        help="most kinds in a pair, drawn by the seed")
    parser.add_argument("--fault", action="append", default=[],
                        help="only faults whose names hold this")
    parser.add_argument("--write", type=Path,
                        help="Markdown file whose table for this seed is replaced")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        arguments.json.write_text(
            json.dumps(run_pair(arguments.one, arguments.seed, arguments.fault, arguments.faults)))
        return 0
    possible = sorted(PAIRS)
    drawn = arguments.name or random.Random(arguments.seed).sample(possible, len(possible))
    results: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for name in drawn:
        if len(results) == (len(arguments.name) or arguments.pairs):
            break
        result = in_a_process(name, arguments.seed, arguments.fault, arguments.faults)
        if result["converted"]:
            results[name] = result
        else:
            left_out[name] = result["reason"]
            print(f"{name:32s} left out: {result['reason']}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1))
    lines = table(results, left_out, arguments.seed)
    print("\n".join(lines))
    if arguments.write:
        write(arguments.write, arguments.seed, lines)
    return 0 if passed(results) else 1


def write(path: Path, seed: int, lines: Sequence[str]) -> None:
    """Put the table between the marks of its seed."""
    start, end = f"<!-- seed {seed} -->", f"<!-- end of seed {seed} -->"
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    path.write_text("\n".join([f"{before}{start}", *lines, f"{end}{after}"]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
