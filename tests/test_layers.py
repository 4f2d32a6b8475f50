"""The plan of the house: imports between rooms only go down, no circle of files, no name twice.

A room is a folder of the package, or one of its files at the top. docs/architecture.md describes
them.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import keras_torch_convert

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "keras_torch_convert"
# From the ground up: a file imports from its own room and from those before it.
ROOMS = ("errors", "util", "spec", "plan", "torch_io", "keras_io", "rules", "running", "comparison",
         "alignment", "diagnosis", "report", "api", "release", "__init__", "cli", "__main__")
# Folders of tests whose files are named after a behavior or a C function, not after a module.
FREE_FOLDERS = {"core", "workflows", "helpers", "zoo", "c", "data"}

# Being taken apart; it may only shrink.
OLD_CIRCLES = [{"torch_io.module", "torch_io.state_dict"}]


def module_name(path: Path) -> str:
    """Return the dotted name of a file below the package, `__init__` included."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    """Return the room in which a module lives."""
    return module.partition(".")[0]


def imported_modules(module: str, tree: ast.AST) -> list[tuple[int, str]]:
    """Return line and dotted name of everything that a file imports from the package, also inside
    functions and for typing. A dotted name may end in a name that its module defines.
    """
    folder = module.split(".")[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.partition(".")[2] or "__init__")
                      for alias in node.names if alias.name.partition(".")[0] == PACKAGE.name]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                start = folder[:len(folder) - node.level + 1]
            elif (node.module or "").partition(".")[0] == PACKAGE.name:
                start = []
            else:
                continue
            inner = node.module if node.level else (node.module or "").partition(".")[2]
            start = [*start, *(inner.split(".") if inner else [])]
            found += [(node.lineno, ".".join([*start, alias.name])) for alias in node.names]
    return [(line, name) for line, name in found if name.partition(".")[0] != "_core"]


def file_of(name: str) -> str:
    """Return the file of a dotted name: a module, a package, or the file that defines a name."""
    while name:
        for candidate in (name, f"{name}.__init__"):
            if candidate in FILES:
                return candidate
        name = name.rpartition(".")[0]
    return "__init__"


@cache
def imports() -> dict[str, list[tuple[int, str]]]:
    """Return for every file the lines and files that it imports."""
    return {
        module: [(line, file_of(name))
                 for line, name in imported_modules(module, ast.parse(path.read_text()))
                ] for module, path in FILES.items()
    }


def circles(edges: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the strongly connected parts of a graph that have more than one member."""
    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in edges[todo.pop()] - seen:
                seen.add(following)
                todo.append(following)
        return seen

    below = {name: reachable(name) for name in edges}
    return {
        frozenset(other for other in below[name] if name in below[other])
        for name in edges if name in below[name]
    }


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
    assert {part for part in circles(edges) if not any(part <= old for old in OLD_CIRCLES)} == set()


def test_a_circle_and_an_upward_import_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {frozenset({"b", "c"})}
    tree = ast.parse("from ..api import conversion\n"
                     "def load():\n    from .file import load\n    import keras_torch_convert.cli")
    names = [(line, file_of(name)) for line, name in imported_modules("plan.plan", tree)]
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
