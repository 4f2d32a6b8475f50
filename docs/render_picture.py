"""Draw what the demo's second part gives: docs/images/report.svg, as it is printed, with some rows
left out, and page.png, the HTML page in Chromium.

make picture
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

IMAGES = ROOT / "docs" / "images"
COLUMNS = 128
UNBROKEN = {ord(" "): "\u00a0"}  # Plain spaces in a row would be drawn as one.
LINE_HEIGHT, CHARACTER_WIDTH, MARGIN = 18, 7.83, 18
COLORS = {
    "command": "#7cc7ff", "bad": "#ff8f80", "good": "#8fe388", "plain": "#d7dce2", "dim": "#8b949e"
}


def main() -> None:
    """Run the conversion and write the picture."""
    from demo import BRANCH_TAILS, pretrained_lite0
    from parallel_lite import parallel_lite_keras, parallel_lite_torch

    from keras_torch_convert import keras_reload_from_torch_model

    torch_model, keras_model = parallel_lite_torch(pretrained_lite0()), parallel_lite_keras()
    inspected = keras_reload_from_torch_model(torch_model, keras_model, do_convert=False, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        report = keras_reload_from_torch_model(torch_model, keras_model,
                                               tail_align_dict=BRANCH_TAILS, tail_split_position=1,
                                               rescale_mode="lite", save_name="parallel_lite.h5",
                                               verbose=0)
        report.to_html("report.html")
        photograph(Path("report.html"), IMAGES / "page.png")
    lines = [("command",
              ">>> keras_reload_from_torch_model(torch_model, keras_model, do_convert=False)"),
             *lines_of_layer_table(inspected.layer_table), ("plain", ""),
             ("command",
              ">>> keras_reload_from_torch_model(torch_model, keras_model, tail_align_dict=..., "
              "tail_split_position=1)"), *lines_of_report(str(report))]
    path = IMAGES / "report.svg"
    path.write_text(drawn(lines), encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def photograph(page: Path, picture: Path) -> None:
    """Take the upper part of a page as a picture, with one of the moved layers chosen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"),
                                          args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1200, "height": 640}, color_scheme="light")
        opened.goto(page.resolve().as_uri())
        opened.get_by_text("branch12_expand_bn", exact=True).click()
        opened.screenshot(path=picture)
        browser.close()


def lines_of_layer_table(layer_table: Any) -> list[tuple[str, str]]:
    """Return the first rows, those round the first mismatch, and the totals."""
    text = layer_table.text(COLUMNS).splitlines()
    marked = next(number for number, line in enumerate(text) if "first misalignment" in line)
    after = next(
        number for number in range(marked, len(text)) if not text[number].startswith("    "))
    totals = max(number for number, line in enumerate(text) if line.startswith("---")) + 1
    dots = ("dim", "   ...")
    kept = [*text[:5], None, *text[marked - 4:marked + 10], None, *text[totals:]]
    bad = set(text[marked:after])
    return [
        dots if line is None else ("bad" if line in bad or line.startswith("!") else "plain", line)
        for line in kept
    ]


def lines_of_report(text: str) -> list[tuple[str, str]]:
    """Return the report, long lines cut, its verdict in color; without the seconds, which are those
    of one machine.
    """
    *lines, verdict = (line for line in text.splitlines() if not line.startswith("seconds"))
    cut = [line if len(line) <= COLUMNS else f"{line[: COLUMNS - 3]}..." for line in lines]
    return [*(("plain", line) for line in cut), ("good", verdict)]


def drawn(lines: list[tuple[str, str]]) -> str:
    """Return lines of (kind, text) as an SVG terminal."""
    width, height = round(COLUMNS * CHARACTER_WIDTH
                          + 2 * MARGIN), len(lines) * LINE_HEIGHT + 2 * MARGIN
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + (number + 1) * LINE_HEIGHT - 5}" '
        f'fill="{COLORS[kind]}">{escape(text.translate(UNBROKEN))}</text>'
        for number, (kind, text) in enumerate(lines) if text
    ]
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{font}" font-size="13">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#161b22"/>', *rows, "</svg>\n"
    ])


if __name__ == "__main__":
    main()
