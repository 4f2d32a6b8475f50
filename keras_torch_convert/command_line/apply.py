"""`apply`: a checkpoint into a Keras file as a plan says, or a Keras file back; neither PyTorch nor Keras is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..plan import Plan
from ..plan.difference import Difference, difference, without_layers
from ..read import read
from ..replay.apply import apply
from ..replay.back import keras_file_to_safetensors
from ..report import Report
from . import options, screen
from .configuration import config_option
from .exits import DONE, MISMATCH

EXAMPLES = """
keras-torch-convert apply resnet.plan.json resnet50_finetuned.pth resnet50_finetuned.h5
keras-torch-convert apply resnet.plan.json other.safetensors --diff
keras-torch-convert apply resnet.plan.json ten_classes.pth body.weights.h5 --without predictions
keras-torch-convert apply resnet.plan.json resnet50.h5 resnet50.safetensors
"""


@options.command("apply", EXAMPLES)
@click.argument("plan", type=options.EXISTING_FILE)
@click.argument("checkpoint", type=options.EXISTING_FILE)
@click.argument("output", type=options.FILE, required=False)
@click.option("--diff", is_flag=True, help="Only show how the checkpoint differs from what the plan expects.")
@click.option(
    "--without", "without", multiple=True, metavar="LAYER", help="Leave out a Keras layer; * is any text. Repeatable."
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Read the file again and compare it.")
@options.wrapper_option
@options.html_option
@config_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    plan: Path,
    checkpoint: Path,
    output: Path | None,
    diff: bool,
    without: tuple[str, ...],
    verify: bool,
    wrapper: str | None,
    html: Path | None,
    as_json: bool,
) -> int:
    """Write the weights of CHECKPOINT into the Keras file OUTPUT (.h5, .weights.h5 or .keras) as PLAN says.

    The other way round with a Keras file and an OUTPUT that ends in .safetensors. The same input gives the same bytes. On any error an old file stays.
    """
    recipe = Plan.load(plan)
    if without:
        recipe = without_layers(recipe, without)
    if diff:
        return show_difference(difference(recipe, read(checkpoint, wrapper=wrapper)), as_json)
    if output is None:
        raise click.UsageError("Missing argument 'OUTPUT', the file to write", ctx)
    if output.suffix == ".safetensors":
        report = keras_file_to_safetensors(recipe, checkpoint, output)
    else:
        source = read(checkpoint, wrapper=wrapper)
        report = apply(recipe, source, output, verify=verify, progress=sys.stderr.isatty())
    return show_applied(report, html, as_json)


def show_applied(report: Report, html: Path | None, as_json: bool) -> int:
    """The report of a file that was written."""
    if html is not None:
        report.to_html(html)
    if as_json:
        screen.show_json(report.to_dict())
        return DONE
    *lines, _ = str(report).splitlines()
    for line in lines:
        screen.say(line, screen.ODD if line.startswith("WARNING") else "")
    screen.say(f"written: {report.path}", screen.GOOD)
    return DONE


def show_difference(found: Difference, as_json: bool) -> int:
    """What is missing, extra, renamed, of another shape or type."""
    if as_json:
        screen.show_json({"fits": found.fits, "differences": list(found.lines())})
    else:
        for line in found.lines():
            screen.say(line, screen.ODD if line.startswith(("extra", "other type")) else screen.BAD)
        screen.say(
            f"the plan {'fits' if found.fits else 'does not fit'} this checkpoint",
            screen.GOOD if found.fits else screen.BAD,
        )
    return DONE if found.fits else MISMATCH
