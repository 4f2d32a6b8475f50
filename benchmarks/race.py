"""Rivals timed fairly: interleaved, in shuffled order, median and best of several rounds."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one rival over all rounds."""

    median: float
    best: float


def race(alternatives: Mapping[str, Callable[[], object]], *, rounds: int = 7,
         prepare: Callable[[], object] | None = None) -> dict[str, Times]:
    """Time every rival `rounds` times. Before each run `prepare` is called, outside of the
    clock.

    On shared machines a slow second comes and goes: interleaving lets it hit all rivals alike,
    shuffling keeps one from always standing behind the same other. One round before the first warms
    caches and is not counted.
    """
    order = random.Random(5)
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for round_number in range(rounds + 1):
        names = list(alternatives)
        order.shuffle(names)
        for name in names:
            if prepare is not None:
                prepare()
            gc.collect()
            start = time.perf_counter()
            alternatives[name]()
            elapsed = time.perf_counter() - start
            if round_number:
                seconds[name].append(elapsed)
    return {name: Times(statistics.median(times), min(times)) for name, times in seconds.items()}


def print_ratios(title: str, times: Mapping[str, Times], *, unit: str, size: float = 0) -> None:
    """One line for each rival: milliseconds, and how many times `unit`, one of the rivals, that is.

    `size` in bytes adds a column of gigabytes a second.
    """
    print(f"\n{title}")
    last = "GB/s" if size else ""
    print(f"  {'':32}{'median ms':>11}{'best ms':>10}{'median':>9}{'best':>8}{last:>8}")
    for name, rival in times.items():
        speed = f"{size / rival.median / 1e9:8.2f}" if size else ""
        print(
            f"  {name:32}{rival.median * 1e3:11.2f}{rival.best * 1e3:10.2f}"
            f"{rival.median / times[unit].median:8.2f}x{rival.best / times[unit].best:7.2f}x{speed}"
        )
