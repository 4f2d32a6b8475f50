"""The smallest classic dictionaries that reproduce an alignment, checked by playing them.

One stage can make every order: it goes through the Keras names and puts each into the list so far,
and a name that is moved only ever comes before some that are there already. So each name has
exactly one position at its turn, and the question is how to say all of them with few entries: by
tail where blocks repeat, for one stack alone, or by full name. What should go behind others moves
in a list that is reversed before and after.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from ..errors import AlignmentError
from .classic import align_names

Value = Union[int, str]

# A tail may begin behind this many parts of a name; negative counts from the end.
_SPLITS = (2, 1, 3, 4, 5, 6, -1, -2, -3)
# More stacks than this are names that repeat nothing; none of them gets a dictionary of its own.
_MOST_STACKS = 64


@dataclass(frozen=True, slots=True)
class Stage:
    """The arguments of one stage of moves."""

    tail_align_dict: Mapping[str, Any] = field(default_factory=dict)
    full_name_align_dict: Mapping[str, Value] = field(default_factory=dict)
    tail_split_position: int = 2

    @property
    def entries(self) -> int:
        """Number of entries of both dictionaries, those of each stack counted one by one."""
        tails = sum(
            len(value) if isinstance(value, Mapping) else 1
            for value in self.tail_align_dict.values())
        return tails + len(self.full_name_align_dict)


@dataclass(frozen=True, slots=True)
class Moves:
    """One stage of moves, or three with the first and the last reversing the list.

    `moved` is the least number of layers that have to move.
    """

    stages: tuple[Stage, ...] = (Stage(),)
    moved: int = 0

    @property
    def entries(self) -> int:
        """Number of entries in the dictionaries of all stages."""
        return sum(stage.entries for stage in self.stages)

    @property
    def is_short(self) -> bool:
        """True for at most three entries more than a quarter of the moved layers."""
        return self.entries <= self.moved / 4 + 3

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `align_layer_names_multi_stage`, lists for several stages."""
        names = ("tail_align_dict", "full_name_align_dict", "tail_split_position")
        if len(self.stages) == 1:
            return {name: getattr(self.stages[0], name) for name in names}
        return {name: [getattr(stage, name) for stage in self.stages] for name in names}


def smallest_moves(names: Sequence[str], wanted: Sequence[str]) -> Moves:
    """Find dictionaries with few entries that move names into another order.

    The result was played: `align_names` with it gives `wanted`.

    Raises:
        AlignmentError: The two do not hold the same names, each once.
    """
    if Counter(names) != Counter(wanted) or len(set(names)) != len(names):
        raise AlignmentError("an order of names must hold the very same names, each once")
    moved = fewest_moved(names, wanted)
    if not moved:
        return Moves()
    one = _smallest_stage(names, wanted)
    if one.entries <= 2:
        return Moves((one,), moved)
    # A name only moves toward the start. Where it should go behind others, it moves while the list
    # is reversed.
    turn = Stage({"": 0}, {}, max(name.count("_") for name in names) + 1)
    turned = Moves((turn, _smallest_stage(names[::-1], wanted[::-1]), turn), moved)
    return turned if turned.entries < one.entries and _gives(turned, names, wanted) else Moves(
        (one,), moved)


def fewest_moved(names: Sequence[str], wanted: Sequence[str]) -> int:
    """Return the number of names outside the longest run that already is in order."""
    rank = {name: position for position, name in enumerate(wanted)}
    ends: list[int] = []
    for name in names:
        position = bisect_left(ends, rank[name])
        ends[position:position + 1] = [rank[name]]
    return len(names) - len(ends)


def _smallest_stage(names: Sequence[str], wanted: Sequence[str]) -> Stage:
    positions = positions_at_turn(names, wanted)
    best: Stage | None = None
    for split in _SPLITS:
        stage = _stage(names, positions, split)
        if (best is None or stage.entries < best.entries) and _gives(Moves(
            (stage,)), names, wanted):
            best = stage
    if best is None:
        full = {
            name: _value(index, positions[index])
            for index, name in enumerate(names) if positions[index] != index
        }
        best = Stage({}, full)
        if not _gives(Moves((best,)), names, wanted):
            raise AlignmentError(
                "no dictionary was found that moves the names into the order that is wanted")
    return best


def positions_at_turn(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return where each name must be put at its turn.

    That is the number of names before it in the list that come before it in the wanted order too.
    """
    rank = {name: position for position, name in enumerate(wanted)}
    so_far: list[int] = []
    positions = []
    for name in names:
        positions.append(bisect_left(so_far, rank[name]))
        insort(so_far, rank[name])
    return positions


def _value(index: int, position: int) -> Value:
    """Return the entry that moves a name: an offset, or its own index for one that stays."""
    return position - index if position != index else index


def _gives(moves: Moves, names: Sequence[str], wanted: Sequence[str]) -> bool:
    try:
        aligned = align_names(names, **moves.arguments())
    except AlignmentError:
        return False
    return aligned.names == tuple(wanted) and not aligned.warnings


@dataclass(frozen=True, slots=True)
class _Tail:
    """The entries for the layers of one tail: one value or None, and full names for the rest."""

    value: Value | None
    full: Mapping[str, Value]

    @property
    def entries(self) -> int:
        return len(self.full) + (self.value is not None)


def _stage(names: Sequence[str], positions: Sequence[int], split: int) -> Stage:
    """Return the fewest entries for one split.

    Each tail stands by itself, for all stacks together or for each stack alone.
    """
    cut = [_cut(name, split) for name in names]
    stacks = list(dict.fromkeys(stack for stack, _, _ in cut))
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (stack, _, tail) in enumerate(cut):
        rows[stack, tail].append(row)
    tails = list(dict.fromkeys(tail for _, tail in rows))
    # A flat key that is also the name of a stack would be read as that stack's dictionary.
    forbidden = set(stacks)
    alone: set[str] = set()

    def flat_tails() -> dict[str, _Tail]:
        return {
            tail:
                _best_tail([
                    row for stack in stacks if stack not in alone
                    for row in rows.get((stack, tail), ())
                ], names, positions, cut, allowed=tail not in forbidden) for tail in tails
        }

    own = {
        stack: {
            tail: _best_tail(rows[stack, tail], names, positions, cut, allowed=True)
            for tail in tails if (stack, tail) in rows
        } for stack in stacks
    }
    flat = flat_tails()
    total = sum(one.entries for one in flat.values())
    for stack in stacks if len(stacks) <= _MOST_STACKS else ():
        alone.add(stack)
        changed = flat_tails()
        with_stack = sum(one.entries for one in changed.values()) + sum(
            max(1, sum(one.entries for one in own[other].values())) for other in alone)
        if with_stack < total:
            flat, total = changed, with_stack
        else:
            alone.discard(stack)
    return _as_stage(names, flat, {stack: own[stack] for stack in stacks if stack in alone}, split)


def _as_stage(names: Sequence[str], flat: Mapping[str, _Tail],
              own: Mapping[str, Mapping[str, _Tail]], split: int) -> Stage:
    """Return the stage of the entries for all stacks, and of those for some stacks alone."""
    full: dict[str, Value] = {}

    def tail_entries(tails: Mapping[str, _Tail]) -> dict[str, Any]:
        for one in tails.values():
            full.update(one.full)
        return {tail: one.value for tail, one in tails.items() if one.value is not None}

    tail_dict = tail_entries(flat) | {stack: tail_entries(tails) for stack, tails in own.items()}
    return Stage(tail_dict, {name: full[name] for name in names if name in full}, split)


def _cut(name: str, split: int) -> tuple[str, str, str]:
    """Return stack, head and tail of a name, as the classic functions cut it."""
    parts = name.split("_")
    return parts[0], "_".join(parts[:split]), "_".join(parts[split:])


def _best_tail(rows: Sequence[int], names: Sequence[str], positions: Sequence[int],
               cut: Sequence[tuple[str, str, str]], *, allowed: bool) -> _Tail:
    """Return full names for all that move, or one value and full names for the rest."""
    moving = [row for row in rows if positions[row] != row]
    plain = _Tail(None, {names[row]: _value(row, positions[row]) for row in moving})
    counts: Counter[Value] = Counter()
    for row in rows:
        counts.update(_values(row, positions[row], cut))
    if not counts or not allowed or len(plain.full) < 2:
        return plain
    value, _ = max(counts.items(), key=lambda item: (item[1], isinstance(item[0], int)))
    rest = {
        names[row]: _value(row, positions[row])
        for row in rows if value not in _values(row, positions[row], cut)
    }
    said = _Tail(value, rest)
    return said if said.entries < plain.entries else plain


def _values(row: int, position: int, cut: Sequence[tuple[str, str, str]]) -> list[Value]:
    """Return the values by tail that move a layer there: the offset, or a sibling's name."""
    found: list[Value] = [position - row] if position < row else []
    sibling = cut[position]
    if sibling[1] == cut[row][1]:
        found.append(sibling[2])
    return found
