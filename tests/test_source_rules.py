"""Rules that no linter knows: each is checked on the text of the sources."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "keras_torch_convert").rglob("*.py"))
ARRAYS = sorted((ROOT / "csrc" / "arrays").glob("*.[ch]"))
NAMES = sorted((ROOT / "csrc" / "names").glob("*.[ch]"))
KERNELS = [ROOT / "csrc" / "status.h", *ARRAYS, *NAMES]
STREAMS = sorted((ROOT / "csrc" / "stream").glob("*.[ch]"))
BOUNDARY = sorted((ROOT / "csrc" / "python").glob("*.[ch]"))

ALWAYS_INSTALLED = {"numpy", "h5py", "tqdm", "click", "filelock"}
STANDARD_HEADERS_OF_KERNELS = {
    *("assert.h", "cpuid.h", "float.h", "immintrin.h", "intrin.h", "limits.h", "math.h"),
    *("stdalign.h", "stdbool.h", "stddef.h", "stdint.h", "stdlib.h", "string.h")
}
# Each hands out a reference that any other code may drop meanwhile; the way round is a comment that
# starts with "borrowed:".
BORROWING_CALLS = re.compile(
    r"\b(PyList_GetItem|PyList_GET_ITEM|PyDict_GetItem\w*|PyDict_Next|PyTuple_GetItem"
    r"|PySequence_Fast_GET_ITEM|PySequence_Fast_ITEMS|PyImport_AddModule|PyWeakref_GetObject)\b")
STATIC_VARIABLE = re.compile(r"^\s*static\s+(?!const\b|inline\b)[^(){}=;]*(=|;|\[)")
LINES_READ_IN_ONE_SITTING = 600
COLUMNS = 100
# Above these a function needs a comment over its `def` that says why it is so large.
LINES_OF_A_FUNCTION, PARAMETERS_OF_A_FUNCTION = 60, 7

PYTHON = sorted(path
                for folder in ("keras_torch_convert", "tests", "benchmarks", "docs", "examples")
                for path in (ROOT / folder).rglob("*.py*") if path.suffix in {".py", ".pyi"})
C_FILES = sorted([*KERNELS, *STREAMS, *BOUNDARY, *(ROOT / "tests" / "c").glob("*.[ch]")])
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# Home-made names and the field's word for the same thing (docs/architecture.md has a glossary).
HOME_MADE_NAMES = dict(
    line.split(maxsplit=1) for line in """\
ArrayKind TensorSpec
automatic_name auto_name
called_on functional_call
CHAOS ILL_CONDITIONED
cycle_search_paused gc_paused
DeadEnd Backtrack
Deviation StdDev
difference_unmended baseline_distance
disturbed_change perturbation_sensitivity
fate status
fates statuses
Filling LayerMapping
Followers HashWorkers
going_on_with bypass
gradients_off no_grad
interrupts_held_back deferred_sigint
Judging VerifyOptions
Knowledge TraceIndex
live_layout lazy_layout
mended patched
NormWeight WeightNorm
on_paper derived
Prepared CheckedPlan
put_back rollback
python_generators_kept preserve_rng_state
read_back verify_written
recorded_plan lower_callbacks
Scene DivergenceContext
Settled Match
Spot DivergencePoint
stand_in derived
StandardizedWeight WeightStandardization
Surroundings Neighborhood
telling_label base_name
Told AlignmentOptions
undisturbed isolated_inference
unflattening channel order
WrittenAside AtomicFile
""".splitlines())
BRITISH = [
    "categor", "character", "custom", "emphas", "equal", "final", "general", "initial", "maxim",
    "memor", "minim", "normal", "optim", "organ", "parametr", "priorit", "random", "recogn",
    "serial", "special", "standard", "summar", "synchron"
]
# Names that are the field's own elsewhere (in tests of poolings, in a torch dtype) are banned where
# they were once used for something else.
BANNED_IN_PACKAGE = dict(
    line.split(maxsplit=1) for line in """\
described reported
idle unused
in_words summary
place key or position
places keys or positions
rivals alternatives
told reported
""".splitlines())
HOME_MADE_PHRASES = re.compile(
    r"(?<![a-z])(?:near it: |goes first:|mended|idle weights?|as far as known|no plan file"
    r"|colours?|behaviours?"
    r"|favour\w*|centre|grey|honour\w*|neighbour\w*|labelled|artefacts?|licence|catalogue|whilst"
    r"|amongst|afterwards|analys(?:e|ed|es|ing)"
    rf"|(?:{'|'.join(BRITISH)})is(?:e|es|ed|ing|ation|ations|er|able))(?![a-z])", re.IGNORECASE)
# Of torch, NumPy, named tuples and this package's own classes.
PRIVATE_NAMES_OF_OTHERS = {"_fields", "_modules", "_replace", "_version"}


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
    # The tables that the C API wants as non-const, and what a signal handler finds its way by.
    allowed = ("guard_",) if path.name == "guard.c" else ("PyMethodDef", "PyModuleDef",
                                                          "PyModuleDef_Slot", "PyType_Spec",
                                                          "PyType_Slot", "PyGetSetDef",
                                                          "PyMemberDef")
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
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (isinstance(node.type, ast.Name)
                                          and node.type.id in {"Exception", "BaseException"})
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            tells = node.name and any(
                isinstance(inner, ast.Name) and inner.id == node.name for inner in ast.walk(node))
            tells = tells or "# told in " in lines[node.lineno - 1]
            assert not broad or raises or tells, (
                f"line {node.lineno}: a broad except that neither raises nor tells the error")


@pytest.mark.parametrize("path", [*PACKAGE, *KERNELS, *STREAMS, *BOUNDARY], ids=relative)
def test_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_READ_IN_ONE_SITTING


def test_no_line_is_too_long() -> None:
    long = [
        f"{relative(path)}:{number}" for path in [*PYTHON, *C_FILES]
        for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > COLUMNS
    ]
    assert long == []


def test_no_line_of_the_notebook_is_too_long() -> None:
    path = ROOT / "examples" / "torch_to_release.ipynb"
    notebook = json.loads(path.read_text())
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    long = [line for cell in code for line in cell.splitlines() if len(line) > COLUMNS]
    assert code
    assert long == []


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_a_large_function_says_why(path: Path) -> None:
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            parameters = len([one for one in given if one.arg not in ("self", "cls")])
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            small = length <= LINES_OF_A_FUNCTION and parameters <= PARAMETERS_OF_A_FUNCTION
            assert small or lines[first - 2].lstrip().startswith("# "), (
                f"{node.name}: {length} lines, {parameters} parameters, and no comment above it "
                "that says why")


def test_names_are_those_of_the_field() -> None:
    found = {
        f"{relative(path)}:{token.start[0]}: {token.string}": HOME_MADE_NAMES[token.string]
        for path in PYTHON
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.NAME and token.string in HOME_MADE_NAMES
    }
    assert found == {}


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_package_calls_keys_positions_and_class_names_so(path: Path) -> None:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    assert not {
        f"line {token.start[0]}: {token.string}": BANNED_IN_PACKAGE[token.string]
        for token in tokens if token.type == tokenize.NAME and token.string in BANNED_IN_PACKAGE
    }
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.For, ast.comprehension)):
            target, given = node.target, node.iter
        elif isinstance(node, ast.Assign):
            target, given = node.targets[0], node.value
        else:
            continue
        names = {inner.id for inner in ast.walk(target) if isinstance(inner, ast.Name)}
        of_classes = re.search(r"class_names?\b|__mro__|__class__|\btype\(", ast.unparse(given))
        assert not (of_classes and names & {"kind", "kinds"}), f"line {target.lineno}: class_name"


def test_words_are_plain_american_english() -> None:
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in [*PYTHON, *C_FILES, *PAGES] if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if HOME_MADE_PHRASES.search(line)
    ]
    assert found == []


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
