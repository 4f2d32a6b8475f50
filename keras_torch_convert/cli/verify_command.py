"""`verify`: are two models equal, and if not, where do they part and why."""

from __future__ import annotations

from typing import Any

import click

from ..api.family_plans import load_plan
from ..api.verification import verify
from ..report.terminal import Line, verdict_style
from . import options, screen
from .main import verdict_code
from .models import keras_side, models_of, torch_side

EXAMPLES = """
keras-torch-convert verify model.py:torch_model model.keras
keras-torch-convert verify torchvision:resnet18 resnet18.keras --weights resnet18.pth
keras-torch-convert verify model.py:torch_model model.keras --plan model.plan.json --inputs 5
"""


@options.command("verify", EXAMPLES)
@options.source_argument
@options.target_argument
@click.option("--plan", type=options.EXISTING_FILE,
              help="The plan of the conversion: repeats the proof on random values.")
@options.options_of(verify, inputs=(click.IntRange(1), "How many inputs to compare on."))
@options.verdict_options
@options.time_option
@options.sample_option
@options.kwargs_option
@options.weights_option
@options.random_option
@options.checkpoint_options
@options.backend_option
@options.config_option
@click.pass_context
def command(ctx: click.Context, /, plan: str | None, random_weights: bool, as_json: bool,
            **values: Any) -> int:
    """Run SOURCE, a PyTorch module, and the Keras model TARGET on the same inputs and compare what
    comes out.

    Nothing is changed. Where the outputs differ, the first place where they do is named, and the
    cause when it can be proven. The exit code is 1 when they differ by more than is
    accepted, else 0, also when it cannot be decided.
    """
    with screen.chatter_on_stderr():
        source, target = models_of(
            (values["source"], values["target"]), values["kwargs"], values["backend"],
            (not random_weights and values["weights"] is None, not random_weights))
        source, target = torch_side(source, values), keras_side(target)
        with screen.working("running both models"):
            comparison = verify(source, target, plan=None if plan is None else load_plan(plan),
                                **options.arguments(verify, values))
    if as_json:
        screen.show_json(comparison.to_dict())
    else:
        style = verdict_style(comparison.verdict)
        *lines, verdict = str(comparison).splitlines()
        first = [] if lines and lines[0] == verdict else [f"verdict: {comparison.verdict}"]
        styled = [Line(text, style if text == verdict else "") for text in lines]
        screen.show([*(Line(text, style) for text in first), *styled, Line(verdict, style)])
    return verdict_code(comparison.verdict, values["accept"])
