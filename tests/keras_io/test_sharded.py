"""Keras's sharded weights, and writers of one set side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_torch_convert.errors import SaveError
from keras_torch_convert.keras_io.sharded import (GIGABYTE, remove_unlisted, shards_of, write_index,
                                                  write_shard, write_sharded)
from keras_torch_convert.keras_io.weights_file import open_weights, shard_names
from keras_torch_convert.keras_io.write_from_layout import WritingOptions
from keras_torch_convert.spec.file_layout import FileLayout, StoredArray, StoredGroup
from keras_torch_convert.util.values_at_offsets import checksum_of

ARRAYS = 6
SIZE = 100
FILE = FileLayout((StoredGroup("/"),),
                  tuple(
                      StoredArray(f"/layers/dense{index}/vars/0", (SIZE,), "<f4", str(index))
                      for index in range(ARRAYS)))
TWO_ARRAYS = 2 * 4 * SIZE / GIGABYTE


def values_of(seed: int) -> dict[str, Any]:
    """Values of all arrays; the first two are the same whatever the seed."""
    return {
        str(index): partial(np.full, SIZE, index if index < 2 else seed * 100 + index, np.float32)
        for index in range(ARRAYS)
    }


def write(path: Path, seed: int) -> None:
    write_sharded(FILE, TWO_ARRAYS, values_of(seed), path, WritingOptions(durable=False))


def found_seeds(path: Path) -> set[int]:
    """The seeds of the values in a set; its shards must be there and as the index says."""
    content = json.loads(path.read_bytes())
    for name, checksum in content["metadata"]["checksum"].items():
        assert checksum_of(path.with_name(name)) == checksum
    seeds = set()
    for name in shard_names(path):
        with open_weights(path.with_name(name)) as opened:
            for index in range(2, ARRAYS):
                array = opened.file.get(f"/layers/dense{index}/vars/0")
                if array is not None:
                    seeds.add(int(array[0]) // 100)
    return seeds


def test_the_shards_of_a_run_carry_its_id_and_the_same_values_give_the_same_bytes(
        tmp_path: Path) -> None:
    path = tmp_path / "model.weights.json"
    write(path, 1)
    first, names = path.read_bytes(), shard_names(path)
    assert len(names) == len(shards_of(FILE, TWO_ARRAYS)) == 3
    assert len({name.split("_")[2] for name in names}) == 1
    write(path, 2)
    # Although the first shard holds the same values.
    assert not set(names) & set(shard_names(path))
    write(path, 1)
    assert (path.read_bytes(), shard_names(path)) == (first, names)
    assert {entry.name for entry in tmp_path.iterdir()
           } == {path.name, f".{path.name}.lock", "model_00000.weights.h5", *names}


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.json"
    values = values_of(1)
    values["5"] = partial(np.zeros, 3, np.float32)
    with pytest.raises(SaveError, match="takes 400 bytes in the file, its values take 12"):
        write_sharded(FILE, TWO_ARRAYS, values, path, WritingOptions())
    assert list(tmp_path.iterdir()) == []


def test_an_index_over_a_shard_that_is_gone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.json"
    parts = shards_of(FILE, TWO_ARRAYS)
    shards = [
        write_shard(part, number, values_of(1), path, WritingOptions())
        for number, part in enumerate(parts)
    ]
    path.with_name(shards[1].name).unlink()
    with pytest.raises(SaveError, match=f"another writer removed the shard {shards[1].name}"):
        write_index(path, shards, ())
    assert not path.exists()
    remove_unlisted(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [f".{path.name}.lock"]


def test_a_lock_that_another_process_holds_for_ever_is_an_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.weights.json"
    holder = ("import sys, time; from pathlib import Path\n"
              "from keras_torch_convert.util.file_lock import file_lock\n"
              "with file_lock(Path(sys.argv[1])): print(flush=True); time.sleep(100)")
    process = subprocess.Popen([sys.executable, "-c", holder, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setattr("keras_torch_convert.util.file_lock._MOST_SECONDS", 0.2)
        with pytest.raises(SaveError, match="another process has locked it"):
            write(path, 1)
    finally:
        process.kill()
        process.wait(30)
    write(path, 1)
    assert found_seeds(path) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(("killed_at", "winner"), [("_switch", 1), ("_remove", 2)])
def test_what_a_writer_killed_at_the_switch_leaves_the_next_one_removes(
        killed_at: str, winner: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.weights.json"
    write(path, 1)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(f"keras_torch_convert.keras_io.sharded.{killed_at}",
                            lambda *_: os.kill(os.getpid(), 9))
        write(path, 2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9
    assert found_seeds(path) == {winner}
    assert len(list(tmp_path.glob("model_*_*.weights.h5"))) == 6
    write(path, 3)
    assert found_seeds(path) == {3}
    assert {entry.name for entry in tmp_path.iterdir()
           } == {path.name, f".{path.name}.lock", "model_00000.weights.h5", *shard_names(path)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_four_writers_side_by_side_leave_one_whole_set(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "model.weights.json"
    winners = set()
    for number in range(rounds):
        children = []
        # The writer that starts last wins often: it is another one in each round.
        for seed in (*range(number % 4, 4), *range(number % 4)):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    write(path, seed)
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
        seeds = found_seeds(path)
        assert len(seeds) == 1
        winners |= seeds
        assert {entry.name for entry in tmp_path.iterdir()
               } == {path.name, f".{path.name}.lock", "model_00000.weights.h5", *shard_names(path)}
    assert len(winners) > 1
