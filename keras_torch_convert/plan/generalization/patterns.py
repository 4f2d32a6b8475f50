"""What a family knows: patterns of assignments, and what is left out or kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...spec.tensor_spec import Shape
from ..expressions import Expression
from .index_maps import IndexMap, Numbers, value_of
from .names import HOLE
from .sizes import Fitting, Formula, KnownExtents, Wanted, leaves, repetitions
from .stored_paths import StoredForm

# Tensors by the form of their names and its numbers.
ByForm = Mapping[str, Mapping[Numbers, str]]
# For each leaf of a pattern its tensor, or all that it is repeated for.
Groups = Sequence[tuple[str, ...]]


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
        extents: For each axis of the variable the extents of tensors that it always equals; () for
            a pattern without sizes, whose result has its shape from the tensors alone.
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
    extents: tuple[tuple[Formula, ...], ...] = ()

    def forms(self) -> list[str]:
        """Return the forms of the tensors' names, one for each leaf of the expression."""
        return [leaf.name for leaf in leaves(self.expression)]

    def wanted(self, groups: Groups, shapes: Mapping[str, Shape]) -> Wanted:
        """Return what follows from the tensors for the variable's shape."""
        known = KnownExtents((), tuple(shapes[group[0]] for group in groups))
        found = [{known.value(one) for one in axis} for axis in self.extents]
        return [one.pop() if len(one) == 1 else None for one in found] if found else None

    def expressions(self, groups: Groups, shapes: Mapping[str, Shape],
                    wanted: Wanted) -> list[Expression]:
        """Return all expressions that fit tensors and a variable's shape, none twice.

        Args:
            groups: For each leaf its tensor, or all that it is repeated for.
            shapes: The shapes of tensors.
            wanted: The shape, as far as it is known.
        """
        known = KnownExtents(tuple(extent or 0 for extent in wanted or ()),
                             tuple(shapes[group[0]] for group in groups))
        fitting = Fitting(
            groups, shapes, wanted, lambda slot, around: list(
                dict.fromkeys(value for formula in self.sizes.get(slot, ())
                              if (value := around.value(formula)) is not None)), known)
        try:
            return fitting.expressions(self.expression)
        except IndexError:
            # Repeated tensors of unequal number.
            return []

    def tensors(self, numbers: Numbers, by_form: ByForm) -> Groups | None:
        """Return the tensors of each leaf for the variable with these numbers, None when one is
        not there.
        """
        groups = []
        for form, hole, maps in zip(self.forms(), repetitions(self.expression), self.indices,
                                    strict=True):
            values = (value_of(one.first[0], numbers) for one in maps if one.first)
            own = tuple(value for value in values if value is not None)
            if len(own) < len(maps):
                return None
            groups.append(tensors_at(by_form, form, own, hole))
        return groups if all(groups) else None

    def target_numbers(self, leaf: int, own: Numbers) -> Numbers | None:
        """Return the numbers of the variable that takes the tensor with these, None for none."""
        found = list(self.numbers or [None] * self.target.count(HOLE))
        for one, number in zip(self.indices[leaf], own, strict=True):
            for index in one.first[:1]:
                if index.hole is not None:
                    found[index.hole] = number * index.stride - index.offset
        numbers = tuple(number for number in found if number is not None and number >= 0)
        return numbers if len(numbers) == len(found) else None


def tensors_at(by_form: ByForm, form: str, numbers: Numbers, hole: int | None) -> tuple[str, ...]:
    """Return the tensor with these numbers, or all from it on that are counted by one of them."""
    found, group = by_form.get(form, {}), []
    while numbers in found:
        group.append(found[numbers])
        if hole is None:
            break
        numbers = (*numbers[:hole], numbers[hole] + 1, *numbers[hole + 1:])
    return tuple(group)


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
        files: Where variables lie in .weights.h5 files, () where that is not known.
    """

    patterns: tuple[Pattern, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    constants: tuple[ConstantPattern, ...] = ()
    uses: Mapping[str, int] = field(default_factory=dict)
    unused: Mapping[str, int] = field(default_factory=dict)
    learned: tuple[str, ...] = ()
    files: tuple[StoredForm, ...] = ()
