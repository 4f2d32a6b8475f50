"""From two models and the options to a conversion: by a plan, by the classic arguments, or found
out by the tool.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..api.classic import keras_reload_from_torch_model
from ..api.conversion import convert
from ..plan.plan import Plan
from ..report.report import Report
from . import options, screen
from .models import keras_side, models_of, torch_side
from .values import Json

# Options of one way that mean nothing to the others.
ONLY_CLASSIC = ("by_order", *options.CLASSIC)
ONLY_AUTOMATIC = ("hints", "accept_unproven")

way_options = options.combined(
    click.option("--plan", type=options.EXISTING_FILE, help="Convert as this plan says."),
    click.option("--hints", type=Json(dict),
                 help="{Keras layer: PyTorch layer} where the tool cannot tell."),
    click.option("--by-order", is_flag=True,
                 help="Pair layers in their order, as the classic functions do."),
    click.option("--accept-unproven", is_flag=True,
                 help="Pair what no output proves by names and order."))


def both_sides(ctx: click.Context, values: Mapping[str, Any]) -> tuple[Any, Any]:
    """The PyTorch side and the Keras model that a command was given; options that contradict each
    other are refused first.
    """
    chosen_way(ctx)
    with screen.chatter_on_stderr():
        source, target = models_of((values["source"], values["target"]), values["kwargs"],
                                   values["backend"])
        return torch_side(source, values["weights"]), keras_side(target)


def chosen_way(ctx: click.Context) -> str:
    """ "plan", "classic" or "automatic", as the options say; an error when they say two of them."""
    classic, automatic = options.given(ctx, *ONLY_CLASSIC), options.given(ctx, *ONLY_AUTOMATIC)
    by_plan = options.given(ctx, "plan")
    ways = [way for way in (by_plan, classic, automatic) if way]
    if len(ways) > 1:
        raise click.UsageError(
            f"{ways[0][0]} and {ways[1][0]} are two different ways to pair layers: give one", ctx)
    return "plan" if by_plan else "classic" if classic else "automatic"


def converted(ctx: click.Context, source: Any, target: Any, values: Mapping[str, Any], *,
              output: Path | None, verify: bool, keep_different: bool = False) -> Report:
    """Convert in the way that the options ask for."""
    way = chosen_way(ctx)
    sample, strict = options.read_sample(values["sample"]), options.strictness(values["strict"])
    with screen.chatter_on_stderr():
        if way == "classic":
            with screen.working("converting"):
                return keras_reload_from_torch_model(
                    source, target, **options.classic_arguments(values), input_shape=values.get(
                        "input_shape", (224, 224)), save_name=output or "", do_predict=verify,
                    verbose=0, strict=strict, wrapper=values["wrapper"], sample=sample,
                    image=values.get("image"), rescale_mode=values.get("rescale_mode"),
                    resize=values.get("resize"))
        if options.given(ctx, "wrapper"):
            from ..torch_io.reader import read

            source = read(source, wrapper=values["wrapper"])
        return convert(source, target, plan=Plan.load(values["plan"]) if way == "plan" else None,
                       sample=sample, hints=values["hints"],
                       accept_unproven=values["accept_unproven"], strict=strict, verify=verify,
                       if_different="keep" if keep_different else "raise", save=output,
                       progress=sys.stderr.isatty(), resize=values.get("resize"))


def save_plan(report: Report, path: Path) -> Path:
    """Write the Plan of a conversion, with what `apply` must know of the model's files."""
    assert report.plan is not None
    with screen.chatter_on_stderr():
        return report.plan.save(path)
