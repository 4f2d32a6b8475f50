"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from keras_torch_convert.errors import SaveError
from keras_torch_convert.util import atomic_file
from keras_torch_convert.util.atomic_file import AtomicFile, check_writable, write_atomically


def test_a_file_has_its_name_only_when_it_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "a.b.json"
    with AtomicFile(path) as new:
        with new.open() as file:
            file.write(b"new")
        assert not path.exists()
        assert new.temporary.parent == tmp_path
        assert new.temporary.name.startswith(".a.")
        assert new.temporary.name.endswith(".b.json")
        new.commit()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.b.json"]


def test_what_was_not_committed_is_removed_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with AtomicFile(path) as new, new.open() as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_replaced_file_keeps_its_mode_and_a_link_its_target(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "a", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("fails", ["replace", "fsync"])
def test_an_error_of_the_disk_is_a_save_error_and_the_old_file_stays(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_file.os, fails, full)
    with pytest.raises(SaveError, match=r"cannot save to .*a: .*No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_that_cannot_be_flushed_after_the_rename_does_not_fail_what_is_done(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, path = os.fsync, tmp_path / "a"

    def fsync(descriptor: int) -> None:
        if path.exists():
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(atomic_file.os, "fsync", fsync)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_an_interrupt_during_the_rename_arrives_after_it(tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    real, path = os.replace, tmp_path / "a"
    path.write_bytes(b"old")
    steps = []

    def replace(source: Path, target: Path) -> None:
        signal.raise_signal(signal.SIGINT)
        real(source, target)
        signal.raise_signal(signal.SIGINT)
        steps.append("renamed")

    monkeypatch.setattr(atomic_file.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert steps == ["renamed"]
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_places_where_no_file_can_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("folder", "it is a folder"), ("missing/a", "there is no folder"),
                          ("pipe", "it is not a regular file")):
        with pytest.raises(SaveError, match=message):
            check_writable(tmp_path / name)
        with pytest.raises(SaveError, match=message):
            write_atomically(tmp_path / name, b"")
