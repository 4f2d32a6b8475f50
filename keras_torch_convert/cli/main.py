"""Finds the command, runs it, and turns whatever happens into a message on stderr and an exit code.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from .. import __version__
from ..errors import (AlignmentError, ConversionError, NotEqualError, SaveError, TransferError,
                      UploadError)
from ..report.terminal import terminal_width, wrapped
from ..util.text import did_you_mean

DONE = 0
MISMATCH = 1
USAGE_ERROR = 2
INPUT_ERROR = 3
NOT_DONE = 4
INTERNAL_ERROR = 70
INTERRUPTED = 130
# What the shell calls a program that wrote to a closed pipe.
PIPE_CLOSED = 141

EXIT_CODES = f"""\b
Exit codes:
  {DONE}    done; the outputs are equal, close if --accept allows it, or undecided
  {MISMATCH}    mismatch: layers or weights do not fit together, outputs differ by more
       than is accepted, or a card is not what its files say
  {USAGE_ERROR}    usage error: an unknown command, option or value
  {INPUT_ERROR}    input error: a file, plan or model that cannot be read or run
  {NOT_DONE}    a file could not be written or uploaded
  {INTERNAL_ERROR}   internal error: a bug in this program
  {INTERRUPTED}  interrupted; nothing is left half done"""

_PREFIXES = {
    USAGE_ERROR: "usage error", INPUT_ERROR: "input error", INTERNAL_ERROR: "internal error"
}

# Each command is imported when it is asked for: `keras-torch-convert --help` answers at once.
COMMANDS = dict(  # noqa: C408  # the formatter keeps a call readable
    inspect="List the layers of a checkpoint or model, or of two side by side.",
    align="Find out which weight belongs where, and keep it as a plan.",
    convert="Convert the weights of a PyTorch model into a Keras model, and prove it.",
    apply="Turn checkpoints into Keras files as a plan says, without PyTorch and Keras.",
    generalize="Learn one plan for every depth and width from plans of small models.",
    verify="Run both models and say whether they are equal.",
    recheck="Do everything again that a conversion card tells, and compare.",
    rules="Show how PyTorch and Keras store the same layer.",
    release="Print checksums, set the entry of PRETRAINED_DICT, upload.",
    demo="Convert a small network, and see what a misalignment looks like.",
    completion="Print the script that completes this command in a shell.")

EXAMPLES = """\b
Examples:
  keras-torch-convert inspect resnet50.pth
  keras-torch-convert inspect torchvision:resnet50 keras.applications:ResNet50
  keras-torch-convert convert timm:resnet50 kimm:ResNet50 -o resnet50.h5
  keras-torch-convert convert model.py:torch_model model.py:keras_model -o model.h5
  keras-torch-convert COMMAND --help"""

# Arguments of the Python functions that no option has the name of.
_NOT_OPTIONS = {"do_convert": "the command inspect", "if_different": "--keep-different of convert"}


def verdict_code(verdict: str, accept: str) -> int:
    """Return the exit code of a verdict; `accept` is the worst that will do, "close" or "equal"."""
    is_refused = verdict == "different" or (verdict == "close" and accept == "equal")
    return MISMATCH if is_refused else DONE


class InputError(click.ClickException):
    """A model, file or function named on the command line cannot be had."""

    exit_code = INPUT_ERROR


class PipeClosedError(Exception):
    """Nobody reads standard output any more."""


@dataclass
class Session:
    """What the options before or behind a command say about the whole run."""

    traceback: bool = False
    as_json: bool = False
    command: click.Command | None = None


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""
    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        click itself would end with 1, a mismatch, when the reader of a pipe has seen enough.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise PipeClosedError from error
        return result

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or suggest one that is spelled alike."""
        if args[0] not in COMMANDS and args[0][:1] != "-":
            ctx.fail(f"there is no command '{args[0]}'{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{cmd_name}_command", __package__)
        command: click.Command = module.command
        command.short_help = COMMANDS[cmd_name]
        session = ctx.find_object(Session)
        if session is not None:
            session.command = command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names with one line each."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, invoke_without_command=True,
             context_settings={"help_option_names": ["-h", "--help"],
                               "max_content_width": 100}, epilog=f"{EXAMPLES}\n\n{EXIT_CODES}")
@click.version_option(__version__, prog_name="keras-torch-convert")
@click.option("--traceback", "show_traceback", is_flag=True,
              help="Show where in the program an error was raised.")
@click.pass_context
def group(ctx: click.Context, show_traceback: bool) -> None:
    """Pretrained PyTorch weights into Keras models: aligned, checked, proven equal.

    A model is named as package.module:callable or file.py:callable (called with --kwargs), or by a
    collection: timm:NAME, torchvision:NAME, hf:NAME, keras.applications:NAME, keras-hub:PRESET,
    kimm:NAME. A checkpoint goes by its path (.pt, .pth, .bin, .safetensors, .npz), a Keras model
    also by its file (.keras, .h5).
    """
    session = ctx.ensure_object(Session)
    session.traceback = session.traceback or show_traceback
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: The words behind the name of the program, by default those of the process.

    Returns:
        One of the exit codes above.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Known before the words are understood: that they cannot be is told as JSON as well.
    session = Session(as_json="--json" in words)
    try:
        result = group.main(args=words, prog_name="keras-torch-convert", obj=session,
                            standalone_mode=False)
    except click.Abort as error:
        text = "interrupted; nothing is left half done"
        print(text, file=sys.stderr)
        if session.as_json:
            _print_failure(error, text)
        return INTERRUPTED
    except PipeClosedError:
        # What is still buffered must not raise again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        return _report_error(error, session)
    return result if isinstance(result, int) else DONE


def exit_code_of(error: Exception) -> int:
    """Return the exit code that an error leads to."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, (NotEqualError, TransferError, AlignmentError)):
        return MISMATCH
    if isinstance(error, (SaveError, UploadError, OSError)):
        return NOT_DONE
    return INPUT_ERROR if isinstance(error, ConversionError) else INTERNAL_ERROR


def _report_error(error: Exception, session: Session) -> int:
    """Print an error on stderr and return its exit code."""
    code = exit_code_of(error)
    if isinstance(error, click.ClickException):
        message = error.format_message()
    elif isinstance(error, (ConversionError, OSError)):
        message = f"{error}{_options_meant(str(error), session.command)}"
    else:
        message = (f"{type(error).__name__}: {error}\nPlease report it, with what --traceback "
                   "prints.")
    message += "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    if session.as_json:
        _print_failure(error, message)
    if session.traceback:
        traceback.print_exception(error)
        return code
    if isinstance(error, click.UsageError) and error.ctx is not None:
        print(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help'", file=sys.stderr)
    text = f"{_PREFIXES.get(code, 'error')}: {message}"
    if sys.stderr.isatty():
        text = "\n".join(wrapped(text, terminal_width()))
    print(text, file=sys.stderr)
    return code


def _print_failure(error: Exception, message: str) -> None:
    """Print an error as one JSON object, with the report of what was taken back if there is one."""
    from .screen import show_json

    report = getattr(error, "report", None)
    failure: dict[str, Any] = {
        "ok": False, "error": {
            "kind": type(error).__name__, "message": message,
            "problems": list(getattr(error, "problems", ()))
        }
    }
    show_json({**report.to_dict(), **failure} if report is not None else failure)


def _options_meant(message: str, command: click.Command | None) -> str:
    """Return which options the arguments are that a message names, such as "skip_layers="."""
    if command is None:
        return ""
    written = _NOT_OPTIONS | {
        param.name: max(param.secondary_opts or param.opts, key=len)
        for param in command.params if param.name is not None and isinstance(param, click.Option)
    }
    named = dict.fromkeys(re.findall(r"\b([a-z]+(?:_[a-z]+)*)=", message))
    meant = [f"{name} is {written[name]}" for name in named if name in written]
    return f"\non the command line {', '.join(meant)}" if meant else ""
