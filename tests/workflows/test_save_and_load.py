"""Files are saved in one process and loaded in another by the Keras that owns them: every value
must arrive.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import md5, sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fresh_process import QUICKLY_COMPILED

RUNS = Path(__file__).parents[1] / "helpers" / "keras_runs"
WHOLE = [".h5", ".weights.h5", ".keras"]
CASES = [
    *product(["plain", "nested"], ["trainable", "some frozen", "all frozen"], WHOLE),
    *product(["composite"], ["trainable", "some frozen"], WHOLE),
    *product(["subclassed"], ["trainable"], [".h5", ".weights.h5"])
]
KERAS_3_CASES = [*CASES, *product(["two_bytes"], ["trainable"], [".weights.h5", ".keras"])]


@dataclass(frozen=True)
class Saved:
    folder: Path
    entries: dict[tuple[str, str, str], dict[str, Any]]
    loaded: dict[tuple[str, str, str], dict[str, list[int]]]


def run(script: str, framework: str, folder: Path, cases: list[Any]) -> str:
    environment = os.environ | {
        "KERAS_BACKEND": "tensorflow" if framework == "tf_keras" else framework,
        "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"
    } | (QUICKLY_COMPILED if framework == "jax" else {})
    command = [sys.executable, str(RUNS / script), framework, str(folder), json.dumps(cases)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["torch", "tensorflow", "jax", "tf_keras"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    framework = request.param
    folder = tmp_path_factory.mktemp(framework)
    cases = CASES if framework == "tf_keras" else KERAS_3_CASES
    run("save.py", framework, folder, [*cases, ("two_bytes", "trainable", ".h5")])
    report = json.loads((folder / "report.json").read_text())
    output = run("load.py", framework, folder, cases)
    return Saved(
        folder, {tuple(entry["case"]): entry for entry in report},
        {tuple(entry["case"]): entry["ways"] for entry in json.loads(output.splitlines()[-1])})


def test_every_value_arrives_in_a_fresh_model_by_every_way_of_loading(saved: Saved) -> None:
    ways = {(*case, way): counts for case, by_way in saved.loaded.items()
            for way, counts in by_way.items()}
    assert {key: counts for key, counts in ways.items() if counts[0] != counts[1]} == {}
    assert {way for *_, way in ways} == {"load_weights", "by_name", "load_model"}
    assert len(saved.loaded) >= len(CASES)


def test_the_model_held_every_value_and_kept_its_trainable_flags(saved: Saved) -> None:
    assert all(entry["held"] and entry["flags kept"] for entry in saved.entries.values())


def test_frozen_state_that_changes_the_order_of_a_legacy_file_is_noted(saved: Saved) -> None:
    notes = {
        case: " ".join(entry["notes"]) for case, entry in saved.entries.items() if "notes" in entry
    }
    assert "frozen layers are stored as trainable in body" in notes["nested", "some frozen", ".h5"]
    assert "stored as trainable in block" in notes["composite", "some frozen", ".h5"]
    assert notes["plain", "some frozen", ".h5"] == ""
    assert notes["nested", "some frozen", ".keras"] == ""


def test_digests_and_size_are_those_of_the_file(saved: Saved) -> None:
    entry = saved.entries["plain", "trainable", ".h5"]
    data = (saved.folder / "plain trainable.h5").read_bytes()
    assert (entry["md5"], entry["sha256"], entry["size"]) == (md5(data).hexdigest(),
                                                              sha256(data).hexdigest(), len(data))


def test_a_legacy_file_that_keras_could_not_load_bfloat16_from_is_refused(saved: Saved) -> None:
    assert "bfloat16" in saved.entries["two_bytes", "trainable", ".h5"]["refused"]
    assert not (saved.folder / "two_bytes trainable.h5").exists()


def test_of_a_subclassed_model_it_is_said_how_its_legacy_file_is_loaded(saved: Saved) -> None:
    assert "for load_weights only" in " ".join(saved.entries["subclassed", "trainable",
                                                             ".h5"]["notes"])
