"""The name functions in slow, plain Python: what the original does, its losses included. The C core
is tested against this.

Written from the description of the behavior; that it *is* the original's behavior is tested against
frozen answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def cut_tensor_name(name: str) -> tuple[str, str, str]:
    """(name without an ending like ":0", layer, last part)."""
    if len(name) >= 2 and name[-2] == ":":
        name = name[:-2]
    separator = "/" if "/" in name else "."
    layer, _, last = name.rpartition(separator)
    return name, layer, last


def array_of(value: Any) -> Any:
    """Values that can become NumPy arrays are asked to."""
    return value.numpy() if hasattr(value, "numpy") else value


def stack_by_layer(state_dict: Mapping[str, Any], skip: Sequence[str],
                   unstack: Sequence[str]) -> dict[str, list[Any]]:
    """Layer name to values; an unstacked value replaces whatever stood under its name."""
    layers: dict[str, list[Any]] = {}
    for key, value in state_dict.items():
        name, layer, last = cut_tensor_name(key)
        if last in skip:
            continue
        if last in unstack:
            layers[name] = [array_of(value)]
        elif layer in layers:
            layers[layer].append(array_of(value))
        else:
            layers[layer] = [array_of(value)]
    return layers


def insert_and_cut(places: list[str], place: int, name: str) -> None:
    """Insert, and let the last element fall off."""
    places.insert(place, name)
    del places[-1]


def match_stage(names: Sequence[str], tail_rules: Mapping[str, Any], full_rules: Mapping[str, Any],
                split: int) -> list[str]:
    """One stage. "" stands where a move forward left a hole. Raises KeyError and TypeError like the
    original.
    """
    places = [""] * len(names)
    last_index = {}
    for index, name in enumerate(names):
        last_index[name] = index
    for index, name in enumerate(names):
        parts = name.split("_")
        head, tail = "_".join(parts[:split]), "_".join(parts[split:])
        rules_in_force = tail_rules.get(parts[0], tail_rules)
        if name in full_rules:
            value, anchor_prefix = full_rules[name], ""
        elif tail in rules_in_force:
            value, anchor_prefix = rules_in_force[tail], head + "_"
        else:
            places[index] = name
            continue
        if isinstance(value, str):
            insert_and_cut(places, last_index[anchor_prefix + value], name)
        elif value < 0:
            insert_and_cut(places, index + value, name)
        else:
            insert_and_cut(places, value, name)
    return places


def align(names: Sequence[str], tail_rules: Any, full_rules: Any, split: Any) -> list[str]:
    """All stages, for arguments in the forms that the original understands."""
    if isinstance(split, int):
        tail_rules, full_rules, split = [tail_rules], [full_rules], [split]
    if isinstance(full_rules, dict):
        full_rules = [full_rules]
    result = list(names)
    for stage in range(max(len(split), len(full_rules))):
        result = match_stage(result, tail_rules[stage] if stage < len(tail_rules) else {},
                             full_rules[stage] if stage < len(full_rules) else {},
                             split[min(stage,
                                       len(split) - 1)])
    return result
