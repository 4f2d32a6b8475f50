"""Write docs/speed.md from the tables that the benchmarks left.

    KTC_BENCH_RESULTS=build/bench python -m benchmarks.bench_files
    python -m benchmarks.page build/bench docs/speed.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

PEERS = ("numpy", "h5py", "torch", "keras", "tensorflow", "jax", "safetensors",
         "keras-cv-attention-models", "keras-hub")
INTRODUCTION = """# Speed

How long conversions take beside other ways to do the same work. `make bench` measures this and
writes this page (benchmarks/page.py). benchmarks/README.md says how each figure is measured.

This time: {day}, {processor} with {cores} cores and {memory} of memory, {system},
Python {python}, {peers}.

All figures but milliseconds are ratios, which stay much the same on other machines. In a column
"speed of cp" they are the time of `cp` divided by ours: above 1 this package is faster. In a table
with a row of 1.00 they are times as multiples of that row: below 1 is faster. Processor time is the
sum of all threads and child processes; other programs hardly change it. Elapsed time is what a user
waits, and other programs do change it.

**What it is compared with.** "The classic way" transposes with NumPy and calls `set_weights`, then
`model.save` where a file is written; it checks nothing. `memcpy` only copies the bytes of the
weights, and `cp` a file as large as the one that is written. "First run, ms more" is the processor
time that the first conversion with a Plan needs in addition to later ones.

**Limits.** All files are in the page cache, and neither side waits for the disk in the tables
beside `cp`. Large networks are cut to fewer layers with the shapes of the real ones. When this page
was written, {load} processes on average were running or waiting on the machine.
"""


def main() -> None:
    """Read the tables, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    lines = [_introduction()]
    for path in sorted(options.results.glob("*.jsonl")):
        lines.append(f"## {path.stem.removeprefix('bench_').capitalize()}\n")
        # A benchmark that was run in parts has left its tables in parts.
        tables: dict[str, dict[str, Any]] = {}
        for table in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            rows = tables.setdefault(table["title"], {**table, "rows": []})["rows"]
            rows += [row for row in table["rows"] if row not in rows]
        for table in tables.values():
            lines += _lines(table)
    options.page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _introduction() -> str:
    peers = []
    for name in PEERS:
        try:
            peers.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return INTRODUCTION.format(
        day=date.today(), processor=_processor(), cores=os.cpu_count(),
        memory=f"{pages / 2**30:.0f} GB", system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(), peers=", ".join(peers), load=f"{os.getloadavg()[1]:.1f}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _lines(table: dict[str, Any]) -> Iterator[str]:
    yield f"**{table['title']}**\n"
    yield "| " + " | ".join(table["header"]) + " |"
    yield "| " + " | ".join("---" for _ in table["header"]) + " |"
    for row in table["rows"]:
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"
    yield ""


if __name__ == "__main__":
    main()
