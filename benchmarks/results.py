"""Tables of results: printed where they are made, and kept for the page that `benchmarks.page`
writes of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

# The folder in which every benchmark leaves its tables; without it nothing is kept.
FOLDER = "KTC_BENCH_RESULTS"


@dataclass(slots=True)
class Table:
    """Titles of columns and texts of rows."""

    title: str
    header: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Add a row; fractions get two decimals."""
        self.rows.append(
            [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells])

    def keep(self) -> None:
        """Append the table to those of this benchmark, if a folder is given."""
        if folder := os.environ.get(FOLDER):
            name = Path(sys.argv[0]).stem
            with Path(folder, f"{name}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self)) + "\n")
