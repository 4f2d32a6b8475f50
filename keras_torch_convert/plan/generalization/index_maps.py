"""Which number of a tensor's name follows from which number of the variable's name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .names import beginning

Numbers = tuple[int, ...]


class Index(NamedTuple):
    """(number of the target + offset) / stride; the offset alone where `hole` is None."""

    hole: int | None
    offset: int
    stride: int = 1


@dataclass(frozen=True, slots=True)
class IndexMap:
    """How one number of a tensor's name comes from the numbers of the variable's.

    Attributes:
        first: All that it may be. Empty when nothing holds in every instance.
        second: What it may be when nothing of the first is there.
        seen: Which values the number had.
    """

    first: tuple[Index, ...]
    second: tuple[Index, ...] = ()
    seen: tuple[int, ...] = ()


def value_of(index: Index, numbers: Numbers) -> int | None:
    """Return what an index is for a variable with these numbers, None when it is no number."""
    if index.hole is None:
        return index.offset
    value, rest = divmod(numbers[index.hole] + index.offset, index.stride)
    return value if value >= 0 and not rest else None


def fixed_index(value: int) -> Index:
    """Return the index that is always this value."""
    return Index(None, value)


def index_map(targets: Sequence[Numbers], values: Sequence[int], known: Iterable[Index] = (),
              most_strides: int = 1) -> IndexMap:
    """Find what gives the values for the variables with these numbers.

    Args:
        targets: The numbers of the variable, for each instance.
        values: The number of the tensor there.
        known: Indices that another weight of the same block proves.
        most_strides: How many patterns share a counter of the variable: two values make a stride
            up to this, three any.

    Returns:
        Sums that were seen with two values come first, then the constant, then other sums. In a
        place that was never seen, sums come before the constant.
    """
    sums = [
        one for hole in range(len(targets[0]))
        if (one := _sum(hole, targets, values, most_strides)) is not None
    ]
    proven = [one for one in sums if one in known or len({n[one.hole or 0] for n in targets}) > 1]
    weak = tuple(one for one in sums if one not in proven)
    unchanged = (fixed_index(values[0]),) if len(set(values)) == 1 else ()
    first: tuple[Index, ...] = tuple(proven) or unchanged or weak
    return IndexMap(first, () if proven or not unchanged else weak, tuple(sorted(set(values))))


def _sum(hole: int, targets: Sequence[Numbers], values: Sequence[int],
         most_strides: int) -> Index | None:
    """Return how one number of the target gives the values, None when it does not."""
    seen = {numbers[hole]: value for numbers, value in zip(targets, values, strict=True)}
    first, *others = sorted(seen.items())
    stride = 1
    if others:
        number, value = others[0]
        if value <= first[1]:
            return None
        stride, rest = divmod(number - first[0], value - first[1])
        if rest or (stride > most_strides and len(seen) < 3):
            return None
    found = Index(hole, stride * first[1] - first[0], stride)
    return found if stride and all(
        value_of(found, numbers) == value
        for numbers, value in zip(targets, values, strict=True)) else None


def proven_indices(target: str, tensor: str, targets: Sequence[Numbers], values: Sequence[Numbers],
                   most_strides: int) -> Iterable[tuple[str, str, Index]]:
    """Yield what the instances of a pattern prove about the block that it stands in: beginning of
    the target's form, beginning of the tensor's form, index.
    """
    for hole in range(len(values[0])):
        column = [numbers[hole] for numbers in values]
        for index in index_map(targets, column, (), most_strides).first:
            if index.hole is not None and len({numbers[index.hole] for numbers in targets}) > 1:
                yield beginning(target, index.hole + 1), beginning(tensor, hole + 1), index
