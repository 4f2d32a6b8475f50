"""File to file beside `cp`: a safetensors file into a legacy .h5 file, the bytes of both the same, and the peak memory.

    python -m benchmarks.bench_apply [--megabytes 1000 --tensors 150] [--folder /tmp]

Neither side flushes to the disk. The first line is without read-back and check sums, the second one as shipped. Rivals
run interleaved in shuffled order; every file written is compared before its time counts.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_torch_convert.plan import ArrayKind, Assignment, Permute, Plan, Tensor
from keras_torch_convert.replay.apply import apply
from keras_torch_convert.save.layout import FileLayout, StoredArray, StoredAttribute, StoredGroup, TargetLayout
from keras_torch_convert.save.read_back import open_weights

ROUNDS = 7


def shapes_of(megabytes: int, tensors: int) -> list[tuple[int, ...]]:
    """Kernels of convolutions and matrices in turn, each about the same size."""
    elements = megabytes * 10**6 // 4 // tensors
    side, wide = round((elements / 9) ** 0.5), round(elements**0.5)
    return [
        ((side, side, 3, 3), (wide, wide), (2 * wide, max(1, wide // 2), 1, 1))[index % 3] for index in range(tensors)
    ]


def write_source(path: Path, shapes: list[tuple[int, ...]]) -> None:
    """A safetensors file of normal numbers, written tensor by tensor."""
    import json

    header: dict[str, Any] = {}
    position = 0
    for index, shape in enumerate(shapes):
        end = position + 4 * int(np.prod(shape))
        header[f"layer{index}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes:
            file.write(generator.standard_normal(int(np.prod(shape)), np.float32).data)


def make_plan(shapes: list[tuple[int, ...]]) -> Plan:
    """Every kernel from PyTorch's order of axes to Keras's, into a legacy file of one layer each."""
    assignments, targets, arrays, groups = [], {}, [], []
    for index, shape in enumerate(shapes):
        perm = (2, 3, 1, 0) if len(shape) == 4 else (1, 0)
        permuted = tuple(shape[axis] for axis in perm)
        layer = f"layer{index}"
        assignments.append(Assignment(layer, Permute(Tensor(f"{layer}.weight"), perm), "kernel"))
        targets[layer] = ArrayKind(permuted, "float32", f"{layer}/kernel")
        names = StoredAttribute("weight_names", f"|S{len(layer) + 7}", (f"{layer}/kernel",))
        groups.append(StoredGroup(f"/model_weights/{layer}", (names,)))
        arrays.append(StoredArray(f"/model_weights/{layer}/{layer}/kernel", permuted, "<f4", layer))
    config = StoredAttribute("model_config", "text", "{}")
    file = FileLayout((StoredGroup("/", (config,)), *groups), tuple(arrays))
    return Plan(tuple(assignments), targets=targets, layout=TargetLayout("keras", "3", legacy=file))


def check(path: Path, source: Path, shapes: list[tuple[int, ...]]) -> None:
    """A few tensors of the file against the source, by ways of their own."""
    from keras_torch_convert import read

    tensors = read(source)
    with open_weights(path) as file:
        for index in {0, 1, 2, len(shapes) - 1}:
            values = tensors[f"layer{index}.weight"].read()
            perm = (2, 3, 1, 0) if values.ndim == 4 else (1, 0)
            found = file[f"/model_weights/layer{index}/layer{index}/kernel"][()]
            assert np.array_equal(found, values.transpose(perm)), f"layer{index} differs"


def main() -> None:
    """Run the race and print medians and bests, as fractions of the speed of `cp`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--tensors", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--memory", nargs=2, metavar=("SOURCE", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    shapes = shapes_of(options.megabytes, options.tensors)
    plan = make_plan(shapes)
    if options.memory:
        print_memory(plan, *options.memory)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        race(Path(folder), plan, shapes, options)


def race(folder: Path, plan: Plan, shapes: list[tuple[int, ...]], options: argparse.Namespace) -> None:
    """Interleaved runs, shuffled, every one into a new file."""
    source, target = folder / "source.safetensors", folder / "target.h5"
    write_source(source, shapes)
    rivals: dict[str, Callable[[], object]] = {
        "cp": lambda: subprocess.run(["cp", "--reflink=never", "--sparse=never", source, target], check=True),
        "apply": lambda: apply(plan, source, target, verify=False, digests=(), durable=False),
        "apply with md5": lambda: apply(plan, source, target, verify=False, digests=("md5",), durable=False),
        "apply as shipped": lambda: apply(plan, source, target),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(options.rounds):
        for name in random.sample(list(rivals), len(rivals)):
            target.unlink(missing_ok=True)
            start = time.perf_counter()
            rivals[name]()
            seconds[name].append(time.perf_counter() - start)
            if name != "cp":
                check(target, source, shapes)
    best, median = min(seconds["cp"]), statistics.median(seconds["cp"])
    print(f"{options.megabytes} MB in {options.tensors} tensors, {options.rounds} rounds")
    for name, times in seconds.items():
        print(
            f"{name:18} best {min(times):7.3f} s = {best / min(times):5.2f} of cp   "
            f"median {statistics.median(times):7.3f} s = {median / statistics.median(times):5.2f} of cp"
        )
    module = [sys.executable, "-m", "benchmarks.bench_apply", "--megabytes", str(options.megabytes)]
    subprocess.run([*module, "--tensors", str(options.tensors), "--memory", source, target], check=True)


def print_memory(plan: Plan, source: str, target: str) -> None:
    """Peak of resident memory that `apply` adds to what the imports and the Plan took."""
    before = peak_memory()
    apply(plan, source, target)
    after = peak_memory()
    print(f"peak memory: {after:.1f} MiB, {after - before:.1f} MiB above the interpreter with its imports")


def peak_memory() -> float:
    """In MiB, from the kernel's own account: getrusage counts what the parent held before this program began."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
