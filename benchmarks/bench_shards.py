"""One checkpoint of many shards into many shards of Keras, as shipped (read back and flushed),
beside `cp` and fsync of the same bytes; and the memory that the first shards of 140 GB take.

    python -m benchmarks.bench_shards [--megabytes 500] [--rounds 7] [--folder DIR] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench_files import SAFETENSORS, Case
from benchmarks.goals import Goals
from benchmarks.memory import peak_of
from benchmarks.networks import Shape
from benchmarks.race import print_ratios, race
from keras_torch_convert import Plan, apply, apply_many, read
from keras_torch_convert.keras_io.weights_file import shard_names

SHARDS = 5
GIGABYTE = 2**30
# Llama-70B's, with the most that one of its shards holds.
LAYERS, WIDTH, INNER, HEADS, ROWS = 80, 8192, 28672, 1024, 32000
LARGE_SHARD = 1.0


def write_source(folder: Path, cases: list[Case]) -> Path:
    """Write a safetensors file for each case, and their index."""
    names = {}
    for number, case in enumerate(cases):
        name = f"model-{number}.safetensors"
        case.write(folder / name)
        names |= dict.fromkeys(case.shapes, name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return index


def copy(sources: list[Path], folder: Path) -> None:
    """Copy files, and wait until they lie on the disk."""
    subprocess.run(["cp", "--reflink=never", "--sparse=never", *sources, folder], check=True)
    for source in sources:
        with (folder / source.name).open("rb") as file:
            os.fsync(file.fileno())


def shard_to_shard(folder: Path, megabytes: int, rounds: int, goals: Goals) -> None:
    """Interleaved runs, each into new files."""
    side = round((megabytes * 1e6 / 4 / SHARDS / 6)**0.5)
    parts = [{f"layer{number}{index}.weight": (side, side) for index in range(6)}
             for number in range(SHARDS)]  # yapf: disable
    whole = Case({name: shape for part in parts
                  for name, shape in part.items()}, "float32", "float32")
    source = write_source(folder, [Case(part, "float32", "float32") for part in parts])
    size = whole.size / SHARDS * 1.001 / GIGABYTE
    out, index = folder / "out", folder / "out" / "model.weights.json"
    out.mkdir()
    entry = {"plan": whole.plan, "source": source, "output": index, "max_shard_size": size}

    def with_results() -> None:
        assert apply_many([entry], workers=0, results=out / "many.results.jsonl")

    def prepare() -> None:
        for file in out.iterdir():
            file.unlink()

    with_results()
    assert len(shard_names(index)) == SHARDS
    check(index, source, whole)
    prepare()
    files = sorted(folder.glob("*.safetensors"))
    times = race(
        {
            "cp and fsync": lambda: copy(files, out), "apply_many(workers=0)": with_results,
            "apply": lambda: apply(whole.plan, source, index, max_shard_size=size)
        }, rounds=rounds, prepare=prepare)
    title = f"{megabytes} MB in {SHARDS} shards"
    print_ratios(title, times, unit="cp and fsync", size=megabytes * 1e6)
    for name in ("apply_many(workers=0)", "apply"):
        goals.at_most(f"{title}: {name}, time of cp and fsync",
                      times[name].median / times["cp and fsync"].median, 1.15)


def check(index: Path, source: Path, case: Case) -> None:
    """Compare a tensor of each shard with the checkpoint."""
    from keras_torch_convert.keras_io.keras_source import read_keras_file

    plan = case.plan.invert()
    found, wanted = read_keras_file(index, plan), read(source)
    for name in list(case.shapes)[::6]:
        assert (wanted[name].read() == found[name].read().T).all(), f"{name} differs"


def large_shapes() -> Iterator[tuple[str, Shape]]:
    """The names and shapes of Llama-70B."""
    yield "embed.weight", (ROWS, WIDTH)
    for layer in range(LAYERS):
        yield f"{layer}.q.weight", (WIDTH, WIDTH)
        yield f"{layer}.k.weight", (HEADS, WIDTH)
        yield f"{layer}.v.weight", (HEADS, WIDTH)
        yield f"{layer}.o.weight", (WIDTH, WIDTH)
        yield f"{layer}.gate.weight", (INNER, WIDTH)
        yield f"{layer}.up.weight", (INNER, WIDTH)
        yield f"{layer}.down.weight", (WIDTH, INNER)
        yield f"{layer}.norm.weight", (WIDTH,)
    yield "head.weight", (ROWS, WIDTH)


def write_holes(path: Path, shapes: dict[str, Shape]) -> int:
    """Write a bfloat16 checkpoint whose values are a hole; return its size."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {
            "dtype": SAFETENSORS["bfloat16"], "shape": shape, "data_offsets": [start, end]
        }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return end


def first_shards(source: str, target: str, count: int) -> None:
    """Write the first shards of Llama-70B, as a worker does."""
    from keras_torch_convert.api.batch.manifest import Job
    from keras_torch_convert.api.batch.tasks import WorkerPlan, count_shards, run_shard

    plan: Plan = Case(dict(large_shapes()), "bfloat16", "bfloat16").plan
    job = Job(plan, Path(source), Path(target), max_shard_size=LARGE_SHARD)
    count_shards(job, plan)
    for number in range(count):
        result = run_shard(job, WorkerPlan(plan), number, None)
        assert not result.error, result.error
        assert result.shard is not None
        Path(target).with_name(result.shard.name).unlink()


def memory(folder: Path, goals: Goals) -> None:
    """What the shards take above the interpreter."""
    source, target = folder / "large.safetensors", folder / "large.weights.json"
    size = write_holes(source, dict(large_shapes()))
    bare = peak_of("import numpy, h5py")
    largest = peak_of("from benchmarks.bench_shards import *\n"
                      f"first_shards({str(source)!r}, {str(target)!r}, 3)")
    print(f"\npeak memory of 3 shards of {size / 1e9:.0f} GB: {largest:.1f} MiB, NumPy and h5py "
          f"alone {bare:.1f} MiB")
    goals.at_most(f"{size / 1e9:.0f} GB: memory above NumPy and h5py", largest - bare, 160, " MiB")


def main() -> None:
    """Run the race and measure the memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path,
                        help="where files are written; the system's folder for temporary files")
    parser.add_argument("--check", action="store_true",
                        help="end with an error when a goal is missed")
    options = parser.parse_args()
    goals = Goals()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        shard_to_shard(Path(folder), options.megabytes, options.rounds, goals)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        memory(Path(folder), goals)
    goals.close(options.check)


if __name__ == "__main__":
    main()
