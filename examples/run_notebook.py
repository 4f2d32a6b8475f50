"""Run the example notebook and keep what it shows. `make notebook` runs this.

python examples/run_notebook.py [FILE TO WRITE]; by default the notebook itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("torch_to_release.ipynb")
SECONDS_FOR_A_CELL = 300


def run(target: Path) -> nbformat.NotebookNode:
    """Return the notebook with fresh outputs, written to `target`. An error in a cell is raised."""
    # The notebook runs commands of the environment that it runs in.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Tables are as wide as the terminal, which differs from one to the next.
    os.environ["COLUMNS"] = "100"
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=SECONDS_FOR_A_CELL, kernel_name="python3",
                   record_timing=False).execute()
    for cell in notebook.cells:
        # What frameworks log differs from machine to machine and says nothing about the conversion.
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, target)
    return notebook


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOK)
