"""`verify`: are two models equal, and if not, where do they part and why."""

from __future__ import annotations

from typing import Any

import click

from ..api.verification import verify
from ..comparison.verdict import Comparison
from ..plan.plan import Plan
from . import options, screen
from .configuration import config_option
from .exit_codes import DONE, MISMATCH
from .models import keras_side, models_of, torch_side

EXAMPLES = """
keras-torch-convert verify model.py:torch_model model.keras
keras-torch-convert verify timm:create_model resnet18.h5 --kwargs '{"model_name": "resnet18"}' --weights resnet18.pth
keras-torch-convert verify model.py:torch_model model.keras --plan model.plan.json --inputs 5
"""


@options.command("verify", EXAMPLES)
@options.source_argument
@options.target_argument
@click.option("--plan", type=options.EXISTING_FILE,
              help="The plan of the conversion: repeats the proof on random values.")
@click.option("--inputs", type=click.IntRange(1), default=3, show_default=True,
              help="How many inputs to compare on.")
@options.sample_option
@options.kwargs_option
@options.weights_option
@options.backend_option
@config_option
@click.pass_context
def command(ctx: click.Context, /, plan: str | None, inputs: int, as_json: bool,
            **values: Any) -> int:
    """Run SOURCE, a PyTorch module, and the Keras model TARGET on the same inputs and compare what
    comes out.

    Nothing is changed. Where the outputs differ, the first place where they do is named, and the
    cause when it can be proved. The exit code is 1 when they differ, 0 when they are equal or it
    cannot be decided.
    """
    with screen.chatter_on_stderr():
        source, target = models_of((values["source"], values["target"]), values["kwargs"],
                                   values["backend"])
        source, target = torch_side(source, values["weights"]), keras_side(target)
        with screen.working("running both models"):
            comparison = verify(source, target, plan=None if plan is None else Plan.load(plan),
                                sample=options.read_sample(values["sample"]), inputs=inputs)
    if as_json:
        screen.show_json(comparison.to_dict())
    else:
        show_comparison(comparison)
    return MISMATCH if comparison.equal is False else DONE


def show_comparison(comparison: Comparison) -> None:
    """The comparison; its last line, the verdict, is green, red, or yellow when nothing is proved.
    """
    *lines, verdict = str(comparison).splitlines()
    for line in lines:
        screen.say(line)
    screen.say(verdict, screen.verdict_style(comparison.equal))
