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
from ..api.file_conversion import apply
from ..plan.difference import Difference, difference, without_layers
from ..plan.plan import Plan
from ..report.report import Report
from ..torch_io.reader import read
from . import options, screen
from .configuration import config_option
from .exit_codes import DONE, MISMATCH, NOT_DONE

EXAMPLES = """
keras-torch-convert apply resnet.plan.json resnet50_finetuned.pth resnet50_finetuned.h5
keras-torch-convert apply resnet.plan.json other.safetensors --diff
keras-torch-convert apply resnet.plan.json ten_classes.pth ten_classes.h5 --without predictions --template resnet50.h5
keras-torch-convert apply resnet.plan.json resnet50.h5 resnet50.safetensors
keras-torch-convert apply --many manifest.toml --workers 4
"""
ONE = ("plan", "checkpoint", "output", "diff", "without", "template", "max_shard_size", "wrapper",
       "html")
MANY = ("scheduler", "workers", "memory_per_worker", "results")


@options.command("apply", EXAMPLES)
@click.argument("plan", type=options.EXISTING_FILE, required=False)
@click.argument("checkpoint", type=options.EXISTING_FILE, required=False)
@click.argument("output", type=options.FILE, required=False)
@click.option("--diff", is_flag=True,
              help="Only show how the checkpoint differs from what the plan expects.")
@click.option("--without", "without", multiple=True, metavar="LAYER",
              help="Leave out a Keras layer; * is any text. Repeatable.")
@click.option(
    "--template", type=options.EXISTING_FILE, help=
    "A Keras file that the new one is to look like; what the plan does not set keeps its values.")
@click.option("--max-shard-size", type=float,
              help="In GB, with an OUTPUT that ends in .weights.json.")
@options.strict_option
@click.option("--verify/--no-verify", default=True, show_default=True,
              help="Read the file again and compare it.")
@options.wrapper_option
@options.html_option
@click.option("--many", type=options.EXISTING_FILE,
              help="A TOML file with a table [[file]] for each output.")
@click.option(
    "--scheduler",
    help="With --many: the address of a Dask scheduler. Default: processes on this machine.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True,
              help="With --many: how many processes.")
@click.option("--memory-per-worker", default="2GiB", show_default=True,
              help="With --many: the most that one may take.")
@click.option("--results", type=options.FILE,
              help="With --many: the file that remembers what is done.")
@config_option
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **values: Any) -> int:
    """Write the weights of CHECKPOINT into the Keras file OUTPUT (.h5, .weights.h5 or .keras) as
    PLAN says.

    The other way round with a Keras file and an OUTPUT that ends in .safetensors. With --many a
    manifest says what goes where; finished files are skipped, and the exit code is 4 when one could
    not be written. The same input gives the same bytes. On any error an old file stays.
    """
    options.check_places(values["html"])
    if values["many"] is not None:
        refuse(ctx, ONE, "does not go with --many: the manifest says it")
        return run_many(values, as_json)
    refuse(ctx, MANY, "goes with --many only")
    for name in ("plan", "checkpoint"):
        if values[name] is None:
            raise click.UsageError(f"Missing argument '{name.upper()}', or --many with a manifest",
                                   ctx)
    output = values["output"]
    if output is None and not values["diff"]:
        raise click.UsageError("Missing argument 'OUTPUT', the file to write", ctx)
    plan = Plan.load(values["plan"])
    if values["diff"]:
        source = read(values["checkpoint"], wrapper=values["wrapper"])
        return show_difference(difference(without_layers(plan, values["without"]), source), as_json)
    wrapper, checkpoint = values["wrapper"], values["checkpoint"]
    report = apply(plan, checkpoint if wrapper is None else read(checkpoint, wrapper=wrapper),
                   output, template=values["template"], without=values["without"],
                   strict=options.strictness(values["strict"]),
                   max_shard_size=values["max_shard_size"], verify=values["verify"],
                   progress=sys.stderr.isatty())
    return show_applied(report, values["html"], as_json)


def refuse(ctx: click.Context, names: tuple[str, ...], why: str) -> None:
    """UsageError for the first of these options that was given."""
    found = options.given(ctx, *names)
    if found:
        raise click.UsageError(f"{found[0]} {why}", ctx)


def run_many(values: dict[str, Any], as_json: bool) -> int:
    """All outputs of a manifest, and a table of what became of them."""
    found = apply_many(values["many"], scheduler=values["scheduler"], workers=values["workers"],
                       memory_per_worker=values["memory_per_worker"], results=values["results"],
                       progress=sys.stderr.isatty())
    if as_json:
        screen.show_json([asdict(row) for row in found.rows])
        return DONE if found.ok else NOT_DONE
    *lines, total = found.lines()
    for line in lines:
        screen.say(line, screen.BAD if line.startswith("failed") else "")
    screen.say(total, screen.GOOD if found.ok else screen.BAD)
    return DONE if found.ok else NOT_DONE


def show_applied(report: Report, html: Path | None, as_json: bool) -> int:
    """The report of a file that was written."""
    if html is not None:
        report.to_html(html)
    if as_json:
        screen.show_json(report.to_dict())
        return DONE
    # Nothing was run, so the verdict, which stands last, has nothing to say.
    *lines, _ = str(report).splitlines()
    for line in lines:
        screen.say(line, screen.ODD if line.startswith("WARNING") else "")
    screen.say(f"written: {report.path}", screen.GOOD)
    return DONE


def show_difference(found: Difference, as_json: bool) -> int:
    """What is missing, extra, renamed, of another shape or type."""
    if as_json:
        screen.show_json({"fits": found.fits, "differences": list(found.lines())})
    else:
        for line in found.lines():
            screen.say(line, screen.ODD if line.startswith(("extra", "other type")) else screen.BAD)
        screen.say(f"the plan {'fits' if found.fits else 'does not fit'} this checkpoint",
                   screen.GOOD if found.fits else screen.BAD)
    return DONE if found.fits else MISMATCH
