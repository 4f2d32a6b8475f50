"""Temporary files of killed writers are removed by the next write to their folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keras_torch_convert.util import leftovers
from keras_torch_convert.util.atomic_file import write_atomically
from keras_torch_convert.util.leftovers import remove_leftovers, temporary_path

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(),
                                reason="this system does not tell when a process started")

WRITER = """
import sys, time
from pathlib import Path
from keras_torch_convert.util.atomic_file import AtomicFile
with AtomicFile(Path(sys.argv[1])) as new:
    new.open().close()
    print(new.temporary.name, flush=True)
    time.sleep(100)
"""


def start_writer(path: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has begun to write `path`, and the name of its temporary file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, path.with_name(process.stdout.readline().strip())


def test_the_next_write_removes_what_a_killed_writer_left_and_nothing_else(tmp_path: Path) -> None:
    killed, left = start_writer(tmp_path / "model.weights.h5")
    alive, used = start_writer(tmp_path / "other.keras")
    try:
        (tmp_path / ".model.1234.h5").touch()
        write_atomically(tmp_path / "a", b"")
        assert left.exists()
        killed.send_signal(signal.SIGKILL)
        # Not waited for: a zombie is no writer.
        while Path(f"/proc/{killed.pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z":
            pass
        write_atomically(tmp_path / "a", b"")
        assert not left.exists()
        assert used.exists()
        assert (tmp_path / ".model.1234.h5").exists()
    finally:
        for process in (killed, alive):
            process.kill()
            process.wait(30)
    write_atomically(tmp_path / "b", b"")
    assert sorted(os.listdir(tmp_path)) == [".model.1234.h5", "a", "b"]


@pytest.mark.parametrize(("change", "gone"), [(r"-\d+-(\d+)-", False), (r"ktc-[0-9a-f]{8}", False),
                                              (r"(?<=ktc-........)[0-9a-f]{8}", True)])
def test_only_a_writer_on_this_machine_is_known_to_be_gone(tmp_path: Path, change: str,
                                                           gone: bool) -> None:
    name = temporary_path(tmp_path / "a.h5").name
    replacement = {"-": rf"-{os.getpid()}-\1-", "k": "ktc-00000000", "(": "00000000"}[change[0]]
    path = tmp_path / re.sub(change, replacement, name)
    path.touch()
    remove_leftovers(tmp_path)
    assert path.exists() != gone


def test_a_process_that_got_the_number_of_a_dead_one_is_not_the_writer(tmp_path: Path) -> None:
    name = temporary_path(tmp_path / "a.h5").name
    path = tmp_path / re.sub(r"(-\d+-)\d+-", r"\g<1>1-", name)
    path.touch()
    remove_leftovers(tmp_path)
    assert not path.exists()


def test_who_knows_that_nobody_writes_a_file_removes_its_leftovers_of_all_machines(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [temporary_path(tmp_path / name) for name in ("a.h5", "a.keras", "b.h5", "a.h5")]
    monkeypatch.setattr(leftovers, "_machine", lambda: "0" * 8)
    paths.append(temporary_path(tmp_path / "a.h5"))
    for path in paths:
        path.touch()
    remove_leftovers(tmp_path, "a.h5")
    assert [path.exists() for path in paths] == [False, True, True, False, False]


def test_a_very_long_name_still_has_a_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 240}.h5"
    temporary = temporary_path(path)
    temporary.touch()
    assert temporary.name.endswith(".h5")
    remove_leftovers(tmp_path, path.name)
    assert not temporary.exists()
