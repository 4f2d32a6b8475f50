"""File to file on the tensors of real networks, and on shapes beside each threshold, beside `cp`.

    python -m benchmarks.bench_files [--megabytes 1200] [--rounds 7] [--networks ResNet-50,...]
                                     [--folder DIR] [--check]

Checkpoints are .safetensors and .pth in float32, bfloat16 and float16; files are .h5 and
.weights.h5. `cp` copies a file of the output's size. Neither side flushes to the disk, reads back
or hashes here: bench_apply does. A few arrays of every file are compared before its time counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.goals import Goals
from benchmarks.networks import NETWORKS, Shape, takes_transpose, tensors
from benchmarks.race import Times, print_ratios, race
from benchmarks.results import Table
from keras_torch_convert import Plan, PlanCache, apply, read
from keras_torch_convert.keras_io.weights_file import open_weights
from keras_torch_convert.plan.expressions import Expression, Permute, Tensor
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.file_layout import (FileLayout, StoredArray, StoredAttribute,
                                                  StoredGroup, TargetLayout)
from keras_torch_convert.spec.tensor_spec import TensorSpec

# Types of the checkpoint and of the file, with the checkpoints' suffixes.
CASTS = (("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16"), ("float16",
                                                                                     "float32"))
SAFETENSORS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
STORED = {"float32": "<f4", "bfloat16": "|V2"}
BARE: dict[str, Any] = {"verify": False, "digests": (), "durable": False}
# Shapes on both sides of every threshold of csrc/stream, with how many make about 0.4 GB.
SHAPES: tuple[tuple[int, Shape],
              ...] = ((400, (512, 511)), (390, (512, 520)), (100, (1024, 1024)), (90, (1040, 1024)),
                      (50, (1448, 1448)), (40, (1700, 1700)), (25, (2048, 2048)), (6, (4096, 4096)),
                      (3, (4096, 11008)), (3, (50257, 768)), (12, (8192, 1024)), (12, (1024, 8192)),
                      (40, (512, 512, 3, 3)), (40, (2048, 1024, 1, 1)))
GOAL = 0.85


@dataclass(slots=True)
class Case:
    """Tensors in a checkpoint of one type, and a Plan that gives them another one."""

    shapes: dict[str, Shape]
    stored: str
    wanted: str
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        self.plan = _plan(self.shapes, self.stored, self.wanted)

    @property
    def size(self) -> int:
        """Bytes of all values in the file."""
        itemsize = 2 if self.wanted == "bfloat16" else 4
        return itemsize * sum(map(prod, self.shapes.values()))

    def write(self, path: Path) -> None:
        """Write the checkpoint, of normal numbers, as its suffix says."""
        values = _values(self.shapes, self.stored)
        if path.suffix == ".pth":
            import torch

            torch.save(
                {
                    name: torch.from_numpy(array).view(getattr(torch, self.stored))
                    for name, array in values
                }, path)
            return
        itemsize = 2 if self.stored != "float32" else 4
        header, end = {}, 0
        for name, shape in self.shapes.items():
            start, end = end, end + itemsize * prod(shape)
            header[name] = {
                "dtype": SAFETENSORS[self.stored], "shape": shape, "data_offsets": [start, end]
            }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, array in values:
                file.write(array.data)

    def check(self, path: Path, source: Path) -> None:
        """Compare the first, the last and the largest arrays with the checkpoint."""
        checkpoint, names = read(source), list(self.shapes)
        largest = sorted(names, key=lambda name: prod(self.shapes[name]))[-3:]
        with open_weights(path) as opened:
            for name in {names[0], names[-1], *largest}:
                values = checkpoint[name].read()
                if self.stored != self.wanted:
                    values = (values.view(np.float16).astype(np.float32) if self.stored == "float16"
                              else (values.astype(np.uint32) << 16).view(np.float32))
                values = values.transpose(_perm(name, values.shape))
                found = opened.file[_path(path.name, name)][()].view(values.dtype)
                assert np.array_equal(found, values), f"{name} differs"


def _values(shapes: dict[str, Shape], dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    for name, shape in shapes.items():
        array = generator.standard_normal(shape, np.float32)
        if dtype == "float16":
            array = array.astype(np.float16)
        elif dtype == "bfloat16":
            array = (array.view(np.uint32) >> 16).astype(np.int16)
        yield name, array


def _perm(name: str, shape: Shape) -> tuple[int, ...]:
    if len(shape) == 4:
        return (2, 3, 1, 0)
    return (1, 0) if takes_transpose(name, shape) else tuple(range(len(shape)))


def _path(file: str, name: str) -> str:
    layer, _, part = name.rpartition(".")
    return (f"/layers/{name}/vars/0"
            if file.endswith(".weights.h5") else f"/model_weights/{layer or 'top'}/{part}")


def _plan(shapes: dict[str, Shape], stored: str, wanted: str) -> Plan:
    assignments, targets, sources = [], {}, {}
    legacy: dict[str, list[str]] = {}
    files: dict[str, list[StoredArray]] = {"model.h5": [], "model.weights.h5": []}
    for name, shape in shapes.items():
        perm = _perm(name, shape)
        kept = tuple(shape[axis] for axis in perm)
        moved: Expression = Tensor(name)
        if perm != tuple(range(len(perm))):
            moved = Permute(moved, perm)
        assignments.append(Assignment(name, moved, "kernel"))
        targets[name] = TensorSpec(kept, wanted, name)
        sources[name] = TensorSpec(shape, stored, name)
        layer, _, part = name.rpartition(".")
        legacy.setdefault(layer or "top", []).append(part)
        for file, arrays in files.items():
            arrays.append(StoredArray(_path(file, name), kept, STORED[wanted], name))
    layers = [
        StoredGroup(f"/model_weights/{layer}",
                    (StoredAttribute("weight_names", f"|S{max(map(len, parts))}", tuple(parts)),))
        for layer, parts in legacy.items()
    ]
    root = StoredGroup("/", (StoredAttribute("model_config", "text", "{}"),))
    return Plan(
        tuple(assignments), sources=sources, targets=targets, layout=TargetLayout(
            "keras", "3", legacy=FileLayout((root, *layers), tuple(files["model.h5"])),
            weights=FileLayout((StoredGroup("/"),), tuple(files["model.weights.h5"]))))


def one_race(case: Case, source: Path, target: Path, rounds: int) -> tuple[dict[str, Times], float]:
    """Return the times of both, and the processor time of the first run of a fresh process beyond a
    later one there, in milliseconds.
    """
    written = source.with_name(f"written{target.name}")
    apply(case.plan, source, written, **BARE)
    case.check(written, source)
    cache = PlanCache()
    copy = ["cp", "--reflink=never", "--sparse=never", written, target]
    times = race(
        {
            "cp": lambda: subprocess.run(copy, check=True),
            "apply": lambda: apply(case.plan, source, target, cache=cache, **BARE)
        }, rounds=rounds, prepare=lambda: target.unlink(missing_ok=True))
    case.check(target, source)
    plan = source.with_name("plan.json")
    case.plan.save(plan)
    program = (
        "import sys, time\n"
        "from keras_torch_convert import Plan, PlanCache, apply\n"
        "seconds, cache = [], PlanCache()\n"
        "for _ in range(3):\n"
        "    start = time.process_time()\n"
        f"    apply(Plan.load({str(plan)!r}), {str(source)!r}, {str(target)!r}, cache=cache, "
        "verify=False, digests=(), durable=False)\n"
        "    seconds.append(time.process_time() - start)\n"
        "print(seconds[0] - min(seconds[1:]))\n")
    fresh = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True,
                           text=True)
    for path in (written, target, plan):
        path.unlink()
    return times, float(fresh.stdout) * 1e3


def networks(options: argparse.Namespace, goals: Goals) -> Table:
    """Race each network in each type, from both kinds of checkpoint and into both kinds of file."""
    table = Table("File to file on the tensors of real networks",
                  ("network", "MB", "tensors", "types", "from", "to", "speed of cp, processor",
                   "speed of cp, elapsed", "first run, ms more"))
    for network in options.networks.split(","):
        for stored, wanted in CASTS:
            case = Case(tensors(network, options.megabytes * 1e6), stored, wanted)
            suffixes = (".safetensors", ".h5"), (".pth", ".weights.h5")
            for source_suffix, target_suffix in suffixes:
                with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                    source = Path(folder) / f"source{source_suffix}"
                    case.write(source)
                    times, first = one_race(case, source,
                                            Path(folder) / f"target{target_suffix}", options.rounds)
                title = f"{network}, {stored} to {wanted}, {source_suffix} to {target_suffix}"
                print_ratios(title, times, unit="cp", size=case.size, kept=False)
                ratio = times["cp"].processor / times["apply"].processor
                goals.at_least(title, ratio, GOAL)
                goals.at_most(f"{title}: the first run", first, 60, " ms")
                table.add(network, f"{case.size / 1e6:.0f}", len(case.shapes),
                          f"{stored} to {wanted}", source_suffix, target_suffix, ratio,
                          times["cp"].best / times["apply"].best, f"{first:.0f}")
    return table


def shapes(options: argparse.Namespace, goals: Goals) -> Table:
    """Race many arrays of one shape; no shape may fall far below the one before it."""
    table = Table("File to file, arrays of one shape",
                  ("arrays", "shape", *(f"{stored} to {wanted}" for stored, wanted in CASTS)))
    before = dict.fromkeys(CASTS, 0.0)
    for count, shape in SHAPES:
        ratios = []
        for stored, wanted in CASTS:
            case = Case({f"layer{index}.weight": shape for index in range(count)}, stored, wanted)
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                source = Path(folder) / "source.safetensors"
                case.write(source)
                times, _ = one_race(case, source, Path(folder) / "target.h5", options.rounds)
            ratio = times["cp"].processor / times["apply"].processor
            goals.at_least(f"{count} x {shape}, {stored} to {wanted}, beside the shape before",
                           ratio, 0.7 * before[stored, wanted])
            before[stored, wanted] = ratio
            ratios.append(ratio)
        print(f"{count:4} x {shape!s:20}" + "".join(f"{ratio:8.2f}" for ratio in ratios))
        table.add(count, " x ".join(map(str, shape)), *ratios)
    return table


def main() -> None:
    """Run the races, print them, and write their tables where the page of results finds them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--only", choices=("networks", "shapes"))
    parser.add_argument("--folder", type=Path,
                        help="where files are written; the system's folder for temporary files")
    parser.add_argument("--check", action="store_true",
                        help="end with an error when a goal is missed")
    options = parser.parse_args()
    goals, start = Goals(), time.perf_counter()
    for make in (networks, shapes):
        if options.only in (None, make.__name__):
            make(options, goals).keep()
    print(f"\n{time.perf_counter() - start:.0f} s")
    goals.close(options.check)


if __name__ == "__main__":
    main()
