"""`rules`: how PyTorch and Keras store the same layer, as the conversion knows it."""

from __future__ import annotations

import textwrap
from dataclasses import asdict

import click

from ..rules.registry import Row, rule_table
from ..util.text import did_you_mean
from . import options, screen
from .exit_codes import DONE, InputError

EXAMPLES = """
keras-torch-convert rules
keras-torch-convert rules Conv2DTranspose
keras-torch-convert rules lstm --json
"""
WIDTH = 100


@options.command("rules", EXAMPLES)
@click.argument("name", required=False)
def command(name: str | None, as_json: bool) -> int:
    """List the rules, or those whose name or kind of Keras layer contains NAME."""
    rows = [row for row in rule_table() if name is None or matches(row, name)]
    if not rows:
        known = [word for row in rule_table() for word in (row.name, *row.class_names)]
        raise InputError(f"no rule is for {name!r}{did_you_mean(str(name), known)}")
    if as_json:
        screen.show_json([asdict(row) for row in rows])
    elif name is None:
        between = "\n" if screen.is_terminal() else "; "
        table = [(row.name, ", ".join(row.class_names)
                  or "any", between.join(row.layouts), row.back) for row in rows]
        screen.show_table(("rule", "Keras layers", "PyTorch -> Keras", "back to PyTorch"), table)
    else:
        for row in rows:
            show(row)
    return DONE


def matches(row: Row, name: str) -> bool:
    """True when the rule's name or a kind of layer contains the text, whatever its case."""
    return any(name.lower() in word.lower() for word in (row.name, *row.class_names))


def show(row: Row) -> None:
    """One rule in full."""
    screen.say(row.name, "bold")
    facts = [("Keras layers", ", ".join(row.class_names) or "any"),
             *(("layout", layout) for layout in row.layouts)]
    facts += [("convention", row.source), ("back", row.back)]
    for label, text in facts:
        indent = " " * 16
        print(textwrap.fill(text, WIDTH, initial_indent=f"  {label:<14}", subsequent_indent=indent))
    print()
