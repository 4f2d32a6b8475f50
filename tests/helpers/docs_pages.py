"""The code of a page of the documentation as one script, as a reader would paste it."""

from __future__ import annotations

import re
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\s*$")
# A block that begins with such a line is the file of that name.
FILE = re.compile(r"^# (\w+\.py)$")
PREAMBLE = "import pathlib as _pathlib, subprocess as _subprocess"


def code_blocks(text: str) -> list[tuple[str, int, list[str]]]:
    """The page's fenced blocks: language, number of the line of the fence, and lines."""
    blocks: list[tuple[str, int, list[str]]] = []
    inside = False
    for number, line in enumerate(text.splitlines()):
        fence = FENCE.match(line)
        if fence and not inside:
            blocks.append((fence[1], number, []))
            inside = True
        elif line == "```":
            inside = False
        elif inside:
            blocks[-1][2].append(line)
    return blocks


def script_of(page: Path) -> str:
    """Python blocks as they are, in the page's own lines; files are written, shell blocks run, each
    in its place.
    """
    text = page.read_text(encoding="utf-8")
    lines = [""] * (len(text.splitlines()) + 1)
    for language, start, block in code_blocks(text):
        content = "\n".join(block) + "\n"
        name = FILE.match(block[0]) if block else None
        if language == "python" and name:
            lines[start] = f"_pathlib.Path({name[1]!r}).write_text({content!r})"
        elif language == "python":
            lines[start + 1:start + 1 + len(block)] = block
        elif language == "shell":
            lines[start] = f"_subprocess.run(['bash', '-euc', {content!r}], check=True)"
    # The first line of a page is its title, so that there is room for what the lines above need.
    lines[0] = PREAMBLE
    return "\n".join(lines)


def has_code(page: Path) -> bool:
    """True for a page with something to run."""
    return any(language in ("python", "shell")
               for language, _, _ in code_blocks(page.read_text(encoding="utf-8")))
