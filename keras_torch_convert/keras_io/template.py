"""An existing Keras file as the pattern for a new one: its structure is kept, and what a Plan sets
gets new values.

Arrays are found by the Plan's own layout when it has one that fits, else by the names that Keras
wrote beside them. What the Plan does not set keeps the values of the template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from ..errors import SaveError
from ..plan.plan import Plan
from ..spec.file_layout import FileLayout, TargetLayout
from ..util.text import bullets, plural
from .verify_written import Values
from .weights_file import attributes_of, is_legacy, name_list, read_members, read_stored


@dataclass(frozen=True, slots=True)
class Template:
    """A layout whose every array has a place: the Plan's, or one of the template's own, for which
    `values` are here.
    """

    layout: TargetLayout
    values: Mapping[str, Values]


def read_template(path: Path, plan: Plan, known: TargetLayout | None) -> Template:
    """The template at `path` for a Plan; `known` is the Plan's own layout, None when it has none.

    Raises SaveError for a file that cannot be read, and when it lacks a variable that the Plan sets
    or has it in another shape or type.
    """
    stored = read_stored(path, SaveError)
    file = stored.layout
    places = _places(plan, file, path, known)
    values: dict[str, Values] = {}
    arrays = []
    for array in file.arrays:
        place = places.get(array.path)
        if place is None:
            place = f"{path.name}:{array.path}"
            values[place] = partial(stored.read, array.path, SaveError)
        arrays.append(replace(array, key=place))
    file = FileLayout(file.groups, tuple(arrays))
    members = read_members(
        path, SaveError) if path.suffix == ".keras" else (known.members if known else ())
    framework, version = _framework(file, known)
    legacy, weights = (file, None) if is_legacy(path) else (None, file)
    return Template(TargetLayout(framework, version, legacy, weights, members), values)


def _places(plan: Plan, file: FileLayout, path: Path, known: TargetLayout | None) -> dict[str, str]:
    """The place of each array that the Plan sets, by the array's path. Raises SaveError when one is
    missing.
    """
    wanted = dict.fromkeys(assignment.key for assignment in plan.assignments)
    own = None if known is None else known.legacy if is_legacy(path) else known.weights
    by_layout = {} if own is None else {
        array.path: array.key for array in own.arrays if array.key in wanted
    }
    by_name = _by_name(plan, file, path)
    found: dict[str, str] = {}
    problems = []
    arrays = {array.path: array for array in file.arrays}
    if set(by_layout.values()) == wanted.keys() and by_layout.keys() <= arrays.keys():
        found = by_layout
    else:
        for place in wanted:
            paths = by_name.get(place, [])
            if len(paths) == 1:
                found[paths[0]] = place
            else:
                label = plan.targets[place].display_name if place in plan.targets else place
                problems.append(f"'{label}' is {'there several times' if paths else 'missing'}")
    for name, place in found.items():
        kind = plan.targets.get(place)
        if kind is not None and arrays[name].shape != kind.shape:
            problems.append(
                f"'{kind.display_name}' is {arrays[name].shape}, expected {kind.shape} (at {name})")
    if problems:
        raise SaveError(f"the template {path} does not fit the plan, "
                        f"{plural(len(problems), 'difference')}:{bullets(problems)}")
    return found


def _by_name(plan: Plan, file: FileLayout, path: Path) -> dict[str, list[str]]:
    """For each place the paths of the arrays that carry its name."""
    places: dict[tuple[str, str], list[str]] = {}
    for place, kind in plan.targets.items():
        key = (kind.display_name, "") if is_legacy(path) else (_parts(kind.display_name)[-2],
                                                               place.rpartition("/")[2])
        places.setdefault(key, []).append(place)
    found: dict[str, list[str]] = {}
    for key, name in _names(file, path):
        for place in places.get(key, ()):
            found.setdefault(place, []).append(name)
    return found


def _names(file: FileLayout, path: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """(name, array's path): label and "" in the legacy format, the leaf layer's name and the number
    of its variable in the newer ones.
    """
    paths = {array.path for array in file.arrays}
    attributes = attributes_of(file)
    if not is_legacy(path):
        for name in paths:
            group, _, number = name.rpartition("/")
            layer = attributes.get(group, {}).get("name")
            if isinstance(layer, str):
                yield (layer, number), name
        return
    for group, stated in attributes.items():
        layer = group.rpartition("/")[2]
        for weight in name_list(stated, "weight_names"):
            label = weight.removesuffix(":0")
            label = label if label.startswith(f"{layer}/") else f"{layer}/{label}"
            if f"{group}/{weight}" in paths:
                yield (label, ""), f"{group}/{weight}"


def _parts(label: str) -> list[str]:
    parts = label.split("/")
    return parts if len(parts) > 1 else ["", *parts]


def _framework(file: FileLayout,
               known: TargetLayout | None) -> tuple[Literal["keras", "tf_keras"], str]:
    stated = attributes_of(file).get("/", {})
    version = str(stated.get("keras_version", known.version if known else ""))
    if "keras_version" not in stated and known is not None:
        return ("tf_keras" if known.framework == "tf_keras" else "keras"), version
    return ("tf_keras" if version.startswith("2.") else "keras"), version
