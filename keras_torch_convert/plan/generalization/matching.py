"""The Plan of another member of a family: its names and shapes matched with the patterns.

Both sides are known, so every choice can be checked against the whole: a tensor is used as often as
in learning, slices of one tensor tile it, and nothing is left over.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from itertools import product
from math import prod
from typing import Literal, Union

from ...errors import TransferError
from ...spec.dtypes import INDEX_TYPES
from ...spec.source import Source
from ...spec.target import Target
from ...spec.tensor_spec import Shape, TensorSpec
from ..coverage import coverage
from ..evaluation import shape_of
from ..expressions import Expression, Tensor, compile_program, tensors_of
from ..recipe import AnyRecipe, Assignment, Constant
from .index_maps import Numbers, value_of
from .learning import unused_rows
from .names import HOLE, Name, common_holes, source_forms, source_names, split_numbers, target_names
from .patterns import Family, Pattern, tensors_at
from .prefixes import with_learned_names, with_own_names
from .sizes import leaves, repetitions
from .unbuilt import Shapes, unbuilt_target

Strict = Union[bool, Literal["target"]]
# So many combinations of sizes are tried until slices tile their tensor.
_MOST_COMBINATIONS = 4096


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to fill a variable: the pattern, the tensors of each leaf, and the expressions that
    fit, several where sizes are open.
    """

    pattern: Pattern
    tensors: tuple[tuple[str, ...], ...]
    expressions: tuple[Expression, ...]

    def names(self) -> frozenset[str]:
        """Return all tensors that it takes."""
        return frozenset(name for group in self.tensors for name in group)


@dataclass(slots=True)
class _Variable:
    """A variable that wants a candidate."""

    key: str
    name: Name
    shape: Shape
    display_name: str
    patterns: Sequence[Pattern] = ()
    # By tier: those that follow, then those that are worse.
    tiers: tuple[list[Candidate], ...] = ()
    misfits: list[tuple[str, Pattern]] = field(default_factory=list)


def plan_of_member(family: Family, source: Source, target: Target | None, make: type[AnyRecipe],
                   strict: Strict = True, shapes: Shapes | None = None) -> AnyRecipe:
    """Make the Plan of a member whose names and shapes are known.

    Without a target it is that of a file; `shapes` are those of variables that do not follow from
    the source. Raises TransferError with everything that does not follow from the patterns.
    """
    known, names, renaming = with_learned_names(family, source)
    layout = None
    if target is None:
        target, layout = unbuilt_target(family, known, source_forms(known.tensors), shapes or {})
    plan = _Matching(family, known, target).plan(make, strict, renaming)
    return with_own_names(plan if layout is None else replace(plan, layout=layout), names)


class _Matching:
    """The search for one member."""
    def __init__(self, family: Family, source: Source, target: Target) -> None:
        self.family, self.source, self.target = family, source, target
        self.shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
        self.read = source_names(source.tensors)
        self.by_form = source_forms(source.tensors)
        self.problems: list[str] = []
        self.decided: dict[str, Candidate] = {}
        self.used: Counter[str] = Counter()
        # Decided variables by each beginning of their names.
        self.beside: dict[tuple[str, Numbers], list[str]] = defaultdict(list)
        self.patterns: dict[str, list[Pattern]] = defaultdict(list)
        for pattern in family.patterns:
            self.patterns[pattern.target].append(pattern)
        specs = {key: variable.spec for key, variable in target.variables.items()}
        self.names = self._target_names(specs)
        self.siblings: dict[tuple[str, Numbers], set[str]] = defaultdict(set)
        for name in self.names.values():
            for holes in range(len(name.numbers) + 1):
                self.siblings[name.beginning(holes)].add(name.form)
        self.kept: dict[str, str] = {}
        self.open: dict[str, _Variable] = {}
        for key, name in self.names.items():
            if name.form in self.patterns:
                variable = _Variable(key, name, specs[key].shape, specs[key].display_name)
                variable.patterns = self.patterns[name.form]
                variable.tiers = self._tiers(variable)
                self.open[key] = variable
            elif name.form in family.kept:
                self.kept[key] = family.kept[name.form]
            else:
                self.problems.append(
                    f"variable '{specs[key].display_name}' {specs[key].shape} has no pattern"
                    f"{_nearest(name.form, self.patterns)}: add a plan of a member that has it, "
                    "plan.generalize(other_plan)")

    def _target_names(self, specs: Mapping[str, TensorSpec]) -> dict[str, Name]:
        """Return names by key; layers named after the model get the name of the learned one."""
        names, model = target_names(specs), self.target.name
        known = {*self.patterns, *self.family.kept}
        for display_name in (
                spec.display_name for key, spec in specs.items() if names[key].form not in known):
            if not display_name.startswith(f"{model}_"):
                break
            rest = split_numbers(display_name[len(model):].split("/")[0]).form
            for form in known:
                first = form.split("/")[0]
                if first.endswith(rest) and HOLE not in (head := first[:-len(rest)]):
                    renamed = target_names(specs, model, head)
                    if all(name.form in known for name in renamed.values()):
                        return renamed
        return names

    def _told_apart(self, variable: _Variable, found: list[Candidate]) -> list[Candidate]:
        """Return the candidates whose conditions hold; the most telling one that speaks counts."""
        for depth in range(max(len(one.pattern.conditions) for one in found)):
            left = [one for one in found if self._holds(one.pattern, variable.name, depth)]
            if left and len(left) < len(found):
                return left
        return found

    def _holds(self, pattern: Pattern, name: Name, depth: int) -> bool:
        if depth >= len(pattern.conditions):
            return True
        condition = pattern.conditions[depth]
        if condition.numbers:
            return name.numbers[condition.holes - 1] not in condition.others
        beside = self.siblings[name.beginning(condition.holes)]
        return (not condition.present or any(one in beside for one in condition.present)
                ) and not any(one in beside for one in condition.absent)  # yapf: disable

    def _tiers(self, variable: _Variable) -> tuple[list[Candidate], ...]:
        """Return the candidates that index maps give, the better ones first."""
        numbers = variable.name.numbers
        tiers: tuple[list[Candidate], ...] = ([], [])
        for pattern in variable.patterns:
            choices: list[list[tuple[int, int]]] = []
            for one in (one for leaf in pattern.indices for one in leaf):
                tiers_of = [one.first, one.second]
                if one.second and one.first[0].hole is None and any(
                        value_of(index, numbers) not in one.seen for index in one.second):
                    # The constant is no longer likely where learning never was.
                    tiers_of.reverse()
                choices.append([(tier, value) for tier, indices in enumerate(tiers_of)
                                for index in indices
                                if (value := value_of(index, numbers)) is not None])
            if not all(choices):
                continue
            for chosen in product(*choices):
                candidate = self._candidate(variable, pattern, [value for _, value in chosen])
                if candidate is not None:
                    tiers[max((tier for tier, _ in chosen), default=0)].append(candidate)
        return tuple(_unique(tier) for tier in tiers)

    def _candidate(self, variable: _Variable, pattern: Pattern,
                   numbers: Sequence[int]) -> Candidate | None:
        """Return the candidate with these numbers in the names of the tensors, None when a tensor
        is not there or does not fit.
        """
        forms = [leaf.name for leaf in leaves(pattern.expression)]
        repeated = list(repetitions(pattern.expression))
        groups: list[tuple[str, ...]] = []
        given = iter(numbers)
        for form, hole, maps in zip(forms, repeated, pattern.indices, strict=True):
            own = tuple(next(given) for _ in maps)
            group = tensors_at(self.by_form, form, own, hole)
            if not group:
                variable.misfits.append((f"there is no '{Name(form, own)}'", pattern))
                return None
            groups.append(group)
        expressions = pattern.expressions(groups, self.shapes, variable.shape)
        if not expressions:
            shapes = ", ".join(f"'{group[0]}' {self.shapes[group[0]]}" for group in groups)
            variable.misfits.append((f"{shapes} does not fit", pattern))
            return None
        return Candidate(pattern, tuple(groups), tuple(expressions))

    def plan(self, make: type[AnyRecipe], strict: Strict, renaming: str) -> AnyRecipe:
        """Return the Plan, or raise TransferError with all problems."""
        # A step comes again as long as those before it find nothing.
        steps: tuple[Callable[[], bool],
                     ...] = (partial(self._decide, 0), partial(self._decide, 0, by_conditions=True),
                             self._by_neighbors, partial(self._decide, 1,
                                                         by_conditions=True), self._by_order)
        while self.open and any(step() for step in steps):
            pass
        for variable in self.open.values():
            self.problems.append(self._why_open(variable))
        expressions = self._settled()
        if not self.problems:
            self._check_rows(expressions)
        dropped, constants = self._leftovers(strict)
        if self.problems:
            hint = f"the family does not fit{f' ({renaming})' if renaming else ''}"
            raise TransferError.of(self.problems, hint)
        return self._made(make, expressions, dropped, constants)

    def _made(self, make: type[AnyRecipe], expressions: Mapping[str, Expression],
              dropped: Mapping[str, str], constants: tuple[Constant, ...]) -> AnyRecipe:
        """Return the Plan of what was decided."""
        specs = {key: variable.spec for key, variable in self.target.variables.items()}
        assignments: list[Assignment] = []
        pairs: dict[tuple[str, str], None] = {}
        named: dict[str, TensorSpec] = {}
        for key in self.names:
            if key not in self.decided:
                continue
            pattern, expression = self.decided[key].pattern, expressions[key]
            assignments.append(
                Assignment(key, expression, pattern.rule, pattern.doubt, pattern.note))
            for name in tensors_of(expression):
                named[name] = self.source[name].spec
                pair = name.rpartition(".")[0], specs[key].display_name.rpartition("/")[0]
                pairs[pair] = None
        for constant in constants:
            named.update((name, self.source[name].spec) for name in tensors_of(constant.expression))
        return make(tuple(assignments), dropped, self.kept, tuple(pairs), constants, named, specs)

    def _decide(self, tier: int, *, by_conditions: bool = False) -> bool:
        """Decide what has one candidate; return whether there was any."""
        chosen: dict[str, Candidate] = {}
        for key, variable in self.open.items():
            found = self._available(variable.tiers[tier])
            if by_conditions and len(found) > 1:
                found = self._told_apart(variable, found)
                if len(found) > 1:
                    found = self._like_neighbors(variable, found) or found
            if len(found) == 1:
                chosen[key] = found[0]
        return self._settle_all(chosen)

    def _settle_all(self, chosen: Mapping[str, Candidate]) -> bool:
        """Settle what does not want a tensor that others want too; return whether there was any."""
        claims = Counter(name for one in chosen.values() for name in one.names())
        done = False
        for key, one in chosen.items():
            if all(self.used[name] + claims[name] <= self._limit(name) for name in one.names()):
                self._settle(key, one)
                done = True
        return done

    def _available(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        found = [
            one for one in candidates if all(self.used[name] < self._limit(name)
                                             for name in one.names())
        ]
        # A variable is filled with a constant only where it has no tensor.
        return [one for one in found if one.tensors] or found

    def _limit(self, name: str) -> int:
        return self.family.uses.get(self.read[name].form, 1)

    def _settle(self, key: str, candidate: Candidate) -> None:
        self.decided[key] = candidate
        variable = self.open.pop(key)
        self.used.update(candidate.names())
        for holes in range(1, len(variable.name.numbers) + 1):
            self.beside[variable.name.beginning(holes)].append(key)

    def _like_neighbors(self, variable: _Variable, found: list[Candidate]) -> list[Candidate]:
        """Return the candidates whose tensors stand where those of the same block do."""
        for holes in range(len(variable.name.numbers), 0, -1):
            near = [
                self.read[name] for key in self.beside[variable.name.beginning(holes)]
                for name in self.decided[key].names()
            ]
            if near:
                ranked = [(max((_agreement(self.read[group[0]], near)
                                for group in one.tensors), default=0), one) for one in found]
                best = max(rank for rank, _ in ranked)
                return [one for rank, one in ranked if rank == best]
        return []

    def _by_neighbors(self) -> bool:
        """Decide variables without index maps by what is decided in their block."""
        chosen: dict[str, Candidate] = {}
        for key, variable in self.open.items():
            found = _unique(self._available(self._neighboring(variable)))
            if len(found) > 1:
                found = self._told_apart(variable, found)
            if len(found) == 1:
                chosen[key] = found[0]
        return self._settle_all(chosen)

    def _neighboring(self, variable: _Variable) -> Iterator[Candidate]:
        # What index maps say may be nowhere, such as a constant of the learned depth.
        lost = not any(self._available(tier) for tier in variable.tiers)
        for holes in range(len(variable.name.numbers), 0, -1):
            keys = self.beside[variable.name.beginning(holes)]
            found = [
                one for pattern in variable.patterns if lost or not all(index.first
                                                                        for leaf in pattern.indices
                                                                        for index in leaf)
                for one in self._from(variable, pattern, keys, lost)
            ]
            if found:
                yield from found
                return

    def _from(self, variable: _Variable, pattern: Pattern, keys: Sequence[str],
              lost: bool) -> Iterator[Candidate]:
        """Yield candidates that take numbers over from decided variables of the block."""
        choices: list[list[int]] = []
        for leaf, maps in zip(leaves(pattern.expression), pattern.indices, strict=True):
            near: dict[Numbers, int] = {}
            for key in keys:
                for name in self.decided[key].names():
                    other = self.read[name]
                    common = common_holes(leaf.name, other.form)
                    if common:
                        near[other.numbers[:common]] = common
            most = max(near.values(), default=0)
            heads = [numbers for numbers, common in near.items() if common == most]
            for hole, one in enumerate(maps):
                if hole < most and (lost or not any(index.hole is None for index in one.first)):
                    choices.append(list(dict.fromkeys(head[hole] for head in heads)))
                elif one.first:
                    values = (value_of(index, variable.name.numbers) for index in one.first)
                    choices.append([value for value in values if value is not None])
                else:
                    return
        for chosen in product(*choices):
            candidate = self._candidate(variable, pattern, chosen)
            if candidate is not None:
                yield candidate

    def _by_order(self) -> bool:
        """Decide the variables of one form whose tensors stand in the same order, when there are as
        many left of both.
        """
        groups: dict[str, list[_Variable]] = defaultdict(list)
        for variable in self.open.values():
            groups[variable.name.form].append(variable)
        for group in groups.values():
            patterns = list(dict.fromkeys(id(one) for v in group for one in v.patterns))
            if len(patterns) != 1:
                continue
            pattern = group[0].patterns[0]
            if not pattern.ordered or len(pattern.indices) != 1:
                continue
            lost = not any(self._available(tier) for tier in group[0].tiers)
            if pattern.count == 1 and not (lost and len(group) == 1):
                continue
            if next(repetitions(pattern.expression)) is not None:
                continue
            (leaf,), (maps,) = list(leaves(pattern.expression)), pattern.indices
            left = sorted(numbers for numbers, name in self.by_form.get(leaf.name, {}).items()
                          if self.used[name] < self._limit(name) and all(
                              lost or not one.first or one.first[0].hole is not None
                              or one.first[0].offset == number
                              for one, number in zip(maps, numbers, strict=True)))
            if len(left) != len(group):
                continue
            group.sort(key=lambda variable: variable.name.numbers)
            found = [
                self._candidate(variable, pattern, numbers)
                for variable, numbers in zip(group, left, strict=True)
            ]
            if all(one is not None for one in found):
                for variable, one in zip(group, found, strict=True):
                    assert one is not None
                    self._settle(variable.key, one)
                return True
        return False

    def _why_open(self, variable: _Variable) -> str:
        found = self._available([one for tier in variable.tiers for one in tier])
        pattern = variable.misfits[0][1] if variable.misfits else variable.patterns[0]
        words = f"variable '{variable.display_name}' {variable.shape}"
        nearest = f"the pattern is {pattern.target} <- {', '.join(dict.fromkeys(pattern.forms()))}"
        if len(found) > 1:
            names = ", ".join(f"'{name}'" for one in found[:3] for name in sorted(one.names())[:1])
            return (f"{words} could be any of {names} ({nearest}): add a plan of a member that "
                    "tells them apart, plan.generalize(other_plan)")
        if variable.misfits:
            reasons = list(dict.fromkeys(reason for reason, _ in variable.misfits))[:2]
            return f"{words}: {'; '.join(reasons)} ({nearest})"
        return (f"{words}: its tensor does not follow ({nearest}): add a plan of a member of "
                "another depth, plan.generalize(other_plan)")

    def _settled(self) -> dict[str, Expression]:
        """Return an expression for each decided variable; open sizes are those with which the
        slices tile their tensors.
        """
        found = {key: one.expressions[0] for key, one in self.decided.items()}
        groups: dict[str, list[str]] = defaultdict(list)
        for key, one in self.decided.items():
            if len(one.expressions) > 1:
                groups[min(one.names())].append(key)
        for tensor, keys in groups.items():
            fixed = [
                found[key]
                for key, one in self.decided.items() if tensor in one.names() and key not in keys
            ]
            wanted = self.family.unused.get(self.read[tensor].form, 0)
            whole = self._tiles([*fixed, *(found[key] for key in keys)], tensor, wanted)
            fitting: list[tuple[Expression, ...]] = []
            choices = [self.decided[key].expressions for key in keys]
            for number, chosen in enumerate(product(*choices)):
                if number == _MOST_COMBINATIONS or len(fitting) > 1:
                    break
                if self._tiles([*fixed, *chosen], tensor, wanted):
                    fitting.append(chosen)
            if len(fitting) == 1:
                found.update(zip(keys, fitting[0], strict=True))
            elif not whole or len(fitting) != 1:
                variables = ", ".join(
                    f"'{self.target.variables[key].display_name}'" for key in keys[:3])
                self.problems.append(
                    f"which part of '{tensor}' {self.shapes[tensor]} goes to {variables} follows "
                    "from no size alone: add a plan of a member with other widths and heads, "
                    "plan.generalize(other_plan)")
        return found

    def _tiles(self, expressions: Sequence[Expression], tensor: str, wanted: int) -> bool:
        regions = []
        for expression in expressions:
            program = compile_program(expression, lambda base: shape_of(base, self.shapes))
            regions += [
                region.base_entries()
                for region in program.regions if program.bases[region.base] == Tensor(tensor)
            ]
        shape = self.shapes[tensor]
        found = coverage(shape, regions)
        return not found.twice and prod(shape) - found.covered == wanted * prod(shape[1:])

    def _check_rows(self, expressions: Mapping[str, Expression]) -> None:
        """Note tensors of which another part is unused than in learning."""
        unused = unused_rows(list(expressions.values()), self.shapes)
        for name in self.used:
            expected = self.family.unused.get(self.read[name].form, 0)
            if unused.get(name, 0) != expected:
                self.problems.append(
                    f"of '{name}' {self.shapes[name]} {unused.get(name, 0)} rows would be left "
                    f"over, {expected} where the family was learned")

    def _leftovers(self, strict: Strict) -> tuple[dict[str, str], tuple[Constant, ...]]:
        """Return what is left out by a rule of the family; note what is left over."""
        dropped: dict[str, str] = {}
        constants: list[Constant] = []
        rules = {one.tensor: one for one in self.family.constants}
        tied = {name: group for group in self.source.tied for name in group}
        known = {form for one in self.family.patterns for form in one.forms()}
        layers = {form.rpartition(".")[0] for form in known}
        for name, tensor in self.source.tensors.items():
            form = self.read[name].form
            if name in self.used or any(twin in self.used for twin in tied.get(name, ())):
                continue
            if form in self.family.dropped:
                dropped[name] = self.family.dropped[form]
            elif form in rules:
                constants.append(Constant(Tensor(name), rules[form].value, rules[form].rule))
            elif tensor.dtype in INDEX_TYPES and tensor.kind != "parameter":
                continue
            elif strict is True or (strict and form.rpartition(".")[0] in layers):
                advice = (": the Keras model lacks its variable" if form in known else
                          f"{_nearest(form, known)}: add a plan of a member that has it, or let "
                          "such tensors be with strict=False")
                self.problems.append(f"tensor '{name}' {tensor.shape} is left over{advice}")
        return dropped, tuple(constants)


def _agreement(name: Name, near: Sequence[Name]) -> int:
    """Return how many numbers a name has in common with the one that it is most alike."""
    best = 0
    for other in near:
        common = common_holes(name.form, other.form)
        while common and name.numbers[:common] != other.numbers[:common]:
            common -= 1
        best = max(best, common)
    return best


def _unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates that do different things."""
    return list({one.expressions: one for one in candidates}.values())


def _nearest(form: str, known: Iterable[str]) -> str:
    near = get_close_matches(form, list(known), 1, 0.5)
    return f" (the nearest one is {near[0]})" if near else ""
