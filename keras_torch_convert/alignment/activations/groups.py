"""The units that have one input in common, in order; of many, the likeliest for a layer without
looking at all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from ...running.torch_trace import TracedOp
from ..names import name_similarity, words_of

# Of more units than this on one input the likeliest are looked at first, some at a time.
MOST_UNITS = 48
UNITS_AT_ONCE = 8


class UnitGroup:
    """Units on one input. Those that have no free weight left are passed over quickly from then on.
    """
    def __init__(self, units: Iterable[TracedOp]) -> None:
        """Sort the units by the time at which they ran."""
        self.units = sorted(units, key=lambda unit: unit.order)
        self.orders = [unit.order for unit in self.units]
        # Where to go on from each place, to either side: at itself, or past units without free
        # weights.
        self.behind = list(range(len(self.units) + 1))
        self.before = list(range(len(self.units) + 1))
        self.by_word: dict[str, list[TracedOp]] = {}
        for unit in self.units if self.is_large else ():
            for word in dict.fromkeys(words_of(unit.names[0])):
                self.by_word.setdefault(word, []).append(unit)

    @property
    def is_large(self) -> bool:
        """True when there are more units than are looked at one by one."""
        return len(self.units) > MOST_UNITS

    def likeliest(self, display_name: str, near: int, is_free: Callable[[TracedOp],
                                                                        bool]) -> list[TracedOp]:
        """At most MOST_UNITS with free weights, all of a small group; the names most like the
        layer's first: those that share a rare word with it, and those that ran about `near`.
        """
        if not self.is_large:
            return self.units
        found = {id(unit): unit for unit in self._near(near, is_free)}
        for word in dict.fromkeys(words_of(display_name)):
            sharing = self.by_word.get(word, ())
            if len(sharing) <= MOST_UNITS:
                found |= {id(unit): unit for unit in sharing if is_free(unit)}
        ranked = sorted(
            found.values(), key=lambda unit:
            (-name_similarity(unit.names[0], display_name), abs(unit.order - near), unit.order))
        return ranked[:MOST_UNITS]

    def _near(self, near: int, is_free: Callable[[TracedOp], bool]) -> Iterator[TracedOp]:
        """Half of MOST_UNITS with free weights to either side of the time `near`."""
        start = bisect_left(self.orders, near)
        yield from islice(self._walk(self.behind, start, 0, 1, is_free), MOST_UNITS // 2)
        yield from islice(self._walk(self.before, start, -1, -1, is_free), MOST_UNITS // 2)

    def _walk(self, following: list[int], position: int, offset: int, step: int,
              is_free: Callable[[TracedOp], bool]) -> Iterator[TracedOp]:
        """Units with free weights from `position` on; the unit of position k is number k +
        `offset`, and the last position is the end.
        """
        while (position := _end_of(following, position)) != (len(self.units) if step > 0 else 0):
            if is_free(self.units[position + offset]):
                yield self.units[position + offset]
            else:
                following[position] = position + step
            position += step


def _end_of(following: list[int], position: int) -> int:
    """Where the way from `position` ends; what was walked leads there at once afterward."""
    end = position
    while following[end] != end:
        end = following[end]
    while following[position] != end:
        following[position], position = end, following[position]
    return end
