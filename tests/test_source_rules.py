"""Rules that no linter knows: each is checked on the text of the sources."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "keras_torch_convert").rglob("*.py"))
ARRAYS = sorted((ROOT / "csrc" / "arrays").glob("*.[ch]"))
NAMES = sorted((ROOT / "csrc" / "names").glob("*.[ch]"))
KERNELS = [ROOT / "csrc" / "status.h", *ARRAYS, *NAMES]
STREAMS = sorted((ROOT / "csrc" / "stream").glob("*.[ch]"))
BOUNDARY = sorted((ROOT / "csrc" / "python").glob("*.[ch]"))

ALWAYS_INSTALLED = {"numpy", "h5py", "tqdm", "click"}
STANDARD_HEADERS_OF_KERNELS = {
    *("assert.h", "float.h", "immintrin.h", "intrin.h", "limits.h", "math.h", "stdalign.h",
      "stdbool.h"), *("stddef.h", "stdint.h", "stdlib.h", "string.h")
}
# Each hands out a reference that any other code may drop meanwhile; the way round is a comment that
# starts with "borrowed:".
BORROWING_CALLS = re.compile(
    r"\b(PyList_GetItem|PyList_GET_ITEM|PyDict_GetItem\w*|PyDict_Next|PyTuple_GetItem|PySequence_Fast_GET_ITEM"
    r"|PySequence_Fast_ITEMS|PyImport_AddModule|PyWeakref_GetObject)\b")
STATIC_VARIABLE = re.compile(r"^\s*static\s+(?!const\b|inline\b)[^(){}=;]*(=|;|\[)")
LINES_READ_IN_ONE_SITTING = 600
# Of torch, NumPy, named tuples and this package's own classes.
PRIVATE_NAMES_OF_OTHERS = {"_modules", "_replace", "_version"}


def relative(path: Path) -> str:
    """A path as test id."""
    return str(path.relative_to(ROOT))


def without_comments(text: str) -> str:
    """C text with comments blanked, line numbers kept."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda match: re.sub(r"[^\n]", " ", match.group()), text,
                  flags=re.DOTALL)


def test_there_are_files_to_check() -> None:
    assert len(PACKAGE) > 10
    assert len(ARRAYS) > 5
    assert len(NAMES) > 5
    assert len(BOUNDARY) > 5


@pytest.mark.parametrize("path", KERNELS, ids=relative)
def test_kernel_includes_only_its_own_kind_and_plain_standard_headers(path: Path) -> None:
    for header in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE):
        own = header.startswith(f"{path.parent.name}/") and (path.parent
                                                             / Path(header).name).exists()
        assert own or header == "status.h" or header in STANDARD_HEADERS_OF_KERNELS, header


@pytest.mark.parametrize("path", KERNELS, ids=relative)
def test_kernel_has_no_python_and_no_input_or_output(path: Path) -> None:
    assert not re.findall(r"\b(Py\w+_\w+|PyObject|NPY_\w+|f?printf|fopen|open|read|write)\b",
                          without_comments(path.read_text()))


@pytest.mark.parametrize("path", STREAMS, ids=relative)
def test_stream_has_no_python(path: Path) -> None:
    assert not re.findall(r"\b(Py\w+_\w+|PyObject|NPY_\w+)\b", without_comments(path.read_text()))


@pytest.mark.parametrize("path", [*KERNELS, *STREAMS, *BOUNDARY], ids=relative)
def test_c_file_has_no_static_mutable_state(path: Path) -> None:
    # The tables that the C API wants as non-const are the only exceptions.
    allowed = ("PyMethodDef", "PyModuleDef", "PyModuleDef_Slot", "PyType_Spec", "PyType_Slot",
               "PyGetSetDef", "PyMemberDef")
    lines = without_comments(path.read_text()).splitlines()
    variables = [line for line in lines if STATIC_VARIABLE.match(line)]
    assert not [line for line in variables if not any(name in line for name in allowed)]


@pytest.mark.parametrize("path", BOUNDARY, ids=relative)
def test_boundary_borrows_no_reference_without_saying_why(path: Path) -> None:
    text = path.read_text()
    lines, code = text.splitlines(), without_comments(text).splitlines()
    for number, line in enumerate(code):
        if BORROWING_CALLS.search(line):
            nearby = "\n".join(lines[max(0, number - 3):number + 1])
            assert "borrowed:" in nearby, f"line {number + 1}: {lines[number].strip()}"


@pytest.mark.parametrize("path", [*KERNELS, *STREAMS, *BOUNDARY], ids=relative)
def test_c_names_that_cross_files_start_with_ktc_and_types_have_no_suffix(path: Path) -> None:
    code = without_comments(path.read_text())
    assert not re.findall(r"\bktc_\w+_t\b", code)
    if path.suffix == ".h":
        declared = re.findall(r"^(?!static|typedef|#|\s)[\w *]*?\b(\w+)\(", code, re.MULTILINE)
        assert not [name for name in declared if not name.lower().startswith("ktc_")]


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_heavy_packages_are_imported_inside_functions_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in imports_at_module_level(tree.body):
        names = [alias.name for alias in node.names] if isinstance(
            node, ast.Import) else [node.module or ""]
        if isinstance(node, ast.ImportFrom) and node.level:
            continue
        for name in names:
            top = name.partition(".")[0]
            assert top in ALWAYS_INSTALLED or top in standard_library(
            ), f"line {node.lineno}: {name}"


def imports_at_module_level(body: list[ast.stmt]) -> list[ast.Import | ast.ImportFrom]:
    """Imports that run when the module is imported: those under TYPE_CHECKING do not."""
    found: list[ast.Import | ast.ImportFrom] = []
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        elif isinstance(node, ast.If) and not (isinstance(node.test, ast.Name)
                                               and node.test.id == "TYPE_CHECKING"):
            found += imports_at_module_level([*node.body, *node.orelse])
        elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
            found += imports_at_module_level(node.body)
    return found


def standard_library() -> frozenset[str]:
    """Names of the modules that come with Python."""
    import sys

    return sys.stdlib_module_names | {"__future__"}


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_private_attributes_of_keras_are_used_in_one_file_only(path: Path) -> None:
    if path.name == "keras_private.py":
        assert "_flatten_layers" in private_names(path)
        return
    keras = private_names(next(path for path in PACKAGE if path.name == "keras_private.py"))
    found = private_names(path)
    assert not found.keys() & keras.keys()
    # Whatever else is private must be known to belong to somebody else.
    assert not found.keys() - PRIVATE_NAMES_OF_OTHERS, found


def private_names(path: Path) -> dict[str, int]:
    """Names with one leading underscore that are read from objects other than `self`, and where."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            name = "" if own else node.attr
        elif isinstance(node, ast.Call) and isinstance(
                node.func, ast.Name) and node.func.id in {"getattr", "hasattr", "setattr"}:
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
        else:
            continue
        if re.match(r"_(?!_)", name):
            found[name] = node.lineno
    return found


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_no_exception_is_swallowed(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (isinstance(node.type, ast.Name)
                                          and node.type.id in {"Exception", "BaseException"})
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            tells = node.name and any(
                isinstance(inner, ast.Name) and inner.id == node.name for inner in ast.walk(node))
            assert not broad or raises or tells, (
                f"line {node.lineno}: a broad except that neither raises nor tells the error")


@pytest.mark.parametrize("path", [*PACKAGE, *KERNELS, *STREAMS, *BOUNDARY], ids=relative)
def test_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_READ_IN_ONE_SITTING


def test_no_build_is_tied_to_the_machine_that_made_it() -> None:
    assert "march=" not in re.sub(r"#.*", "", (ROOT / "setup.py").read_text())


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    answer = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            check=False, cwd=ROOT, capture_output=True)
    if answer.returncode:
        pytest.skip("not a git checkout")
    private = re.compile(r"""(?:^|[\s"'=(])/(?:home|root|work|Users)/\w""", re.MULTILINE)
    for name in answer.stdout.decode().split("\0"):
        path = ROOT / name
        if path.is_file() and path.suffix in {
                ".py", ".pyi", ".md", ".c", ".h", ".toml", ".yml", ".sh", ""
        }:
            found = private.search(path.read_text(errors="replace"))
            assert found is None, f"{name}: {found.group()!r}" if found else ""
