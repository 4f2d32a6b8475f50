"""One value of a plan file and where it stands, asked for what it must be: anything else is a
PlanError that says where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import PlanError
from ..util.text import shorten

_Choice = TypeVar("_Choice")


def entry_at(value: Any, where: str) -> Entry:
    """A value of the file under the name of its place."""
    return Entry(value, where)


@dataclass(frozen=True, slots=True)
class Entry:
    """A value as JSON gives it, and its place in the file in words ("assignments[3][1]")."""

    value: Any
    where: str

    def error(self, expected: str) -> PlanError:
        """The error for a value that is not what it must be."""
        return PlanError(f"{self.where}: expected {expected}, got {shorten(repr(self.value), 60)}; "
                         "the plan is damaged, save it again")

    def text(self) -> str:
        """The value as a text."""
        if not isinstance(self.value, str):
            raise self.error("a text")
        return self.value

    def truth(self) -> bool:
        """The value as true or false."""
        if not isinstance(self.value, bool):
            raise self.error("true or false")
        return self.value

    def whole(self, least: int = 0) -> int:
        """The value as an integer that is not smaller than `least`."""
        if type(self.value) is not int or self.value < least:
            raise self.error(f"a whole number from {least} on")
        return int(self.value)

    def number(self) -> float:
        """The value as a finite number."""
        if type(self.value) not in (int, float) or not math.isfinite(self.value):
            raise self.error("a number")
        return float(self.value)

    def shape(self) -> tuple[int, ...]:
        """The value as a list of extents."""
        return tuple(item.whole() for item in self.items())

    def items(self, least: int | None = None, most: int | None = None) -> list[Entry]:
        """The entries of a list, `least` to `most` of them (`most` None: exactly `least`; both
        None: any number).
        """
        if not isinstance(self.value, list):
            raise self.error("a list")
        most = least if most is None else most
        if least is not None and most is not None and not least <= len(self.value) <= most:
            count = f"{least}" if least == most else f"{least} to {most}"
            raise self.error(f"a list of {count} entries")
        return [Entry(value, f"{self.where}[{index}]") for index, value in enumerate(self.value)]

    def members(self, *known: str) -> dict[str, Entry]:
        """The members of an object; with `known` names only those may be there."""
        if not isinstance(self.value, dict) or (known and set(self.value) - set(known)):
            raise self.error(f"an object with {', '.join(known)} only" if known else "an object")
        return {name: Entry(value, f"{self.where}.{name}") for name, value in self.value.items()}

    def one_of(self, choices: Sequence[_Choice]) -> _Choice:
        """The entry of `choices` that the value is the number of."""
        number = self.whole()
        if number >= len(choices):
            raise self.error(f"a number below {len(choices)}")
        return choices[number]
