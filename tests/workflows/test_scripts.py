"""Scripts beside the package import names that exist: benchmarks, examples, docs, zoo."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for folder in ("benchmarks", "docs", "examples", "tests/zoo", "tests/helpers")
                 for path in (ROOT / folder).rglob("*.py"))
OURS = ("keras_torch_convert", "benchmarks", "tests")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_script_imports_from_here_is_here(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
            folder = ROOT / str(node.module).replace(".", "/")
            assert folder.is_dir() or folder.with_suffix(".py").is_file(), node.module
            if str(node.module).startswith("keras_torch_convert"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name) or (folder / f"{alias.name}.py").is_file()


@pytest.mark.slow
def test_every_benchmark_can_be_imported() -> None:
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("bench_*.py"))
    assert len(names) > 8
    code = "; ".join(f"import benchmarks.{name}" for name in names)
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
