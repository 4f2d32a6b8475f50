"""A part of the attack: the first cases of each kind. `make hostile` runs ten times as many."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.attack import Result, cases, run, table, work
from tests.hostile.makers import MAKERS, MARKER, made

COUNT = int(os.environ.get("KTC_HOSTILE_FILES", "504"))


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return list(run(cases(COUNT)))


def test_every_file_is_read_or_refused(results: list[Result]) -> None:
    faults = [f"{result.case}: {result.text}" for result in results if result.outcome == "fault"]
    assert not faults, "\n\n".join(faults)
    assert len(results) == COUNT


def test_both_happen_with_files_of_every_kind(results: list[Result]) -> None:
    found = Counter((result.kind, result.outcome) for result in results)
    for kind in MAKERS:
        assert found[kind, "read"] > 0
        assert found[kind, "refused"] > 0
    assert all(f"| {kind} | {COUNT // len(MAKERS)} |" in table(results) for kind in MAKERS)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_case_is_the_same_file_each_time(kind: str, tmp_path: Path) -> None:
    for number in range(5):
        one, other = (made(kind, number, tmp_path).read_bytes() for _ in range(2))
        if kind in (".keras", "HDF5"):
            # HDF5 writes what was in the memory where a file has gaps, and an archive packs that.
            assert one[:64] == other[:64]
        else:
            assert one == other


def leave_marker(path: Path) -> None:
    (path.parent / MARKER).touch()


def take_memory(path: Path) -> None:
    bytearray(5 << 28)


def fail(path: Path) -> None:
    raise KeyError("x")


def read_elsewhere(path: Path) -> None:
    path.parent.with_name("secret").read_bytes()


@pytest.mark.parametrize(("deed", "text"), [(leave_marker, "ran code in the file"),
                                            (take_memory, "MiB"), (fail, "KeyError: 'x'"),
                                            (read_elsewhere, "open /")])
def test_what_must_not_happen_is_noticed(deed: Callable[[Path], None], text: str,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.hostile.readers.read", lambda kind, path, with_torch: deed(path))
    (result,) = work([("npz", 0)])
    assert result.outcome == "fault"
    assert text in result.text
