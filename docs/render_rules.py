"""Write the table in docs/rules.md from the rules themselves: python docs/render_rules.py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from keras_torch_convert.rules.registry import markdown

PAGE = Path(__file__).resolve().parent / "rules.md"
HEADING = "## The rules\n\n"


def page() -> str:
    """Return the whole page: what stands above the table stays as it is."""
    return PAGE.read_text(encoding="utf-8").partition(HEADING)[0] + HEADING + markdown()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
