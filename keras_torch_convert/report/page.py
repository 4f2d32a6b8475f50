"""The report as one HTML file that needs nothing else: no network, no other file. The page itself
is in template/.
"""

from __future__ import annotations

import json
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from .page_data import page_data

if TYPE_CHECKING:
    from .report import Report


def page(report: Report) -> str:
    """The whole page."""
    data = page_data(report)
    # "</script>" inside a string would end the element that the data stands in.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "TITLE": escape(str(data["title"])), "VERDICT": escape(str(data["verdict"])),
        "STYLE": template("page.css"), "DATA": text, "SCRIPT": template("page.js")
    }
    result = template("page.html")
    for name, part in parts.items():
        result = result.replace(f"<!--{name}-->", part, 1)
    return result


@cache
def template(name: str) -> str:
    """A file of the template."""
    return (files(__package__) / "template" / name).read_text(encoding="utf-8")
