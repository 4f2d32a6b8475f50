"""Names of both sides as lists of numbers, the form in which the C kernels compare them."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import _core
from ..names import words_of

Numbers = npt.NDArray[Any]

_PIECES = re.compile(r"[^/._]+")
_MOST_BEGINNINGS = 8
_MOST_ENDINGS = 5
# A word that half of all names have tells little, one that few have much; above four bits it makes
# no difference any more.
_LEAST_WEIGHT = 0.2
_MOST_BITS = 4.0
_WEIGHT_OF_NUMBERS = 0.5
_RANK = "rank "


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of numbers one after the other: list i is `items[starts[i]:starts[i + 1]]`."""

    starts: Numbers
    items: Numbers


def joined_lists(lists: Sequence[Sequence[int]]) -> Lists:
    """Lists of any lengths as one vector of numbers."""
    starts = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(one) for one in lists], out=starts[1:])
    return Lists(starts, np.array([item for one in lists for item in one], np.int64))


def similarities(keras: Sequence[str], torch: Sequence[str], ones: Numbers,
                 twos: Numbers) -> Numbers:
    """How alike the names of each pair are, 0 to 1, by their words: rare words count most, numbers
    half.

    A number counts by its value and by its rank among those in the same place of other names, since
    one side may begin at 0 and the other at 1.
    """
    words = [_with_ranks([words_of(name) for name in names]) for names in (keras, torch)]
    numbers: dict[str, int] = {}
    for name in (*words[0], *words[1]):
        for word in name:
            numbers.setdefault(word, len(numbers))
    shares = [Counter(word for name in side for word in set(name)) for side in words]
    weights = np.array([
        _weight(word, shares[0][word] / len(keras), shares[1][word] / len(torch))
        for word in numbers
    ])
    first, second = (
        joined_lists([[numbers[word] for word in name] for name in side]) for side in words)
    return _core.name_similarities(first.starts, first.items, second.starts, second.items, weights,
                                   ones, twos)


def _with_ranks(names: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Each number followed by its rank: (block, 1) gives (block, 1, rank 0) when no other name has
    block 0.
    """
    found: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for name in names:
        for before, number in _numbers(name):
            found[before].add(number)
    rank = {
        before: {number: position for position, number in enumerate(sorted(numbers))}
        for before, numbers in found.items()
    }
    result = []
    for name in names:
        ranks = iter([rank[before][number] for before, number in _numbers(name)])
        result.append(
            tuple(part for word in name
                  for part in ((word, f"{_RANK}{next(ranks)}") if word.isdigit() else (word,))))
    return result


def _numbers(name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Each number of a name with the words before it, other numbers left blank."""
    for position, word in enumerate(name):
        if word.isdigit():
            yield tuple("" if before.isdigit() else before for before in name[:position]), int(word)


def _weight(word: str, keras_share: float, torch_share: float) -> float:
    bits = _LEAST_WEIGHT + min(_MOST_BITS, -math.log2(max(keras_share, torch_share)))
    return bits * _WEIGHT_OF_NUMBERS / 2 if word.isdigit() or word.startswith(_RANK) else bits


@dataclass(frozen=True, slots=True)
class Scheme:
    """Beginnings and endings of all names of both sides, numbered: what a naming scheme is learned
    on.
    """

    keras: tuple[Lists, Lists]
    torch: tuple[Lists, Lists]

    def follows(self, matched: Numbers, ones: Numbers, twos: Numbers) -> Numbers:
        """How well each pair follows the naming of the settled pairs `matched` (-1: not settled), 0
        to 1, 0.5 where these say nothing.
        """
        scores = np.stack([
            _core.name_patterns(first.starts, first.items, second.starts, second.items, matched,
                                ones, twos)
            for first, second in zip(self.keras, self.torch, strict=True)
        ])
        known = scores >= 0
        return np.where(known.any(axis=0),
                        (scores * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0.5)


def scheme_of(keras: Sequence[str], torch: Sequence[str]) -> Scheme:
    """The parts of all names: "a.0.conv" begins with a, a.0 and a.0.conv, and ends with a.0.conv,
    0.conv and conv.
    """
    return Scheme(_parts(keras), _parts(torch))


def _parts(names: Sequence[str]) -> tuple[Lists, Lists]:
    pieces = [tuple(_PIECES.findall(name)) for name in names]
    beginnings = [[name[:count] for count in range(1,
                                                   len(name) + 1)][:_MOST_BEGINNINGS]
                  for name in pieces]
    endings = [[name[start:] for start in range(len(name))][-_MOST_ENDINGS:] for name in pieces]
    return _numbered(beginnings), _numbered(endings)


def _numbered(parts: Sequence[Sequence[tuple[str, ...]]]) -> Lists:
    numbers: dict[tuple[str, ...], int] = {}
    return joined_lists([[numbers.setdefault(part, len(numbers)) for part in name] for name in parts
                        ])
