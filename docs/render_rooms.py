"""Draw docs/images/rooms.svg: the rooms of the package and what they import, read off the code.

python docs/render_rooms.py

A dot in a room's row says that the room imports the one with the number of the dot's column. All
dots lie left of the diagonal: imports only go down. A test compares the picture with the code.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.helpers.import_graph import ROOMS, imports, room_of  # noqa: E402  # beside this folder

PICTURE = ROOT / "docs" / "images" / "rooms.svg"
# From the top of the house to the ground.
PURPOSES = {
    "cli": "the command keras-torch-convert, one file a command",
    "release": "checksums, a zoo's dictionary, GitHub",
    "api": "what users call: convert, verify, align, apply, the classic functions",
    "report": "the Report: text, list of layers, HTML page",
    "diagnosis": "where two models differ, and causes that were tried out",
    "alignment": "which torch layer goes to which Keras layer", "comparison":
        "outputs compared: tolerances, verdict, divergence as data", "running":
            "both models run, traced, isolated; their inputs", "rules":
                "how PyTorch and Keras lay out the same layer", "keras_io":
                    "Keras models and files, read and written", "torch_io":
                        "modules, state dicts, checkpoints, read and written", "plan":
                            "the Plan: expressions, file, executor, inverse",
    "spec": "plain data: tensors, sources, targets, roles", "util":
        "atomic files, text, interrupts, progress", "errors": "every refusal, one exception each",
}
ROW, LEFT, NAMES, TEXT, COLUMN, MARGIN = 30, 16, 128, 452, 24, 16


def edges() -> set[tuple[str, str]]:
    """Return the pairs of rooms of which the first imports the second."""
    return {(room_of(module), room_of(name)) for module, found in imports().items()
            for _, name in found if room_of(module) != room_of(name)}


def svg() -> str:
    """Return the picture."""
    rooms, found = list(PURPOSES), edges()
    assert set(rooms) == set(ROOMS) - {"__init__", "__main__"}
    dots = LEFT + NAMES + TEXT
    width, height = dots + COLUMN * len(rooms) + MARGIN, ROW * len(rooms) + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff" stroke="#d0d7de"/>'
    ]
    for number, room in enumerate(rooms):
        top = MARGIN + ROW * number
        middle, column = top + ROW / 2, dots + COLUMN * (len(rooms) - number - 0.5)
        parts += [
            f'<rect x="{LEFT}" y="{top + 2}" width="{NAMES + TEXT - 10}" height="{ROW - 4}" rx="4" '
            f'fill="{"#eef4fb" if number % 2 else "#e1ecf7"}"/>',
            f'<text x="{LEFT + 8}" y="{middle + 4}" fill="#57606a">{len(rooms) - number}</text>',
            f'<text x="{LEFT + 32}" y="{middle + 4}" font-weight="600" fill="#0b3d6e">'
            f"{room}</text>",
            f'<text x="{LEFT + NAMES}" y="{middle + 4}" fill="#24292f">{escape(PURPOSES[room])}'
            "</text>", f'<text x="{column}" y="{middle + 4}" text-anchor="middle" font-size="11" '
            f'fill="#57606a">{len(rooms) - number}</text>'
        ]
        parts += [
            f'<circle cx="{dots + COLUMN * (len(rooms) - below - 0.5)}" cy="{middle}" r="4" '
            'fill="#0b6bcb"/>' for below, other in enumerate(rooms) if (room, other) in found
        ]
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    PICTURE.write_text(svg(), encoding="utf-8")
