"""`convert`: weights into a Keras model, proved and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import NotEqualError
from ..report.report import Report
from . import options, screen
from .configuration import config_option
from .exit_codes import DONE, MISMATCH
from .pairing import both_sides, converted, save_plan, way_options

EXAMPLES = """
keras-torch-convert convert model.py:torch_model model.py:keras_model -o model.h5
keras-torch-convert convert resnet50.pth model.keras --tail-align-dict '{"attn_gamma": -6}' -o resnet50.h5
keras-torch-convert convert model.py:net model.py:build --weights mine.pth -o mine.h5 --save-plan model.plan.json
keras-torch-convert convert --config convert.toml --html report.html
"""


@options.command("convert", EXAMPLES)
@options.source_argument
@options.target_argument
@click.option("-o", "--output", type=options.FILE,
              help="File to write: .h5, .weights.h5 or .keras. Default: none.")
@way_options
@click.option("--save-plan", "save_plan_to", type=options.FILE,
              help="Keep the plan, to `apply` it to other checkpoints.")
@click.option("--verify/--no-verify", default=True, show_default=True,
              help="Run both models and compare.")
@click.option("--keep-different", is_flag=True,
              help="Keep and save weights even when the outputs differ.")
@click.option("--image", type=options.EXISTING_FILE,
              help="A picture for the classic comparison. Default: a cat.")
@click.option("--rescale-mode", type=click.Choice(["torch", "tf", "lite", "raw"]),
              help="How the picture's values are scaled.")
@click.option("--input-shape", type=int, nargs=2, default=(224, 224), show_default=True,
              help="Height and width of the picture, in pixels, where the model leaves them open.")
@click.option("--resize", type=click.Choice(["bicubic", "bilinear"]),
              help="Resize position tables of other sizes.")
@options.sample_option
@options.strict_option
@options.html_option
@options.model_options
@options.classic_options
@config_option
@click.pass_context
def command(ctx: click.Context, /, output: Path | None, save_plan_to: Path | None, verify: bool,
            keep_different: bool, html: Path | None, as_json: bool, **values: Any) -> int:
    """Carry the weights of SOURCE, the PyTorch side, into the Keras model TARGET.

    With the classic arguments, or --by-order, layers are paired in the order that these give; with
    --plan as a plan says; otherwise the tool finds out by running both models. Everything is
    checked before a value is written. The exit code is 1 when weights do not fit or outputs differ.
    """
    options.check_places(output, save_plan_to, html)
    source, target = both_sides(ctx, values)
    try:
        report = converted(ctx, source, target, values, output=output, verify=verify,
                           keep_different=keep_different)
    except NotEqualError as error:
        # Nothing was kept, but what was found is what the user needs now.
        if error.report is not None:
            show(error.report, html, as_json)
        raise
    if save_plan_to is not None:
        save_plan(report, save_plan_to)
    show(report, html, as_json)
    return MISMATCH if report.equal is False else DONE


def show(report: Report, html: Path | None, as_json: bool) -> None:
    """The report, as a page and as JSON where these were asked for."""
    if html is not None:
        report.to_html(html)
    if as_json:
        screen.show_json(report.to_dict())
    else:
        screen.show_report(report)
