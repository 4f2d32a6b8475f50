"""A clone without the built extension says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras_torch_convert

PACKAGE = Path(keras_torch_convert.__file__).parent


def test_importing_a_clone_that_is_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name,
                    ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    # Without site-packages, where this checkout itself may be installed.
    done = subprocess.run([sys.executable, "-S", "-c", "import keras_torch_convert"], check=False,
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: keras_torch_convert is not built in ")
    assert "`pip install -e .`" in message
    assert "circular" not in done.stderr
