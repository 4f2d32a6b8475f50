"""Choices between units of equal input and shape, and the way back when one of them proves wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...spec.target import TargetLayer

# Choices that are taken back where a layer gets something that torch never computed.
MOST_PASSES_FOR_A_LINK = 12
# And in vain in a whole search: in models that differ in many places each would be.
MOST_PASSES_FOR_LINKS = 16


@dataclass(frozen=True, slots=True)
class BranchPoint:
    """A layer that could have been several units: the weights chosen, those of its rivals, and how
    many layers were settled by then.
    """

    display_name: str
    chosen: tuple[str, ...]
    alternatives: tuple[tuple[str, ...], ...]
    matched: int


def block_name(leaf: TargetLayer) -> str:
    """What a layer has in common with those at its place in other blocks: an automatic name says
    nothing of the place, the shapes do.
    """
    name = re.sub(r"\d+", "", leaf.display_name)
    if leaf.auto_name is None:
        return name
    return f"{name} {[variable.shape for variable in leaf.variables]}"


class Backtrack(BaseException):
    """A layer's input is nowhere in torch, or no unit on it is left that fits: an earlier choice
    was wrong. Not an Exception, which Keras 2 would swallow.
    """


def next_exclusions(
    choices: Sequence[BranchPoint],
    excluded: dict[str, set[tuple[str,
                                  ...]]]) -> tuple[dict[str, set[tuple[str, ...]]], int] | None:
    """The exclusions that take the last choice with a rival back, and the number of layers settled
    before it; None when there is none.

    Whatever comes behind it is open again, the layer at which nothing fitted too.
    """
    for position in range(len(choices) - 1, -1, -1):
        choice = choices[position]
        if choice.alternatives:
            standing = {other.display_name for other in choices[:position + 1]}
            kept = {
                display_name: set(names)
                for display_name, names in excluded.items() if display_name in standing
            }
            kept.setdefault(choice.display_name, set()).add(choice.chosen)
            return kept, choice.matched - 1
    return None
