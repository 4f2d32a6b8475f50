"""From Plans of small members to the patterns that hold in all of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Union

from ...errors import PlanError
from ...spec.tensor_spec import Shape
from ...util.text import join_names
from ..coverage import coverage
from ..evaluation import shape_of
from ..expressions import Expression, Tensor, compile_program, tensors_of
from ..recipe import Recipe
from .index_maps import Index, IndexMap, Numbers, fixed_index, index_map, proven_indices
from .instances import Instance, Member, fold
from .names import HOLE, Name, beginning, source_forms, split_numbers, target_names
from .patterns import Condition, ConstantPattern, Family, Pattern
from .sizes import Fitting, Formula, KnownExtents, common_formulas, sizes_in, sizes_of
from .stored_paths import learn_paths
from .twins import check_twins, check_uses

# A number that tells roles apart ("bn1", "bn2") has few values.
_MOST_ROLES = 4
# Plans may differ in so many members before learning says that they are of several families.
_MOST_CONDITIONS = 2


def learn(plans: Sequence[Recipe]) -> Family:
    """Find the patterns that hold in all of the Plans.

    Args:
        plans: Plans of members of one architecture, from PyTorch to Keras.

    Raises:
        PlanError: A Plan cannot be a pattern for others, two of them contradict each other, or one
            block of a model differs from its twins.
    """
    members = []
    for number, plan in enumerate(plans):
        if plan.reversed:
            raise PlanError("a plan from Keras to PyTorch has no family: generalize the plan from "
                            "PyTorch to Keras, and invert what plan_for gives")
        if not plan.assignments or any(one.key not in plan.targets for one in plan.assignments):
            raise PlanError("the plan does not know the shapes of both sides, so it cannot be "
                            "generalized: take the one of a report, or of ktc.align")
        shapes = {name: spec.shape for name, spec in plan.sources.items()}
        members.append(
            Member(number, plan, target_names(plan.targets), shapes, source_forms(shapes)))
    instances = [one for member in members for one in member.instances()]
    groups: dict[tuple[str, Expression], list[Instance]] = defaultdict(list)
    for one in instances:
        groups[one.target.form, one.pattern].append(one)
    strides = Counter(form for form, _ in groups)
    known = _known(groups.values(), strides)
    siblings = _siblings(members)
    of_variable: dict[str, list[tuple[Sequence[Instance], Role]]] = defaultdict(list)
    for (form, _), group in groups.items():
        of_variable[form] += _by_role(group, _maps(group, known, strides), siblings)
    patterns = []
    for of_one in of_variable.values():
        parts = [part for part, _ in of_one]
        found = [
            _pattern(part, _maps(part, known, strides, role), conditions, members)
            for (part, role), conditions in zip(of_one, _conditions(parts, siblings), strict=True)
        ]
        check_twins(parts, found, members)
        patterns += found
    check_uses(instances, members)
    uses, unused = _coverage(members, instances)
    return Family(
        tuple(patterns), _left_out(members, "dropped"), _left_out(members, "kept"),
        _constants(members), uses, unused,
        tuple(f"{len(one.plan.assignments)} variables, "
              f"{sum(prod(s.shape) for s in one.plan.targets.values())} values"
              for one in members), learn_paths(members))  # yapf: disable


Known = Mapping[tuple[str, str], set[Index]]


def _known(groups: Iterable[Sequence[Instance]], strides: Counter[str]) -> Known:
    found: dict[tuple[str, str], set[Index]] = defaultdict(set)
    for group in groups:
        targets = [one.target.numbers for one in group]
        for leaf, name in enumerate(group[0].names):
            values = [one.names[leaf].numbers for one in group]
            form = group[0].target.form
            for head, tail, index in proven_indices(form, name.form, targets, values,
                                                    strides[form]):
                found[head, tail].add(index)
    return found


# A leaf and a number in its name that is a role, such as that of "bn1" and "bn2".
Role = Union[tuple[int, int], None]


def _maps(group: Sequence[Instance], known: Known, strides: Counter[str],
          role: Role = None) -> tuple[tuple[IndexMap, ...], ...]:
    """Return the map of each number of each tensor's name; that of a role is constant."""
    targets = [one.target.numbers for one in group]
    form = group[0].target.form
    found = []
    for leaf, name in enumerate(group[0].names):
        maps = []
        for hole in range(len(name.numbers)):
            proven = [
                index for k in range(form.count(HOLE))
                for index in known.get((beginning(form, k + 1), beginning(name.form, hole + 1)), ())
                if index.hole == k
            ]
            values = [one.names[leaf].numbers[hole] for one in group]
            if role == (leaf, hole):
                maps.append(IndexMap((fixed_index(values[0]),), (), (values[0],)))
                continue
            maps.append(index_map(targets, values, proven, strides[form]))
        found.append(tuple(maps))
    return tuple(found)


Siblings = Mapping[tuple[int, str, Numbers], frozenset[str]]


def _siblings(members: Sequence[Member]) -> Siblings:
    """Return the forms of all variables that begin with the same form and numbers."""
    found: dict[tuple[int, str, Numbers], set[str]] = defaultdict(set)
    for member in members:
        for name in member.targets.values():
            for holes in range(len(name.numbers) + 1):
                found[(member.number, *name.beginning(holes))].add(name.form)
    return {block: frozenset(forms) for block, forms in found.items()}


def _by_role(group: Sequence[Instance], maps: tuple[tuple[IndexMap, ...], ...],
             siblings: Siblings) -> list[tuple[Sequence[Instance], Role]]:
    """Split by a number without a map and with few values, when what stands beside the variable
    tells the parts apart; return the parts with the place of the number.
    """
    for leaf in reversed(range(len(maps))):
        for hole in reversed(range(len(maps[leaf]))):
            if maps[leaf][hole].first or len(maps[leaf][hole].seen) > _MOST_ROLES:
                continue
            parts: dict[int, list[Instance]] = defaultdict(list)
            for one in group:
                parts[one.names[leaf].numbers[hole]].append(one)
            if any(one[0].present or one[0].absent
                   for one in _conditions(list(parts.values()), siblings) if one):
                return [(part, (leaf, hole)) for part in parts.values()]
    return [(group, None)]


def _conditions(parts: Sequence[Sequence[Instance]],
                siblings: Siblings) -> list[tuple[Condition, ...]]:
    """Return for each part of the instances of one variable what tells it from the others: a role
    number, what stands beside its variables and beside no other's, numbers of other kinds.
    """
    found: list[list[Condition]] = [[] for _ in parts]
    if len(parts) == 1:
        return [()]
    roles = _role_numbers(parts)
    for number, own in enumerate(found):
        own += [one[number] for one in roles if all(len(each.numbers) == 1 for each in one)]
    for holes in range(len(parts[0][0].target.numbers), -1, -1):
        beside = [
            [siblings[(one.plan, *one.target.beginning(holes))] for one in part] for part in parts
        ]
        present: list[tuple[str, ...]] = []
        for number, part in enumerate(beside):
            others = frozenset().union(*(one for other, sets in enumerate(beside) if other != number
                                         for one in sets))
            present.append(tuple(sorted(frozenset.intersection(*part) - others))[:2])
        if sum(not one for one in present) > 1:
            continue
        for number, one in enumerate(present):
            absent = tuple(form for other in present for form in other if other is not one)
            found[number].append(Condition(holes, one, () if one else absent))
    for number, own in enumerate(found):
        own += [one[number] for one in roles if not all(len(each.numbers) == 1 for each in one)]
    return [tuple(one[:_MOST_CONDITIONS]) for one in found]


def _role_numbers(parts: Sequence[Sequence[Instance]]) -> list[list[Condition]]:
    """Return for each number of the variable that has other values in each part a condition for
    each part.
    """
    found = []
    for hole in reversed(range(len(parts[0][0].target.numbers))):
        values = [{one.target.numbers[hole] for one in part} for part in parts]
        if sum(map(len, values)) == len(set().union(*values)):
            found.append([
                Condition(hole + 1, numbers=tuple(sorted(one)),
                          others=tuple(sorted(set().union(*values) - one))) for one in values
            ])
    return found


def _pattern(group: Sequence[Instance], maps: tuple[tuple[IndexMap, ...], ...],
             conditions: tuple[Condition, ...], members: Sequence[Member]) -> Pattern:
    first = group[0]
    seen: dict[int, list[tuple[KnownExtents, int]]] = defaultdict(list)
    for one in group:
        member = members[one.plan]
        actual = sizes_of(fold(one.expression))

        def choose(slot: int, around: KnownExtents, actual: list[int] = actual) -> list[int]:
            seen[slot].append((around, actual[slot]))
            return [actual[slot]]

        sources = tuple(member.shapes[group[0]] for group in one.tensors)
        fitting = Fitting(one.tensors, member.shapes, one.shape, choose,
                          KnownExtents(one.shape, sources))
        if one.expression not in fitting.expressions(one.pattern):
            display_name = member.plan.targets[one.assignment.key].display_name
            raise PlanError(f"'{display_name}': the steps from "
                            f"{join_names(tensors_of(one.expression), quoted=True)} do not follow "
                            "from the shapes, so they have no pattern")
    formulas: dict[int, tuple[Formula, ...]] = {
        slot: common_formulas(sizes) for slot, sizes in sorted(seen.items())
    }
    for slot, fitting_formulas in formulas.items():
        if not fitting_formulas:
            display_name = members[first.plan].plan.targets[first.assignment.key].display_name
            raise PlanError(f"'{display_name}': a size has the values "
                            f"{sorted({size for _, size in seen[slot]})}, which follow from no "
                            "shape by one rule; are the plans of one family?")
    by_plan: dict[int, list[tuple[Numbers, tuple[Numbers, ...]]]] = defaultdict(list)
    for one in group:
        by_plan[one.plan].append((one.target.numbers, tuple(name.numbers for name in one.names)))
    ordered = all([sources for _, sources in sorted(pairs)] == sorted(sources
                                                                      for _, sources in pairs)
                  for pairs in by_plan.values())
    doubts = {one.assignment.doubt for one in group}
    notes = {one.assignment.note for one in group}
    return Pattern(first.target.form, first.pattern, maps, formulas, first.assignment.rule,
                   max(doubts),
                   notes.pop() if len(notes) == 1 else "", ordered, conditions, len(group),
                   _fixed_numbers(group, maps), _extents(group, members))


def _extents(group: Sequence[Instance],
             members: Sequence[Member]) -> tuple[tuple[Formula, ...], ...]:
    """Return for each axis of the variable the extents of its tensors that it always equals."""
    if not sizes_in(group[0].pattern):
        return ()
    known = [
        dict(
            KnownExtents((), tuple(members[one.plan].shapes[names[0]]
                                   for names in one.tensors)).extents()) for one in group
    ]
    found = []
    for axis in range(len(group[0].shape)):
        equal = [
            formula
            for formula in known[0] if all(extents[formula] == one.shape[axis]
                                           for one, extents in zip(group, known, strict=True))
        ]
        fixed: list[Formula] = [("=", 1)] if all(one.shape[axis] == 1 for one in group) else []
        found.append(tuple(equal or fixed))
    return tuple(found)


def _fixed_numbers(group: Sequence[Instance], maps: tuple[tuple[IndexMap, ...],
                                                          ...]) -> tuple[int | None, ...]:
    """Return the numbers of the variable that say nothing and never change, () for none."""
    telling = {index.hole for leaf in maps for one in leaf for index in one.first}
    found: list[int | None] = []
    pieces = group[0].target.form.split(HOLE)
    for hole in range(len(group[0].target.numbers)):
        values = {one.target.numbers[hole] for one in group}
        # A letter is one only behind a number, so both stay.
        is_letter = "" in pieces[max(hole, 1):hole + 2]
        silent = hole not in telling and len(values) == 1 and not is_letter
        found.append(values.pop() if silent else None)
    return tuple(found) if any(one is not None for one in found) else ()


def _left_out(members: Sequence[Member], what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for member in members:
        for name, rule in getattr(member.plan, what).items():
            form = (split_numbers(name) if what == "dropped" else member.targets.get(
                name, Name(name, ()))).form
            found.setdefault(form, rule)
    return found


def _constants(members: Sequence[Member]) -> tuple[ConstantPattern, ...]:
    found: dict[ConstantPattern, None] = {}
    for member in members:
        for constant in member.plan.constants:
            for name in tensors_of(constant.expression):
                if not isinstance(constant.expression, Tensor):
                    raise PlanError(f"the plan holds numbers of '{name}' one by one, which no "
                                    "family has: use the plan of each size")
                found[ConstantPattern(split_numbers(name).form, constant.value,
                                      constant.rule)] = None
    return tuple(found)


def _coverage(members: Sequence[Member], instances: Sequence[Instance]
              ) -> tuple[dict[str, int], dict[str, int]]:  # yapf: disable
    """Return how many variables use a tensor, and how many of its rows none does, by form."""
    uses: dict[str, int] = {}
    unused: dict[str, int] = {}
    for member in members:
        own = [one for one in instances if one.plan == member.number]
        count = Counter(name for one in own for name in set(tensors_of(one.expression)))
        for name, number in count.items():
            form = split_numbers(name).form
            uses[form] = max(uses.get(form, 1), number)
        for name, rows in unused_rows([one.expression for one in own], member.shapes).items():
            unused[split_numbers(name).form] = rows
    return {form: number for form, number in uses.items() if number > 1}, unused


def unused_rows(expressions: Sequence[Expression], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Return how many rows of a tensor no expression reads, or values where they are no rows as
    negative numbers; only where it is not zero.
    """
    taken: dict[str, list[Any]] = defaultdict(list)
    partly: set[str] = set()
    pending = list(expressions)
    while pending:
        program = compile_program(pending.pop(), lambda base: shape_of(base, shapes))
        pending += [child for base in program.bases for child in base.children()]
        for region in program.regions:
            base = program.bases[region.base]
            if isinstance(base, Tensor):
                taken[base.name].append(region.base_entries())
                if region.size < prod(shapes[base.name]):
                    partly.add(base.name)
    found = {}
    for name in sorted(partly):
        shape = shapes[name]
        missing = prod(shape) - coverage(shape, taken[name]).covered
        row = prod(shape[1:])
        if missing:
            found[name] = missing // row if missing % row == 0 else -missing
    return found
