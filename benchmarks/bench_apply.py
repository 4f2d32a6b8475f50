"""File to file beside `cp`: a safetensors file into a legacy .h5 file, the bytes of both the same;
md5, and the peak memory.

    python -m benchmarks.bench_apply [--sizes 1000:150,100:300] [--memory 1200,5000]
                                     [--rounds 9] [--folder DIR] [--check]

Neither side flushes to the disk unless it says so. Rivals run interleaved in shuffled order; every
file written is compared before its time counts. All but the first `apply` of a process find the
skeleton of the file and the outcome of the checks where the first left them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.goals import Goals
from benchmarks.memory import peak_of
from benchmarks.race import print_ratios, race
from keras_torch_convert import PlanCache, read
from keras_torch_convert.api.file_conversion import apply
from keras_torch_convert.keras_io.weights_file import open_weights
from keras_torch_convert.plan.expressions import Permute, Tensor
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.file_layout import (FileLayout, StoredArray, StoredAttribute,
                                                  StoredGroup, TargetLayout)
from keras_torch_convert.spec.tensor_spec import TensorSpec

BLOCK = 2**20
# Fraction of the speed of `cp` that is wanted, by megabytes.
GOALS = {1000: 0.95, 100: 0.9}


def shapes_of(megabytes: int, tensors: int) -> list[tuple[int, ...]]:
    """Return kernels of convolutions and matrices in turn, each about the same size."""
    elements = megabytes * 10**6 // 4 // tensors
    side, wide = round((elements / 9)**0.5), round(elements**0.5)
    return [((side, side, 3, 3), (wide, wide), (2 * wide, max(1, wide // 2), 1, 1))[index % 3]
            for index in range(tensors)]


def write_source(path: Path, shapes: list[tuple[int, ...]]) -> None:
    """Write a safetensors file of normal numbers, tensor by tensor."""
    header: dict[str, Any] = {}
    position = 0
    for index, shape in enumerate(shapes):
        end = position + 4 * int(np.prod(shape))
        header[f"layer{index}.weight"] = {
            "dtype": "F32", "shape": shape, "data_offsets": [position, end]
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes:
            file.write(generator.standard_normal(int(np.prod(shape)), np.float32).data)


def make_plan(shapes: list[tuple[int, ...]]) -> Plan:
    """Every kernel from PyTorch's order of axes to Keras's, into a legacy file of one layer each.
    """
    assignments, targets, arrays, groups = [], {}, [], []
    for index, shape in enumerate(shapes):
        perm = (2, 3, 1, 0) if len(shape) == 4 else (1, 0)
        permuted = tuple(shape[axis] for axis in perm)
        layer = f"layer{index}"
        assignments.append(Assignment(layer, Permute(Tensor(f"{layer}.weight"), perm), "kernel"))
        targets[layer] = TensorSpec(permuted, "float32", f"{layer}/kernel")
        names = StoredAttribute("weight_names", f"|S{len(layer) + 7}", (f"{layer}/kernel",))
        groups.append(StoredGroup(f"/model_weights/{layer}", (names,)))
        arrays.append(StoredArray(f"/model_weights/{layer}/{layer}/kernel", permuted, "<f4", layer))
    config = StoredAttribute("model_config", "text", "{}")
    file = FileLayout((StoredGroup("/", (config,)), *groups), tuple(arrays))
    return Plan(tuple(assignments), targets=targets, layout=TargetLayout("keras", "3", legacy=file))


def check_file(path: Path, source: Path, shapes: list[tuple[int, ...]]) -> None:
    """Compare a few tensors of the file with the source, by means of its own."""
    tensors = read(source)
    with open_weights(path) as opened:
        for index in {0, 1, 2, len(shapes) - 1}:
            values = tensors[f"layer{index}.weight"].read()
            perm = (2, 3, 1, 0) if values.ndim == 4 else (1, 0)
            found = opened.file[f"/model_weights/layer{index}/layer{index}/kernel"][()]
            assert np.array_equal(found, values.transpose(perm)), f"layer{index} differs"


def md5_of(path: Path) -> str:
    """Return the check sum of a file that is read block by block."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_to_file(folder: Path, megabytes: int, tensors: int, rounds: int, goals: Goals) -> None:
    """Interleaved runs, shuffled, every one into a new file."""
    shapes = shapes_of(megabytes, tensors)
    plan, source, target, written = make_plan(
        shapes), folder / "source", folder / "target.h5", folder / "written.h5"
    write_source(source, shapes)
    start = time.perf_counter()
    apply(plan, source, written, verify=False, digests=(), durable=False)
    first = time.perf_counter() - start
    check_file(written, source, shapes)
    cache = PlanCache()
    checks = {
        "apply":
            lambda: apply(plan, source, target, verify=False, digests=(
            ), durable=False, cache=cache), "apply, read back":
                lambda: apply(plan, source, target, digests=(), durable=False, cache=cache),
        "apply, md5":
            lambda: apply(plan, source, target, verify=False, digests=("md5",), durable=False, cache
                          =cache), "apply as shipped, flushed":
                              lambda: apply(plan, source, target, cache=cache)
    }
    for run in checks.values():
        report = run()
        check_file(target, source, shapes)
        assert report.md5 in (None, md5_of(target))
    copy = ["cp", "--reflink=never", "--sparse=never", source, target]
    alternatives = {
        "cp": lambda: subprocess.run(copy, check=True), "md5 alone": lambda: md5_of(written),
        **checks
    }
    times = race(alternatives, rounds=rounds, prepare=lambda: target.unlink(missing_ok=True))
    title = f"{megabytes} MB in {tensors} tensors"
    print_ratios(title, times, unit="cp", size=megabytes * 1e6)
    print(f"  {'the first apply of the process':32}{first * 1e3:11.2f}")
    best = times["cp"].best / times["apply"].best
    goals.at_least(f"{title}: speed of cp", best, GOALS.get(megabytes, min(GOALS.values())))
    goals.at_most(f"{title}: time of md5 alone", times["apply, md5"].best / times["md5 alone"].best,
                  1.1)


def memory(folder: Path, megabytes: int, goals: Goals) -> None:
    """What apply holds at most, everything on, above an interpreter that imported NumPy and h5py.
    """
    tensors = 150
    source, target = folder / "source", folder / "target.h5"
    write_source(source, shapes_of(megabytes, tensors))
    bare = peak_of("import numpy, h5py")
    program = (
        "from benchmarks.bench_apply import *\n"
        f"apply(make_plan(shapes_of({megabytes}, {tensors})), {str(source)!r}, {str(target)!r})")
    largest = peak_of(program)
    print(
        f"\npeak memory of {megabytes} MB: {largest:.1f} MiB, NumPy and h5py alone {bare:.1f} MiB")
    goals.at_most(f"{megabytes} MB: memory above NumPy and h5py", largest - bare, 32, " MiB")


def main() -> None:
    """Run the races and print medians, bests and the goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000:150,100:300", help="megabytes:tensors, ...")
    parser.add_argument("--memory", default="1200,5000", help="megabytes, ...")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path,
                        help="where files are written; the system's folder for temporary files")
    parser.add_argument("--check", action="store_true",
                        help="end with an error when a goal is missed")
    options = parser.parse_args()
    goals = Goals()
    for size in filter(None, options.sizes.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            megabytes, tensors = map(int, size.split(":"))
            file_to_file(Path(folder), megabytes, tensors, options.rounds, goals)
    for megabytes in filter(None, options.memory.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            memory(Path(folder), int(megabytes), goals)
    goals.close(options.check)


if __name__ == "__main__":
    main()
