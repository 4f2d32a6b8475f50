"""The goals of the benchmarks: each figure beside the goal, met or missed; with --check a missed
one ends the run with an error.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from benchmarks.results import Table


@dataclass(slots=True)
class Goals:
    """Figures of one benchmark, each the best of several runs: on a busy machine only the best says
    what the code can do.
    """

    lines: list[str] = field(default_factory=list)
    missed: int = 0
    table: Table = field(default_factory=lambda: Table("Goals", ("", "", "figure", "goal")))

    def at_least(self, what: str, figure: float, goal: float, unit: str = "") -> None:
        """Note a figure that should be no smaller than its goal."""
        self._note(what, figure, ">=", goal, unit, figure >= goal)

    def at_most(self, what: str, figure: float, goal: float, unit: str = "") -> None:
        """Note a figure that should be no larger than its goal."""
        self._note(what, figure, "<=", goal, unit, figure <= goal)

    def close(self, check: bool) -> None:
        """Print all of them and keep them for the page of results; with `check` leave with an error
        when one was missed.
        """
        self.table.keep()
        print("\ngoals")
        print("\n".join(self.lines))
        if check and self.missed:
            sys.exit(f"{self.missed} of {len(self.lines)} goals missed")

    def _note(self, what: str, figure: float, sign: str, goal: float, unit: str, met: bool) -> None:
        self.missed += not met
        self.table.add("met" if met else "missed", what, f"{figure:.2f}{unit}",
                       f"{'at least' if sign == '>=' else 'at most'} {goal:g}{unit}")
        self.lines.append(
            f"  {'met   ' if met else 'MISSED'} {what:58} {figure:8.2f}{unit}   goal {sign} "
            f"{goal:g}{unit}")
