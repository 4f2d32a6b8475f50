"""Every block of Python and shell in the README and in docs/ runs, page by page, as a reader would
paste it, where TensorFlow is not installed; tables are complete.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_torch_convert
from keras_torch_convert import errors
from keras_torch_convert.cli.main import EXIT_CODES
from tests.helpers.docs_pages import has_code, script_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if has_code(page)
]


def test_the_pages_that_have_code_are_found() -> None:
    assert {page.name for page in PAGES
           } >= {"README.md", "start.md", "classic.md", "command_line.md"}


# Python reads this file when it starts: it hides what a reader need not have.
WITHOUT_TENSORFLOW = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tf_keras", "jax"):
            return None
        return super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    # Named so that it cannot hide a module, and with the commands of this checkout on PATH.
    script = tmp_path / f"page_{page.stem}.py"
    script.write_text(script_of(page), encoding="utf-8")
    commands, hiding = tmp_path / "commands", tmp_path / "hiding"
    commands.mkdir()
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text(WITHOUT_TENSORFLOW)
    for name, call in {"python": "", "keras-torch-convert": "-m keras_torch_convert "}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call}"$@"\n')
        (commands / name).chmod(0o755)
    # Keras keeps its configuration at home: as on a machine that never saw it.
    environment = {
        **os.environ, "HOME": str(tmp_path), "PYTHONPATH": f"{hiding}{os.pathsep}{ROOT}",
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"
    }
    environment.pop("KERAS_BACKEND")
    answer = subprocess.run([sys.executable, script], check=False, cwd=tmp_path, env=environment,
                            capture_output=True, text=True)
    assert answer.returncode == 0, f"{answer.stdout[-3000:]}\n{answer.stderr[-6000:]}"


def test_exit_codes_are_documented() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert documented == re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)


def test_every_error_has_a_place_in_the_page_of_errors() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    kinds = [
        name for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert len(kinds) > 8
    assert [name for name in kinds if name not in page] == []


def test_every_public_name_is_in_the_page_of_the_interface() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = set(
        keras_torch_convert.__all__) - {name for name in vars(errors) if name.endswith("Error")}
    assert {name for name in names if not re.search(rf":: {name}$", page, re.MULTILINE)} == set()


def test_the_picture_of_the_rooms_is_that_of_the_code() -> None:
    picture = subprocess.run(
        [sys.executable, "-c", "import render_rooms; print(render_rooms.svg(), end='')"],
        check=True, cwd=ROOT / "docs", capture_output=True, text=True).stdout
    assert picture == (ROOT / "docs" / "images" / "rooms.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_and_folders_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`([\w.]+/[\w./]*|\w+\.(?:py|c|md|toml))`", (ROOT / page).read_text())
    roots = (ROOT, ROOT / "keras_torch_convert")
    assert len(named) > 15
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(
        (ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert "://" in link or (page.parent / link).exists(), link
