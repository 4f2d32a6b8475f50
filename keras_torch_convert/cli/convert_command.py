"""`convert`: weights into a Keras model, proven and saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..api.classic import keras_reload_from_torch_model
from ..api.conversion import convert
from ..api.verification import verify as compare
from ..errors import NotEqualError
from ..report.report import Report
from ..torch_io.live_tensor import is_torch_module
from ..torch_io.mapped_file import local
from . import options, screen
from .main import verdict_code
from .pairing import both_sides, converted, mode_options, save_plan
from .values import is_object_name
from .zoos import zoo_of

EXAMPLES = """
keras-torch-convert convert timm:resnet50 kimm:ResNet50 -o resnet50.h5
keras-torch-convert convert model.py:torch_model model.py:keras_model -o model.h5
keras-torch-convert convert net.pth model.keras --tail-align-dict '{"attn_gamma": -6}' -o new.h5
keras-torch-convert convert model.py:net model.py:build --weights mine.pth --save-plan my.plan.json
keras-torch-convert convert --config convert.toml --html report.html
keras-torch-convert convert timm:resnet18 kimm:ResNet18 -o resnet18.h5 --card resnet18.card.md
"""
RESCALE_MODES = click.Choice(["torch", "tf", "lite", "raw"])
RESIZE_MODES = click.Choice(["bicubic", "bilinear"])


# click passes each option as a parameter of its own.
@options.command("convert", EXAMPLES)
@options.source_argument
@options.target_argument
@click.option("-o", "--output", type=options.FILE,
              help="File to write: .h5, .weights.h5 or .keras. Default: none.")
@mode_options
@click.option("--save-plan", "plan_path", type=options.FILE,
              help="Keep the plan, to `apply` it to other checkpoints.")
@click.option("--card", type=options.FILE,
              help="Write a conversion card, which `recheck` does again; needs --output.")
@options.options_of(convert, verify="Run both models and compare.")
@click.option("--keep-different", is_flag=True,
              help="Keep and save weights even when the outputs differ.")
@options.verdict_options
@options.options_of(
    keras_reload_from_torch_model,
    image=(options.EXISTING_FILE, "A picture for the classic comparison. Default: a cat."),
    rescale_mode=(RESCALE_MODES, "How the picture's values are scaled."),
    resize=(RESIZE_MODES, "Resize position tables of other sizes."))
@click.option("--input-shape", type=click.IntRange(1), nargs=2, default=(224, 224),
              show_default=True,
              help="Height and width of the picture, in pixels, where the model leaves them open.")
@options.sample_option
@options.strict_option
@options.html_option
@options.model_options
@options.random_option
@options.classic_options
@options.config_option
@click.pass_context
def command(ctx: click.Context, /, output: Path | None, plan_path: Path | None, verify: bool,
            keep_different: bool, card: Path | None, html: Path | None, as_json: bool,
            **values: Any) -> int:
    """Convert the weights of SOURCE, the PyTorch side, into the Keras model TARGET.

    With the classic arguments, or --by-order, layers are paired in the order that these give; with
    --plan as a plan says; otherwise the tool finds out by running both models. Everything is
    checked before a value is written. The exit code is 1 when weights do not fit or outputs differ
    by more than is accepted.
    """
    options.check_places(output, plan_path, card, html)
    if card is not None and output is None:
        raise click.UsageError("--card is for a file: give --output too", ctx)
    source, target = both_sides(ctx, values)
    try:
        report = converted(ctx, source, target, values, output=output, verify=verify,
                           if_different="keep" if keep_different else "raise")
    except NotEqualError as error:
        # Nothing was kept, but what was found is what the user needs now, once.
        if error.report is not None and not as_json:
            screen.show_report(error.report, html, as_json)
            raise NotEqualError(
                "the outputs differ by more than is accepted; model and files are as they were; "
                "--keep-different keeps the weights", error.report, error.comparison) from error
        if error.report is not None and html is not None:
            error.report.to_html(html)
        raise
    if plan_path is not None:
        save_plan(report, plan_path)
    if card is not None:
        _write_card(report, card, plan_path, source, target, values)
    screen.show_report(report, html, as_json)
    return verdict_code(report.verdict, values["accept"])


def _write_card(report: Report, card: Path, plan_path: Path | None, source: Any, target: Any,
                values: dict[str, Any]) -> None:
    """Write the card, with the proof on random values, and the models by their names."""
    named, comparison = ["", ""], report.comparison
    with screen.chatter_on_stderr():
        if comparison is not None and is_torch_module(source):
            given = iter(values["kwargs"])
            for number, name in enumerate((values["source"], values["target"])):
                arguments = next(given, None) if zoo_of(name) or is_object_name(name) else None
                named[number] = f"{name} {json.dumps(arguments)}" if arguments else name
            comparison = compare(source, target, plan=report.plan, sample=values["sample"],
                                 tolerance=values["tolerance"])
        report.card(card, checkpoint=local(values["weights"]), plan=plan_path, torch_model=named[0],
                    keras_model=named[1], comparison=comparison)
