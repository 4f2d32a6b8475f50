"""`apply`: checkpoints into Keras files as plans say, or a Keras file back; neither PyTorch nor
Keras is needed.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..api.batch.run import apply_many
from ..api.family_plans import load_plan
from ..api.file_conversion import apply
from ..plan.difference import Difference, difference, without_layers
from ..plan.plan import FamilyPlan
from ..report.terminal import Line
from ..torch_io.reader import read
from ..torch_io.renaming import fit_to_plan
from . import options, screen
from .main import DONE, MISMATCH, NOT_DONE, InputError

EXAMPLES = """
keras-torch-convert apply resnet.plan.json resnet50_finetuned.pth resnet50_finetuned.h5
keras-torch-convert apply resnet.plan.json other.safetensors --diff
keras-torch-convert apply resnet.plan.json ten_classes.pth ten_classes.h5 --without predictions
keras-torch-convert apply resnet.plan.json resnet50.h5 resnet50.safetensors
keras-torch-convert apply --many manifest.toml --workers 4
"""
ONE = ("plan", "checkpoint", "output", "diff", "without", "template", "max_shard_size", "wrapper",
       "rename", "adapter", "html")
MANY = ("scheduler", "workers", "memory_per_worker", "results")


# click passes each option as a parameter of its own.
@options.command("apply", EXAMPLES)
@click.argument("plan", type=options.EXISTING_FILE, required=False)
@click.argument("checkpoint", type=options.CHECKPOINT, required=False)
@click.argument("output", type=options.FILE, required=False)
@click.option("--diff", is_flag=True,
              help="Only show how the checkpoint differs from what the plan expects.")
@options.options_of(
    apply, without="Leave out a Keras layer; * is any text.",
    template=(options.EXISTING_FILE, "A Keras file that the new one is to look like; what the plan "
              "does not set keeps its values."),
    max_shard_size=(float, "In GB, with an OUTPUT that ends in .weights.json."))
@options.strict_option
@options.options_of(apply, verify="Read the file again and compare it.")
@options.checkpoint_options
@options.html_option
@click.option("--many", type=options.EXISTING_FILE,
              help="A TOML file with a table [[file]] for each output.")
@options.options_of(
    apply_many,
    scheduler="With --many: the address of a Dask scheduler. Default: processes on this machine.",
    workers=(click.IntRange(0), "With --many: how many processes; 0 for this one, without Dask."),
    memory_per_worker="With --many: the most that one may take.",
    results=(options.FILE, "With --many: the file that remembers what is done."))
@options.config_option
@click.pass_context
def command(ctx: click.Context, /, plan: Path | None, checkpoint: Path | None, output: Path | None,
            diff: bool, wrapper: str | None, rename: dict[str, str] | None, adapter: Path | None,
            html: Path | None, many: Path | None, as_json: bool, **values: Any) -> int:
    """Write the weights of CHECKPOINT into the Keras file OUTPUT (.h5, .weights.h5 or .keras) as
    PLAN says.

    The other way round with a Keras file and an OUTPUT that ends in .safetensors. With --many a
    manifest says what goes where; finished files are skipped, and the exit code is 4 when one could
    not be written. The same input gives the same bytes. On any error an old file stays.
    """
    options.check_places(html)
    if many is not None:
        _refuse(ctx, ONE, "does not go with --many: the manifest says it")
        return _run_many(many, values, as_json)
    _refuse(ctx, MANY, "goes with --many only")
    if plan is None or checkpoint is None:
        missing = "PLAN" if plan is None else "CHECKPOINT"
        raise click.UsageError(f"Missing argument '{missing}', or --many with a manifest", ctx)
    if output is None and not diff:
        raise click.UsageError("Missing argument 'OUTPUT', the file to write", ctx)
    loaded = load_plan(plan)
    back = output is not None and output.suffix == ".safetensors"
    source = checkpoint if back else read(checkpoint, wrapper=wrapper, rename=rename,
                                          adapter=adapter)
    if isinstance(loaded, FamilyPlan):
        if back:
            raise InputError(f"{plan} is a family, which makes Keras files from checkpoints only")
        loaded = loaded.plan_for(source)
    if output is None or diff:
        wanted = without_layers(loaded, values["without"])
        return _show_difference(difference(*fit_to_plan(wanted, read(source))), as_json)
    report = apply(loaded, source, output, progress=sys.stderr.isatty(),
                   **options.arguments(apply, values))
    # Nothing was run, so the verdict, which stands last, has nothing to say.
    screen.show_report(
        report, html, as_json,
        [*report.lines()[:-1], Line(f"written: {report.path}", "good")])
    return DONE


def _refuse(ctx: click.Context, names: tuple[str, ...], why: str) -> None:
    """Raise UsageError for the first of these options that was given."""
    found = options.given(ctx, *names)
    if found:
        raise click.UsageError(f"{found[0]} {why}", ctx)


def _run_many(manifest: Path, values: dict[str, Any], as_json: bool) -> int:
    """Write all outputs of a manifest, and print a table of what became of them."""
    found = apply_many(manifest, progress=sys.stderr.isatty(),
                       **options.arguments(apply_many, values))
    if as_json:
        screen.show_json({"ok": found.ok, "rows": [asdict(row) for row in found.rows]})
        return DONE if found.ok else NOT_DONE
    *lines, total = found.lines()
    for line in lines:
        screen.say(line, "bad" if line.startswith("failed") else "")
    screen.say(total, "good" if found.ok else "bad")
    return DONE if found.ok else NOT_DONE


def _show_difference(found: Difference, as_json: bool) -> int:
    """Print what is missing, extra, renamed, of another shape or type."""
    if as_json:
        screen.show_json({"fits": found.fits, "differences": list(found.lines())})
    else:
        for line in found.lines():
            screen.say(line, "open" if line.startswith(("extra", "other type")) else "bad")
        screen.say(f"the plan {'fits' if found.fits else 'does not fit'} this checkpoint",
                   "good" if found.fits else "bad")
    return DONE if found.fits else MISMATCH
