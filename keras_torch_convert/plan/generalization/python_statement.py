"""One pattern of a family as a statement of Python, in the style of its module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ...errors import PlanError
from ..expressions import (Add, Concat, Expression, Fill, Multiply, Permute, Reshape, Scale, Slice,
                           Tensor)
from .index_maps import IndexMap
from .patterns import Family, Pattern
from .sizes import Formula, Repeated, leaves, repetitions, sizes_in
from .table import LETTERS, formula_of, with_letters

INDENT = "    "
# What a size is taken from when several things gave it: what stays true in most models first. The
# module checks that parts tile their tensor.
_PREFERENCE = ("end", "own", "t", "s", "=", "*", "/", "+", "-")


@dataclass(frozen=True, slots=True)
class Line:
    """One pattern, with what tells it from others: numbers in the place of holes, a condition."""

    pattern: Pattern
    numbers: tuple[int | None, ...]
    condition: str = ""
    often: int = 0
    form: str = field(default="")


def unwritable(pattern: Pattern, why: str) -> PlanError:
    """Return the error that says why there is no statement."""
    return PlanError(f"the pattern of {pattern.target} cannot be written as Python: {why}; use the "
                     "family itself, FamilyPlan.save keeps it")


def literal(content: str) -> str:
    """Return the literal of a name in which letters stand in braces."""
    return f'f"{content}"' if "{" in content else f'"{content}"'


@dataclass(slots=True)
class Statement:
    """The expression of one pattern as Python: an entry of `done`, made of what `take` gives."""

    # What conditions and loops look into, what takes parts, and the words for beginnings of names.
    NAMES: ClassVar[str] = "shapes"
    PARTS: ClassVar[str] = "take"
    WORDS: ClassVar[tuple[str, str]] = ("t", "s")

    line: Line
    family: Family
    uses_shape: bool = False

    def lines(self, key: str) -> list[str]:
        """Return the statements for the variable that has this name, a literal."""
        text = self.text()
        return [*([f"shape = shapes[{key}]"] if self.uses_shape else []), f"done[{key}] = {text}"]

    def text(self) -> str:
        """Return the code of the value."""
        return self.code(self.line.pattern.expression, self._extent, 0, 0)

    def tensor(self, leaf: int) -> str:
        """Return the code of a tensor."""
        return f"take({self.name(leaf)})"

    def shape_of(self, leaf: int) -> str:
        """Return the code of a tensor's shape."""
        return f"source[{self.name(leaf)}].shape"

    def each(self, name: str) -> str:
        """Return the code of all tensors that a number in the name counts."""
        return f"take.each({name})"

    def _extent(self, axis: int) -> str:
        """Return an extent of the variable."""
        self.uses_shape = True
        return f"shape[{axis}]"

    def divisible(self) -> list[str]:
        """Return the conditions of indices that count in strides."""
        found: dict[str, None] = {}
        for leaf in self.line.pattern.indices:
            for one in leaf:
                for index in one.first[:1]:
                    if index.stride > 1 and index.hole is not None:
                        letter = LETTERS[index.hole]
                        whole = f"({letter}{index.offset:+d})" if index.offset else letter
                        found[f"{whole} % {index.stride} == 0"] = None
        return list(found)

    def name(self, leaf: int, hole: int | None = None) -> str:
        """Return the name of a tensor as a literal; `hole` is left open."""
        pattern = self.line.pattern
        words = []
        for number, one in enumerate(pattern.indices[leaf]):
            words.append("{{}}" if number == hole else self._index(one))
        return literal(with_letters(pattern.forms()[leaf], words))

    def _index(self, one: IndexMap) -> str:
        if not one.first:
            raise unwritable(
                self.line.pattern, "a number in the name of its tensor follows from "
                "its neighbors alone")
        index = one.first[0]
        if index.hole is None:
            return str(index.offset)
        number = self.line.numbers[index.hole]
        if number is not None:
            return str((number + index.offset) // index.stride)
        text = formula_of(index)
        return f"{{{text.replace('/', ' // ') if index.stride > 1 else text}}}"

    def size(self, slot: int, own: str | None, whole: str | None) -> str:
        """Return the code of a size that follows from no shape."""
        return self._formula(self._best(slot, own, whole))

    def _best(self, slot: int, own: str | None, whole: str | None) -> Formula:
        """Return the formula of a size; those over a part only where its extent is known."""
        formulas = self.line.pattern.sizes.get(slot, ())
        usable = [
            one for one in formulas
            if not (one[0] == "own" and own is None) and not (one[0] == "end" and whole is None)
        ]
        if not usable:
            raise unwritable(self.line.pattern, "a size has no formula")
        return min(usable, key=_rank)

    def _formula(self, formula: Formula) -> str:
        match formula:
            case ("t", axis):
                self.uses_shape = True
                return f"shape[{axis}]"
            case ("s", leaf, axis):
                return f"{self.shape_of(int(leaf))}[{axis}]"
            case ("=", value):
                return str(value)
        sign, rest = formula[0], formula[1:]
        middle = rest.index(":")
        one, other = (self._formula(part) for part in (rest[:middle], rest[middle + 1:]))
        return f"{one} {'//' if sign == '/' else sign} {other}"

    def code(self, node: Expression, axis: Callable[[int], str | None], leaf: int,
             slot: int) -> str:
        """Return the code of a step.

        `axis` gives the code of an extent that is wanted, None where it is not known.
        """
        match node:
            case Tensor():
                return self.tensor(leaf)
            case Permute(inner, perm):
                text = self.code(inner, _permuted(axis, perm), leaf, slot)
                return f"{text}.transpose({', '.join(map(str, perm))})"
            case Reshape(inner, blank):
                extents = self._extents(len(blank), axis, slot)
                text = self.code(inner, _by_elements, leaf, slot + len(blank))
                whole = extents == [f"shape[{one}]" for one in range(len(extents))] and extents
                return f"{text}.reshape({'shape' if whole else ', '.join(extents) or '()'})"
            case Slice():
                return self._part(node, axis, leaf, slot)
            case Fill(value, blank):
                extents = self._extents(len(blank), axis, slot)
                shape = f"({', '.join(extents)}{',' if len(extents) == 1 else ''})"
                return f'np.full({shape}, {value!r}, "float32")'
            case Concat(operands, along):

                def below(one: int) -> str | None:
                    return None if one == along else axis(one)

                if isinstance(operands[0], Repeated):
                    return self._repeated(operands[0], along, below, leaf, slot)
                parts = self._operands(operands, below, leaf, slot)
                return f"np.concatenate([{', '.join(parts)}], {along})"
            case Add(operands):
                return f"({' + '.join(self._operands(operands, axis, leaf, slot))})"
            case Multiply(operands):
                return f"({' * '.join(self._operands(operands, _unknown, leaf, slot))})"
            case Scale(inner, factor):
                return f"({self.code(inner, axis, leaf, slot)} * np.float32({factor!r}))"
        raise unwritable(self.line.pattern, f"it has the step {node.NAME}")

    def _part(self, node: Slice, axis: Callable[[int], str | None], leaf: int, slot: int) -> str:
        """Return a part of a tensor, whose other parts the module wants to see too."""
        inner, own = node.operand, axis(node.axis)
        arguments = [self.name(leaf), str(node.axis)]
        whole = "whole" if own is not None or axis is _by_elements else None
        formula = self._best(slot, own or whole, whole)
        if own is not None:
            arguments.append(own)
        elif axis is _by_elements:
            self.uses_shape = True
            arguments.append("like=shape")
        else:
            stop = self.size(slot + 1, None, None)
            start = self._formula(formula)
            arguments.append(stop if start == "0" else f"{stop} - {start}")
        match formula:
            case ("own", count):
                arguments += [f"before={count}"] if count else []
            case ("end", count):
                arguments.append(f"behind={int(count) - 1}")
            case _ if (start := self._formula(formula)) != "0":
                arguments.append(f"start={start}")
        unused = self.family.unused.get(self.line.pattern.forms()[leaf], 0)
        if unused:
            arguments.append(f"unused={unused}")
        if not isinstance(inner, Tensor):
            arguments.append(f"of={self.code(inner, _unknown, leaf, slot + 2)}")
        return f"{self.PARTS}.part({', '.join(arguments)})"

    def _extents(self, count: int, axis: Callable[[int], str | None], slot: int) -> list[str]:
        """Return the extents of a shape; one that nothing gives follows from the others."""
        found = [axis(one) for one in range(count)]
        unknown = [one for one, extent in enumerate(found) if extent is None]
        if len(unknown) == 1 and not self.line.pattern.sizes.get(slot + unknown[0]):
            return [extent or "-1" for extent in found]
        return [extent or self.size(slot + one, None, None) for one, extent in enumerate(found)]

    def _repeated(self, repeated: Repeated, along: int, axis: Callable[[int], str | None],
                  leaf: int, slot: int) -> str:
        name = self.name(leaf, repeated.hole)
        inner = type(self)(self.line, self.family)
        if sum(1 for _ in leaves(repeated.operand)) > 1:
            raise unwritable(self.line.pattern, "several tensors are repeated together")
        text = inner.code(repeated.operand, axis, leaf, slot)
        text = text.replace(self.tensor(leaf), "one")
        self.uses_shape = self.uses_shape or inner.uses_shape
        return f"np.concatenate([{text} for one in {self.each(name)}], {along})"

    def _operands(self, operands: Sequence[Expression], axis: Callable[[int], str | None],
                  leaf: int, slot: int) -> list[str]:
        found = []
        for one in operands:
            found.append(self.code(one, axis, leaf, slot))
            leaf += sum(1 for _ in leaves(one))
            slot += sizes_in(one)
        return found


@dataclass(slots=True)
class PortedStatement(Statement):
    """The same as a call of keras-hub's loader, with a hook for what is done with the tensor."""

    NAMES: ClassVar[str] = "paths"
    PARTS: ClassVar[str] = "parts"
    WORDS: ClassVar[tuple[str, str]] = ("layer", "prefix")

    def lines(self, key: str) -> list[str]:
        """Return the statements for the variable that has this path, a literal."""
        text = self.text()
        if not self._has_hook():
            shape = [f"shape = variables[{key}].shape"] if self.uses_shape else []
            return [*shape, f"value = {text}", f"variables.pop({key}).assign(value)"]
        arguments = [f"keras_variable=variables.pop({key})", f"hf_weight_key={self.name(0)}"]
        if text != self.tensor(0):
            arguments.append(f"hook_fn=lambda x, {'shape' if self.uses_shape else '_'}: {text}")
        return ["loader.port_weight(", *(f"{INDENT}{one}," for one in arguments), ")"]

    def _has_hook(self) -> bool:
        """Return whether the value is made of one tensor, of which nothing is left over."""
        node = self.line.pattern.expression
        return list(repetitions(node)) == [None] and not _cuts(node)

    def tensor(self, leaf: int) -> str:
        """Return the code of a tensor."""
        return "x" if self._has_hook() else f"loader.get_tensor({self.name(leaf)})"

    def shape_of(self, leaf: int) -> str:
        """Return the code of a tensor's shape."""
        return f"{self.tensor(leaf)}.shape"

    def each(self, name: str) -> str:
        """Return the code of all tensors that a number in the name counts."""
        return f"each({name}, loader)"


def _permuted(axis: Callable[[int], str | None],
              perm: Sequence[int]) -> Callable[[int], str | None]:
    if axis in (_unknown, _by_elements):
        return axis
    return lambda one: axis(perm.index(one))


def _cuts(node: Expression) -> bool:
    return isinstance(node, Slice) or any(map(_cuts, node.children()))


def _unknown(_: int) -> None:
    return None


def _by_elements(_: int) -> None:
    """Give no extents: only the number of elements is known."""


def _rank(formula: Formula) -> tuple[int, str]:
    if formula == ("own", 0):
        return -1, ""
    return _PREFERENCE.index(str(formula[0])), str(formula)
