"""Subclassed tf_keras models in the legacy .h5, which holds their weights alone: written by every
way, loaded in a fresh process.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fresh_process import answer_of


@pytest.mark.keras2
@pytest.mark.skipif(importlib.util.find_spec("tf_keras") is None, reason="tf_keras is missing")
def test_every_way_of_writing_gives_a_file_that_tf_keras_loads(tmp_path: Path) -> None:
    written = answer_of("weights_only_files.py", str(tmp_path))
    assert "for load_weights only" in " ".join(written["notes"])
    loaded = answer_of("weights_only_files.py", str(tmp_path), "load")
    assert len(loaded) == 3
    for outputs in loaded.values():
        np.testing.assert_allclose(outputs, written["torch"], atol=1e-5)
