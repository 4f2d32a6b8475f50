"""Ctrl-C at any point leaves both models, files, torch's settings and random generators alone."""

from __future__ import annotations

from tests.helpers.interrupted_runs import broken_by_interrupts


# Some 6 s of processor time: each point is a run of its own. 1,500 points were measured once.
def test_ctrl_c_at_random_points_of_align_convert_and_verify_changes_nothing() -> None:
    broken, stopped = broken_by_interrupts(10, seed=1)
    assert broken == []
    assert stopped >= 24  # a few reach the end of their run, or a callback that swallows them
