"""Write docs/rules.md from the rules themselves.

python docs/render_rules.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from keras_torch_convert.transfer.rule_table import markdown

PAGE = Path(__file__).resolve().parent / "rules.md"

INTRODUCTION = """# How PyTorch and Keras store the same layer

Written by `python docs/render_rules.py` from the rules that the conversion uses; change those, not this page.

A rule applies because the kinds of the two layers match, never because a number of elements does. In a layout every word is an axis,
`(channel multiplier)` one axis made of two, the first of which varies slowest, and `1` an axis of size 1. In the words of a rule `u` is the
number of units. A subclass of a Keras layer follows the rule of its nearest base class.

What one side is built without counts as 1 (scales) or 0 (offsets): Keras variables without counterpart are filled with it, and PyTorch tensors
without counterpart may be left out only when every one of their values is exactly that. Both stand in the report.

"""


def page() -> str:
    """The whole page."""
    return INTRODUCTION + markdown()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
