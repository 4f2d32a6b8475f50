"""Commands, the options that several of them take, and options from a TOML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar, Union

import click
import numpy as np

from ..api.batch.manifest import read_toml
from ..api.classic import keras_reload_from_torch_model
from ..api.conversion import convert
from ..plan.executor import Strict
from ..torch_io.mapped_file import located
from ..torch_io.remote import RemotePath
from ..util.atomic_file import check_writable
from ..util.text import did_you_mean, shorten
from .main import EXIT_CODES, InputError, Session
from .models import BACKENDS, Model
from .values import Finite, Json, NamedObject, check_setting, imported, is_object_name

Function = TypeVar("Function", bound=Callable[..., Any])
# The help of an option, with its click type where its default does not show it.
OptionHelp = Union[str, tuple[Any, str]]

FILE = click.Path(dir_okay=False, path_type=Path)
STRICT: dict[str, Strict] = {"true": True, "target": "target", "false": False}


class ExistingFile(click.Path):
    """A file that is there; nothing that could be read for ever, such as a named pipe."""
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail."""
        path: Any = super().convert(value, param, ctx)
        if not path.is_file():
            self.fail(f"'{path}' is not a regular file", param, ctx)
        return path


class ExistingCheckpoint(ExistingFile):
    """The same, or a folder with weights, or an address of either."""
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail."""
        path = located(value)
        return path if isinstance(path, RemotePath) or path.is_dir() else super().convert(
            value, param, ctx)


EXISTING_FILE = ExistingFile(exists=True, dir_okay=False, path_type=Path)
CHECKPOINT = ExistingCheckpoint(exists=True, path_type=Path)


def combined(*decorators: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Return several decorators as one; the first stands first in the help."""
    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def command(name: str, examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a command.

    Its examples and the exit codes stand behind its options, and last the options of all commands.
    """
    shown = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    made = click.command(name, context_settings={"max_content_width": 100},
                         epilog=f"\b\nExamples:\n{shown}\n\n{EXIT_CODES}")

    def decorate(function: Callable[..., Any]) -> click.Command:
        result: click.Command = made(function)
        result.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON."),
            click.Option(["--traceback"], is_flag=True, expose_value=False, is_eager=True,
                         callback=_remember_traceback,
                         help="Show where in the program an error was raised.")
        ]
        return result

    return decorate


def _remember_traceback(ctx: click.Context, param: click.Parameter, shown: bool) -> None:
    session = ctx.find_object(Session)
    if shown and session is not None:
        session.traceback = True


def options_of(function: Callable[..., Any], **texts: OptionHelp) -> Callable[[Function], Function]:
    """Return the options that are parameters of a public function, as one decorator.

    Args:
        function: Has the names and the defaults.
        texts: What to say of each option, by name.

    Returns:
        The decorator.
    """
    options = []
    for name, about in texts.items():
        kind, text = about if isinstance(about, tuple) else (None, about)
        default = signature(function).parameters[name].default
        flag = "--" + name.replace("_", "-")
        settings: dict[str, Any] = {"help": text, "type": kind}
        if default is True and kind is None:
            settings |= {"default": True, "show_default": True}
            flag += "/--no-" + flag[2:]
        elif default is False:
            settings["is_flag"] = True
        elif isinstance(default, (list, tuple)):
            settings |= {"multiple": True, "default": list(default), "show_default": bool(default)}
            settings["help"] += " Repeatable."
        elif default is not None and not isinstance(default, Mapping):
            settings |= {"default": str(default), "show_default": True}
        options.append(click.option(flag, **settings))
    return combined(*options)


def arguments(api_function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of options that are optional parameters of a function, objects imported.

    Those of `checkpoint_options` have done their work when the checkpoint was read.
    """
    found: dict[str, Any] = {}
    for name, parameter in signature(api_function).parameters.items():
        value = None if name in ("wrapper", "rename") else values.get(name)
        if value is not None and parameter.default is not parameter.empty:
            found[name] = list(value) if isinstance(value, tuple) else value
    if "additional_transfer" in found:
        named = found["additional_transfer"].items()
        found["additional_transfer"] = {
            imported(key) if is_object_name(key) else key: imported(function)
            for key, function in named
        }
    if "specific_match_func" in found:
        found["specific_match_func"] = imported(found["specific_match_func"])
    return found


source_argument = click.argument("source", type=Model())
target_argument = click.argument("target", type=Model())

kwargs_option = click.option(
    "--kwargs", type=Json(dict), multiple=True, help=
    "Arguments for a callable, as a JSON object. Give it once for each callable, in their order.")
backend_option = click.option(
    "--backend", type=click.Choice(BACKENDS),
    help="Keras's backend. Default: as Keras is configured, or one that is installed.")
weights_option = click.option("--weights", type=CHECKPOINT,
                              help="A checkpoint to load into the PyTorch module first, strictly.")
random_option = click.option(
    "--random-weights", is_flag=True,
    help="Make models of a collection with random weights: nothing is downloaded.")
wrapper_option = click.option(
    "--wrapper", help='Which part of a checkpoint holds the weights, such as "model_ema".')
rename_option = click.option(
    "--rename", multiple=True, metavar="OLD=NEW", callback=lambda ctx, param, rules: _rules(rules),
    help="Exchange the beginnings of a checkpoint's names: backbone= cuts it. Repeatable.")
sample_option = click.option(
    "--sample", type=EXISTING_FILE, callback=lambda ctx, param, path: read_sample(path),
    help="An .npy file with the input for running the models, in the Keras layout with its batch. "
    "Default: made from the Keras model.")
strict_option = click.option(
    "--strict", type=click.Choice(list(STRICT)), default="true", show_default=True,
    callback=lambda ctx, param, text: STRICT[text],
    help="What may be left over: nothing, tensors of PyTorch, or both sides. All is reported.")
verdict_options = options_of(
    convert, accept=(click.Choice(["close", "equal"]), "The worst verdict to accept."), tolerance=(
        Finite(0),
        "The largest difference that counts as close, as a fraction of PyTorch's largest output."))
time_option = options_of(
    convert,
    time_limit=(Finite(0), "Seconds after which the search for layers ends, and that for causes."))
html_option = click.option("--html", type=FILE, help="Write the report as one HTML page.")
adapter_option = click.option(
    "--adapter", type=CHECKPOINT, help=
    "The folder of a LoRA adapter of PEFT, or its address, merged into the checkpoint's weights.")
checkpoint_options = combined(wrapper_option, rename_option, adapter_option)
model_options = combined(kwargs_option, weights_option, checkpoint_options, backend_option)

MOVES, SPLIT, TRANSFERS = Json(dict, list), Json(int, list), Json(dict, inner=NamedObject())
# The arguments of the classic functions, under their own names.
CLASSIC: dict[str, OptionHelp] = dict(  # noqa: C408  # the formatter keeps a call readable
    skip_weights="Leave out tensors by the whole last part of their names.",
    unstack_weights="Tensors that are a layer of their own, by the last part.",
    tail_align_dict=(MOVES, "{tail of a layer name: position}; a list has one for each stage."),
    full_name_align_dict=(MOVES, "{layer name: position}; a list has one for each stage."),
    tail_split_position=(SPLIT, 'The tail of a name begins after so many "_"; a list for stages.'),
    additional_transfer=(TRANSFERS, "{ending of a layer name, or MODULE:CLASS: MODULE:FUNCTION}."),
    specific_match_func=(NamedObject(), "A function from the Keras names to their order."),
    skip_layers="PyTorch layers to leave out; * is any text.",
    keep_layers="Keras layers that keep their values; * is any text.",
    expand_nested="Count the leaf layers of nested models as layers.")
classic_options = options_of(keras_reload_from_torch_model, **CLASSIC)


def given(ctx: click.Context, *names: str) -> list[str]:
    """Return which of these options were given, on the command line or in a file, as written."""
    found = [
        param for param in ctx.command.params
        if param.name in names and ctx.params.get(param.name) is not None
        and ctx.get_parameter_source(param.name) is not click.core.ParameterSource.DEFAULT
    ]
    found.sort(key=lambda param: names.index(str(param.name)))
    return [
        max(param.opts, key=len) if isinstance(param, click.Option) else str(param.name).upper()
        for param in found
    ]


def check_places(*paths: Path | None) -> None:
    """Refuse files that cannot be written, before anything is done. Raises SaveError."""
    for path in paths:
        if path is not None:
            check_writable(path)


def read_sample(path: Path | None) -> Any:
    """Return the array of a sample file."""
    if path is None:
        return None
    fault = InputError(f"{path} is not an .npy file of one array of numbers")
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OverflowError, MemoryError) as error:
        raise fault from error
    # An archive of several arrays is another type.
    if not isinstance(found, np.ndarray):
        raise fault
    return found


def _rules(rules: Sequence[str]) -> dict[str, str] | None:
    """Return "old=new" texts as a dictionary, None for none."""
    for rule in rules:
        if "=" not in rule:
            raise click.BadParameter(f"{rule!r} is not of the form OLD=NEW")
    return dict([rule.split("=", 1) for rule in rules]) or None


def config_option(function: Function) -> Function:
    """Add the option --config: what stands in the file counts as if it were given here."""
    decorated: Function = click.option(
        "--config", type=EXISTING_FILE, is_eager=True, expose_value=False, callback=_read_config,
        help="A TOML file with any of these options and arguments; what is given here overrides "
        "it.")(function)
    return decorated


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Make the file's entries the defaults of this run.

    A key is an option's long name, with "-" or "_", or an argument's name.
    """
    if path is None:
        return
    known = {_config_key(one): one for one in ctx.command.params if one.name != "config"}
    settings: dict[str, Any] = {}
    for key, value in read_toml(path).items():
        one = known.get(key.replace("-", "_").lower())
        if one is None or one.name is None:
            raise click.BadParameter(
                f"{path}: '{ctx.command.name}' has no option {shorten(repr(key), 100)}"
                f"{did_you_mean(key, known)}", ctx, param)
        try:
            settings[one.name] = check_setting(one, value)
        except ValueError as error:
            raise click.BadParameter(f"{path}: {key}: {error}", ctx, param) from error
    session = ctx.find_object(Session)
    if session is not None and settings.get("as_json"):
        session.as_json = True
    ctx.default_map = {**(ctx.default_map or {}), **settings}


def _config_key(param: click.Parameter) -> str:
    if isinstance(param, click.Option):
        return max(param.opts, key=len).lstrip("-").replace("-", "_")
    return str(param.name)
