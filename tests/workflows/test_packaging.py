"""What is uploaded can be installed: sdist and wheel, each in a bare environment, without torch or
Keras anywhere near.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import keras_torch_convert

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "keras", "tf_keras", "tensorflow", "jax", "PIL", "skimage", "safetensors", "dask",
         "rich", "click", "scipy", "pandas")
SECONDS_ALLOWED = 0.3
# On a slower machine: so many times what a million additions take.
ADDITIONS_ALLOWED = 5
REPOSITORY = "https://example.org/owner/name"

pytestmark = pytest.mark.slow

# Runs in the bare environment. The dependencies that it imports come first, so that the clock sees
# what this package adds to them.
IMPORT_AND_LOOK = """
import json, sys, time
import numpy, h5py, tqdm
start = time.process_time()
import keras_torch_convert
seconds = time.process_time() - start
start, total = time.process_time(), 0
for number in range(1_000_000):
    total += number
additions = time.process_time() - start
state = {"weight": numpy.ones(2), "bias": numpy.zeros(2), "num_batches_tracked": numpy.zeros(())}
state = {f"a.{name}": array for name, array in state.items()}
answer = keras_torch_convert.state_dict_stack_by_layer(state)
print(json.dumps({
    "seconds": seconds, "additions": additions,
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
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT,
        env={**os.environ, "KTC_REPOSITORY": REPOSITORY})
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
    tracked = run("git", "ls-files", cwd=ROOT).split("\n") if (ROOT / ".git").exists() else []
    assert [one for one in tracked if one and one not in names] == []


def test_links_of_the_readme_and_the_addresses_are_absolute(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    links = re.findall(r"\]\(([^)]+)\)", metadata)
    assert len(links) > 10
    assert [link for link in links if "://" not in link] == []
    assert f"{REPOSITORY}/raw/HEAD/docs/images/page.png" in links
    for label in ("Homepage", "Source", "Issues", "Changelog", "Documentation"):
        assert f"Project-URL: {label}, {REPOSITORY}" in metadata


def test_without_a_compiler_the_message_says_what_to_install(tmp_path: Path) -> None:
    answer = subprocess.run([sys.executable, "setup.py", "build_ext", "--force", "--build-temp",
                             tmp_path / "temp", "--build-lib", tmp_path / "lib"],
                            check=False, capture_output=True, text=True, cwd=ROOT,
                            env={**os.environ, "CC": "no-such-compiler"})  # yapf: disable
    assert answer.returncode == 1
    assert "no C compiler was found" in answer.stderr
    assert "apt install build-essential python3-dev" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_what_runs_for_others_is_pinned_and_valid() -> None:
    yaml = pytest.importorskip("yaml")
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml",
             ROOT / "CITATION.cff"]  # yapf: disable
    assert len(files) > 4
    loaded = {file.name: yaml.safe_load(file.read_text()) for file in files}
    actions = re.findall(r"uses: (\S+)", (ROOT / ".github/workflows/wheels.yml").read_text())
    assert len(actions) > 8
    assert [one for one in actions if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)] == []
    assert loaded["CITATION.cff"]["version"] == keras_torch_convert.__version__
    publish = loaded["wheels.yml"]["jobs"]["publish"]
    assert publish["permissions"]["id-token"] == "write"
    assert loaded["wheels.yml"]["permissions"] == {"contents": "read"}


def test_the_tests_of_a_wheel_need_no_framework_and_no_other_file(tmp_path: Path) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (sources,) = re.findall(r"^test-sources = (.*)$", text, re.MULTILINE)
    (files,) = re.findall(r'^test-command = "python -m pytest (.*)"', text, re.MULTILINE)
    for name in json.loads(sources):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    blocked = dict.fromkeys([*HEAVY, "ml_dtypes"])
    script = (f"import sys; sys.modules.update({blocked})\n"
              "import pytest; sys.exit(pytest.main(sys.argv[1:]))")
    # All are collected; those that read other files are in one of them.
    answer = run(sys.executable, "-c", script, "-k", "test_module", *files.split(), cwd=tmp_path)
    assert int(re.findall(r"(\d+) deselected", answer)[0]) > 1000


def test_a_script_of_a_user_is_typed(tmp_path: Path) -> None:
    script = ROOT / "tests" / "data" / "typed_user.py"
    pytest.importorskip("mypy", reason="mypy is not installed")
    options = ("--strict", "--follow-imports=silent", "--no-error-summary", "--config-file",
               os.devnull, "--cache-dir", tmp_path)
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-m", "mypy", *options, script],
                           check=False, capture_output=True, text=True, cwd=tmp_path,
                           env=environment)  # yapf: disable
    # One line says on purpose what is wrong, so that types that were lost would show.
    assert found.stdout.splitlines() == [
        f'{script}:29: error: Argument "accept" to "convert" has incompatible type '
        '"Literal[\'near\']"; expected "Literal[\'close\', \'equal\']"  [arg-type]'
    ], found.stdout + found.stderr


def test_a_script_of_a_user_is_typed_for_pyright_too(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright", reason="basedpyright is not installed")
    script = ROOT / "tests" / "data" / "typed_user.py"
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "include": [str(script)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    found = subprocess.run([sys.executable, "-m", "basedpyright", "--outputjson", "-p", tmp_path],
                           check=False, capture_output=True, text=True)  # yapf: disable
    errors = json.loads(found.stdout)["generalDiagnostics"]
    assert [(one["range"]["start"]["line"], one["rule"]) for one in errors
           ] == [(28, "reportArgumentType")]


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
    with zipfile.ZipFile(built["wheel"]) as archive:
        (points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "[pytest11]" in archive.read(points).decode()
        (extension,) = [name for name in names if name.startswith("keras_torch_convert/_core.c")]
        # With symbols it is five times as large.
        assert archive.getinfo(extension).file_size < 400_000
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
    additions = min(answer["additions"] for answer in answers)
    assert min(answer["seconds"] for answer in answers) < max(SECONDS_ALLOWED,
                                                              ADDITIONS_ALLOWED * additions)
