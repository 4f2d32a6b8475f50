"""Where the variables of a family lie in .weights.h5 files, so that the file of a size can be
written that was never built.

Keras names what stands in a list, such as the layers of a model, by its class and a number that
counts the class: `layers/dense_3`. In a pattern that is `layers/dense:1`: what stands there are the
variables whose names have the first part in common. The number is the layer's rank among all of
its class, in the order of the learned model. Whatever a rule does not give back for every member
that was learned is not kept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import SaveError
from ...spec.file_layout import recorded
from .index_maps import Numbers
from .instances import Member
from .names import HOLE, Name

_NUMBERED = re.compile(r"(.+?)_([1-9]\d*)")
# Names with their paths in the file of one member.
Paths = Mapping[Name, str]


@dataclass(frozen=True, slots=True)
class StoredForm:
    """Where the variables of one form lie.

    Attributes:
        target: The form of their names.
        path: Their path, with the number of parts in the place of each number that counts layers.
        dtype: That of the variables.
        run: Forms of one run take turns in the model, number by number; runs follow each other.
    """

    target: str
    path: str
    dtype: str
    run: int


def learn_paths(members: Sequence[Member]) -> tuple[StoredForm, ...]:
    """Return where variables lie, in the order of the model; () when that is unknown, or follows
    from no rule.
    """
    known = [paths for member in members if (paths := _paths(member)) and not missing_in(paths)]
    if len(known) < len(members):
        return ()
    known.sort(key=lambda paths: -len({name.form for name in paths}))
    patterns: dict[str, list[str]] = {}
    for paths in known:
        for name, parts in _with_depths(paths).items():
            earlier = patterns.setdefault(name.form, parts)
            if len(parts) != len(earlier):
                return ()
            patterns[name.form] = [
                min(pair, key=lambda part: (":" not in part, part))
                for pair in zip(parts, earlier, strict=True)
            ]
    dtypes = {
        member.targets[key].form: spec.dtype for member in members
        for key, spec in member.plan.targets.items()
    }
    runs = _runs(known)
    forms = tuple(
        StoredForm(form, "/".join(parts), dtypes[form], runs[form.split(HOLE)[0]])
        for form, parts in patterns.items())
    return forms if all(stored_paths(forms, paths) == paths for paths in known) else ()


def _paths(member: Member) -> dict[Name, str]:
    """Return the path of each variable in the order of the model, {} when some have none."""
    try:
        layout = recorded(member.plan.layout)
    except SaveError:
        return {}
    if layout is None or layout.weights is None or layout.framework != "keras":
        return {}
    arrays = [one for one in layout.weights.arrays if "seed_generator" not in one.path]
    paths = {one.key: one.path.strip("/") for one in arrays if one.key in member.targets}
    if len(paths) < len(arrays) or len(paths) < len(member.targets):
        return {}
    return {name: paths[key] for key, name in member.targets.items()}


def _with_depths(paths: Paths) -> dict[Name, list[str]]:
    """Return the parts of each path, with depths for the numbers of layers."""
    beside: dict[str, set[str]] = defaultdict(set)
    for path in paths.values():
        parts = path.split("/")
        for index, part in enumerate(parts):
            beside["/".join(parts[:index])].add(part)
    found = {name: path.split("/") for name, path in paths.items()}
    names_in: dict[str, list[Name]] = defaultdict(list)
    for name, path in paths.items():
        parts = path.split("/")
        for index, part in enumerate(parts[:-2]):
            siblings = beside["/".join(parts[:index])]
            numbered = _NUMBERED.fullmatch(part)
            if numbered is not None and numbered[1] in siblings:
                found[name][index] = numbered[1]
            elif f"{part}_1" not in siblings and (not index or parts[index - 1] != "layers"):
                continue
            names_in["/".join(parts[:index + 1])].append(name)
    depths: dict[tuple[str, int], int] = {}
    for unit, names in names_in.items():
        named = [_name_parts(name)[:-1] for name in names]
        depth = next(
            (index
             for index, column in enumerate(zip(*named, strict=False)) if len(set(column)) > 1),
            min(map(len, named)))
        for name in names:
            at = name.form, unit.count("/")
            depths[at] = min(depth, depths.get(at, depth))
    for (form, index), depth in depths.items():
        for name, parts in found.items():
            if name.form == form:
                parts[index] += f":{depth}"
    return found


def _name_parts(name: Name) -> list[str]:
    return str(name).split("/")


def _runs(known: Sequence[Paths]) -> dict[str, int]:
    """Return for the beginning of each form the number of its run."""
    order = list(dict.fromkeys(name for paths in known for name in paths))
    spans: dict[str, list[int]] = {}
    for position, name in enumerate(known[0]):
        spans.setdefault(name.form.split(HOLE)[0], [position, position])[1] = position
    runs: dict[str, int] = {}
    end = number = -1
    for beginning, (first, last) in sorted(spans.items(), key=lambda item: item[1]):
        number += first > end
        end = max(end, last)
        runs[beginning] = number
    for name in order:
        runs.setdefault(name.form.split(HOLE)[0], number + 1)
    return runs


def missing_in(names: Iterable[Name]) -> list[str]:
    """Return what a block lacks that another block of its kind has, in words; blocks are counted
    without gaps.
    """
    blocks: dict[str, dict[Numbers, set[str]]] = defaultdict(lambda: defaultdict(set))
    counts: dict[tuple[str, Numbers], set[int]] = defaultdict(set)
    for name in names:
        for holes in range(len(name.numbers) + 1):
            start, numbers = name.beginning(holes)
            blocks[start][numbers].add(name.form)
            if holes:
                counts[start, numbers[:-1]].add(numbers[-1])
    lacking = [
        f"there is no '{form}' in '{Name(start, numbers)}...', as there is in its twins"
        for start, by_number in blocks.items() for numbers, forms in by_number.items()
        for form in sorted(set().union(*by_number.values()) - forms)
    ]
    return lacking + [
        f"'{start}' has the numbers {sorted(found)}"
        for (start, _), found in counts.items() if max(found) - min(found) >= len(found)
    ]


def stored_paths(forms: Sequence[StoredForm], names: Iterable[Name]) -> dict[Name, str]:
    """Return the path of each variable of a member."""
    known = {one.target: one for one in forms}
    rank: dict[str, int] = {}
    for one in forms:
        pieces = one.target.split(HOLE)
        for count in range(1, len(pieces) + 1):
            rank.setdefault(HOLE.join(pieces[:count]), len(rank))

    def order(name: Name) -> list[int]:
        pieces = name.form.split(HOLE)
        key = [known[name.form].run, name.numbers[0] if name.numbers else -1]
        for count, number in zip(range(1, len(pieces) + 1), (*name.numbers, -1), strict=True):
            key += [rank[HOLE.join(pieces[:count])], number]
        return key

    ordered = sorted(names, key=order)
    found = dict.fromkeys(ordered, "")
    parts = {name: known[name.form].path.split("/") for name in ordered}
    for level in range(max(map(len, parts.values()), default=0)):
        counted: dict[tuple[str, str], dict[tuple[str, ...], int]] = defaultdict(dict)
        for name in ordered:
            if level >= len(parts[name]):
                continue
            part, _, depth = parts[name][level].partition(":")
            if depth:
                units = counted[found[name], part]
                number = units.setdefault(tuple(_name_parts(name)[:int(depth)]), len(units))
                part += f"_{number}" if number else ""
            found[name] += f"/{part}" if found[name] else part
    return found
