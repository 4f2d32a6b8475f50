"""Ctrl-C at any point of any public function leaves models, files, torch's settings and random
generators as they were before, or as they are after the whole run.
"""

from __future__ import annotations

from tests.helpers.interrupted_runs import broken_by_interrupts


# Some 8 s of processor time: each point is a run of its own.
def test_ctrl_c_at_random_points_of_every_function_changes_nothing_or_all() -> None:
    runs = list(broken_by_interrupts(1, seed=1))
    assert [one.found for one in runs if one.found] == []
    # A few reach the end of their run, or a callback that swallows them.
    assert sum(one.stopped for one in runs) >= 30
