"""Options that several commands take, as decorators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from ..util.atomic_file import check_place
from .exit_codes import TABLE
from .main import Session
from .models import BACKENDS, Model
from .values import Json, NamedObject, imported, is_object_name

Function = TypeVar("Function", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def combined(*decorators: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Several decorators as one; the first stands first in the help."""
    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def remember_traceback(ctx: click.Context, param: click.Parameter, shown: bool) -> None:
    """Note that the program's own place of an error is wanted."""
    session = ctx.find_object(Session)
    if shown and session is not None:
        session.traceback = True


def command(name: str, examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with its examples and the exit codes behind its options, and, last, the options
    that all commands have.
    """
    shown = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    settings = {"max_content_width": 100}
    made = click.command(name, context_settings=settings,
                         epilog=f"\b\nExamples:\n{shown}\n\n{TABLE}")

    def decorate(function: Callable[..., Any]) -> click.Command:
        result: click.Command = made(function)
        result.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON."),
            click.Option(["--traceback"], is_flag=True, expose_value=False, is_eager=True,
                         callback=remember_traceback,
                         help="Show where in the program an error was raised.")
        ]
        return result

    return decorate


source_argument = click.argument("source", type=Model())
target_argument = click.argument("target", type=Model())

kwargs_option = click.option(
    "--kwargs", type=Json(dict), multiple=True, help=
    "Arguments for a callable, as a JSON object. Give it once for each callable, in their order.")
backend_option = click.option(
    "--backend", type=click.Choice(BACKENDS),
    help="Keras's backend. Default: as Keras is configured, or one that is installed.")
weights_option = click.option("--weights", type=EXISTING_FILE,
                              help="A checkpoint to load into the PyTorch module first, strictly.")
wrapper_option = click.option(
    "--wrapper", help='Under which key of a checkpoint the weights are, such as "model_ema".')
sample_option = click.option(
    "--sample", type=EXISTING_FILE,
    help="An .npy file with the input for running the models, in the Keras layout with its batch. "
    "Default: made from the Keras model.")
strict_option = click.option(
    "--strict", type=click.Choice(["true", "target", "false"]), default="true", show_default=True,
    help="What may be left over: nothing, tensors of PyTorch, or both sides. All is reported.")
html_option = click.option("--html", type=FILE, help="Write the report as one HTML page.")
model_options = combined(kwargs_option, weights_option, wrapper_option, backend_option)

# The arguments of the classic functions, under their own names.
classic_options = combined(
    click.option("--skip-weights", multiple=True, default=["num_batches_tracked"],
                 show_default=True,
                 help="Leave out tensors by the whole last part of their names. Repeatable."),
    click.option("--unstack-weights", multiple=True,
                 help="Tensors that are a layer of their own, by the last part. Repeatable."),
    click.option("--tail-align-dict", type=Json(dict, list),
                 help="{tail of a layer name: place}; a list has one for each stage."),
    click.option("--full-name-align-dict", type=Json(dict, list),
                 help="{layer name: place}; a list has one for each stage."),
    click.option("--tail-split-position", type=Json(int, list), default="2", show_default=True,
                 help='After how many "_" the tail of a layer name begins; a list for stages.'),
    click.option("--additional-transfer", type=Json(dict),
                 help="{ending of a layer name, or MODULE:CLASS of layers: MODULE:FUNCTION}."),
    click.option("--specific-match-func", type=NamedObject(),
                 help="A function from the Keras names to their order."),
    click.option("--skip-layers", multiple=True,
                 help="PyTorch layers to leave out; * is any text. Repeatable."),
    click.option("--keep-layers", multiple=True,
                 help="Keras layers that keep their values; * is any text. Repeatable."),
    click.option("--expand-nested", is_flag=True,
                 help="Count the leaf layers of nested models as layers."))
CLASSIC = ("skip_weights", "unstack_weights", "tail_align_dict", "full_name_align_dict",
           "tail_split_position", "additional_transfer", "specific_match_func", "skip_layers",
           "keep_layers", "expand_nested")


def classic_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the classic functions, functions and classes imported; those not given are
    left out.
    """
    arguments = {name: values[name] for name in CLASSIC if values[name] not in (None, ())}
    for name in ("skip_weights", "unstack_weights", "skip_layers", "keep_layers"):
        if name in arguments:
            arguments[name] = list(arguments[name])
    if "additional_transfer" in arguments:
        arguments["additional_transfer"] = {
            (imported(key) if is_object_name(key) else key): imported(function)
            for key, function in arguments["additional_transfer"].items()
        }
    if "specific_match_func" in arguments:
        arguments["specific_match_func"] = imported(arguments["specific_match_func"])
    return arguments


def given(ctx: click.Context, *names: str) -> list[str]:
    """Which of these options were given, on the command line or in a file, as they are written."""
    default = click.core.ParameterSource.DEFAULT
    options = {param.name: param for param in ctx.command.params}
    arguments = [name for name, param in options.items() if isinstance(param, click.Argument)]
    found = [
        name for name in names
        if ctx.get_parameter_source(name) is not default and ctx.params[name] is not None
    ]
    return [
        max(options[name].opts, key=len) if name not in arguments else name.upper()
        for name in found
    ]


def check_places(*paths: Path | None) -> None:
    """Refuse files that cannot be written before anything is done. Raises SaveError."""
    for path in paths:
        if path is not None:
            check_place(path)


def strictness(text: str) -> Any:
    """The value of `strict=`."""
    return {"true": True, "target": "target", "false": False}[text]


def read_sample(path: Path | None) -> Any:
    """The array of a sample file."""
    if path is None:
        return None
    import numpy as np

    from .exit_codes import InputError

    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is no .npy file of one array: {error}") from error
