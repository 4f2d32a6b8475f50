"""Sizes inside of expressions: most follow from the shapes around them, the rest from formulas that
held wherever the pattern was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Union

from ...spec.tensor_spec import Shape
from ..expressions import (Add, Concat, Expression, Fill, Overlay, Permute, Reshape, Scale, Slice,
                           SliceScatter, Tensor, Unrepeated)

Wanted = Union[Sequence[Union[int, None]], None]
# Which fields of a step are sizes; all others belong to the pattern.
_SIZES = {
    Reshape: ("shape", ), Fill: ("shape", ), Unrepeated: ("shape", ), Slice: ("start", "stop"),
    SliceScatter: ("start", "extent")
}  # yapf: disable
_MOST_PARTS = 16
# No expression has so many places for one tensor's slices.
_MOST_CANDIDATES = 64


@dataclass(frozen=True, slots=True)
class Repeated(Expression):
    """Operands of a concatenation that differ in one number alone: experts of a layer.

    Hole number `hole` of the form of each tensor inside counts them.
    """

    NAME = "repeated"
    operand: Expression
    hole: int

    def result_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Raise ValueError."""
        raise ValueError("repeated operands stand in families alone, not in plans")


def simplified(expression: Expression, shape_of: Callable[[Expression], Shape]) -> Expression:
    """Return the same values without steps that move nothing."""
    made = expression.with_children(lambda child: simplified(child, shape_of))
    match made:
        case Permute(Permute(inner, first), second):
            made = Permute(inner, tuple(first[axis] for axis in second))
        case Reshape(Reshape(inner, _), shape):
            made = Reshape(inner, shape)
    match made:
        case Permute(inner, perm) if perm == tuple(range(len(perm))):
            return inner
        case Reshape(inner, shape) if shape_of(inner) == shape:
            return inner
        case Slice(inner, axis, 0, stop) if shape_of(inner)[axis] == stop:
            return inner
    return made


def without_sizes(expression: Expression) -> Expression:
    """Return the pattern of an expression: every size is zero."""
    blank: dict[str, Any] = {}
    for name in _SIZES.get(type(expression), ()):
        value = getattr(expression, name)
        blank[name] = (0,) * len(value) if isinstance(value, tuple) else 0
    node: Any = expression.with_children(without_sizes)
    made: Expression = replace(node, **blank) if blank else node
    return made


def leaves(pattern: Expression) -> Iterator[Tensor]:
    """Yield the tensors of a pattern in order, each place once."""
    if isinstance(pattern, Tensor):
        yield pattern
    for child in pattern.children():
        yield from leaves(child)


def repetitions(pattern: Expression, hole: int | None = None) -> Iterator[int | None]:
    """Yield for each leaf the hole that counts its tensors, None where there is one."""
    if isinstance(pattern, Tensor):
        yield hole
    for child in pattern.children():
        inner = child.hole if isinstance(child, Repeated) else hole
        yield from repetitions(child, inner)


# A size: what it is made of, as it stands in a file, such as ("t", 1): extent of axis 1 of the
# target.
Formula = tuple[Union[str, int], ...]


@dataclass(frozen=True, slots=True)
class KnownExtents:
    """What a size can be made of: the extents of the variable and of the tensors; of a slice the
    extent that it has and that of what it is taken from.
    """

    target: Shape
    sources: tuple[Shape, ...]
    own: int | None = None
    whole: int | None = None

    def extents(self) -> Iterator[tuple[Formula, int]]:
        """Yield each extent with its formula."""
        yield from ((("t", axis), extent) for axis, extent in enumerate(self.target))
        for leaf, shape in enumerate(self.sources):
            yield from ((("s", leaf, axis), extent) for axis, extent in enumerate(shape))

    def formulas(self) -> Iterator[tuple[int, Formula, int]]:
        """Yield rank, formula and value; the constant, rank 2, is not among them."""
        extents = list(self.extents())
        yield from ((1, formula, extent) for formula, extent in extents)
        if self.own is not None:
            for factor in range(_MOST_PARTS):
                yield 1, ("own", factor), factor * self.own
                if self.whole is not None and factor:
                    yield 1, ("end", factor), self.whole - factor * self.own
        for index, (first, one) in enumerate(extents):
            for second, other in extents[index:]:
                yield 3, ("*", *first, ":", *second), one * other
                yield 3, ("+", *first, ":", *second), one + other
            for second, other in extents:
                if other and one % other == 0:
                    yield 3, ("/", *first, ":", *second), one // other
                if one > other:
                    yield 3, ("-", *first, ":", *second), one - other

    def value(self, formula: Formula) -> int | None:
        """Return what a formula gives here, None for nothing."""
        if formula[0] == "=":
            return int(formula[1])
        return next((value for _, one, value in self.formulas() if one == formula), None)


def common_formulas(seen: Sequence[tuple[KnownExtents, int]]) -> tuple[Formula, ...]:
    """Return all formulas of the best rank that give the size in every instance; () for none."""
    ranks: dict[Formula, int] | None = None
    for surroundings, size in seen:
        fitting = {
            formula: rank for rank, formula, value in surroundings.formulas() if value == size
        }
        ranks = fitting if ranks is None else {
            formula: rank for formula, rank in ranks.items() if formula in fitting
        }
    ranks = ranks or {}
    sizes = {size for _, size in seen}
    if len(sizes) == 1:
        ranks["=", sizes.pop()] = 2
    best = min(ranks.values(), default=0)
    return tuple(sorted((one for one, rank in ranks.items() if rank == best), key=str))


class MisfitError(Exception):
    """A pattern does not fit these shapes."""


# Gives the candidates for one size: its number, counted from the first of the pattern on, and what
# it can be made of.
Choose = Callable[[int, KnownExtents], Sequence[int]]


@dataclass(slots=True)
class Fitting:
    """A pattern put onto tensors and a variable.

    Args:
        names: The tensors for each leaf of the pattern, several where it is repeated.
        shapes: Their shapes.
        target: The variable's shape, as far as it is known.
        choose: Gives sizes that do not follow from the shapes.
    """

    names: Sequence[Sequence[str]]
    shapes: Mapping[str, Shape]
    target: Wanted
    choose: Choose
    around: KnownExtents

    def expressions(self, pattern: Expression) -> list[Expression]:
        """Return all expressions that fit, none twice."""
        found: dict[Expression, None] = {}
        try:
            size = None if self.target is None or None in self.target else prod(
                extent for extent in self.target if extent is not None)
            for expression, shape in self._build(pattern, self.target, size, 0, 0, 0):
                if _fits(shape, self.target):
                    found[expression] = None
                if len(found) == _MOST_CANDIDATES:
                    break
        except (MisfitError, ValueError):
            pass
        return list(found)

    def _build(self, pattern: Expression, wanted: Wanted, size: int | None, leaf: int, slot: int,
               index: int) -> Iterator[tuple[Expression, Shape]]:
        """Yield expressions with their shapes.

        `wanted` are the extents that are known beforehand, `size` their product; `leaf` and `slot`
        number the first tensor and the first size of the pattern; `index` says which of repeated
        operands it is.
        """
        match pattern:
            case Tensor():
                name = self.names[leaf][index]
                shape = self.shapes[name]
                if _fits(shape, wanted):
                    yield Tensor(name), shape
            case Permute(inner, perm):
                below = None
                if wanted is not None and len(wanted) == len(perm):
                    below = [wanted[perm.index(axis)] for axis in range(len(perm))]
                for one, shape in self._build(inner, below, size, leaf, slot, index):
                    if len(shape) == len(perm):
                        yield Permute(one, perm), tuple(shape[axis] for axis in perm)
            case Reshape(inner, blank):
                yield from self._reshaped(inner, len(blank), wanted, size, leaf, slot, index)
            case Slice(inner, axis):
                yield from self._sliced(inner, axis, wanted, size, leaf, slot, index)
            case Fill(value, blank):
                for shape in self._shapes(len(blank), wanted, slot, size):
                    yield Fill(value, shape), shape
            case SliceScatter(inner, axis):
                yield from self._scattered(inner, axis, wanted, leaf, slot, index)
            case _:
                yield from self._others(pattern, wanted, leaf, slot, index)

    def _reshaped(self, inner: Expression, count: int, wanted: Wanted, size: int | None, leaf: int,
                  slot: int, index: int) -> Iterator[tuple[Expression, Shape]]:
        for one, shape in self._build(inner, None, size, leaf, slot + count, index):
            for new in self._shapes(count, wanted, slot, prod(shape)):
                yield Reshape(one, new), new

    def _sliced(self, inner: Expression, axis: int, wanted: Wanted, size: int | None, leaf: int,
                slot: int, index: int) -> Iterator[tuple[Expression, Shape]]:
        below = None if wanted is None else [*wanted[:axis], None, *wanted[axis + 1:]]
        for one, shape in self._build(inner, below, None, leaf, slot + 2, index):
            if axis >= len(shape):
                continue
            own = wanted[axis] if wanted is not None and axis < len(wanted) else None
            row = prod(shape) // max(shape[axis], 1)
            if own is None and size is not None and row and size % row == 0:
                own = size // row
            around = replace(self.around, own=own, whole=shape[axis])
            for start in self.choose(slot, around):
                stops = [start + own] if own is not None else self.choose(slot + 1, around)
                for stop in stops:
                    if 0 <= start < stop <= shape[axis]:
                        yield Slice(one, axis, start,
                                    stop), (*shape[:axis], stop - start, *shape[axis + 1:])

    def _scattered(self, inner: Expression, axis: int, wanted: Wanted, leaf: int, slot: int,
                   index: int) -> Iterator[tuple[Expression, Shape]]:
        extent = wanted[axis] if wanted is not None and axis < len(wanted) else None
        below = None if wanted is None else [*wanted[:axis], None, *wanted[axis + 1:]]
        for one, shape in self._build(inner, below, None, leaf, slot + 2, index):
            around = replace(self.around, own=shape[axis], whole=extent)
            for whole in [extent] if extent is not None else self.choose(slot + 1, around):
                for start in self.choose(slot, around):
                    if 0 <= start <= whole - shape[axis]:
                        yield SliceScatter(one, axis, start,
                                           whole), (*shape[:axis], whole, *shape[axis + 1:])

    def _shapes(self, count: int, wanted: Wanted, slot: int, size: int | None) -> Iterator[Shape]:
        """Yield the shapes that are possible; one unknown extent follows from the size."""
        known: list[int | None] = list(
            wanted) if wanted is not None and len(wanted) == count else [None] * count
        unknown = [axis for axis, extent in enumerate(known) if extent is None]
        if size is not None and wanted is not None and len(unknown) == 1:
            rest = prod(extent for extent in known if extent is not None)
            if rest and size % rest == 0:
                known[unknown[0]] = size // rest
                unknown = []
        found: list[tuple[int, ...]] = [()]
        for axis, extent in enumerate(known):
            choices = self.choose(slot + axis, self.around) if extent is None else [extent]
            found = [(*one, choice) for one in found for choice in choices][:_MOST_CANDIDATES]
        yield from (shape for shape in found if size is None or prod(shape) == size)

    def _others(self, pattern: Expression, wanted: Wanted, leaf: int, slot: int,
                index: int) -> Iterator[tuple[Expression, Shape]]:
        """Yield steps whose settings are no sizes."""
        children: list[tuple[Expression, int, int, int]] = []
        for child in pattern.children():
            count = 1
            inside = child
            if isinstance(child, Repeated):
                inside, count = child.operand, len(self.names[leaf])
            children += [
                (inside, leaf, slot, number if count > 1 else index) for number in range(count)
            ]
            leaf += sum(1 for _ in leaves(inside))
            slot += sizes_in(inside)
        below: Wanted = wanted if isinstance(pattern, (Add, Scale, Overlay)) else None
        if isinstance(pattern, Concat) and wanted is not None and pattern.axis < len(wanted):
            below = [*wanted[:pattern.axis], None, *wanted[pattern.axis + 1:]]
        for operands, shapes in self._all(children, below):
            if isinstance(pattern, Concat):
                node: Expression = replace(pattern, operands=operands)
            else:
                node = pattern.with_children(_one_by_one(operands))
            yield node, node.result_shape(shapes)

    def _all(self, children: list[tuple[Expression, int, int, int]], below: Wanted
             ) -> Iterator[tuple[tuple[Expression, ...], list[Shape]]]:  # yapf: disable
        if not children:
            yield (), []
            return
        (first, leaf, slot, index), *rest = children
        for one, shape in self._build(first, below, None, leaf, slot, index):
            for others, shapes in self._all(rest, below):
                yield (one, *others), [shape, *shapes]


def _one_by_one(operands: Sequence[Expression]) -> Callable[[Expression], Expression]:
    given = iter(operands)
    return lambda _: next(given)


def sizes_in(pattern: Expression) -> int:
    """Return how many sizes a pattern has."""
    own = 0
    for name in _SIZES.get(type(pattern), ()):
        value = getattr(pattern, name)
        own += len(value) if isinstance(value, tuple) else 1
    return own + sum(map(sizes_in, pattern.children()))


def sizes_of(expression: Expression) -> list[int]:
    """Return the sizes of an expression in their order."""
    found: list[int] = []
    for name in _SIZES.get(type(expression), ()):
        value = getattr(expression, name)
        found += value if isinstance(value, tuple) else [value]
    for child in expression.children():
        found += sizes_of(child)
    return found


def _fits(shape: Shape, wanted: Wanted) -> bool:
    return wanted is None or (len(shape) == len(wanted) and all(
        want is None or want == extent for extent, want in zip(shape, wanted, strict=True)))
