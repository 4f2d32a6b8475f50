"""NumPy, h5py and tqdm are all that `apply` needs: shown in an environment that has nothing else.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import keras_torch_convert as ktc
from tests.api.test_file_conversion import small_plan, small_source

NEEDED = ("numpy", "h5py", "tqdm")


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """The interpreter of a new environment that sees the needed packages, by links, and no others.
    """
    folder = tmp_path / "bare"
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    for name in NEEDED:
        installed = Path(__import__(name).__file__).parent
        for path in (installed, installed.with_name(f"{name}.libs")):
            if path.exists():
                (packages / path.name).symlink_to(path)
    (packages / "keras_torch_convert").symlink_to(Path(ktc.__file__).parent)
    return folder / "bin" / "python"


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_a_saved_plan_is_applied_with_numpy_h5py_and_tqdm_alone(bare_python: Path,
                                                                tmp_path: Path) -> None:
    source = small_source(tmp_path)
    small_plan().save(tmp_path / "small.plan.json")
    script = f"""
import importlib.util
import keras_torch_convert as ktc
for name in ("torch", "keras", "tf_keras", "tensorflow", "ml_dtypes", "safetensors"):
    assert importlib.util.find_spec(name) is None, name
plan = ktc.Plan.load({str(tmp_path / "small.plan.json")!r})
for suffix in (".h5", ".weights.h5", ".keras"):
    assert ktc.apply(plan, {str(source)!r}, {str(tmp_path / "out")!r} + suffix, progress=True).ok
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    subprocess.run([bare_python, "-c", script], check=True, cwd=tmp_path, env=environment)
    import h5py

    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["layers/dense/vars/0"][()], np.load(source)["weight"].T)
