"""Types of value that options take: JSON, and Python objects by their name."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from ..util.text import did_you_mean, shorten
from .main import InputError
from .zoos import ZOOS

_JSON_TYPES = {
    dict: "an object {...}", list: "a list [...]", int: "a whole number", str: "a string",
    bool: "true or false", float: "a number"
}


class Json(click.ParamType):  # type: ignore[type-arg]
    """A value written as JSON, of one of some types; from a TOML file it comes as it is."""

    name = "JSON"

    def __init__(self, *types: type, inner: Any = None) -> None:
        """`inner` is the type of each value in an object."""
        self.types, self.inner = types, inner

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value, or fail and show where the JSON breaks off."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                self.fail(
                    f"{shorten(repr(value), 100)} is not valid JSON: {error}; an example is "
                    "'{\"attn_gamma\": -6}'", param, ctx)
        if not isinstance(value, self.types):
            expected = " or ".join(_JSON_TYPES[one] for one in self.types)
            self.fail(f"expected {expected}, got {shorten(repr(value), 100)}", param, ctx)
        if self.inner is not None:
            named: Any = value
            return {key: self.inner.convert(one, param, ctx) for key, one in named.items()}
        return value


def check_setting(param: click.Parameter, value: Any) -> Any:
    """Return a value of a TOML file as its option takes it.

    Raises ValueError, which says what is expected, for one of another type: click itself takes only
    texts to be anything.
    """
    count = 1 if param.nargs == 1 else param.nargs
    if getattr(param, "multiple", False) or count != 1:
        values = value if isinstance(value, list) else [value]
        if count > 1 and len(values) != count:
            raise ValueError(f"expected a list of {count} values, got {shorten(repr(value), 100)}")
        return [_checked(param.type, one, False) for one in values]
    return _checked(param.type, value, getattr(param, "is_flag", False))


def _checked(kind: Any, value: Any, is_flag: bool) -> Any:
    if isinstance(kind, click.Choice) and isinstance(value, bool):
        return str(value).lower()
    types: tuple[type, ...] = (str,)
    if isinstance(kind, Json):
        types = (*kind.types, str)
    elif is_flag or isinstance(kind, click.types.BoolParamType):
        types = (bool,)
    elif isinstance(kind, click.types.IntParamType):
        types = (int,)
    elif isinstance(kind, click.types.FloatParamType):
        types = (int, float)
    # True is a number to Python only.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ValueError(f"expected {' or '.join(_JSON_TYPES[one] for one in types)}, got "
                         f"{shorten(repr(value), 100)}")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("expected a text without null characters")
    return value


class Finite(click.FloatRange):
    """A number in a range, which is neither infinite nor undefined."""
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail."""
        number: Any = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is no finite number", param, ctx)
        return number


class NamedObject(click.ParamType):  # type: ignore[type-arg]
    """The name of a Python object: package.module:object or file.py:object.

    It is imported when the command runs, once Keras's backend is chosen.
    """

    name = "MODULE:OBJECT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name as it is."""
        if not is_object_name(str(value)):
            self.fail(
                "expected package.module:object or file.py:object, got "
                f"{shorten(repr(value), 100)}", param, ctx)
        return str(value)


def is_object_name(text: str) -> bool:
    """Return True for "package.module:object" and "file.py:object", also with dots in the object.
    """
    module, colon, name = text.rpartition(":")
    if not colon or not all(part.isidentifier() for part in name.split(".")):
        return False
    return module.endswith(".py") or all(part.isidentifier() for part in module.split("."))


def imported(text: str) -> Any:
    """Import the object of that name; modules are also looked for in the current folder."""
    module_name, _, path = text.rpartition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    from_file = module_name.endswith(".py")
    try:
        found: Any = _module_in(
            Path(module_name)) if from_file else importlib.import_module(module_name)
    except InputError:
        raise
    except Exception as error:
        hint = did_you_mean(module_name, ZOOS) if isinstance(error, ModuleNotFoundError) else ""
        raise InputError(
            f"{module_name} cannot be imported: {type(error).__name__}: {error}{hint}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            known = [name for name in dir(found) if not name.startswith("_")]
            raise InputError(f"{module_name} has no {path!r}{did_you_mean(part, known)}")
        found = getattr(found, part)
    return found


def _module_in(path: Path) -> ModuleType:
    """Return the module that a .py file makes; it can import the files beside it."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    name, path = path.stem, path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
