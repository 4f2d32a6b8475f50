"""What a family knows: patterns of assignments, and what is left out or kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..expressions import Expression
from .index_maps import IndexMap
from .sizes import Formula, leaves


@dataclass(frozen=True, slots=True)
class Condition:
    """What tells a pattern from others of the same variable.

    Attributes:
        holes: The block that is looked at: the variable's name through so many holes.
        present: Variables of which one stands in the block.
        absent: Variables that do not.
        numbers: What the last of these holes may be; nothing is said about a number that is not
            among `others`.
        others: What it is in the other patterns.
    """

    holes: int
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pattern:
    """One assignment for every block.

    Attributes:
        target: The form of the variable's name.
        expression: What is done, with forms for names and zeros for sizes.
        indices: For each tensor in the expression the map of each number of its name.
        sizes: By number of a size that does not follow from shapes, what it may be.
        rule: Which convention applies, in words.
        doubt: What names and shapes cannot prove about it, "" for nothing.
        note: What the report should say besides, "" for nothing.
        ordered: Whether variables and tensors stood in the same order.
        conditions: What tells it from other patterns of the variable, the most telling first.
        count: How often it was seen.
        numbers: Numbers of the variable that no tensor follows from and that were always the same;
            () for none.
    """

    target: str
    expression: Expression
    indices: tuple[tuple[IndexMap, ...], ...]
    sizes: Mapping[int, tuple[Formula, ...]]
    rule: str
    doubt: str = ""
    note: str = ""
    ordered: bool = True
    conditions: tuple[Condition, ...] = ()
    count: int = 1
    numbers: tuple[int | None, ...] = ()

    def forms(self) -> list[str]:
        """Return the forms of the tensors' names, one for each leaf of the expression."""
        return [leaf.name for leaf in leaves(self.expression)]


@dataclass(frozen=True, slots=True)
class ConstantPattern:
    """Tensors that may be left out because all of their values are equal."""

    tensor: str
    value: float
    rule: str


@dataclass(frozen=True, slots=True)
class Family:
    """What holds for all members of an architecture. See `FamilyPlan` for what can be done with it.

    Attributes:
        patterns: Patterns by the form of the variable's name, in the order of the learned model.
        dropped: Forms of names of tensors that are left out, with the rule.
        kept: Forms of names of variables that keep their values, with the rule.
        constants: Tensors that are left out when all of their values are equal.
        uses: By how many variables a tensor is used, by its form, where it is more than one.
        unused: How many rows of a tensor are used by none, by its form, where it is not zero.
        learned: What it was learned from, in words.
    """

    patterns: tuple[Pattern, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    constants: tuple[ConstantPattern, ...] = ()
    uses: Mapping[str, int] = field(default_factory=dict)
    unused: Mapping[str, int] = field(default_factory=dict)
    learned: tuple[str, ...] = ()
