"""Options from a TOML file: what stands in it counts as if it had been given on the command line,
which goes first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..util.text import did_you_mean
from .exit_codes import InputError

Function = TypeVar("Function", bound=Callable[..., Any])


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error


def take_over(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Make the file's entries the defaults of this run. A key is an option's long name, with "-" or
    "_", or an argument's name.
    """
    if path is None:
        return
    known = {key_of(one): one for one in ctx.command.params if one.name not in (None, "config")}
    settings: dict[str, Any] = {}
    for key, value in read_toml(path).items():
        one = known.get(key.replace("-", "_").lower())
        if one is None or one.name is None:
            raise click.BadParameter(
                f"{path}: '{ctx.command.name}' has no option {key!r}{did_you_mean(key, known)}",
                ctx, param)
        settings[one.name] = [
            value
        ] if getattr(one, "multiple", False) and not isinstance(value, list) else value
    ctx.default_map = {**(ctx.default_map or {}), **settings}


def key_of(param: click.Parameter) -> str:
    """The name of an option or argument in the file."""
    if isinstance(param, click.Option):
        return max(param.opts, key=len).lstrip("-").replace("-", "_")
    return str(param.name)


def config_option(function: Function) -> Function:
    """The option --config."""
    decorated: Function = click.option(
        "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), is_eager=True,
        expose_value=False, callback=take_over,
        help="A TOML file with any of these options and arguments; what is given here goes first.")(
            function)
    return decorated
