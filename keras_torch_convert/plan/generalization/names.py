"""Names as forms and numbers: "blocks.3.1.bn1.weight" is "blocks.{}.{}.bn{}.weight", (3, 1, 1).

A variable's name is the names of its layers, with class and ordinal where Keras made a name up.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ...spec.tensor_spec import TensorSpec

HOLE = "{}"
# The digit of "conv2d" says a kind. A letter behind a number counts: "block2a", "block2b".
_NUMBER = re.compile(r"(?:conv|pool|norm|pad)(?:ding)?[123]d(?![a-z])|(\d+)([a-z](?![A-Za-z0-9]))?")


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A name: its form, which has a hole for each number, and the numbers."""

    form: str
    numbers: tuple[int, ...]

    def beginning(self, count: int) -> tuple[str, tuple[int, ...]]:
        """Return the form and the numbers through the first `count` holes."""
        return beginning(self.form, count), self.numbers[:count]

    def __str__(self) -> str:
        pieces = self.form.split(HOLE)
        result = pieces[0]
        for index, (number, piece) in enumerate(zip(self.numbers, pieces[1:], strict=False)):
            # What follows a number at once is a letter: "block2a".
            result += str(number) if pieces[index] or not index else chr(ord("a") + number)
            result += piece
        return result


@cache
def beginning(form: str, count: int) -> str:
    """Return a form through its first `count` holes."""
    return "".join(piece + HOLE for piece in form.split(HOLE)[:count])


@cache
def common_holes(one: str, other: str) -> int:
    """Return how many holes two forms have in common from the beginning on."""
    count, most = 0, min(one.count(HOLE), other.count(HOLE))
    while count < most and beginning(one, count + 1) == beginning(other, count + 1):
        count += 1
    return count


def split_numbers(text: str) -> Name:
    """Return a name as its form and its numbers."""
    numbers: list[int] = []

    def hole(found: re.Match[str]) -> str:
        digits, letter = found[1], found[2]
        if digits is None:
            return found[0]
        numbers.append(int(digits))
        if letter is not None:
            numbers.append(ord(letter) - ord("a"))
        return HOLE * (1 + (letter is not None))

    form = _NUMBER.sub(hole, text)
    return Name(form, tuple(numbers))


def source_names(names: Mapping[str, object]) -> dict[str, Name]:
    """Return the tensors' names as forms and numbers."""
    return {name: split_numbers(name) for name in names}


def target_names(targets: Mapping[str, TensorSpec], model: str = "",
                 instead: str = "") -> dict[str, Name]:
    """Return a name for each variable that no counter of the session has a part in.

    Args:
        targets: The variables by key, with their display names.
        model: The name of the model, where names of layers begin with it.
        instead: What they begin with instead.

    Returns:
        Names by key, each once. A name that Keras made up is the class and the ordinal among the
        layers of that class beside it.
    """
    ordinals = _ordinals(targets)
    found: dict[str, Name] = {}
    taken: dict[Name, int] = defaultdict(int)
    for key, spec in targets.items():
        layers_above, parts = key.split("/")[:-1], spec.display_name.split("/")
        # Labels of an expanded model may be longer than its key; both end with the layer.
        outer = len(parts) - 1 - len(layers_above)
        form = ""
        numbers: tuple[int, ...] = ()
        for index, part_name in enumerate(parts):
            depth = index - outer
            layer_key = "/".join(layers_above[:depth + 1]) if 0 <= depth < len(layers_above) else ""
            if layer_key in ordinals:
                part = Name(f"{_class_of(layer_key)}[{HOLE}]", (ordinals[layer_key],))
            else:
                named_after = model and part_name.startswith(f"{model}_")
                part = split_numbers(instead + part_name[len(model):] if named_after else part_name)
            form = f"{form}/{part.form}" if form else part.form
            numbers += part.numbers
        name = Name(form, numbers)
        taken[name] += 1
        # Of variables with one name the first keeps it.
        found[key] = name if taken[name] == 1 else Name(f"{form}~{HOLE}",
                                                        (*numbers, taken[name] - 1))
    return found


def _class_of(layer_key: str) -> str:
    return layer_key.rpartition("/")[2].partition(":")[2]


def _ordinals(targets: Mapping[str, TensorSpec]) -> dict[str, int]:
    """Return for each layer whose name Keras made up which of its class and parent it is."""
    layers: dict[tuple[str, str], set[tuple[int, str]]] = defaultdict(set)
    for key, spec in targets.items():
        layers_above, parts = key.split("/")[:-1], spec.display_name.split("/")[:-1]
        for back in range(1, min(len(layers_above), len(parts)) + 1):
            layer_key = "/".join(layers_above[:len(layers_above) - back + 1])
            index, _, class_name = layers_above[-back].partition(":")
            base = re.sub(r"_\d+$", "", parts[-back])
            if class_name and base.replace("_", "") == class_name.lower().replace("_", ""):
                parent = "/".join(layers_above[:len(layers_above) - back])
                layers[parent, class_name].add((int(index), layer_key))
    return {
        layer_key: ordinal for siblings in layers.values()
        for ordinal, (_, layer_key) in enumerate(sorted(siblings))
    }


def source_forms(names: Mapping[str, object]) -> dict[str, dict[tuple[int, ...], str]]:
    """Return all names by form and numbers."""
    found: dict[str, dict[tuple[int, ...], str]] = defaultdict(dict)
    for name, read in source_names(names).items():
        found[read.form][read.numbers] = name
    return found
