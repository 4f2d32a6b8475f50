"""The plan of the house: imports between rooms only go down, no circle of files, no name twice.

A room is a folder of the package, or one of its files at the top. docs/architecture.md describes
them.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import keras_torch_convert
from tests.helpers.import_graph import (FILES, ROOMS, circles, file_of, imported_names, imports,
                                        room_of)

ROOT = Path(__file__).resolve().parent.parent
# Folders of tests whose files are named after a behavior or a C function, not after a module.
FREE_FOLDERS = {"hostile", "core", "workflows", "helpers", "zoo", "c", "data"}


def test_every_file_lives_in_a_room() -> None:
    assert len(FILES) > 100
    assert {room_of(module) for module in FILES} == set(ROOMS)


@pytest.mark.parametrize("module", FILES)
def test_imports_only_go_down(module: str) -> None:
    own = ROOMS.index(room_of(module))
    upward = [
        f"line {line} imports {name}" for line, name in imports()[module]
        if room_of(name) != room_of(module) and ROOMS.index(room_of(name)) >= own
    ]
    assert upward == []


def test_no_files_import_each_other_in_a_circle() -> None:
    edges = {
        module: {name for _, name in found if name != module} for module, found in imports().items()
    }
    assert circles(edges) == set()


def test_a_circle_and_an_upward_import_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {frozenset({"b", "c"})}
    tree = ast.parse("from ..api import conversion\n"
                     "def load():\n    from .file import load\n    import keras_torch_convert.cli")
    names = [(line, file_of(name)) for line, name in imported_names("plan.plan", tree)]
    assert names == [(1, "api.conversion"), (3, "plan.file"), (4, "cli.__init__")]


def test_no_module_is_named_like_a_public_function() -> None:
    functions = {
        name for name in keras_torch_convert.__all__
        if not isinstance(getattr(keras_torch_convert, name), type)
    }
    assert functions > {"align", "apply", "convert", "read", "verify"}
    parts = {part for module in FILES for part in module.split(".")}
    assert functions & parts == set()


def test_the_order_of_lines_in_the_front_door_does_not_matter() -> None:
    # A name that is both exported and a module of the package would mean one or the other,
    # depending on which line runs last.
    at_the_top = {room_of(module) for module in FILES}
    assert at_the_top & set(keras_torch_convert.__all__) == set()


@pytest.mark.parametrize("path", [
    path for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if len(path.relative_to(ROOT / "tests").parts) > 1
    and path.relative_to(ROOT / "tests").parts[0] not in FREE_FOLDERS
], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_test_file_is_named_after_its_module(path: Path) -> None:
    folder = ".".join(path.relative_to(ROOT / "tests").parts[:-1])
    assert f"{folder}.{path.stem.removeprefix('test_')}" in FILES
