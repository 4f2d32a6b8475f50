"""Rivals timed fairly: interleaved, in shuffled order, median and best of several rounds."""

from __future__ import annotations

import gc
import random
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.results import Table


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one rival over all rounds; `processor` is the best of the processor's time, with
    that of other threads and of child processes.
    """

    median: float
    best: float
    processor: float


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
    processor: dict[str, list[float]] = {name: [] for name in alternatives}
    for round_number in range(rounds + 1):
        names = list(alternatives)
        order.shuffle(names)
        for name in names:
            if prepare is not None:
                prepare()
            gc.collect()
            start, used = time.perf_counter(), _processor_time()
            alternatives[name]()
            elapsed, used = time.perf_counter() - start, _processor_time() - used
            if round_number:
                seconds[name].append(elapsed)
                processor[name].append(used)
    return {
        name: Times(statistics.median(times), min(times), min(processor[name]))
        for name, times in seconds.items()
    }


def _processor_time() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def print_ratios(title: str, times: Mapping[str, Times], *, unit: str, size: float = 0,
                 kept: bool = True) -> None:
    """One line for each rival: milliseconds, and how many times `unit`, one of the rivals, that is.

    `size` in bytes adds a column of gigabytes a second. With `kept` the ratios go into the
    page of results.
    """
    print(f"\n{title}")
    last = "GB/s" if size else ""
    print(
        f"  {'':32}{'median ms':>11}{'best ms':>10}{'CPU ms':>9}{'median':>9}{'best':>8}{'CPU':>8}"
        f"{last:>8}")
    table, one = Table(title, ("", "processor", "elapsed, median", "elapsed, best")), times[unit]
    for name, rival in times.items():
        speed = f"{size / rival.median / 1e9:8.2f}" if size else ""
        ratios = (rival.processor / max(one.processor, 1e-9), rival.median / one.median,
                  rival.best / one.best)
        print(f"  {name:32}{rival.median * 1e3:11.2f}{rival.best * 1e3:10.2f}"
              f"{rival.processor * 1e3:9.2f}{ratios[1]:8.2f}x{ratios[2]:7.2f}x{ratios[0]:7.2f}x"
              f"{speed}")
        table.add(name, *ratios)
    if kept:
        table.keep()
