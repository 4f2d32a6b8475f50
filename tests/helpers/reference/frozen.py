"""How answers of the original are written down, shortly: the frozen file holds one line of text for
each case, in the order of cases.py.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .cases import AlignCase, StackCase
from .names import cut_tensor_name

FROZEN_FILE = Path(__file__).with_name("kecam_1_4_3_answers.json.gz")

LOST = "lost"
RAISED = "raised"
DIGITS = string.digits + string.ascii_letters


def stack_answer(case: StackCase, function: Callable[..., Mapping[str, Sequence[int]]]) -> str:
    """The numbers of the tensors in each layer, "|" between layers, and a digest of the layers'
    names; or LOST.
    """
    layers = function(case.state_dict, case.skip_weights, case.unstack_weights)
    kept = [
        number for name, number in case.state_dict.items()
        if cut_tensor_name(name)[2] not in case.skip_weights
    ]
    if sorted(number for numbers in layers.values() for number in numbers) != kept:
        return LOST
    digest = hashlib.sha256(json.dumps(list(layers)).encode()).hexdigest()[:8]
    return "|".join(
        "".join(DIGITS[number] for number in numbers) for numbers in layers.values()) + " " + digest


def align_answer(case: AlignCase, function: Callable[..., Sequence[str]]) -> str:
    """For each place the index of the name that stands there, LOST when a name is missing, RAISED
    when the call fails.
    """
    try:
        aligned = function(case.names, case.tail_align_dict, case.full_name_align_dict,
                           case.tail_split_position)
    except (KeyError, TypeError):
        return RAISED
    if sorted(aligned) != sorted(case.names):
        return LOST
    free = {
        name: [index for index, other in enumerate(case.names) if other == name]
        for name in case.names
    }
    return "".join(DIGITS[free[name].pop(0)] for name in aligned)


def save(answers: Mapping[str, Sequence[str]]) -> None:
    """Write all groups of answers, the same bytes for the same answers."""
    text = json.dumps({group: "\n".join(lines) for group, lines in answers.items()}, indent=0)
    with FROZEN_FILE.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text.encode())


def load() -> dict[str, list[str]]:
    """All groups of answers."""
    groups: dict[str, Any] = json.loads(gzip.decompress(FROZEN_FILE.read_bytes()))
    return {group: text.split("\n") for group, text in groups.items()}
