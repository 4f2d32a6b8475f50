"""From two models and the options to a conversion: by a plan, by the classic arguments, or found
out by the tool.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click

from ..api.classic import keras_reload_from_torch_model
from ..api.conversion import convert
from ..api.family_plans import load_plan
from ..report.report import Report
from . import options, screen
from .models import keras_side, models_of, torch_side
from .values import Json

# Options of one mode that mean nothing to the others.
_MODES: dict[str, tuple[str, ...]] = {
    "plan": ("plan",), "classic": ("by_order", *options.CLASSIC),
    "automatic": ("hints", "accept_unproven", "fold_norms")
}

mode_options = options.combined(
    click.option("--plan", type=options.EXISTING_FILE,
                 help="Convert as this plan, or the plan of a family, says."),
    click.option("--by-order", is_flag=True,
                 help="Pair layers in their order, as the classic functions do."),
    options.options_of(
        convert, hints=(Json(dict), "{Keras layer: PyTorch layer} where the tool cannot tell."),
        accept_unproven="Pair what no output proves by names and order.",
        fold_norms="Fold PyTorch's batch norms into the layers before them."), options.time_option)


def both_sides(ctx: click.Context, values: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the PyTorch side and the Keras model that a command was given.

    Options that contradict each other are refused first.
    """
    _mode(ctx)
    # The target is about to be filled, and `align` runs both models on random values.
    published = not values.get("random_weights", True) and values["weights"] is None
    with screen.chatter_on_stderr():
        source, target = models_of((values["source"], values["target"]), values["kwargs"],
                                   values["backend"], (published, False))
        return torch_side(source, values), keras_side(target)


def _mode(ctx: click.Context) -> str:
    """Return how layers are to be paired; an error when the options name two ways."""
    found = {mode: options.given(ctx, *names) for mode, names in _MODES.items()}
    found = {mode: given for mode, given in found.items() if given}
    if len(found) > 1:
        first, second = (given[0] for given in list(found.values())[:2])
        raise click.UsageError(
            f"{first} and {second} are two different ways to pair layers: give one", ctx)
    return next(iter(found), "automatic")


def converted(ctx: click.Context, source: Any, target: Any, values: Mapping[str, Any], *,
              output: Path | None = None, verify: bool = False,
              if_different: Literal["raise", "keep"] = "raise") -> Report:
    """Convert as the options say."""
    mode = _mode(ctx)
    with screen.chatter_on_stderr():
        if mode == "classic":
            with screen.working("converting"):
                return keras_reload_from_torch_model(
                    source, target, save_name=output or "", do_predict=verify, verbose=0,
                    **options.arguments(keras_reload_from_torch_model, values))
        given = options.arguments(convert, values)
        if mode == "plan":
            given["plan"] = load_plan(values["plan"])
        return convert(source, target, verify=verify, if_different=if_different, save=output,
                       progress=sys.stderr.isatty(), **given)


def save_plan(report: Report, path: Path) -> Path:
    """Write the Plan of a conversion, with what `apply` must know of the model's files."""
    assert report.plan is not None
    with screen.chatter_on_stderr():
        return report.plan.save(path)
