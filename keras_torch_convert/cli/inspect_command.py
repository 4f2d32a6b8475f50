"""`inspect`: the layers of one model, checkpoint or plan, or of two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..api.classic import keras_reload_from_torch_model
from ..api.family_plans import load_plan
from ..keras_io.model import is_keras_model, read_target
from ..plan.expressions import tensors_of
from ..plan.plan import FamilyPlan, Plan
from ..report.layer_table import Cell
from ..util.text import plural
from . import options, screen
from .main import DONE, MISMATCH
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
@click.option("--tensors", is_flag=True, help="List the tensors of each layer below it.")
@options.model_options
@options.classic_options
@options.html_option
@options.config_option
@click.pass_context
def command(ctx: click.Context, /, models: tuple[str, ...], tensors: bool, html: Path | None,
            as_json: bool, **values: Any) -> int:
    """List the layers of a checkpoint, model or plan; of two models side by side.

    With two, the PyTorch side first, nothing is converted: both lists are printed as they would be
    paired, and the first misalignment is marked. The exit code is 1 when layers do not fit
    together.
    """
    if len(models) > 2:
        raise click.UsageError(f"expected one model or two, got {len(models)}", ctx)
    if len(models) == 1 and _is_plan(models[0]):
        plan = load_plan(models[0])
        return show_family(plan, as_json) if isinstance(plan, FamilyPlan) else _show_plan(
            plan, as_json)
    with screen.chatter_on_stderr():
        loaded = models_of(models, values["kwargs"], values["backend"])
    if len(loaded) == 1 and is_keras_model(loaded[0]):
        return _show_keras_layers(loaded[0], values["expand_nested"], as_json)
    with screen.chatter_on_stderr():
        report = keras_reload_from_torch_model(
            torch_side(loaded[0], values),
            keras_side(loaded[1]) if len(loaded) == 2 else None, do_convert=False, verbose=0,
            **options.arguments(keras_reload_from_torch_model, values))
    table = report.layer_table
    assert table is not None
    if html is not None:
        report.to_html(html)
    if as_json:
        screen.show_json({
            "source": report.source, "target": report.target, "rows": table.to_list(),
            "notes": report.notes
        })
    else:
        screen.show_layer_table(table, tensors=tensors, paged=True)
        for sentence in (*report.notes, *report.warnings):
            screen.note(f"note: {sentence}")
    return MISMATCH if table.mismatches else DONE


def _is_plan(name: str) -> bool:
    """Return True for any JSON file but the index of a sharded checkpoint."""
    return Path(name).suffix == ".json" and not name.endswith(".index.json")


def _show_keras_layers(model: Any, expand_nested: bool, as_json: bool) -> int:
    target = read_target(model, expand_nested=expand_nested)
    layers = [(layer.class_name, Cell.of(layer.name, layer.variables)) for layer in target.layers]
    if as_json:
        rows = [cell.to_dict() | {"class": class_name} for class_name, cell in layers]
        screen.show_json({"target": target.name, "rows": rows})
        return DONE
    table = [(str(position), cell.name, class_name, cell.shapes_text, f"{cell.parameters:,}")
             for position, (class_name, cell) in enumerate(layers)]
    screen.show_table(("", "Keras layer", "class", "shapes", "size"), table, right=(0, 4))
    total = sum(cell.parameters for _, cell in layers)
    screen.say(
        f"{target.name}: {plural(len(layers), 'layer')} with weights, {plural(total, 'parameter')}")
    return DONE


def show_family(family: FamilyPlan, as_json: bool) -> int:
    """Print a line for each layer of a family."""
    if as_json:
        screen.show_json({
            "patterns": [{
                "variable": one.target, "tensors": one.forms(), "rule": one.rule, "count": one.count
            } for one in family.patterns], "dropped": family.dropped, "kept": family.kept,
            "learned": family.learned
        })
    else:
        screen.say(str(family))
    return DONE


def _show_plan(plan: Plan, as_json: bool) -> int:
    """Print each variable, the tensors it is made of, the rule, and what is open about it."""
    rows = []
    for one in plan.assignments:
        spec = plan.targets.get(one.key)
        name = spec.display_name if spec is not None else one.key
        rows.append((name, ", ".join(tensors_of(one.expression)), one.rule, one.doubt))
    if as_json:
        names = ("variable", "tensors", "rule", "doubt")
        screen.show_json({
            "assignments": [dict(zip(names, row, strict=True)) for row in rows],
            "dropped": plan.dropped, "kept": plan.kept, "portable": plan.portable,
            "lossless": plan.lossless
        })
        return DONE
    screen.show_table(("variable", "from", "rule", "not proven by shapes"), rows)
    portable = "portable" if plan.portable else "needs the functions of additional_transfer"
    lossless = "can" if plan.lossless else "cannot"
    screen.say(
        f"{plural(len(rows), 'variable')} set, {len(plan.kept):,} kept, "
        f"{plural(len(plan.dropped), 'tensor')} left out; {portable}, {lossless} be inverted bit "
        "for bit")
    return DONE
