"""Which torch layer belongs to which Keras layer: the cheapest assignment by names, naming scheme
and order, in rounds.

Each round settles the layers that no other choice comes near to. What is settled teaches the next
round: how the two sides name the same thing, and between which neighbors a layer stands.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ... import _core
from ..names import words_of
from .naming import Numbers, joined_lists, scheme_of, similarities
from .sides import Sides, spans

# What evidence counts, and what a layer costs that gets no partner: more than any partner that
# fits.
WEIGHT_OF_NAMES = 1.0
WEIGHT_OF_SCHEME = 1.5
WEIGHT_OF_ORDER = 0.7
WITHOUT_PARTNER = 6.0
# What a layer of the same rank among those of its kind counts, where both lists are in order.
WEIGHT_OF_RANK = 1.0
# Pairs with this margin are witnesses to whether they are, and so many of them must agree.
_WITNESS = 0.45
_IN_ORDER = 0.9
# A name that is so much more alike speaks against the order.
_SPEAKS = 0.3
# The order alone is worth this margin at most.
_MOST_BY_RANK = 1.0
# By how much the assignment must be better than any without a pair for the pair to teach the next
# round; the first one teaches nobody.
SETTLED_FROM = (5.5, 0.6, 0.45, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05)
# A position further away counts less by half for each two positions.
_HALF_OF_ORDER = 2.0
# Layers of larger groups are compared with this many positions around the expected one, and with
# those whose rare words they share.
MOST_CANDIDATES = 96
# A word that no more torch layers have than this is rare.
_RARE = 8
# Half of the order, for layers without a name of their own.
_SHARE_OF_GROUP = 0.5

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StaticMatch:
    """The torch layer found for a Keras layer, and the evidence.

    Args:
        position: Its position in the list of torch layers.
        margin: By how much the total cost grows without this pair.
        candidates: How many torch layers fit.
        names: How similar the names are, 0 to 1.
        scheme: How well the pair follows the naming of the other pairs, 0 to 1.
        order: How near it is to where the order lets expect it, 0 to 1.
    """

    position: int
    margin: float
    candidates: int
    names: float
    scheme: float
    order: float


def match(sides: Sides, sorted_by_name: bool = False) -> list[StaticMatch | None]:
    """Find the torch layer of each Keras layer, None for those that are left without.

    In a source that is sorted by name neighbors tell nothing; what is left of order is that of
    layers of one kind, which are numbered.
    """
    if not sides.layers or not sides.torch_layers:
        return [None] * len(sides.layers)
    keras, torch = sides.names, sides.torch_names
    expected = expected_ranks(sides)
    ranks = ranks_to_compare(sides, expected, keras, torch)
    lists = joined_lists([[sides.groups[group][rank] for rank in own]
                          for group, own in zip(sides.group_of, ranks, strict=True)])
    columns = lists.items
    rows = np.repeat(np.arange(len(keras)), np.diff(lists.starts))
    names = similarities(keras, torch, rows, columns)
    scheme = scheme_of(keras, torch)
    follows = np.full(len(columns), 0.5)
    apart = np.abs(joined_lists(ranks).items - expected[rows])
    order = order_in_group = nearness(apart)
    ordered, off_rank = np.zeros(len(keras), bool), np.zeros(len(columns))
    share = share_of_group(sides)[rows]
    standing = np.array(spans(sides), np.int64)
    alone = np.full(len(keras), WITHOUT_PARTNER)
    for least in SETTLED_FROM:
        costs = WEIGHT_OF_NAMES * (1 - names) + WEIGHT_OF_SCHEME * (
            1 - follows) + WEIGHT_OF_ORDER * (1 - order) + WEIGHT_OF_RANK * off_rank
        costs = np.maximum(costs, 0.0)
        chosen, margins = _core.assign(lists.starts, columns, costs, alone, len(torch),
                                       WITHOUT_PARTNER)
        if least != SETTLED_FROM[-1]:
            settled = np.where(margins >= least, chosen, -1)
            follows = scheme.follows(settled, rows, columns)
            if not sorted_by_name:
                near = among_neighbors(settled, rows, columns, standing, order)
                order = (1 - share) * near + share * order_in_group
                if least <= _WITNESS:
                    ordered = groups_in_order(sides, rows, apart < 0.5, names,
                                              (chosen[rows] == columns)
                                              & (margins[rows] >= _WITNESS))
                    off_rank = ordered[rows] & (apart >= 0.5)
    result: list[StaticMatch | None] = [None] * len(keras)
    for pair in np.flatnonzero(chosen[rows] == columns):
        row = int(rows[pair])
        margin = float(margins[row])
        if ordered[row]:
            # Two layers that change places both lose their ranks.
            margin = max(margin - 2 * WEIGHT_OF_RANK, min(margin, _MOST_BY_RANK))
        result[row] = StaticMatch(int(columns[pair]), margin,
                                  len(sides.groups[sides.group_of[row]]), float(names[pair]),
                                  float(follows[pair]), float(order[pair]))
    return result


def expected_ranks(sides: Sides) -> Numbers:
    """Return for each Keras layer the rank among its candidates that its own rank lets expect."""
    expected = np.zeros(len(sides.layers))
    for group, rows in _rows_of_groups(sides).items():
        expected[rows] = (np.arange(len(rows)) + 0.5) / len(rows) * len(sides.groups[group]) - 0.5
    return expected


def share_of_group(sides: Sides) -> Numbers:
    """Return how much the order among layers of one kind counts, beside that of the neighbors.

    It counts for layers without a name of their own, where there are as many torch layers of the
    kind as Keras layers: both lists may be in order there even when other kinds stand elsewhere, as
    the norms of torch's encoder layers do.
    """
    share = np.zeros(len(sides.layers))
    for group, rows in _rows_of_groups(sides).items():
        count = Counter(sides.names[row] for row in rows)
        if len(rows) == len(sides.groups[group]):
            share[rows] = [_SHARE_OF_GROUP * (count[sides.names[row]] > 1) for row in rows]
    return share


def groups_in_order(sides: Sides, rows: Numbers, at_rank: Flags, names: Numbers,
                    nearly_sure: Flags) -> Flags:
    """Return for each Keras layer whether those of its kind stand in the same order on both sides.

    That is so where there are as many torch layers of the kind, no name speaks for another rank,
    and the pairs that are nearly sure all have the same rank on both sides, as nearly all of other
    layers of the class have.
    """
    best, own = np.zeros(len(sides.layers)), np.zeros(len(sides.layers))
    np.maximum.at(best, rows, names)
    np.maximum.at(own, rows[at_rank], names[at_rank])
    groups = _rows_of_groups(sides)
    witnesses: dict[str, list[bool]] = defaultdict(list)
    elsewhere = {sides.group_of[row] for row in np.flatnonzero(best - own > _SPEAKS)}
    for row, same in zip(rows[nearly_sure], at_rank[nearly_sure], strict=True):
        if len(groups[sides.group_of[row]]) > 1:
            witnesses[sides.layers[row].class_name].append(bool(same))
        if not same:
            elsewhere.add(sides.group_of[row])
    in_order = np.zeros(len(sides.layers), bool)
    for group, members in groups.items():
        known = witnesses[sides.layers[members[0]].class_name] or [True]
        in_order[members] = (len(members) == len(sides.groups[group]) and group not in elsewhere
                             and sum(known) >= _IN_ORDER * len(known))
    return in_order


def _rows_of_groups(sides: Sides) -> dict[int, list[int]]:
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(sides.group_of):
        rows_of[group].append(row)
    return rows_of


def ranks_to_compare(sides: Sides, expected: Numbers, keras: Sequence[str],
                     torch: Sequence[str]) -> list[list[int]]:
    """Return for each Keras layer the ranks, in its group, of the torch layers to compare.

    In large groups these are the ones around the expected rank and those that share a rare word, so
    that the work does not grow with the square of the number of layers.
    """
    rare = {
        group: _ranks_by_rare_word([torch[position] for position in positions])
        for group, positions in enumerate(sides.groups) if len(positions) > MOST_CANDIDATES
    }
    return [
        _chosen_ranks(keras[row], float(expected[row]), len(sides.groups[group]), rare.get(group))
        for row, group in enumerate(sides.group_of)
    ]


def _ranks_by_rare_word(names: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for rank, name in enumerate(names):
        for word in set(words_of(name)):
            found[word].append(rank)
    return {word: ranks for word, ranks in found.items() if len(ranks) <= _RARE}


def _chosen_ranks(name: str, expected: float, count: int,
                  rare: dict[str, list[int]] | None) -> list[int]:
    if rare is None:
        return list(range(count))
    first = min(max(0, round(expected) - MOST_CANDIDATES // 2), count - MOST_CANDIDATES)
    around = range(first, first + MOST_CANDIDATES)
    return sorted({*around, *(rank for word in words_of(name) for rank in rare.get(word, ()))})


def nearness(apart: Numbers) -> Numbers:
    """Return 1 for the expected position, less by the positions in between."""
    return 1 / (1 + apart / _HALF_OF_ORDER)


def among_neighbors(settled: Numbers, rows: Numbers, columns: Numbers, standing: Numbers,
                    before: Numbers) -> Numbers:
    """Return how near each pair is to where the settled layers before and after let expect it.

    `standing` are the first and last position of each torch layer; one of several positions tells
    nothing about its neighbors. Where nothing is settled on either side it stays as it was before.
    """
    count = len(settled)
    positions = np.arange(count)
    known = (settled >= 0) & (standing[settled, 0] == standing[settled, 1])
    last = np.maximum.accumulate(np.where(known, positions, -1))
    following = np.minimum.accumulate(np.where(known, positions, count)[::-1])[::-1]
    earlier = np.concatenate([[-1], last[:-1]])[rows]
    later = np.concatenate([following[1:], [count]])[rows]
    total = np.zeros(len(rows))
    counts = np.zeros(len(rows))
    for neighbor, exists in ((earlier, earlier >= 0), (later, later < count)):
        near = np.where(exists, neighbor, 0)
        expected = settled[near] + rows - near
        apart = np.maximum(
            np.maximum(standing[columns, 0] - expected, expected - standing[columns, 1]), 0)
        total += np.where(exists, nearness(apart), 0.0)
        counts += exists
    return np.where(counts > 0, total / np.maximum(counts, 1), before)
