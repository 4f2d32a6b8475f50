"""Blocks that differ from their twins: no pattern, but a Plan that is wrong or arbitrary."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from ...errors import PlanError
from ..expressions import tensors_of
from .index_maps import Index, fixed_index, value_of
from .instances import Instance, Member
from .names import Name
from .patterns import Pattern

# What so many of the instances have in common is what the others should have.
_MOST = 2 / 3
_REMEDY = ("the plan cannot be generalized; branches whose order the outputs do not show can be "
           "told with hints= or mapping= of ktc.align, and ktc.convert with this plan says whether "
           "it is right")


def check_twins(parts: Sequence[Sequence[Instance]], patterns: Sequence[Pattern],
                members: Sequence[Member]) -> None:
    """Raise PlanError for a variable that takes another tensor than its twins in other blocks,
    though the one that they would take is there and of its shape.

    Args:
        parts: The instances of one variable, by pattern.
        patterns: Their patterns.
        members: The models.
    """
    if len(parts) > 1:
        _check_plans(parts, patterns, members)
        _check_roles(parts, patterns, members)
    used = {(one.plan, name) for part in parts for one in part for group in one.tensors
            for name in group}
    for number, (part, pattern) in enumerate(zip(parts, patterns, strict=True)):
        for leaf, maps in enumerate(pattern.indices):
            for hole, one in enumerate(maps):
                if not one.first:
                    _check_number(part, leaf, hole, members)
        for other, twins in enumerate(patterns):
            if other == number or len(parts[other]) < len(part) or any(
                    one.holes and (one.present or one.absent) for one in pattern.conditions):
                # What stands beside the variable explains the difference.
                continue
            for instance in part:
                names = list(_taken_by(twins, instance, members[instance.plan]))
                if names and all((instance.plan, name) not in used for name in names):
                    raise _refusal(instance, names, members[instance.plan], len(parts[other]))


def _check_plans(parts: Sequence[Sequence[Instance]], patterns: Sequence[Pattern],
                 members: Sequence[Member]) -> None:
    """Check that Plans do the same with the same variable where both could."""
    first: dict[Name, tuple[Instance, int]] = {}
    for number, part in enumerate(parts):
        for one in part:
            other, earlier = first.setdefault(one.target, (one, number))
            names = list(_taken_by(patterns[earlier], one, members[one.plan]))
            if earlier != number and other.plan != one.plan and names:
                display_name = members[one.plan].plan.targets[one.assignment.key].display_name
                raise PlanError(
                    f"the plans contradict each other: '{display_name}' takes "
                    f"'{other.tensors[0][0]}' in one and '{one.tensors[0][0]}' in the "
                    f"other, where '{names[0]}' is there as well; one of them is wrong, "
                    "or they are of two families")


def _check_roles(parts: Sequence[Sequence[Instance]], patterns: Sequence[Pattern],
                 members: Sequence[Member]) -> None:
    """Check that a number of the variable that says nearly always which pattern holds says so
    always.
    """
    owners = [(one, number) for number, part in enumerate(parts) for one in part]
    for hole in range(len(owners[0][0].target.numbers)):
        votes: dict[int, Counter[int]] = defaultdict(Counter)
        for one, number in owners:
            votes[one.target.numbers[hole]][number] += 1
        most = {value: count.most_common(1)[0] for value, count in votes.items()}
        if len({number for number, _ in most.values()}) == 1 or any(
                count < _MOST * votes[value].total() for value, (_, count) in most.items()):
            continue
        for one, number in owners:
            wanted, count = most[one.target.numbers[hole]]
            names = list(_taken_by(patterns[wanted], one, members[one.plan]))
            if wanted != number and names:
                raise _refusal(one, names, members[one.plan], count)


def _check_number(part: Sequence[Instance], leaf: int, hole: int,
                  members: Sequence[Member]) -> None:
    """Check one number of the tensors' names that no index gives in all instances."""
    votes: Counter[Index] = Counter()
    for one in part:
        value = one.names[leaf].numbers[hole]
        votes.update(Index(k, value - number) for k, number in enumerate(one.target.numbers))
        votes[fixed_index(value)] += 1
    index, count = votes.most_common(1)[0]
    if count == len(part) or count < _MOST * len(part):
        return
    for one in part:
        form, numbers = one.names[leaf].form, one.names[leaf].numbers
        wanted = value_of(index, one.target.numbers)
        if wanted is None:
            continue
        name = members[one.plan].forms.get(form, {}).get(
            (*numbers[:hole], wanted, *numbers[hole + 1:]))
        shapes = members[one.plan].shapes
        if wanted != numbers[hole] and name is not None and shapes[name] == shapes[one.tensors[leaf]
                                                                                   [0]]:
            raise _refusal(one, [name], members[one.plan], count)


def _taken_by(twins: Pattern, instance: Instance, member: Member) -> Iterator[str]:
    """Yield the tensors that the twins' pattern takes for this variable, if all are there and of
    the shapes of its own.
    """
    found: list[str] = []
    for maps, name, group in zip(twins.indices, instance.names, instance.tensors, strict=False):
        if not all(one.first for one in maps):
            return
        values = [value_of(one.first[0], instance.target.numbers) for one in maps]
        numbers = tuple(value for value in values if value is not None)
        form = twins.forms()[len(found)]
        taken = member.forms.get(form, {}).get(numbers)
        if taken is None or member.shapes[taken] != member.shapes[group[0]] or name == Name(
                form, numbers):
            return
        found.append(taken)
    if len(found) == len(twins.indices):
        yield from found


def _refusal(instance: Instance, names: Sequence[str], member: Member, count: int) -> PlanError:
    display_name = member.plan.targets[instance.assignment.key].display_name
    own = ", ".join(f"'{group[0]}'" for group in instance.tensors)
    wanted = ", ".join(f"'{name}'" for name in names)
    return PlanError(
        f"one block differs from its twins: '{display_name}' takes {own} where {count} others like "
        f"it say {wanted}, which is there and of the same shape; {_REMEDY}")


def check_uses(instances: Sequence[Instance], members: Sequence[Member]) -> None:
    """Raise PlanError when a part of one block's tensor is used once more than of its twins."""
    for member in members:
        users: dict[str, list[Instance]] = defaultdict(list)
        for one in instances:
            if one.plan == member.number:
                for name in tensors_of(one.expression):
                    users[name].append(one)
        for form, twins in member.forms.items():
            counts = {name: len(users[name]) for name in twins.values() if users[name]}
            least = min(counts.values(), default=0)
            for name, count in counts.items():
                extra = Counter(one.target.form for one in users[name])
                for twin in counts.keys() - {name}:
                    extra -= Counter(one.target.form for one in users[twin])
                if count > least and extra and form.count("{}"):
                    one = next(one for one in users[name] if one.target.form in extra)
                    display_name = member.plan.targets[one.assignment.key].display_name
                    raise PlanError(
                        f"one block differs from its twins: '{display_name}' takes '{name}', which "
                        f"is used {count} times where others like it are used {least} times; "
                        f"{_REMEDY}")
