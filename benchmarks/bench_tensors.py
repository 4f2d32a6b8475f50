"""What a tensor costs, however small: file to file with 10 to 10,000 tensors of the same total.

    python -m benchmarks.bench_tensors [--megabytes 10] [--rounds 5] [--check]

h5py's part is the skeleton of the file: groups, names and data sets without values. It is made once
for a layout; here every run makes it, and checks the Plan, anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.bench_apply import apply, make_plan, shapes_of, write_source
from benchmarks.goals import Goals
from benchmarks.race import print_ratios, race
from keras_torch_convert.keras_io.hdf5_header import make_hdf5_header
from keras_torch_convert.plan.plan import Plan

COUNTS = (10, 100, 1000, 10_000)
LOADED = 8000


def main() -> None:
    """Time each number of tensors, and take the smallest away from the largest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true",
                        help="end with an error when a goal is missed")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        alternatives = {}
        for count in COUNTS:
            shapes = shapes_of(options.megabytes, count)
            source, target = Path(folder) / f"{count}.safetensors", Path(folder) / f"{count}.h5"
            write_source(source, shapes)
            plan = make_plan(shapes)
            alternatives[
                f"{count} tensors"] = lambda plan=plan, source=source, target=target: apply(
                    plan, source, target, verify=False, digests=(), durable=False)
            alternatives[f"{count} in h5py alone"] = lambda plan=plan: make_hdf5_header(plan.layout.
                                                                                        legacy)
        times = race(alternatives, rounds=options.rounds, prepare=make_hdf5_header.cache_clear)
    print_ratios(f"{options.megabytes} MB in ever smaller tensors", times, unit="10 tensors")
    few, many = COUNTS[0], COUNTS[-1]

    def each(name: str) -> float:
        return (times[f"{many} {name}"].best - times[f"{few} {name}"].best) / (many - few) * 1e3

    goals = Goals()
    goals.at_most("a tensor, all in all", each("tensors"), 0.15, " ms")
    goals.at_most("a tensor, without h5py", each("tensors") - each("in h5py alone"), 0.03, " ms")
    goals.at_most(f"a plan of {LOADED} tensors loads", seconds_to_load(options.rounds), 0.3, " s")
    goals.close(options.check)


def seconds_to_load(rounds: int) -> float:
    """Processor time for a saved plan of many tensors, with its layout, the best of some rounds."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = make_plan(shapes_of(10, LOADED)).save(Path(folder) / "x.plan.json")
        for _ in range(rounds):
            start = time.process_time()
            Plan.load(path)
            seconds.append(time.process_time() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
