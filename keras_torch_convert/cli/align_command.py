"""`align`: who belongs to whom, found out and kept as a plan; nothing is converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..api.aligning import classic_dictionaries
from . import options, screen
from .configuration import config_option
from .exit_codes import DONE
from .pairing import both_sides, converted, save_plan, way_options

EXAMPLES = """
keras-torch-convert align timm:create_model model.py:build --kwargs '{"model_name": "resnet18"}' -o resnet18.plan.json
keras-torch-convert align resnet18.pth model.keras --tail-align-dict '{"shortcut_conv": -4}'
keras-torch-convert align module.py:net model.keras --dictionaries
keras-torch-convert align module.py:net model.keras --hints '{"head": "fc"}' --json
"""


@options.command("align", EXAMPLES)
@options.source_argument
@options.target_argument
@click.option("-o", "--output", type=options.FILE,
              help="Where to keep the plan, by custom NAME.plan.json.")
@click.option("--dictionaries", is_flag=True,
              help="Say it as the classic arguments too, ready to paste.")
@way_options
@options.sample_option
@options.strict_option
@options.model_options
@options.classic_options
@config_option
@click.pass_context
def command(ctx: click.Context, /, output: Path | None, dictionaries: bool, as_json: bool,
            **values: Any) -> int:
    """Find out which weight belongs where.

    SOURCE is the PyTorch side, TARGET the Keras model. Without the classic arguments both models
    are run on randomized copies of their weights, and each pairing stands with its evidence. With
    them, or --by-order, layers are paired in the order that they give.
    """
    options.check_places(output)
    source, target = both_sides(ctx, values)
    report = converted(ctx, source, target, values, output=None, verify=False)
    saved = save_plan(report, output) if output is not None else None
    pairs = report.plan.pairs if report.plan is not None else ()
    classic = None
    if dictionaries and report.plan is not None:
        with screen.chatter_on_stderr():
            classic = classic_dictionaries(report.plan, source, target)
    if as_json:
        data = report.to_dict()
        names = ("source", "target", "alignment", "pairs", "evidence", "warnings", "notes",
                 "totals")
        said = None if classic is None else classic.arguments() | {"comment": classic.comment}
        screen.show_json({name: data[name] for name in names}
                         | {"plan": saved, "dictionaries": said})
        return DONE
    rows = [(torch_layer, keras_layer, report.evidence.get(keras_layer, ""))
            for torch_layer, keras_layer in pairs]
    header = ("torch layer", "Keras layer", "evidence")
    with_evidence = any(row[2] for row in rows)
    screen.show_table(header if with_evidence else header[:2],
                      rows if with_evidence else [row[:2] for row in rows])
    for sentence in (*report.notes, *report.warnings):
        screen.note(f"note: {sentence}")
    screen.say(f"{len(pairs):,} layers paired{f', {report.alignment}' if report.alignment else ''}")
    if classic is not None:
        screen.say(f"\n{classic}\n")
    if saved is not None:
        screen.say(f"plan: {saved}")
    return DONE
