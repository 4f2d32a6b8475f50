"""What the files of the package import from each other, read off their syntax trees."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "keras_torch_convert"
# From the ground up: a file imports from its own room and from those before it.
ROOMS = ("errors", "util", "spec", "plan", "torch_io", "keras_io", "rules", "running", "comparison",
         "alignment", "diagnosis", "report", "api", "release", "__init__", "cli", "__main__")


def module_name(path: Path) -> str:
    """Return the dotted name of a file below the package, `__init__` included."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    """Return the room in which a module lives."""
    return module.partition(".")[0]


def imported_names(module: str, tree: ast.AST) -> list[tuple[int, str]]:
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
                start, inner = folder[:len(folder) - node.level + 1], node.module
            elif (node.module or "").partition(".")[0] == PACKAGE.name:
                start, inner = [], (node.module or "").partition(".")[2]
            else:
                continue
            start = [*start, *(inner.split(".") if inner else [])]
            found += [(node.lineno, ".".join([*start, alias.name])) for alias in node.names]
    return [(line, name) for line, name in found if room_of(name) != "_core"]


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
                 for line, name in imported_names(module, ast.parse(path.read_text()))
                ] for module, path in FILES.items()
    }


def circles(edges: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the strongly connected parts of a graph that have more than one member."""
    def reachable(start: str) -> set[str]:
        found: set[str] = set()
        todo = [start]
        while todo:
            for following in edges[todo.pop()] - found:
                found.add(following)
                todo.append(following)
        return found

    below = {name: reachable(name) for name in edges}
    return {
        frozenset(other for other in below[name] if name in below[other])
        for name in edges if name in below[name]
    }
