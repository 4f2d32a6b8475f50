"""`generalize`: plans of small models into a family, one plan for every depth and width."""

from __future__ import annotations

from pathlib import Path

import click

from ..plan.plan import Plan
from . import options, screen
from .inspect_command import show_family
from .main import DONE

EXAMPLES = """
keras-torch-convert generalize bert_tiny.plan.json --output bert.family.json
keras-torch-convert generalize regnetx.plan.json regnety.plan.json --output regnet.family.json
keras-torch-convert convert bert_large.safetensors zoo:BertLarge --plan bert.family.json
"""


@options.command("generalize", EXAMPLES)
@click.argument("plans", type=options.EXISTING_FILE, nargs=-1, required=True)
@click.option("--output", "-o", type=options.FILE, help="The file of the family to write.")
def command(plans: tuple[Path, ...], output: Path | None, as_json: bool) -> int:
    """Learn from PLANS of small models what holds for every depth and width of the architecture.

    The family is printed, a line for each layer. `convert --plan` takes its file in the place of a
    plan.
    """
    options.check_places(output)
    first, *others = [Plan.load(path) for path in plans]
    family = first.generalize(*others)
    if output is not None:
        family.save(output)
    show_family(family, as_json)
    if output is not None:
        screen.note(f"written: {output}")
    return DONE
