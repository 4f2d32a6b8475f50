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
from ..errors import ConversionError
from . import exit_codes

# Each command is imported when it is asked for: `keras-torch-convert --help` answers at once.
COMMANDS = {
    "inspect": "List the layers of a checkpoint or model, or of two side by side.",
    "align": "Find out which weight belongs where, and keep it as a plan.",
    "convert": "Carry the weights of a PyTorch model into a Keras model, and prove it.",
    "apply": "Turn checkpoints into Keras files as a plan says, without PyTorch and Keras.",
    "verify": "Run both models and say whether they are equal.",
    "rules": "How PyTorch and Keras store the same layer.", "release":
        "Checksums, the entry for PRETRAINED_DICT, the upload.", "demo":
            "Convert a small network, and see what a misalignment looks like.", "completion":
                "Print the script that completes this command in a shell."
}

EXAMPLES = """\b
Examples:
  keras-torch-convert inspect resnet50.pth
  keras-torch-convert inspect timm:create_model zoo.resnet:ResNet50 --kwargs '{"model_name": "resnet50"}'
  keras-torch-convert convert model.py:torch_model model.py:keras_model -o model.h5
  keras-torch-convert COMMAND --help"""

# Arguments of the Python functions that no option has the name of.
NOT_OPTIONS = {"do_convert": "the command inspect", "if_different": "--keep-different of convert"}


class PipeClosedError(Exception):
    """Nobody reads standard output any more."""


@dataclass
class Session:
    """What the options before or behind a command say about the whole run."""

    traceback: bool = False
    command: click.Command | None = None


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""
    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. click itself would end with 1, a mismatch, when the reader of a pipe has
        seen enough.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise PipeClosedError from error
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
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
        """The names with one line each."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup,
             context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
             epilog=f"{EXAMPLES}\n\n{exit_codes.TABLE}")
@click.version_option(__version__, prog_name="keras-torch-convert")
@click.option("--traceback", "show_traceback", is_flag=True,
              help="Show where in the program an error was raised.")
@click.pass_obj
def group(session: Session, show_traceback: bool) -> None:
    """Pretrained PyTorch weights into Keras models: aligned, checked, proven equal.

    A model is named as package.module:callable or file.py:callable (called with --kwargs), a
    checkpoint by its path (.pt, .pth, .bin, .safetensors, .npz), a Keras model also by its file
    (.keras, .h5).
    """
    session.traceback = session.traceback or show_traceback


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    session = Session()
    try:
        result = group.main(args=arguments, prog_name="keras-torch-convert", obj=session,
                            standalone_mode=False)
    except click.Abort:
        print("interrupted; nothing is left half done", file=sys.stderr)
        return exit_codes.INTERRUPTED
    except PipeClosedError:
        # What is still buffered must not raise again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.PIPE_CLOSED
    except Exception as error:
        return told(error, session)
    return result if isinstance(result, int) else exit_codes.DONE


def told(error: Exception, session: Session) -> int:
    """Tell an error on stderr and give its exit code."""
    code = exit_codes.exit_code_of(error)
    if session.traceback:
        traceback.print_exception(error)
        return code
    if isinstance(error, click.UsageError):
        if error.ctx is not None:
            print(error.ctx.get_usage(), file=sys.stderr)
            print(f"Try '{error.ctx.command_path} --help'", file=sys.stderr)
        message = error.format_message()
    elif isinstance(error, click.ClickException):
        message = error.format_message()
    elif isinstance(error, (ConversionError, OSError)):
        message = f"{error}{options_meant(str(error), session.command)}"
    else:
        message = f"{type(error).__name__}: {error}; --traceback shows where"
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    print(f"error: {message}{notes}", file=sys.stderr)
    return code


def options_meant(message: str, command: click.Command | None) -> str:
    """Arguments of the Python functions that a message names, such as "skip_layers=", as what they
    are on the command line; "" when it names none.
    """
    written = {name: meant for name, meant in NOT_OPTIONS.items() if command is not None}
    for param in command.params if command is not None else ():
        if param.name is not None and isinstance(param, click.Option):
            written[param.name] = max(param.secondary_opts or param.opts, key=len)
    named = dict.fromkeys(re.findall(r"\b([a-z]+(?:_[a-z]+)*)=", message))
    meant = [f"{name} is {written[name]}" for name in named if name in written]
    return f"\non the command line {', '.join(meant)}" if meant else ""
