"""Strided copies beside memcpy, NumPy and torch: `python -m benchmarks.bench_permute [--rounds 15] [--sets avx2,avx512]`.

Every round runs all rivals of a case once, in a fresh random order, so that a busy moment of the machine hits all alike. Figures are
medians and the best round, as a fraction of memcpy (a contiguous numpy.copyto between warm buffers of the same size): higher is better.
Each result is compared with numpy's before its time counts.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.goals import Goals
from keras_torch_convert import _core


@dataclass(frozen=True)
class Case:
    """A torch kernel of `shape`, to be written in the order of `perm`; `group` is the row of the goals it belongs to."""

    group: str
    shape: tuple[int, ...]
    perm: tuple[int, ...]
    dtype: str = "float32"


OIHW_TO_HWIO = (2, 3, 1, 0)
# Fraction of memcpy's speed that is wanted of the widest set, by group.
GOALS = {
    "large 2-d": 0.75,
    "large 3x3": 0.75,
    "middle": 0.6,
    "awkward pitch": 0.6,
    "dense after flatten": 0.6,
    "in cache": 0.4,
    "depthwise": 0.4,
    "2 bytes": 0.6,
    "8 bytes": 0.75,
}
# Bytes from which on no rival may come near.
LARGE = 32 * 2**20
CASES = [
    Case("large 2-d", (4096, 4096), (1, 0)),
    Case("large 2-d", (1024, 4096), (1, 0)),
    Case("large 2-d", (4096, 1024), (1, 0)),
    Case("large 2-d", (30528, 768), (1, 0)),
    Case("large 3x3", (512, 512, 3, 3), OIHW_TO_HWIO),
    Case("large 3x3", (1024, 1024, 3, 3), OIHW_TO_HWIO),
    Case("middle", (2048, 1024, 1, 1), OIHW_TO_HWIO),
    Case("middle", (1000, 2048), (1, 0)),
    Case("middle", (256, 256, 3, 3), OIHW_TO_HWIO),
    Case("awkward pitch", (30522, 768), (1, 0)),
    Case("awkward pitch", (1001, 25088), (1, 0)),
    Case("awkward pitch", (999, 511, 3, 3), OIHW_TO_HWIO),
    Case("dense after flatten", (1024, 512, 7, 7), OIHW_TO_HWIO),
    Case("in cache", (64, 3, 7, 7), OIHW_TO_HWIO),
    Case("in cache", (64, 64, 3, 3), OIHW_TO_HWIO),
    Case("in cache", (256, 64, 1, 1), OIHW_TO_HWIO),
    Case("in cache", (512, 512), (1, 0)),
    Case("depthwise", (1152, 1, 5, 5), OIHW_TO_HWIO),
    Case("depthwise", (96, 1, 3, 3), OIHW_TO_HWIO),
    Case("2 bytes", (4096, 4096), (1, 0), "float16"),
    Case("2 bytes", (512, 512, 3, 3), OIHW_TO_HWIO, "float16"),
    Case("2 bytes", (1024, 1024, 3, 3), OIHW_TO_HWIO, "float16"),
    Case("8 bytes", (4096, 4096), (1, 0), "float64"),
    Case("8 bytes", (512, 512, 3, 3), OIHW_TO_HWIO, "float64"),
]


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

    rivals: dict[str, Callable[[], None]] = {
        "memcpy": lambda: np.copyto(flat_target, flat_source),
        "numpy": lambda: np.copyto(target, view),
        "torch": copy_by_torch,
    }
    rivals.update({name: ours(name) for name in sets})
    expected = np.ascontiguousarray(view)
    for name in sets:
        _core.use_instruction_set(name)
        target.fill(0)
        rivals[name]()
        assert target.tobytes() == expected.tobytes(), (case, name)
    return source.nbytes, rivals


def measure(case: Case, sets: list[str], rounds: int) -> tuple[int, dict[str, list[float]]]:
    size, rivals = rivals_of(case, sets)
    repeats = max(1, min(2000, (4 << 20) // size))
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    names = list(rivals)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            if name in sets:
                _core.use_instruction_set(name)
            run = rivals[name]
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
    parser.add_argument("--only", default="", help="run only the groups that contain this text")
    parser.add_argument("--check", action="store_true", help="end with an error when a goal is missed")
    options = parser.parse_args()
    goals = Goals()
    sets = options.sets.split(",")
    random.seed(0)
    import torch

    torch.set_num_threads(1)
    before = _core.instruction_set()
    print(f"{'case':<44}{'MiB':>7}{'memcpy GB/s':>12}" + "".join(f"{name:>16}" for name in ["numpy", "torch", *sets]))
    for case in CASES:
        if options.only not in case.group:
            continue
        size, seconds = measure(case, sets, options.rounds)
        memcpy = statistics.median(seconds["memcpy"])
        best = min(seconds["memcpy"])
        label = f"{case.group}: {case.shape} {case.dtype}"
        line = f"{label:<44}{size / 2**20:>7.2f}{size / memcpy / 1e9:>12.1f}"
        for name in ["numpy", "torch", *sets]:
            line += f"{memcpy / statistics.median(seconds[name]):>9.2f} ({best / min(seconds[name]):.2f})"
        print(line, flush=True)
        ours = best / min(seconds[sets[-1]])
        goals.at_least(label, ours, GOALS[case.group])
        if size > LARGE:
            rival = best / min(seconds["numpy"] + seconds["torch"])
            goals.at_least(f"{label}: the better of NumPy and torch", ours / rival, 2)
    _core.use_instruction_set(before)
    goals.close(options.check)


if __name__ == "__main__":
    main()
