"""A script of the tests in a process of its own: the two Keras, and the backends of one, cannot
share one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# Of what JAX compiles for the test's small layers most runs once: optimizing it takes longer than
# all else.
QUICKLY_COMPILED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}


def answer_of(script: str, *arguments: str, **environment: str) -> Any:
    """What `tests/helpers/script` printed as JSON on its last line."""
    here = Path(__file__).parent
    settings = {
        "PYTHONPATH": str(here.parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1"
    }
    if environment.get("KERAS_BACKEND") == "jax":
        settings |= QUICKLY_COMPILED
    run = subprocess.run([sys.executable, here / script, *arguments],
                         env={**os.environ, **settings,
                              **environment}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])
