"""The example notebook runs to its end, and what is kept in it is what it shows."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

import run_notebook  # noqa: E402  # beside the notebook


def outputs(notebook):
    """What each code cell shows, as text, numbers and places blanked."""
    shown = []
    for cell in notebook.cells:
        texts = [
            output["text"] if "text" in output else output["data"]["text/plain"]
            for output in cell.get("outputs", [])
        ]
        text = re.sub(r"\x1b\[\d*m", "", "".join(texts))
        shown.append(re.sub(r"[0-9a-f]{32,}|\d[\d.,e+-]*", "#", text))
    return shown


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_is_kept_in_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    kept = nbformat.read(run_notebook.NOTEBOOK, as_version=4)

    notebook = run_notebook.run(tmp_path / "run.ipynb")

    assert [
        output for cell in notebook.cells
        for output in cell.get("outputs", []) if output.output_type == "error"
    ] == []
    text = "\n".join(outputs(notebook))
    assert "first misalignment: 'left.#' does not fit into 'right_conv#'" in text
    assert "epsilon of 'right_bn'" in text
    assert text.count("outputs are equal") >= 2
    assert "zoo.py: entry set" in text
    # Lines that tell seconds or measured distances may differ in words as well; those of the lists
    # and the release may not.
    listing, release = 1, -1
    for place in (listing, release):
        assert [one for one in outputs(kept) if one
               ][place] == [one for one in outputs(notebook) if one][place]


def test_the_kept_outputs_are_of_a_run_from_top_to_bottom_and_name_no_machine():
    notebook = nbformat.read(run_notebook.NOTEBOOK, as_version=4)

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not re.search(r"/(?:home|root|work|Users|tmp)/\w", run_notebook.NOTEBOOK.read_text())
    assert os.path.getsize(run_notebook.NOTEBOOK) < 300_000
