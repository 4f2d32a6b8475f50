"""`align`: find out which weight belongs where, and keep it as a plan; nothing is converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..api.aligning import classic_dictionaries
from ..api.file_conversion import apply
from ..plan.difference import without_layers
from ..util.text import plural
from . import options, screen
from .main import DONE
from .pairing import both_sides, converted, mode_options, save_plan

EXAMPLES = """
keras-torch-convert align model.py:torch_model model.py:keras_model -o model.plan.json
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
              help="Print the classic arguments that say the same, ready to paste.")
@options.options_of(apply, without="Leave out a Keras layer, such as a head; * is any text.")
@mode_options
@options.sample_option
@options.strict_option
@options.model_options
@options.classic_options
@options.config_option
@click.pass_context
def command(ctx: click.Context, /, output: Path | None, dictionaries: bool,
            without: tuple[str, ...], as_json: bool, **values: Any) -> int:
    """Find out which weight belongs where.

    SOURCE is the PyTorch side, TARGET the Keras model. Without the classic arguments both models
    are run on randomized copies of their weights, and each pairing stands with its evidence. With
    them, or --by-order, layers are paired in the order that they give.
    """
    options.check_places(output)
    source, target = both_sides(ctx, values)
    report = converted(ctx, source, target, values)
    assert report.plan is not None
    plan = report.plan = without_layers(report.plan, without)
    saved = save_plan(report, output) if output is not None else None
    with screen.chatter_on_stderr():
        classic = classic_dictionaries(plan, source, target) if dictionaries else None
    if as_json:
        data = report.to_dict()
        names = ("source", "target", "alignment", "pairs", "match_status", "evidence", "warnings",
                 "notes", "totals")
        arguments = None if classic is None else classic.arguments() | {"comment": classic.comment}
        screen.show_json({name: data[name] for name in names}
                         | {"plan": saved, "dictionaries": arguments})
        return DONE
    columns = 4 if report.evidence else 2
    known, why = report.match_status, report.evidence
    screen.show_table(
        ("torch layer", "Keras layer", "match", "evidence")[:columns],
        [(*pair, known.get(pair[1], ""), why.get(pair[1], ""))[:columns] for pair in plan.pairs])
    for sentence in (*report.notes, *report.warnings):
        screen.note(f"note: {sentence}")
    screen.say(f"{plural(len(plan.pairs), 'layer')} paired"
               + (f", {report.alignment}" if report.alignment else ""))
    if classic is not None:
        screen.say(f"\n{classic}\n")
    if saved is not None:
        screen.say(f"plan: {saved}")
    return DONE
