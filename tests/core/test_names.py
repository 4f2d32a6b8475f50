"""Assignment, name similarity and naming schemes in C against slow twins that say what they mean.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from math import log2

import numpy as np
import pytest

from keras_torch_convert import _core
from keras_torch_convert.alignment.static.naming import joined_lists


def cheapest(costs: np.ndarray, alone: Sequence[float]) -> float:
    """Least total over all ways to give rows different columns, infinite costs being none at all.
    """
    rows, columns = costs.shape
    totals = []
    for choice in itertools.product(range(-1, columns), repeat=rows):
        taken = [column for column in choice if column >= 0]
        if len(set(taken)) == len(taken):
            totals.append(
                sum(alone[row] if one < 0 else costs[row, one] for row, one in enumerate(choice)))
    return min(totals)


def assigned(costs: np.ndarray, alone: Sequence[float],
             limit: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    lists = joined_lists([np.flatnonzero(np.isfinite(row)).tolist() for row in costs])
    given = costs[np.isfinite(costs)].astype(np.float64)
    return _core.assign(lists.starts, lists.items, given, np.array(alone, np.float64),
                        costs.shape[1], limit)


def test_assignment_is_the_cheapest_of_all():
    random = np.random.default_rng(3)
    for _ in range(200):
        costs = random.uniform(0, 5, (random.integers(1, 5), random.integers(1, 5)))
        costs[random.random(costs.shape) < 0.3] = np.inf
        alone = random.uniform(0, 6, len(costs))

        chosen, margins = assigned(costs, alone)

        total = sum(alone[row] if one < 0 else costs[row, one] for row, one in enumerate(chosen))
        assert total == pytest.approx(cheapest(costs, alone))
        for row, one in enumerate(chosen):
            without, lonely = costs.copy(), alone.copy()
            if one < 0:
                lonely[row] = np.inf
            else:
                without[row, one] = np.inf
            assert margins[row] == pytest.approx(min(cheapest(without, lonely) - total, 100.0))


def test_a_row_without_columns_stays_alone_and_margins_end_at_the_limit():
    chosen, margins = assigned(np.array([[np.inf], [1.0]]), [2.0, 9.0], limit=3.0)

    assert chosen.tolist() == [-1, 0]
    assert margins.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(("change", "error", "words"),
                         [({"columns": np.array([5])}, ValueError, "existing columns"),
                          ({"costs": np.array([-1.0])}, ValueError, "not negative"),
                          ({"costs": np.array([np.nan])}, ValueError, "finite"),
                          ({"costs": np.array([1.0, 2.0])}, ValueError, "do not fit together"),
                          ({"starts": np.array([0, 2])}, ValueError, "number of items"),
                          ({"starts": np.array([0.0, 1.0])}, TypeError, "vector of int64"),
                          ({"alone": np.array([])}, ValueError, "do not fit together")])
def test_tables_that_are_none_are_refused(change, error, words):
    table = {
        "starts": np.array([0, 1]), "columns": np.array([0]), "costs": np.array([1.0]),
        "alone": np.array([1.0])
    } | change

    with pytest.raises(error, match=words):
        _core.assign(*table.values(), 1, 1.0)


def slow_similarity(first: Sequence[int], second: Sequence[int], weights: Sequence[float]) -> float:
    """Mean share of what two lists have in common in order and at all."""
    best = [[0.0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for one, two in itertools.product(range(len(first)), range(len(second))):
        same = best[one][two] + weights[first[one]] if first[one] == second[two] else 0.0
        best[one + 1][two + 1] = max(best[one][two + 1], best[one + 1][two], same)
    common = sum(
        weights[word] * count for word, count in (Counter(first) & Counter(second)).items())
    together = sum(weights[word] for word in (*first, *second))
    return (best[-1][-1] + common) / together if together else 0.0


def random_lists(random: np.random.Generator, count: int, kinds: int) -> list[list[int]]:
    return [random.integers(0, kinds, random.integers(0, 7)).tolist() for _ in range(count)]


def test_name_similarity_equals_its_slow_twin():
    random = np.random.default_rng(5)
    first, second = random_lists(random, 30, 6), random_lists(random, 20, 6)
    weights = random.uniform(0.1, 3, 6)
    ones, twos = (
        np.array(side) for side in zip(*itertools.product(range(30), range(20)), strict=True))
    one, two = joined_lists(first), joined_lists(second)

    found = _core.name_similarities(one.starts, one.items, two.starts, two.items, weights, ones,
                                    twos)

    expected = [
        slow_similarity(first[i], second[j], weights) for i, j in zip(ones, twos, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def slow_pattern(first: list[list[int]], second: list[list[int]], matched: list[int], one: int,
                 two: int) -> float:
    """How well two names follow the settled pairs that have neither of them."""
    others = [(i, j) for i, j in enumerate(matched) if j >= 0 and i != one and j != two]
    settled = sum(j >= 0 for j in matched)
    lefts = [sum(part in first[i] for i, _ in others) for part in range(9)]
    rights = [sum(part in second[j] for _, j in others) for part in range(9)]

    def together(left: int, right: int) -> float:
        both = sum(left in first[i] and right in second[j] for i, j in others)
        return 2 * both / (lefts[left] + rights[right]) * both / (both + 1)

    own_lefts = [part for part in first[one] if lefts[part]]
    own_rights = [part for part in second[two] if rights[part]]
    total = weights = 0.0
    for part in own_lefts:
        weight = log2(1 + settled / lefts[part])
        total += weight * max((together(part, right) for right in own_rights), default=0.0)
        weights += weight
    for part in own_rights:
        weight = log2(1 + settled / rights[part])
        total += weight * max((together(left, part) for left in own_lefts), default=0.0)
        weights += weight
    return total / weights if weights else -1.0


def test_naming_schemes_equal_their_slow_twin():
    random = np.random.default_rng(7)
    for _ in range(20):
        first = [sorted(set(parts)) for parts in random_lists(random, 12, 9)]
        second = [sorted(set(parts)) for parts in random_lists(random, 10, 9)]
        matched = np.full(12, -1)
        matched[random.permutation(12)[:6]] = random.permutation(10)[:6]
        ones, twos = (
            np.array(side) for side in zip(*itertools.product(range(12), range(10)), strict=True))
        one, two = joined_lists(first), joined_lists(second)

        found = _core.name_patterns(one.starts, one.items, two.starts, two.items, matched, ones,
                                    twos)

        expected = [
            slow_pattern(first, second, matched.tolist(), i, j)
            for i, j in zip(ones, twos, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_naming_schemes_refuse_matches_that_are_none():
    lists = joined_lists([[0], [1]])
    pair = np.array([0])
    for matched in ([0, 0], [2, -1], [-2, -1]):
        with pytest.raises(ValueError, match="each once"):
            _core.name_patterns(lists.starts, lists.items, lists.starts, lists.items,
                                np.array(matched), pair, pair)
    with pytest.raises(IndexError, match="names that do not exist"):
        _core.name_patterns(lists.starts, lists.items, lists.starts, lists.items, np.array([-1,
                                                                                            -1]),
                            np.array([2]), pair)
