"""The families that are more than a rule by kind, on Keras 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conversion_helpers import EQUAL


@pytest.fixture(scope="module")
def differences():
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": f"{here.parent}{os.pathsep}{here}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    run = subprocess.run(
        [sys.executable, here / "keras2_families.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.keras2
@pytest.mark.parametrize("family", ["attention", "flattened", "reshaped_by_an_operation", "weight_norm"])
def test_outputs_are_equal_on_keras_2(family, differences):
    assert differences[family] < EQUAL
