"""`inspect`: the layers of one model, checkpoint or plan, or of two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..api.classic import keras_reload_from_torch_model
from ..keras_io.model import is_keras_model, read_target
from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..report.layer_table import Cell
from . import options, screen
from .configuration import config_option
from .exit_codes import DONE, MISMATCH
from .models import Model, keras_side, models_of, torch_side

EXAMPLES = """
keras-torch-convert inspect resnet50.pth
keras-torch-convert inspect model.keras --json
keras-torch-convert inspect resnet50.pth model.keras
keras-torch-convert inspect resnet50.pth model.keras --tail-align-dict '{"shortcut_conv": -4}'
keras-torch-convert inspect resnet50.plan.json
"""


@options.command("inspect", EXAMPLES)
@click.argument("models", metavar="MODEL [KERAS_MODEL]", type=Model(), nargs=-1, required=True)
@options.model_options
@options.classic_options
@options.html_option
@config_option
@click.pass_context
def command(ctx: click.Context, /, models: tuple[str, ...], html: Path | None, as_json: bool,
            **values: Any) -> int:
    """List the layers of a checkpoint, model or plan; of two models side by side.

    With two, the PyTorch side first, nothing is converted: both lists are printed as they would be
    paired, and the first misalignment is marked. The exit code is 1 when layers do not fit
    together.
    """
    if len(models) > 2:
        raise click.UsageError(f"expected one model or two, got {len(models)}", ctx)
    if len(models) == 1 and is_plan(models[0]):
        return show_plan(Plan.load(models[0]), as_json)
    with screen.chatter_on_stderr():
        loaded = models_of(models, values["kwargs"], values["backend"])
    if len(loaded) == 1 and is_keras_model(loaded[0]):
        return show_keras_layers(loaded[0], values["expand_nested"], as_json)
    with screen.chatter_on_stderr():
        report = keras_reload_from_torch_model(torch_side(loaded[0], values["weights"]),
                                               keras_side(loaded[1]) if len(loaded) == 2 else None,
                                               **options.classic_arguments(values),
                                               wrapper=values["wrapper"], do_convert=False,
                                               verbose=0)
    assert report.layer_table is not None
    if html is not None:
        report.to_html(html)
    if as_json:
        screen.show_json({
            "source": report.source, "target": report.target, "rows": report.layer_table.to_list(),
            "notes": report.notes
        })
    else:
        screen.show_layer_table(report.layer_table)
        for sentence in (*report.notes, *report.warnings):
            screen.note(f"note: {sentence}")
    return MISMATCH if report.layer_table.mismatches else DONE


def is_plan(name: str) -> bool:
    """True for the path of a plan: any JSON file but the index of a sharded checkpoint."""
    return Path(name).suffix == ".json" and not name.endswith(".index.json")


def show_keras_layers(model: Any, expand_nested: bool, as_json: bool) -> int:
    """The layers of a Keras model that hold weights."""
    target = read_target(model, expand_nested=expand_nested)
    layers = [(layer.class_name, Cell.of(layer.name, layer.variables)) for layer in target.layers]
    if as_json:
        rows = [{
            "name": cell.name, "kind": kind, "shapes": cell.shapes, "parameters": cell.parameters
        } for kind, cell in layers]
        screen.show_json({"target": target.name, "rows": rows})
        return DONE
    table = [(str(place), cell.name, kind, cell.shapes_text, f"{cell.parameters:,}")
             for place, (kind, cell) in enumerate(layers)]
    screen.show_table(("", "Keras layer", "kind", "shapes", "size"), table, right=(0, 4))
    total = sum(cell.parameters for _, cell in layers)
    screen.say(f"{target.name}: {len(layers):,} layers with weights, {total:,} parameters")
    return DONE


def show_plan(plan: Plan, as_json: bool) -> int:
    """What a plan does: each variable, the tensors it is made of, the rule, and what is open about
    it.
    """
    rows = []
    for one in plan.assignments:
        kind = plan.targets.get(one.key)
        name = kind.display_name if kind is not None else one.key
        rows.append((name, ", ".join(tensors_of(one.expression)), one.rule, one.doubt))
    if as_json:
        entries = [
            dict(zip(("variable", "tensors", "rule", "doubt"), row, strict=True)) for row in rows
        ]
        screen.show_json({
            "assignments": entries, "dropped": plan.dropped, "kept": plan.kept,
            "portable": plan.portable, "lossless": plan.lossless
        })
        return DONE
    screen.show_table(("variable", "from", "rule", "not proved by shapes"), rows)
    screen.say(
        f"{len(rows):,} variables set, {len(plan.kept):,} kept, {len(plan.dropped):,} tensors "
        "left out; "
        f"{'portable' if plan.portable else 'needs the functions of additional_transfer'}, "
        f"{'can be carried back bit for bit' if plan.lossless else 'cannot be carried back bit for bit'}"
    )
    return DONE
