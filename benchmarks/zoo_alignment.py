"""The table of `python -m benchmarks.bench_align --zoo [pair ...]`: what alignment by running costs
over the pairs of tests/zoo, in the environment that they are installed in.

Each pair is aligned in a process of its own. The goals are three passes in the middle, and no pair
over a minute of processor time on two cores.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "zoo"))

from registry import PAIRS

LIMIT_SECONDS = 600
MOST_SECONDS = 60
MOST_PASSES_IN_THE_MIDDLE = 3


def aligned(name: str) -> dict[str, Any]:
    """Align one pair in this process; passes of the Keras model, seconds, layers, what came out."""
    import keras_torch_convert as ktc
    from tests.helpers.align_seeded import counted_passes

    pair = PAIRS[name]
    torch_model, keras_model = pair.build()
    outcome, layers, start = "aligned", 0, (time.perf_counter(), time.process_time())
    with counted_passes() as passes:
        try:
            plan = ktc.align(torch_model, keras_model, sample=pair.inputs(1),
                             torch_call=pair.torch_call, keras_call=pair.keras_call)
            layers = len(plan.pairs)
        except ktc.ConversionError as error:
            outcome = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    elapsed, worked = time.perf_counter() - start[0], time.process_time() - start[1]
    return {
        "layers": layers, "passes": passes[0], "seconds": elapsed, "processor": worked,
        "outcome": outcome
    }


def in_a_process(name: str) -> dict[str, Any]:
    """The same in a process of its own, in the environment that the pair needs."""
    environment = {
        **os.environ, **PAIRS[name].environment, "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3"
    }
    command = [sys.executable, "-m", "benchmarks.zoo_alignment", name]
    nothing = {"layers": 0, "passes": 0, "seconds": float(LIMIT_SECONDS), "processor": 0.0}
    try:
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True,
                              timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return {**nothing, "outcome": f"no answer in {LIMIT_SECONDS} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"layers"')]
    if not lines:
        return {**nothing, "outcome": f"died: {' '.join(done.stderr.split())[-150:]}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def measure_zoo(names: Sequence[str]) -> None:
    """Print a line for each pair, and how the whole compares with the goals."""
    print(f"{'pair':36}{'layers':>8}{'passes':>8}{'seconds':>9}{'of them worked':>16}  outcome")
    found = {}
    for name in names or sorted(PAIRS):
        one = found[name] = in_a_process(name)
        print(
            f"{name:36}{one['layers']:8}{one['passes']:8}{one['seconds']:9.1f}"
            f"{one['processor']:16.1f}  {one['outcome']}", flush=True)
    passes = [one["passes"] for one in found.values() if one["passes"]]
    slow = [name for name, one in found.items() if one["seconds"] > MOST_SECONDS]
    print(f"passes in the middle: {statistics.median(passes) if passes else 0:g} (goal "
          f"{MOST_PASSES_IN_THE_MIDDLE}), at most {max(passes, default=0)}; over {MOST_SECONDS} s: "
          f"{', '.join(slow) or 'none'}")


if __name__ == "__main__":
    print(json.dumps(aligned(sys.argv[1])))
