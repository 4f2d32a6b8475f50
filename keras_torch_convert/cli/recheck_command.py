"""`recheck`: a conversion card against its files, everything again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..release.recheck import recheck
from . import options, screen
from .main import DONE, MISMATCH, InputError
from .models import keras_side, models_of, torch_side
from .values import is_object_name
from .zoos import zoo_of

EXAMPLES = """
keras-torch-convert recheck resnet50.card.md
keras-torch-convert recheck resnet50.card.md --files-only
keras-torch-convert recheck mine.card.md --run-code
"""


@options.command("recheck", EXAMPLES)
@click.argument("card", type=options.EXISTING_FILE)
@click.option("--files-only", is_flag=True,
              help="Check digests and convert again, but run neither model.")
@click.option("--run-code", is_flag=True,
              help="Allow the Python files and modules that the card names to be imported.")
@options.backend_option
@click.pass_context
def command(ctx: click.Context, card: Path, files_only: bool, run_code: bool, backend: str | None,
            as_json: bool) -> int:
    """Do everything again that a conversion card tells, and compare.

    The digests of all files, the values in the Keras file, the status of each variable, and what
    both models compute. The exit code is 1 when anything is not as the card says. A card may come
    from anybody: code that it names is imported only with --run-code, collections (timm:NAME) are
    not code.
    """
    def make(torch_name: str, keras_name: str, weights: Path | None, file: Path) -> tuple[Any, Any]:
        if not torch_name:
            raise InputError(
                f"{card} does not name the PyTorch model: --files-only checks the rest")
        named = [_name_and_arguments(one) for one in (torch_name, keras_name or str(file))]
        for name, _ in named:
            if is_object_name(name) and not zoo_of(name) and not run_code:
                raise click.UsageError(
                    f"{card} names the code {name}: --run-code imports it, if you trust it; "
                    "--files-only runs nothing", ctx)
        called = [given for name, given in named if zoo_of(name) or is_object_name(name)]
        source, target = models_of([name for name, _ in named], called, backend,
                                   (weights is None, False))
        target = keras_side(target)
        target.load_weights(str(file))
        return torch_side(source, {"weights": weights}), target

    with screen.chatter_on_stderr(), screen.working("doing it again"):
        findings = recheck(card, None if files_only else make)
    wrong = [finding for finding in findings if finding.problem]
    if as_json:
        found = [{"what": what, "problem": problem} for what, problem in findings]
        screen.show_json({"ok": not wrong, "findings": found})
        return MISMATCH if wrong else DONE
    for what, problem in findings:
        screen.say(f"{'FAILED' if problem else 'ok':<6}  {what}{problem and f': {problem}'}",
                   "bad" if problem else "")
    left = ("; the models were not run, as you said" if files_only else "")
    screen.say(f"{len(findings) - len(wrong)} of {len(findings)} are as the card says{left}",
               "bad" if wrong else "good")
    return MISMATCH if wrong else DONE


def _name_and_arguments(text: str) -> tuple[str, Any]:
    """Return the name of a model and its arguments, which stand behind it as JSON."""
    name, _, arguments = text.partition(" ")
    try:
        return name, json.loads(arguments or "{}")
    except ValueError as error:
        raise InputError(f"the card names the model {text!r}: {error}") from error
