"""Values of a plan file, each asked for what it must be: anything else is a PlanError that says
where it stands.

The place is known only when there is an error: `part` and `each` add their step to it as the error
passes through.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import PlanError
from ..util.text import shorten

_Item = TypeVar("_Item")
# What C and NumPy can count, and how many axes NumPy has.
_LARGEST = 2**63 - 1
_MOST_AXES = 64


class UnexpectedError(Exception):
    """A value that is not what it must be; `keys` lead to it from the outside in."""
    def __init__(self, expected: str, value: object) -> None:
        super().__init__(expected)
        self.expected, self.value = expected, value
        self.keys: list[int | str] = []

    def as_plan_error(self, kind: str = "plan") -> PlanError:
        """Return the error for the user; `kind` is what the file holds."""
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)
        found = shorten(reprlib.repr(self.value), 60)
        return PlanError(f"{where.removeprefix('.')}: expected {self.expected}, got {found}; the "
                         f"{kind} is damaged, save it again")


def part(values: Any, key: int | str, read: Callable[[Any], _Item]) -> _Item:
    """Read one entry of a list or one member of an object."""
    try:
        return read(values[key])
    except UnexpectedError as error:
        error.keys.insert(0, key)
        raise


def each(value: Any, read: Callable[[Any], _Item]) -> list[_Item]:
    """Read all entries of a list."""
    found: list[_Item] = []
    for item in items(value):
        try:
            found.append(read(item))
        except UnexpectedError as error:
            error.keys.insert(0, len(found))
            raise
    return found


def items(value: Any, least: int = 0, most: int | None = None) -> list[Any]:
    """Return a list, of `least` to `most` entries."""
    if type(value) is not list:
        raise UnexpectedError("a list", value)
    if len(value) < least or (most is not None and len(value) > most):
        count = f"{least}" if least == most else f"{least} to {most}"
        raise UnexpectedError(f"a list of {count} entries", value)
    return value


def members(value: Any, *known: str, complete: bool = False) -> dict[str, Any]:
    """Return an object with no members but `known`, and all of them when it is to be `complete`."""
    if type(value) is not dict or value.keys() - known or (complete and len(value) != len(known)):
        raise UnexpectedError(f"an object with {', '.join(known)}{'' if complete else ' only'}",
                              value)
    return value


def text(value: Any) -> str:
    """Return a text."""
    if type(value) is not str:
        raise UnexpectedError("a text", value)
    return value


def truth(value: Any) -> bool:
    """Return true or false."""
    if type(value) is not bool:
        raise UnexpectedError("true or false", value)
    return value


def whole(value: Any, least: int = 0, most: int = _LARGEST) -> int:
    """Return an integer from `least` to `most`."""
    if type(value) is not int or value < least:
        raise UnexpectedError(f"a whole number from {least} on", value)
    if value > most:
        raise UnexpectedError(f"a number up to {most}", value)
    return value


def positive(value: Any) -> int:
    """Return an integer from 1 on."""
    return whole(value, 1)


def number(value: Any) -> float:
    """Return a finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise UnexpectedError("a number", value)
    return float(value)


def shape(value: Any) -> tuple[int, ...]:
    """Return a list of extents."""
    return tuple(each(items(value, 0, _MOST_AXES), whole))


def one_of(value: Any, choices: Sequence[_Item]) -> _Item:
    """Return the entry of `choices` with this number."""
    index = whole(value)
    if index >= len(choices):
        raise UnexpectedError(f"a number below {len(choices)}", value)
    return choices[index]
