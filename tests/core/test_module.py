"""The extension module itself: its state, its second import, its stub, and what it may not have."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from types import BuiltinFunctionType

import pytest

from keras_torch_convert import _core

PACKAGE = Path(_core.__file__).parent


def in_fresh_process(script: str) -> str:
    """What a script prints, run by an interpreter of its own that finds the same package."""
    done = subprocess.run([
        sys.executable, "-c",
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n" + textwrap.dedent(script)
    ], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def second_core() -> object:
    """Another module object made from the same file."""
    specification = importlib.util.spec_from_file_location("keras_torch_convert._core",
                                                           _core.__file__)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_second_module_object_has_a_state_of_its_own() -> None:
    other = second_core()
    assert other is not _core
    other.use_instruction_set("portable")  # type: ignore[attr-defined]
    assert other.instruction_set() == "portable"  # type: ignore[attr-defined]
    assert _core.instruction_set() == _core.instruction_sets()[-1]


def test_a_second_module_object_can_be_thrown_away() -> None:
    other = second_core()
    del other
    with pytest.raises(_core.NamesError):
        _core.move_stage(["a"], {}, {"a": 1}, 2)


def test_a_second_import_after_removal_works() -> None:
    output = in_fresh_process("""
        import sys
        from keras_torch_convert import _core
        first = id(_core)
        del sys.modules["keras_torch_convert._core"]
        import importlib
        again = importlib.import_module("keras_torch_convert._core")
        print(id(again) != first, again.instruction_set() == _core.instruction_set())
    """)
    assert output == "True True"


@pytest.mark.skipif(sys.version_info < (3, 12),
                    reason="before 3.12 a module cannot say what it supports")
def test_subinterpreters_are_refused_in_words() -> None:
    output = in_fresh_process("""
        import sys
        if sys.version_info >= (3, 13):
            import _interpreters as interpreters
        else:
            import _xxsubinterpreters as interpreters
        import keras_torch_convert._core as core
        script = '''
        import importlib.machinery, importlib.util
        loader = importlib.machinery.ExtensionFileLoader("keras_torch_convert._core", PATH)
        specification = importlib.util.spec_from_loader("keras_torch_convert._core", loader)
        try:
            importlib.util.module_from_spec(specification)
        except ImportError as error:
            print("refused:", error)
        else:
            print("accepted")
        '''.replace("PATH", repr(core.__file__)).replace("\\n        ", "\\n")
        interpreter = interpreters.create()
        interpreters.run_string(interpreter, script)
    """)
    assert output.startswith("refused:")
    assert "does not support" in output


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"),
                    reason="this interpreter is not free-threaded")
def test_a_free_threaded_interpreter_stays_so() -> None:
    assert in_fresh_process("""
        import keras_torch_convert._core
        print(sys._is_gil_enabled())
    """) == "False"


def test_no_interpreter_with_a_gil_of_its_own_is_supported() -> None:
    source = (Path(__file__).parents[2] / "csrc" / "python" / "module.c").read_text()
    assert "Py_MOD_PER_INTERPRETER_GIL_SUPPORTED" not in source


@pytest.mark.skipif(
    shutil.which("nm") is None or sys.platform != "linux", reason="needs nm and an ELF file")
def test_writable_data_is_only_what_the_c_apis_demand() -> None:
    listing = subprocess.run(["nm", _core.__file__], capture_output=True, text=True,
                             check=True).stdout
    if not listing:
        pytest.skip("stripped of its symbols; tests/sanitize.sh looks at a build that has them")
    writable = {line.split()[-1] for line in listing.splitlines() if line.split()[-2] in "bBdD"}
    tables = {name for name in writable if name.endswith(("_methods", "_definition", "_slots"))}
    from_the_tool_chain = {
        "__dso_handle", "_DYNAMIC", "_GLOBAL_OFFSET_TABLE_", "__TMC_END__", "completed.0",
        "__bss_start"
    }
    from_the_tool_chain |= {
        "_edata", "_end", "__frame_dummy_init_array_entry", "__do_global_dtors_aux_fini_array_entry"
    }
    from_the_tool_chain |= {"__cpu_model", "__cpu_features2"
                           }  # what the compiler's own question to the processor found
    from_numpy = {
        "ktc_numpy_api", "PyArray_RUNTIME_VERSION", "ktc_numpy_apiPyArray_RUNTIME_VERSION"
    }
    # What a signal handler finds its way by.
    of_the_guard = {"guard_landing", "guard_lock", "guard_previous", "guard_users"}
    sanitized = {name for name in writable if name.startswith((".L", "__odr_asan", "__asan"))}
    assert len(tables) >= 5
    assert writable - tables - from_the_tool_chain - from_numpy - of_the_guard - sanitized == set()


def test_the_only_exported_symbol_is_the_module() -> None:
    if shutil.which("nm") is None or sys.platform != "linux":
        pytest.skip("needs nm and an ELF file")
    listing = subprocess.run(["nm", "-D", "--defined-only", _core.__file__], capture_output=True,
                             text=True, check=True)
    exported = {line.split()[-1] for line in listing.stdout.splitlines()}
    assert {name for name in exported if not name.startswith(("__odr_asan", "_init", "_fini"))
           } == {"PyInit__core"}


def test_the_stub_names_exactly_what_the_module_has() -> None:
    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    declared = {
        node.name for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    declared |= {
        node.target.id for node in stub.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert declared == {name for name in dir(_core) if not name.startswith("_")}


def test_every_function_tells_its_signature() -> None:
    functions = [value for value in vars(_core).values() if isinstance(value, BuiltinFunctionType)]
    assert len(functions) > 5
    for function in functions:
        assert function.__text_signature__ is not None, function
        assert function.__doc__
