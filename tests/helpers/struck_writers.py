"""Writers that are struck by a signal at a random moment of a chosen phase: run as a program, it
prints what came of each.

    python -m tests.helpers.struck_writers FOLDER SUFFIX SIGNAL COUNT

Every writer is a fork of this process, with the package imported and nothing done yet. It tells in
shared memory which phase it is in; this process waits for the chosen one, lets a random part of it
pass, and sends the signal. What counts is the phase that the writer was in when it died.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import keras_torch_convert as ktc
from keras_torch_convert.keras_io import sharded, weights_file
from keras_torch_convert.keras_io import write_from_layout as from_plan
from keras_torch_convert.plan.expressions import Permute, Tensor
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.file_layout import (ArchiveMember, FileLayout, StoredArray,
                                                  TargetLayout)
from keras_torch_convert.spec.tensor_spec import TensorSpec
from keras_torch_convert.util import hash_workers as following

PHASES = ("skeleton", "data", "hash", "rename")
# No writer and no run of them goes on for ever, whatever becomes of its signals.
SECONDS_FOR_A_WRITER, SECONDS_FOR_ALL = 60, 480
LAYERS = 60
SHAPE = (96, 160)
SHARD = 20 * 96 * 160 * 4 / sharded.GIGABYTE


def plan_of(layers: int = LAYERS) -> Plan:
    """Many transposed matrices, so that every phase takes some milliseconds."""
    keys = [f"dense{index}/0" for index in range(layers)]
    arrays = tuple(
        StoredArray(f"/layers/dense{i}/vars/0", SHAPE, "<f4", key) for i, key in enumerate(keys))
    file = FileLayout((), arrays)
    return Plan(
        tuple(
            Assignment(key, Permute(Tensor(f"w{i}"), (1, 0)), "kernel")
            for i, key in enumerate(keys)),
        targets={key: TensorSpec(SHAPE, "float32", key) for key in keys}, layout=TargetLayout(
            "keras", "3", legacy=file, weights=file, members=(ArchiveMember("config.json", "{}"),)))


def source_of(path: Path, seed: int) -> Path:
    """A checkpoint for it."""
    values = np.random.default_rng(seed).normal(size=(LAYERS, *SHAPE[::-1])).astype(np.float32)
    np.savez(path, **{f"w{index}": values[index] for index in range(LAYERS)})
    return path


def write(source: Path, path: Path) -> None:
    """One run of the writer."""
    ktc.apply(plan_of(), source, path, max_shard_size=SHARD if path.suffix == ".json" else None)


def contents(path: Path) -> dict[str, bytes]:
    """The file, or an index and all that belongs to it; anything else that its folder holds is left
    out.
    """
    names = [path.name, *(weights_file.shard_names(path) if path.suffix == ".json" else ())]
    return {name: path.with_name(name).read_bytes() for name in names}


def tell_phases(shared: mmap.mmap, shards: bool) -> None:
    """Let the package's own functions tell when their phase begins; around the rename, which takes
    no time, a moment is spent.

    Of shards the rename is that of the index, which is the switch from the old set to the new one.
    """
    def telling(phase: str, function: Callable[..., Any], pause: float = 0.0) -> Callable[..., Any]:
        def told(*arguments: Any, **options: Any) -> Any:
            shared[0] = PHASES.index(phase) + 1
            spend(pause)
            result = function(*arguments, **options)
            spend(pause)
            return result

        return told

    from_plan.make_hdf5_header = telling("skeleton",
                                         from_plan.make_hdf5_header)  # type: ignore[assignment]
    from_plan._write_pieces = telling("data", from_plan._write_pieces)
    # What is left to hash when all data is written, and the file read again.
    following.HashWorkers.__exit__ = telling(
        "hash", following.HashWorkers.__exit__)  # type: ignore[method-assign]
    from_plan.compare_with_checksums = telling("hash", from_plan.compare_with_checksums)
    if shards:
        sharded._switch = telling("rename", sharded._switch, 0.001)
    else:
        os.replace = telling("rename", os.replace, 0.001)


def spend(seconds: float) -> None:
    """Pass time without giving signals a call to end."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def fork() -> int:
    """Fork a writer that Ctrl-C interrupts, also where a shell lets background jobs ignore it, and
    that ends by itself after a while.
    """
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(SECONDS_FOR_A_WRITER)
    return child


def struck(source: Path, path: Path, phase: str, wait: float, number: int) -> str | None:
    """Run a writer and strike it `wait` seconds into a phase; the phase in which it died, None when
    it was faster.
    """
    shared = mmap.mmap(-1, 1)
    child = fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        tell_phases(shared, path.suffix == ".json")
        try:
            write(source, path)
        except KeyboardInterrupt:
            os._exit(130)
        shared[0] = 0
        os._exit(0)
    wanted = PHASES.index(phase) + 1
    while shared[0] < wanted:
        # A child that was waited for is gone, and its number may be another's: it is not struck.
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return None
        time.sleep(0.0001)
    spend(wait)
    reached = shared[0]
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    ended = os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 130
    # After a kill the shared byte cannot change any more; an interrupt runs on to its end.
    at = shared[0] if number == signal.SIGKILL else reached
    return PHASES[at - 1] if ended and at else None


def main(folder: Path, suffix: str, number: int, count: int) -> None:
    """Strike until `count` writers died, as many in each phase as in the others; print the phases
    and what was wrong.
    """
    random.seed(0)
    path = folder / f"model{suffix}"
    new = source_of(folder / "new.npz", 1)
    aside = folder / "aside"
    aside.mkdir()
    # In forks of their own: this process must not have made a skeleton, which is kept.
    for source, place in ((source_of(folder / "old.npz", 0), path), (new, aside / path.name)):
        child = fork()
        if child == 0:
            write(source, place)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    old_contents, new_contents = contents(path), contents(aside / path.name)
    assert old_contents != new_contents
    old_names = set(os.listdir(folder))
    hits: dict[str, int] = dict.fromkeys(PHASES, 0)
    came = {"old": 0, "new": 0}
    wrong: list[str] = []
    # Seconds; the index of shards is flushed before it is renamed.
    longest = {
        "skeleton": 0.004, "data": 0.006, "hash": 0.01,
        "rename": 0.04 if suffix == ".weights.json" else 0.004
    }
    end = time.monotonic() + SECONDS_FOR_ALL
    while sum(hits.values()) < count:
        if time.monotonic() > end:
            sys.exit(f"after {SECONDS_FOR_ALL} seconds no more than these were struck: {hits}")
        phase = min(PHASES, key=lambda name: hits[name])
        hit = struck(new, path, phase, random.uniform(0, longest[phase]), number)
        found = contents(path)
        # As long as this machine takes for the phase, more or less.
        longest[phase] = longest[phase] * 1.1 if hit == phase else max(longest[phase] / 2, 0.0002)
        if hit is not None:
            hits[hit] += 1
            if found not in (old_contents, new_contents):
                wrong.append(f"{hit}: neither the old file nor the new one")
            came["old" if found == old_contents else "new"] += 1
        left = set(os.listdir(folder)) - old_names
        if number == signal.SIGINT and hit is not None:
            allowed = set(contents(path)) | {f"model_{0:05}.weights.h5"}
            if left - allowed:
                wrong.append(f"{hit}: left behind {sorted(left - allowed)}")
        for name in left:
            (folder / name).unlink()
        for name, data in old_contents.items():
            (folder / name).write_bytes(data)
    print(json.dumps({"hits": hits, "came": came, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
