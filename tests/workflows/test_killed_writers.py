"""Writers killed and interrupted at random moments of every phase: there is the old file or the new
one, never a part.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

PHASES = ("skeleton", "data", "hash", "rename")


def struck(folder: Path, suffix: str, number: int, count: int) -> Any:
    """What came of `count` writers of a file with this suffix that died from a signal."""
    command = [
        sys.executable, "-m", "tests.helpers.struck_writers",
        str(folder), suffix,
        str(number),
        str(count)
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=os.getcwd())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".keras", ".weights.json"])
def test_killed_a_hundred_times_there_is_the_old_file_or_the_new_one(tmp_path: Path,
                                                                     suffix: str) -> None:
    answer = struck(tmp_path, suffix, signal.SIGKILL, 100)
    assert sum(answer["hits"].values()) == 100
    assert all(answer["hits"][phase] >= 10 for phase in PHASES), answer
    assert answer["wrong"] == []
    # Kills before the rename and after it: both outcomes were seen.
    assert min(answer["came"].values()) > 0, answer


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".keras", ".weights.json"])
def test_interrupted_in_any_phase_nothing_is_left_behind(tmp_path: Path, suffix: str) -> None:
    answer = struck(tmp_path, suffix, signal.SIGINT, 24)
    assert all(answer["hits"][phase] >= 3 for phase in PHASES), answer
    assert answer["wrong"] == []
