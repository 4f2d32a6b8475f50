"""An existing Keras file as the pattern for a new one: its structure is kept, and what a Plan sets
gets new values.

Arrays are found by the Plan's own layout when it has one that fits, else by the names that Keras
wrote beside them. What the Plan does not set keeps the values of the template.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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
    """A layout whose every array has a key: the Plan's, or one of the template's own, for which
    `values` are here.
    """

    layout: TargetLayout
    values: Mapping[str, Values]


def read_template(path: Path, plan: Plan, known: TargetLayout | None) -> Template:
    """Return the template at `path` for a Plan; `known` is the Plan's own layout, if it has one.

    Raises SaveError for a file that cannot be read, and when it lacks a variable that the Plan sets
    or has it in another shape or type.
    """
    stored = read_stored(path, SaveError)
    file = stored.layout
    keys = _keys(plan, file, path, known)
    values: dict[str, Values] = {}
    arrays = []
    for array in file.arrays:
        key = keys.get(array.path)
        if key is None:
            key = f"{path.name}:{array.path}"
            values[key] = partial(stored.read, array.path, SaveError)
        arrays.append(replace(array, key=key))
    file = FileLayout(file.groups, tuple(arrays))
    members = read_members(
        path, SaveError) if path.suffix == ".keras" else (known.members if known else ())
    framework, version = _framework(file, known)
    legacy, weights = (file, None) if is_legacy(path) else (None, file)
    return Template(TargetLayout(framework, version, legacy, weights, members), values)


def _keys(plan: Plan, file: FileLayout, path: Path, known: TargetLayout | None) -> dict[str, str]:
    """Return the key of each array that the Plan sets, by the array's path.

    Raises SaveError when one is missing.
    """
    wanted = dict.fromkeys(assignment.key for assignment in plan.assignments)
    arrays = {array.path: array for array in file.arrays}
    problems = []
    found = _keys_by_layout(known, wanted, path)
    if set(found.values()) != wanted.keys() or not found.keys() <= arrays.keys():
        found, by_name = {}, _paths_by_name(plan, file, path)
        for key in wanted:
            paths = by_name.get(key, [])
            if len(paths) == 1:
                found[paths[0]] = key
            else:
                name = plan.targets[key].display_name if key in plan.targets else key
                problems.append(f"'{name}' is {'there several times' if paths else 'missing'}")
    for name, key in found.items():
        spec = plan.targets.get(key)
        if spec is not None and arrays[name].shape != spec.shape:
            problems.append(
                f"'{spec.display_name}' is {arrays[name].shape}, expected {spec.shape} (at {name})")
    if problems:
        raise SaveError(f"the template {path} does not fit the plan, "
                        f"{plural(len(problems), 'difference')}:{bullets(problems)}")
    return found


def _keys_by_layout(known: TargetLayout | None, wanted: Collection[str],
                    path: Path) -> dict[str, str]:
    own = None if known is None else known.legacy if is_legacy(path) else known.weights
    return {} if own is None else {
        array.path: array.key for array in own.arrays if array.key in wanted
    }


def _paths_by_name(plan: Plan, file: FileLayout, path: Path) -> dict[str, list[str]]:
    """Return for each key the paths of the arrays that carry its name."""
    keys: dict[tuple[str, str], list[str]] = {}
    for key, spec in plan.targets.items():
        layer = f"/{spec.display_name}".split("/")[-2]
        name = (spec.display_name, "") if is_legacy(path) else (layer, key.rpartition("/")[2])
        keys.setdefault(name, []).append(key)
    found: dict[str, list[str]] = {}
    for name, array_path in _names(file, path):
        for key in keys.get(name, ()):
            found.setdefault(key, []).append(array_path)
    return found


def _names(file: FileLayout, path: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield names and array's path: display name and "" in the legacy format, the leaf layer's name
    and the number of its variable in the newer ones.
    """
    paths = {array.path for array in file.arrays}
    attributes = attributes_of(file)
    if not is_legacy(path):
        for array_path in paths:
            group, _, number = array_path.rpartition("/")
            layer = attributes.get(group, {}).get("name")
            if isinstance(layer, str):
                yield (layer, number), array_path
        return
    for group, stated in attributes.items():
        layer = group.rpartition("/")[2]
        for weight in name_list(stated, "weight_names"):
            name = weight.removesuffix(":0")
            name = name if name.startswith(f"{layer}/") else f"{layer}/{name}"
            if f"{group}/{weight}" in paths:
                yield (name, ""), f"{group}/{weight}"


def _framework(file: FileLayout,
               known: TargetLayout | None) -> tuple[Literal["keras", "tf_keras"], str]:
    stated = attributes_of(file).get("/", {})
    version = str(stated.get("keras_version", known.version if known else ""))
    if "keras_version" not in stated and known is not None:
        return ("tf_keras" if known.framework == "tf_keras" else "keras"), version
    return ("tf_keras" if version.startswith("2.") else "keras"), version
