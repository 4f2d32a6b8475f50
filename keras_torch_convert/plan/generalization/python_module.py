"""A family as a Python module that needs NumPy alone: loops over blocks, one line a weight."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ...errors import PlanError
from ..expressions import (Add, Concat, Expression, Fill, Multiply, Permute, Reshape, Scale, Slice,
                           Tensor)
from .index_maps import IndexMap
from .names import HOLE
from .patterns import Condition, Family, Pattern
from .python_template import AUTOMATIC, HEAD, STRICT
from .sizes import Formula, Repeated, leaves, sizes_in
from .table import LETTERS, formula_of, with_letters

_WIDTH = 100
_INDENT = "    "
# What a size is taken from when several things gave it: what stays true in most models first. The
# module checks that parts tile their tensor.
_PREFERENCE = ("end", "own", "t", "s", "=", "*", "/", "+", "-")
_CLASS = re.compile(r"(\w+)\[(\{\}|\d+)\]")


def module_of(family: Family, name: str = "the architecture") -> str:
    """Return the text of the module.

    Raises:
        PlanError: A pattern follows from its neighbors, or has a step that NumPy lacks.
    """
    bodies: list[str] = []
    blocks: dict[str, list[_Line]] = defaultdict(list)
    for line in _told_apart(family):
        blocks[_block(line.form)].append(line)
    for block, lines in blocks.items():
        bodies += _loop(block, lines, family)
    classes = sorted({found for one in family.patterns for found, _ in _CLASS.findall(one.target)})
    learned = "; ".join(family.learned)
    text = HEAD.format(name=name, learned=learned)
    if classes:
        bases = ", ".join(f'"{one.lower()}"' for one in classes)
        text += AUTOMATIC.format(bases=f"({bases},)")
    text += STRICT
    text += _function(family, bodies, bool(classes))
    return text


def _function(family: Family, bodies: Sequence[str], automatic: bool) -> str:
    head = [
        "def convert(source, shapes):", f'{_INDENT}"""Return the values of every Keras variable.',
        "", f"{_INDENT}source: name of a torch tensor -> array; shapes: Keras variable -> shape.",
        f'{_INDENT}"""'
    ]
    if automatic:
        head.append(f"{_INDENT}names = without_counters(shapes)")
        head.append(f"{_INDENT}shapes = {{names[key]: shapes[key] for key in shapes}}")
    head.append(f"{_INDENT}take, done = Strict(source, shapes), {{}}")
    dropped = sorted(family.dropped)
    end = [f"{_INDENT}{line}" for line in _called("take.drop", [f'"{one}"' for one in dropped])
          ] if dropped else []
    end += [
        f'{_INDENT}take.drop_constant("{one.tensor}", {one.value!r})' for one in family.constants
    ]
    kept = ", ".join(f'"{_key(form)}"' for form in sorted(family.kept))
    checked = f"take.checked(done, kept=({kept},))" if kept else "take.checked(done)"
    if automatic:
        end += [
            f"{_INDENT}values = {checked}",
            f"{_INDENT}return {{key: values[names[key]] for key in names if names[key] in values}}"
        ]
    else:
        end.append(f"{_INDENT}return {checked}")
    return "\n".join([*head, *(_INDENT + line if line else line for line in bodies), *end]) + "\n"


def _called(function: str, arguments: Sequence[str]) -> list[str]:
    line = f"{function}({', '.join(arguments)})"
    if len(line) + len(_INDENT) <= _WIDTH:
        return [line]
    return [f"{function}(", *(f"{_INDENT}{one}," for one in arguments), ")"]


@dataclass(frozen=True, slots=True)
class _Line:
    """One pattern, with what tells it from others: numbers in the place of holes, a condition."""

    pattern: Pattern
    numbers: tuple[int | None, ...]
    condition: str = ""
    often: int = 0
    form: str = field(default="")


def _told_apart(family: Family) -> Iterator[_Line]:
    """Yield the patterns; those of one variable with what tells them apart."""
    of_variable: dict[str, list[Pattern]] = defaultdict(list)
    for pattern in family.patterns:
        of_variable[pattern.target].append(pattern)
    for form, patterns in of_variable.items():
        holes = form.count(HOLE)
        for pattern in patterns:
            numbers: list[int | None] = list(pattern.numbers) or [None] * holes
            condition = ""
            if len(patterns) > 1:
                role = next((one for one in pattern.conditions if len(one.numbers) == 1), None)
                beside = next((one for one in pattern.conditions if one.present or one.absent),
                              None)
                if role is not None:
                    numbers[role.holes - 1] = role.numbers[0]
                elif beside is not None:
                    condition = _beside(beside)
                elif not pattern.conditions or not all(_exact(one) for one in patterns):
                    raise _unwritable(
                        pattern, "several patterns fill it, which only the whole "
                        "model tells apart")
            yield _Line(pattern, tuple(numbers), condition, sum(one.count for one in patterns),
                        _filled(form, numbers))


def _exact(pattern: Pattern) -> bool:
    """Return whether a stride says which numbers a pattern is for."""
    return any(index.stride > 1 for leaf in pattern.indices for one in leaf for index in one.first)


def _beside(condition: Condition) -> str:
    forms = condition.present or condition.absent
    if any(form.count(HOLE) > condition.holes for form in forms):
        raise PlanError(f"a family whose blocks are told apart by {forms[0]} cannot be written as "
                        "Python: use the family itself")
    tests = [f"{_text(_letters(form))} in shapes" for form in forms]
    joined = " or ".join(tests)
    return joined if condition.present else f"not ({joined})"


def _unwritable(pattern: Pattern, why: str) -> PlanError:
    return PlanError(f"the pattern of {pattern.target} cannot be written as Python: {why}; use the "
                     "family itself, FamilyPlan.save keeps it")


def _filled(form: str, numbers: Sequence[int | None]) -> str:
    pieces = form.split(HOLE)
    return "".join(piece + (HOLE if number is None else str(number))
                   for piece, number in zip(pieces, numbers, strict=False)) + pieces[-1]


def _block(form: str) -> str:
    """Return the form through its last hole, and on to the end of that layer's name."""
    head, hole, rest = form.rpartition(HOLE)
    if not hole:
        return ""
    return head + hole + (rest[:1] if rest[:1] in "]" else "")


def _key(form: str) -> str:
    """Return a form with classes in lower case, as the module counts automatic names."""
    return _CLASS.sub(lambda found: f"{found[1].lower()}[{found[2]}]", form)


def _letters(form: str) -> str:
    """Return the content of an f-string for the name of a variable."""
    return with_letters(_key(form), [f"{{{LETTERS[hole]}}}" for hole in range(form.count(HOLE))])


def _text(content: str) -> str:
    return f'f"{content}"' if "{" in content else f'"{content}"'


def _loop(block: str, lines: Sequence[_Line], family: Family) -> list[str]:
    """Return the statements for the patterns of one kind of block."""
    beginning = _shared([line.form for line in lines])
    own = {line.pattern.target for line in lines}
    # Whether there are blocks that begin so and have not all of the variables.
    apart = len({line.often for line in lines}) > 1 or any(
        _filled(one.target, (None,) * one.target.count(HOLE)).startswith(beginning)
        for one in family.patterns if one.target not in own)
    layers = {line.form.rpartition("/")[0] for line in lines}
    apart = apart or (len(layers) > 1 and any(
        layer.rpartition(HOLE)[2].removeprefix("]")[:1] not in ("", "/") for layer in layers))
    body: list[str] = []
    guarded = ""
    for line in lines:
        statement = _Statement(line, family)
        text = statement.text()
        conditions = [line.condition] if line.condition else []
        conditions += statement.divisible()
        key, layer = _text(_target(line)), line.form.rpartition("/")[0]
        inner = [f"shape = shapes[{key}]"] if statement.uses_shape else []
        inner.append(f"done[{key}] = {text}")
        if not block or not (apart or conditions):
            body += inner
            guarded = ""
            continue
        # One condition for all variables of a layer that are as often there.
        group = f"{layer} {line.often} {conditions}"
        if group != guarded:
            body.append(f"if {' and '.join([f'{key} in shapes', *conditions])}:")
            guarded = group
        body += [_INDENT + one for one in inner]
    if not block:
        return [*body, ""]
    names = [LETTERS[hole] for hole, number in enumerate(lines[0].numbers) if number is None]
    comma = "," if len(names) == 1 else ""
    head = f'for {", ".join(names)}{comma} in take.blocks("{_key(beginning)}"):'
    return [head, *(_INDENT + one for one in _abbreviated(body)), ""]


def _shared(forms: Sequence[str]) -> str:
    """Return what all forms begin with, no hole cut."""
    first, last = min(forms), max(forms)
    end = next((index for index, one in enumerate(first) if one != last[index:index + 1]),
               len(first))
    return first[:end].removesuffix("{")


def _abbreviated(body: Sequence[str]) -> list[str]:
    """Return the statements with names for what the block's names begin with, on both sides."""
    lines, found = list(body), []
    for letter, pattern in (("t", r'(?:done|shapes)\[f"([^"]*\}\]?[^"/{}]*)/'),
                            ("s", r'(?:take|part|each|source)[(\[]f"([^"]*\})\.')):
        counts = Counter(one for line in lines for one in re.findall(pattern, line))
        if counts:
            beginning, count = max(counts.items(), key=lambda item: (item[1], len(item[0])))
            if count > 1:
                found.append(f'{letter} = f"{beginning}"')
                lines = [
                    re.sub(rf'f"{re.escape(beginning)}(?=[./"])', f'f"{{{letter}}}', line)
                    for line in lines
                ]
    return [*found, *(one for line in lines for one in _wrapped(line))]


def _wrapped(line: str) -> list[str]:
    """Return a statement in several lines when it is long."""
    left, equals, right = line.partition(" = ")
    if len(line) + 2 * len(_INDENT) <= _WIDTH or not equals:
        return [line]
    indent = line[:len(line) - len(line.lstrip())]
    return [f"{left} = (", f"{indent}{_INDENT}{right}", f"{indent})"]


def _target(line: _Line) -> str:
    words = [
        f"{{{LETTERS[hole]}}}" if number is None else str(number)
        for hole, number in enumerate(line.numbers)
    ]
    return with_letters(_key(line.pattern.target), words)


@dataclass(slots=True)
class _Statement:
    """The expression of one pattern as Python."""

    line: _Line
    family: Family
    uses_shape: bool = False

    def text(self) -> str:
        """Return the code."""
        return self.code(self.line.pattern.expression, self._extent, 0, 0)

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
        return _text(with_letters(pattern.forms()[leaf], words))

    def _index(self, one: IndexMap) -> str:
        if not one.first:
            raise _unwritable(
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
            raise _unwritable(self.line.pattern, "a size has no formula")
        return min(usable, key=_rank)

    def _formula(self, formula: Formula) -> str:
        match formula:
            case ("t", axis):
                self.uses_shape = True
                return f"shape[{axis}]"
            case ("s", leaf, axis):
                return f"source[{self.name(int(leaf))}].shape[{axis}]"
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
                return f"take({self.name(leaf)})"
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
        raise _unwritable(self.line.pattern, f"it has the step {node.NAME}")

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
        return f"take.part({', '.join(arguments)})"

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
        inner = _Statement(self.line, self.family)
        if sum(1 for _ in leaves(repeated.operand)) > 1:
            raise _unwritable(self.line.pattern, "several tensors are repeated together")
        text = inner.code(repeated.operand, axis, leaf, slot)
        text = text.replace(f"take({self.name(leaf)})", "one")
        self.uses_shape = self.uses_shape or inner.uses_shape
        return f"np.concatenate([{text} for one in take.each({name})], {along})"

    def _operands(self, operands: Sequence[Expression], axis: Callable[[int], str | None],
                  leaf: int, slot: int) -> list[str]:
        found = []
        for one in operands:
            found.append(self.code(one, axis, leaf, slot))
            leaf += sum(1 for _ in leaves(one))
            slot += sizes_in(one)
        return found


def _permuted(axis: Callable[[int], str | None],
              perm: Sequence[int]) -> Callable[[int], str | None]:
    if axis in (_unknown, _by_elements):
        return axis
    return lambda one: axis(perm.index(one))


def _unknown(_: int) -> None:
    return None


def _by_elements(_: int) -> None:
    """Give no extents: only the number of elements is known."""


def _rank(formula: Formula) -> tuple[int, str]:
    if formula == ("own", 0):
        return -1, ""
    return _PREFERENCE.index(str(formula[0])), str(formula)
