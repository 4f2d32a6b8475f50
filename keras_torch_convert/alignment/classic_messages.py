"""Messages of the classic alignment: why a rule is refused or does nothing, and what to write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ..util.text import did_you_mean

Path = tuple[str, ...]
Reason = Literal["value", "stack", "anchor", "forward"]
# Looking for similar names takes long among many; somebody with more idle rules than this has
# another problem than typing errors.
_MOST_SUGGESTIONS = 8


@dataclass(frozen=True, slots=True)
class Stage:
    """The arguments of one stage, checked and copied: plain dicts with plain keys, and the split.
    """

    number: int
    tail_align_dict: dict[str, Any]
    full_name_align_dict: dict[str, Any]
    tail_split_position: int
    warnings: tuple[str, ...] = ()

    def rule(self, path: Path) -> Any:
        """Return the value that stands at (dictionary, key) or (dictionary, stack, key)."""
        value = getattr(self, path[0])
        for key in path[1:]:
            value = value[key]
        return value


def describe_refusal(names: Sequence[str], stage: Stage, reason: Reason, layer: int, path: Path,
                     positions: Sequence[int]) -> str:
    """Say why a stage of moves is refused.

    Args:
        names: The names of the layers, in the order of the input.
        stage: The stage that was played.
        reason: What is wrong with the rule.
        layer: The index of the layer for which the rule was found.
        path: Where the rule stands.
        positions: By layer, where it is inserted; -1 for those that no rule moves. Complete only
            for a layer that moves forward.
    """
    value, name = stage.rule(path), names[layer]
    # Values that are no rules are shown by type only, so that no foreign repr runs.
    shown = repr(value) if isinstance(value, (int, str)) else f"<{_type_name(value)}>"
    within = f"[{path[1]!r}]" if len(path) > 2 else ""
    rule = f"{path[0]}{within} entry {path[-1]!r}: {shown} at stage {stage.number}"
    if reason == "anchor":
        anchor = value if path[0] == "full_name_align_dict" else f"{_head(name, stage)}_{value}"
        return (f"{rule} is to put layer {name!r} where layer {anchor!r} stands, but there is no "
                f"layer {anchor!r}{did_you_mean(anchor, names)}")
    if reason == "stack":
        return (f"{rule} stands under the name of the stack of layer {name!r}, where the dict with "
                "the rules of that stack belongs; give that stack a dict, or name the layer that "
                "is meant in full_name_align_dict")
    if reason == "value":
        return (f"{rule} has a value of a wrong type for layer {name!r}; allowed are an int (below "
                "0 an offset back from the layer's own position, else a position from the start of "
                "the list), the name of another layer (str), and, only under the name of a stack "
                "in tail_align_dict, a dict")
    return (f"{rule} moves layer {name!r} forward, from position {layer} to position "
            f"{positions[layer]}, and the {_describe_lost(names, positions)} would be lost; "
            f"{_advise(names, layer, positions[layer], value)}")


def _type_name(value: Any) -> str:
    found = type(value)
    builtin = found.__module__ == "builtins"
    return found.__name__ if builtin else f"{found.__module__}.{found.__name__}"


def _head(name: str, stage: Stage) -> str:
    split = stage.tail_split_position
    parts = name.split("_")
    return "_".join(parts[:split])


def _describe_lost(names: Sequence[str], positions: Sequence[int]) -> str:
    order: list[int | None] = [None] * len(names)
    for layer, position in enumerate(positions):
        if position < 0:
            order[layer] = layer
        else:
            order.insert(position, layer)
            order.pop()
    lost = sorted(set(range(len(names))).difference(order))
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    return f"name{'s' if more else ''} {names[lost[0]]!r}{more}"


def _advise(names: Sequence[str], layer: int, position: int, value: int | str) -> str:
    """Say what to write instead of a rule that moves a layer forward."""
    if isinstance(value, int) and value < 0:
        instead = (f"-{layer} puts the layer first"
                   if layer else "the layer is the first already, so leave this entry out")
        return f"an offset before the start counts from the end of the list; {instead}"
    if isinstance(value, str) and position == layer + 1:
        return (f"{names[layer]!r} stands just before {names[position]!r} already, so leave this "
                "entry out")
    if isinstance(value, int) and layer + 1 == len(names):
        return ("the layer is the last already, so leave this entry out; to keep its own values on "
                "purpose, name it in keep_layers")
    last = position - 1 if isinstance(value, str) else min(position, len(names) - 1)
    back = [f"{name!r}: -1" for name in names[layer + 1:last + 1]]
    if len(back) > 3:
        back[2:-1] = ["..."]
    count = last - layer
    which = "layer that is" if count == 1 else f"{count} layers that are"
    return (f"move the {which} to go before it back instead: "
            f"full_name_align_dict={{{', '.join(back)}}}")


@dataclass(frozen=True)
class ExistingNames:
    """What entries of the dictionaries may refer to, found once it is needed: names, stacks and
    tails, each once and sorted.
    """

    all_names: tuple[str, ...]
    split: int

    @cached_property
    def names(self) -> list[str]:
        """Full names."""
        return sorted(set(self.all_names))

    @cached_property
    def tails_by_stack(self) -> dict[str, list[str]]:
        """First part of a name to the tails of all names that begin with it."""
        tails: dict[str, set[str]] = {}
        for name in self.all_names:
            parts = name.split("_")
            tails.setdefault(parts[0], set()).add("_".join(parts[self.split:]))
        return {stack: sorted(tails[stack]) for stack in sorted(tails)}

    @cached_property
    def tails(self) -> list[str]:
        """The tails of all stacks."""
        return sorted({tail for tails in self.tails_by_stack.values() for tail in tails})


def describe_unused(unused: Sequence[Path], names: tuple[str, ...],
                    stage: Stage) -> tuple[str, ...]:
    """Say of each dictionary entry that did nothing why, with similar existing names."""
    existing = ExistingNames(names, stage.tail_split_position)
    return tuple(
        _describe_unused(path, existing, stage, index < _MOST_SUGGESTIONS)
        for index, path in enumerate(unused))


def _describe_unused(path: Path, existing: ExistingNames, stage: Stage, suggests: bool) -> str:
    parameter, *keys = path
    key = keys[-1]
    where = (f"{parameter}{''.join(f'[{key!r}]' for key in keys)} at stage {stage.number} applies "
             "to no layer")
    if parameter == "full_name_align_dict":
        known = existing.names
    elif len(keys) == 1 and isinstance(stage.tail_align_dict[key], dict):
        known = list(existing.tails_by_stack)
    else:
        known = existing.tails if len(keys) == 1 else existing.tails_by_stack[keys[0]]
        if key in known:
            return where + (": layers with that tail have an entry of their own in "
                            "full_name_align_dict or under their stack")
        where += f" with tail_split_position={existing.split}"
    return where + (did_you_mean(key, known) if suggests else "")
