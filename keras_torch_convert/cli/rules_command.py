"""`rules`: how PyTorch and Keras store the same layer."""

from __future__ import annotations

import textwrap
from dataclasses import asdict

import click

from ..report.terminal import is_terminal
from ..rules.registry import Row, rule_table
from ..util.plugins import READERS, plugins
from ..util.text import did_you_mean
from . import options, screen
from .main import DONE, InputError

EXAMPLES = """
keras-torch-convert rules
keras-torch-convert rules Conv2DTranspose
keras-torch-convert rules lstm --json
"""
WIDTH = 100


@options.command("rules", EXAMPLES)
@click.argument("name", required=False)
def command(name: str | None, as_json: bool) -> int:
    """List the rules, or those whose name or class of Keras layer contains NAME.

    Rules and readers of files that other packages register are among them.
    """
    names = {row.name: (row.name, *row.class_names) for row in rule_table()}
    rows = [
        row for row in rule_table() if name is None or any(name.lower() in word.lower()
                                                           for word in names[row.name])
    ]
    readers = [one for one in plugins(READERS) if name is None or name.lower() in one.name.lower()]
    if not rows and not readers:
        known = [word for words in names.values() for word in words]
        raise InputError(f"no rule is for {name!r}{did_you_mean(str(name), known)}")
    if as_json:
        added = [{"name": one.name, "package": one.package} for one in readers]
        screen.show_json({"rules": [asdict(row) for row in rows], "readers": added})
    elif name is None:
        between = "\n" if is_terminal() else "; "
        table = [(row.name, _classes(row), between.join(row.layouts), row.back) for row in rows]
        screen.show_table(("rule", "Keras layers", "PyTorch -> Keras", "back to PyTorch"), table)
    else:
        for row in rows:
            _show(row)
    for one in () if as_json else readers:
        screen.say(f"reader of files: {one.name} (from {one.package})")
    return DONE


def _classes(row: Row) -> str:
    return ", ".join(row.class_names) or "any"


def _show(row: Row) -> None:
    screen.say(row.name, "title")
    facts = [("Keras layers", _classes(row)), *(("layout", layout) for layout in row.layouts),
             ("convention", row.source), ("back", row.back)]
    for label, text in facts:
        print(
            textwrap.fill(text, WIDTH, initial_indent=f"  {label:<14}", subsequent_indent=" " * 16))
    print()
