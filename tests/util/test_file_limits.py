"""Texts from outside are read whole only when they are regular files of a sensible size."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from keras_torch_convert.api.batch.manifest import Job, read_toml
from keras_torch_convert.api.batch.results import ResultsFile
from keras_torch_convert.api.batch.tasks import is_intact
from keras_torch_convert.errors import ManifestError, PlanError
from keras_torch_convert.keras_io.weights_file import checksums_of_shards, shard_names
from keras_torch_convert.util.file_limits import most_unpacked, read_text


@pytest.fixture(params=["pipe", "endless", "sparse", "folder"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What looks like a file and is none that could be read whole."""
    path = tmp_path / "model.weights.json"
    if request.param == "folder":
        path.mkdir()
    elif request.param == "sparse":
        with path.open("wb") as file:
            file.truncate(100 << 30)
    elif request.param == "endless":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    return path


def plan_beside(hostile: Path) -> Path:
    """A file beside it that can be read."""
    plan = hostile.with_name("plan.json")
    plan.write_text("{}")
    return plan


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_nothing_else_is_read(hostile: Path) -> None:
    message = f"{hostile}: it (is not a regular file|has 107374182400 bytes, at most)"
    with pytest.raises(PlanError, match=message):
        read_text(hostile, PlanError, "a plan")
    with pytest.raises(ManifestError, match=message):
        read_toml(hostile)
    with pytest.raises(ManifestError, match=message):
        ResultsFile(hostile)
    # A folder may be a source: its files are.
    expected: Any = nullcontext() if hostile.is_dir() else pytest.raises(
        ManifestError, match=message)
    with expected:
        Job(plan_beside(hostile), hostile, hostile).fingerprint()
    assert shard_names(hostile) == ()
    assert checksums_of_shards(hostile) == {}


def test_a_text_in_utf_8_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("caf\N{LATIN SMALL LETTER E WITH ACUTE}".encode())
    assert read_text(tmp_path / "a", PlanError, "a plan", 5) == "caf\xe9"
    with pytest.raises(PlanError, match="has 5 bytes, at most 4 are read; expected a plan"):
        read_text(tmp_path / "a", PlanError, "a plan", 4)
    (tmp_path / "a").write_bytes(b"caf\xe9")
    with pytest.raises(PlanError, match="is not a text file in UTF-8, expected a plan"):
        read_text(tmp_path / "a", PlanError, "a plan")
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "b", PlanError, "a plan")


def test_an_index_names_only_shards_of_its_own_set(tmp_path: Path) -> None:
    index = tmp_path / "model.weights.json"
    names = ["model_00001.weights.h5", "../model_00001.weights.h5", "/etc/passwd", "model_.h5",
             "other_00001.weights.h5", "..", "model_\0.weights.h5"]  # yapf: disable
    index.write_text(
        json.dumps({
            "weight_map": {"a": names, "b": names[0], "c": 3},
            "metadata": {"checksum": dict.fromkeys(names, "0" * 64)}
        }))
    assert shard_names(index) == (names[0],)
    assert checksums_of_shards(index) == {names[0]: "0" * 64}
    for text in ("[" * 100_000, "3", '{"weight_map": 3}', '{"metadata": {"checksum": []}}', "",
                 '{"weight_map": {"a": {}}}', '{"metadata": []}', "9" * 5000):
        index.write_text(text)
        assert (shard_names(index), checksums_of_shards(index)) == ((), {})


def test_an_index_without_checksums_is_not_intact(tmp_path: Path) -> None:
    index = tmp_path / "model.weights.json"
    index.write_text('{"weight_map": {}}')
    assert not is_intact(index, hashlib.sha256(index.read_bytes()).hexdigest())


def test_a_small_file_may_unpack_to_a_small_model_and_a_large_one_to_its_multiple() -> None:
    assert most_unpacked(0) == most_unpacked(1 << 20) == 1 << 29
    assert most_unpacked(1 << 30) == 1 << 36
