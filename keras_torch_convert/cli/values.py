"""Kinds of value that options take: JSON, and Python objects by their name."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from ..util.text import did_you_mean
from .exit_codes import InputError


class Json(click.ParamType):  # type: ignore[type-arg]
    """A value written as JSON, of one of some types; from a configuration file it comes as it is.
    """

    name = "JSON"

    def __init__(self, *kinds: type) -> None:
        self.class_names = kinds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; an error that shows where the JSON breaks off."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                self.fail(f"{value!r} is no JSON: {error}; an example is '{{\"attn_gamma\": -6}}'",
                          param, ctx)
        if not isinstance(value, self.class_names):
            expected = " or ".join(WORDS[kind] for kind in self.class_names)
            self.fail(f"expected {expected}, got {value!r}", param, ctx)
        return value


WORDS = {dict: "an object {...}", list: "a list [...]", int: "a whole number", str: "a text"}


class NamedObject(click.ParamType):  # type: ignore[type-arg]
    """The name of a Python object: package.module:object or file.py:object. It is imported when the
    command runs.
    """

    name = "MODULE:OBJECT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, as it is."""
        if not is_object_name(str(value)):
            self.fail(f"expected package.module:object or file.py:object, got {value!r}", param,
                      ctx)
        return str(value)


def is_object_name(text: str) -> bool:
    """True for "package.module:object" and "file.py:object", also with dots behind the colon."""
    module, colon, name = text.rpartition(":")
    if not colon or not all(part.isidentifier() for part in name.split(".")):
        return False
    return module.endswith(".py") or all(part.isidentifier() for part in module.split("."))


def imported(text: str) -> Any:
    """The object of that name. The current folder counts as a place of modules, as with `python
    -m`.
    """
    module_name, _, path = text.rpartition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = from_file(Path(module_name)) if module_name.endswith(
            ".py") else importlib.import_module(module_name)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            known = [name for name in dir(found) if not name.startswith("_")]
            raise InputError(f"{module_name} has no {path!r}{did_you_mean(part, known)}")
        found = getattr(found, part)
    return found


def from_file(path: Path) -> Any:
    """The module that a .py file makes; files beside it can be imported by it."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    name = path.stem
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path.resolve()):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
