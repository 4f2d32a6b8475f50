"""What is uploaded can be installed: sdist and wheel, each in a bare environment, without torch or
Keras anywhere near.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "keras", "tf_keras", "tensorflow", "jax", "PIL", "skimage", "safetensors", "dask",
         "rich", "click", "scipy", "pandas")
SECONDS_ALLOWED = 0.3

pytestmark = pytest.mark.slow

# Runs in the bare environment. The dependencies that it imports come first, so that the clock sees
# what this package adds to them.
IMPORT_AND_LOOK = """
import json, sys, time
import numpy, h5py, tqdm
start = time.perf_counter()
import keras_torch_convert
seconds = time.perf_counter() - start
state = {"weight": numpy.ones(2), "bias": numpy.zeros(2), "num_batches_tracked": numpy.zeros(())}
state = {f"a.{name}": array for name, array in state.items()}
answer = keras_torch_convert.state_dict_stack_by_layer(state)
print(json.dumps({
    "seconds": seconds,
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "file": keras_torch_convert.__file__,
    "layers": {name: len(arrays) for name, arrays in answer.items()},
}))
"""


def run(*command: object, **options: object) -> str:
    """Run a command and give its output; when it fails, the failure shows what it printed."""
    answer = subprocess.run([str(part) for part in command], check=False, capture_output=True,
                            text=True, **options)  # type: ignore[call-overload]
    assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"
    return str(answer.stdout)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def test_metadata_is_ready_for_upload(built: dict[str, Path]) -> None:
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", *built.values())


def test_sdist_has_what_is_needed_to_build(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.[ch]")}
    assert sources
    assert sources <= names
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def test_wheel_has_the_extension_the_types_and_the_data(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = set(archive.namelist())
    assert any(
        name.startswith("keras_torch_convert/_core.") and name.endswith((".so", ".pyd"))
        for name in names)
    assert "keras_torch_convert/py.typed" in names
    assert "keras_torch_convert/_core.pyi" in names
    assert "keras_torch_convert/data/chelsea.png" in names
    assert "keras_torch_convert/data/imagenet_classes.txt" in names
    assert {f"keras_torch_convert/report/template/page.{kind}" for kind in ("html", "css", "js")
           } <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    folders = {name.partition("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")
           } == {"keras_torch_convert", "keras_torch_convert_pytest.py"}


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_installed_alone_it_imports_quickly_and_brings_nothing_heavy(kind: str, built: dict[str,
                                                                                            Path],
                                                                     tmp_path: Path) -> None:
    environment = tmp_path / "bare"
    run(sys.executable, "-m", "venv", environment)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    # Nothing of this checkout may be seen, or pip takes it for installed.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    run(python, "-m", "pip", "install", "--quiet", built[kind], env=clean)
    answer = run(python, "-m", "pip", "list", "--format", "json", env=clean)
    installed = {entry["name"].lower() for entry in json.loads(answer)}
    needed = {"keras-torch-convert", "numpy", "h5py", "tqdm", "click", "filelock"}
    assert installed - {"pip", "setuptools", "tomli", "typing-extensions"} == needed

    command = python.with_name("keras-torch-convert" + (".exe" if os.name == "nt" else ""))
    assert json.loads(run(command, "rules", "dense", "--json", cwd=tmp_path, env=clean))

    # The best of five: the first one writes the compiled files, and another process may take the
    # core for a moment.
    answers = [
        json.loads(run(python, "-c", IMPORT_AND_LOOK, cwd=tmp_path, env=clean)) for _ in range(5)
    ]
    assert Path(answers[0]["file"]).is_relative_to(environment)
    assert answers[0]["layers"] == {"a": 2}
    assert not set(HEAVY) & set(answers[0]["modules"])
    assert min(answer["seconds"] for answer in answers) < SECONDS_ALLOWED
