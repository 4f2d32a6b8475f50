"""Which entries of an array its regions cover, without an array of its size.

A region takes, along each axis, some entries, and all combinations of them. Entries that all
regions treat alike along an axis are one class; the classes' combinations are few, however large
the array, unless the regions are many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

# Along one axis: the first entry, and (count, step) of what counts from there on.
AxisEntries = tuple[int, tuple[tuple[int, int], ...]]

# Of more choices along one axis than this, each of which is looked for in all of it, every entry is
# a class of its own.
_MOST_CHOICES = 64


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many entries are covered at all, and whether some are covered by two regions."""

    covered: int
    twice: bool


def coverage(shape: tuple[int, ...], regions: Sequence[Sequence[AxisEntries]]) -> Coverage:
    """Return how regions cover an array of `shape`; each has its entries for every axis."""
    if not regions or 0 in shape:
        return Coverage(0, False)
    members: list[dict[AxisEntries, npt.NDArray[np.intp]]] = []
    sizes: list[npt.NDArray[np.intp]] = []
    for axis, extent in enumerate(shape):
        classes, found = _classes(extent, dict.fromkeys(region[axis] for region in regions))
        members.append(found)
        sizes.append(np.bincount(classes))
    used = np.zeros([len(one) for one in sizes], np.bool_)
    twice = False
    for region in regions:
        cells = np.ix_(*(found[entries] for found, entries in zip(members, region, strict=True)))
        twice = twice or bool(used[cells].any())
        used[cells] = True
    if used.all():
        return Coverage(prod(shape), twice)
    covered: npt.NDArray[np.intp] = used.astype(np.intp)
    for one in reversed(sizes):
        covered = covered @ one
    return Coverage(int(covered), twice)


def _classes(
    extent: int, different: dict[AxisEntries, None]
) -> tuple[npt.NDArray[np.intp], dict[AxisEntries, npt.NDArray[np.intp]]]:
    """Return the class of each entry of an axis, and for each of the `different` choices the
    classes that it takes.
    """
    chosen = {entries: _entries(entries) for entries in different}
    if len(chosen) > _MOST_CHOICES:
        return np.arange(extent), chosen
    classes = np.zeros(extent, np.intp)
    for taken in chosen.values():
        inside = np.zeros(extent, np.intp)
        inside[taken] = 1
        classes = np.unique(2 * classes + inside, return_inverse=True)[1].reshape(extent)
    return classes, {entries: np.unique(classes[taken]) for entries, taken in chosen.items()}


def _entries(entries: AxisEntries) -> npt.NDArray[np.intp]:
    start, counters = entries
    found = np.array([start], np.intp)
    for count, step in counters:
        found = (found[:, None] + step * np.arange(count)).reshape(-1)
    return found
