"""A checkpoint that is cut at a random time while it is converted or read ends in an error that
says so, or in all values: never in a signal. KTC_CUTS says how many cuts (12 otherwise).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CUTS = int(os.environ.get("KTC_CUTS", "12"))
SCRIPT = Path(__file__).parent.parent / "helpers" / "cut_checkpoint.py"


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut there")
def test_cuts_at_random_times_are_errors(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT),
                           str(tmp_path), str(CUTS)], capture_output=True, text=True,
                          timeout=60 + 10 * CUTS, check=False)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert sum(ends.values()) == CUTS
    assert ends["cut"] > CUTS // 4
