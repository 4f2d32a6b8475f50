"""Strided copies beside memcpy, NumPy and torch: `python -m benchmarks.bench_permute [--rounds 15]
[--sets avx2,avx512]`.

Every round runs all rivals of a case once, in a fresh random order, so that a busy moment of the
machine hits all alike. Figures are medians and the best round, as a fraction of memcpy (a
contiguous numpy.copyto between warm buffers of the same size): higher is better. Each result is
compared with numpy's before its time counts. Cases are of three classes, by the caches of this
machine: beyond (source and target are three last-level caches or more), in cache (both fit the
second level) and between, which have no goal: there memcpy itself runs at anything from the one's
speed to the other's.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.goals import Goals
from keras_torch_convert import _core


@dataclass(frozen=True)
class Case:
    """A torch kernel of `shape`, to be written in the order of `perm`. `kind` is the row of the
    goals it belongs to when it is larger than the caches; a `large` case is lengthened along its
    first axis until it is.
    """

    kind: str
    shape: tuple[int, ...]
    perm: tuple[int, ...]
    dtype: str = "float32"
    large: bool = False

    def sized(self, last_level: int) -> Case:
        """Return the case, longer if it is large and the last-level cache has so many bytes."""
        if not self.large:
            return self
        wanted = BEYOND * last_level
        times = -(-wanted // (2 * self.nbytes))
        return replace(self, shape=(self.shape[0] * times, *self.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Return bytes of the source, as many as of the target."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


OIHW_TO_HWIO = (2, 3, 1, 0)
# Source and target together are this many last-level caches, so that no round finds a part of them
# that matters there.
BEYOND = 3
# Fraction of memcpy's speed that is wanted of the widest set: beyond the caches by kind, and inside
# the second-level cache.
GOALS = {
    "2-d": 0.75, "3x3": 0.75, "1x1": 0.6, "7x7": 0.6, "awkward pitch": 0.6, "2 bytes": 0.6,
    "8 bytes": 0.75
}
GOAL_IN_CACHE = 0.4
CASES = [
    Case("2-d", (4096, 4096), (1, 0), large=True),
    Case("2-d", (4096, 8192), (1, 0), large=True),
    Case("2-d", (30528, 768), (1, 0), large=True),
    Case("3x3", (2048, 2048, 3, 3), OIHW_TO_HWIO, large=True),
    Case("3x3", (1536, 1024, 3, 3), OIHW_TO_HWIO, large=True),
    Case("1x1", (8192, 2048, 1, 1), OIHW_TO_HWIO, large=True),
    Case("awkward pitch", (30522, 768), (1, 0), large=True),
    Case("awkward pitch", (1001, 25088), (1, 0), large=True),
    Case("awkward pitch", (2047, 1021, 3, 3), OIHW_TO_HWIO, large=True),
    Case("7x7", (1024, 512, 7, 7), OIHW_TO_HWIO, large=True),
    Case("2 bytes", (8192, 4096), (1, 0), "float16", large=True),
    Case("2 bytes", (2048, 2048, 3, 3), OIHW_TO_HWIO, "float16", large=True),
    Case("8 bytes", (4096, 4096), (1, 0), "float64", large=True),
    Case("8 bytes", (1024, 1024, 3, 3), OIHW_TO_HWIO, "float64", large=True),
    Case("2-d", (512, 512), (1, 0)),
    Case("2-d", (1000, 2048), (1, 0)),
    Case("2-d", (1024, 4096), (1, 0)),
    Case("3x3", (256, 256, 3, 3), OIHW_TO_HWIO),
    Case("3x3", (512, 512, 3, 3), OIHW_TO_HWIO),
    Case("3x3", (1024, 1024, 3, 3), OIHW_TO_HWIO),
    Case("1x1", (2048, 1024, 1, 1), OIHW_TO_HWIO),
    Case("2 bytes", (512, 512, 3, 3), OIHW_TO_HWIO, "float16"),
    Case("8 bytes", (512, 512, 3, 3), OIHW_TO_HWIO, "float64"),
    Case("2-d", (256, 256), (1, 0)),
    Case("3x3", (64, 64, 3, 3), OIHW_TO_HWIO),
    Case("7x7", (64, 3, 7, 7), OIHW_TO_HWIO),
    Case("1x1", (256, 64, 1, 1), OIHW_TO_HWIO),
    Case("depthwise", (1152, 1, 5, 5), OIHW_TO_HWIO),
    Case("depthwise", (96, 1, 3, 3), OIHW_TO_HWIO)
]


@dataclass(frozen=True)
class Caches:
    """Bytes of the second-level cache of a core and of the last level."""

    second: int
    last: int

    @classmethod
    def of_this_machine(cls) -> Caches:
        """From Linux's /sys (sysconf tells a virtual machine of the whole host's last level); 1 and
        32 MiB where there is none.
        """
        sizes = {}
        for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
            if (index / "type").read_text().strip() != "Instruction":
                kibibytes = (index / "size").read_text().strip().removesuffix("K")
                sizes[int((index / "level").read_text())] = int(kibibytes) * 2**10
        return cls(sizes.get(2, 2**20), sizes[max(sizes)] if sizes else 32 * 2**20)

    def class_of(self, case: Case) -> str:
        """Either "beyond", "in cache" or "between"."""
        if 2 * case.nbytes >= BEYOND * self.last:
            return "beyond"
        return "in cache" if 2 * case.nbytes <= self.second else "between"


def rivals_of(case: Case, sets: list[str]) -> tuple[int, dict[str, Callable[[], None]]]:
    import torch

    generator = np.random.default_rng(0)
    count = int(np.prod(case.shape))
    source = generator.integers(0, 1 << 14, count).astype(case.dtype).reshape(case.shape)
    view = source.transpose(case.perm)
    target = np.zeros(view.shape, case.dtype)
    flat_source, flat_target = source.reshape(-1), target.reshape(-1)
    torch_view, torch_target = torch.from_numpy(source).permute(case.perm), torch.from_numpy(target)

    def ours(name: str) -> Callable[[], None]:
        def run() -> None:
            _core.copy_strided(view, target)

        return run

    def copy_by_torch() -> None:
        torch_target.copy_(torch_view)

    alternatives: dict[str, Callable[[], None]] = {
        "memcpy": lambda: np.copyto(flat_target, flat_source),
        "numpy": lambda: np.copyto(target, view), "torch": copy_by_torch
    }
    alternatives.update({name: ours(name) for name in sets})
    expected = np.ascontiguousarray(view)
    for name in sets:
        _core.use_instruction_set(name)
        target.fill(0)
        alternatives[name]()
        assert target.tobytes() == expected.tobytes(), (case, name)
    return source.nbytes, alternatives


def measure(case: Case, sets: list[str], rounds: int) -> tuple[int, dict[str, list[float]]]:
    size, alternatives = rivals_of(case, sets)
    repeats = max(1, min(2000, (4 << 20) // size))
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    names = list(alternatives)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            if name in sets:
                _core.use_instruction_set(name)
            run = alternatives[name]
            slow = name in ("numpy", "torch") and repeats > 1
            times = max(1, repeats // 8) if slow else repeats
            run()
            start = time.perf_counter()
            for _ in range(times):
                run()
            seconds[name].append((time.perf_counter() - start) / times)
    return size, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sets", default=",".join(_core.instruction_sets()))
    parser.add_argument("--only", default="",
                        help="run only the cases whose class or kind contains this text")
    parser.add_argument("--check", action="store_true",
                        help="end with an error when a goal is missed")
    options = parser.parse_args()
    goals = Goals()
    sets = options.sets.split(",")
    random.seed(0)
    import torch

    torch.set_num_threads(1)
    before = _core.instruction_set()
    caches = Caches.of_this_machine()
    print(
        f"second-level cache {caches.second / 2**20:g} MiB, last level {caches.last / 2**20:g} MiB")
    print(f"{'case':<52}{'MiB':>7}{'memcpy GB/s':>12}"
          + "".join(f"{name:>16}" for name in ["numpy", "torch", *sets]))
    for listed in CASES:
        case = listed.sized(caches.last)
        where = caches.class_of(case)
        label = f"{where}, {case.kind}: {case.shape} {case.dtype}"
        if options.only not in label:
            continue
        size, seconds = measure(case, sets, options.rounds)
        memcpy = statistics.median(seconds["memcpy"])
        best = min(seconds["memcpy"])
        line = f"{label:<52}{size / 2**20:>7.2f}{size / memcpy / 1e9:>12.1f}"
        for name in ["numpy", "torch", *sets]:
            line += (f"{memcpy / statistics.median(seconds[name]):>9.2f} "
                     f"({best / min(seconds[name]):.2f})")
        print(line, flush=True)
        ours = best / min(seconds[sets[-1]])
        if where == "in cache":
            goals.at_least(label, ours, GOAL_IN_CACHE)
        elif where == "beyond":
            goals.at_least(label, ours, GOALS[case.kind])
            rival = best / min(seconds["numpy"] + seconds["torch"])
            goals.at_least(f"{label}: the better of NumPy and torch", ours / rival, 2)
    _core.use_instruction_set(before)
    goals.close(options.check)


if __name__ == "__main__":
    main()
