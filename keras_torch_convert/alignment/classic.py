"""The classic alignment: dictionaries move the names of Keras layers into PyTorch's order.

The meaning of the dictionaries is that of keras_cv_attention_models 1.4.3, with one difference:
whatever would lose a name is an AlignmentError that says which rule did it and what to write
instead. A stage of moves is played in C.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import _core
from ..errors import AlignmentError
from ..spec.layer_groups import as_plain_strings
from ..util.gc_pause import gc_paused
from ..util.text import did_you_mean, join_names, plural
from .classic_messages import Stage, describe_refusal, describe_unused

MatchFunction = Callable[[list[str]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class NameAlignment:
    """Keras layer names in the order of the PyTorch layers.

    `warnings` name entries that applied to no layer, `notes` say what else the user may want to
    know.
    """

    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def align_names(names: Sequence[str], tail_align_dict: Any = {}, full_name_align_dict: Any = {},
                tail_split_position: Any = 2,
                specific_match_func: MatchFunction | None = None) -> NameAlignment:
    """Move names stage by stage, then give them to `specific_match_func`.

    Args:
        names: The names of the Keras layers, in the model's order.
        tail_align_dict: What moves by the tail of its name; a list has a dict for each stage.
        full_name_align_dict: What moves by its whole name; a list has a dict for each stage.
        tail_split_position: After how many "_" a tail begins; a list has an int for each stage.
        specific_match_func: Gets the moved names and returns them in PyTorch's order. What it
            raises passes with a note.

    Raises:
        AlignmentError: A rule would lose a name, or a value is no rule; the message says what to
            write instead.
    """
    aligned = as_plain_strings(names, "names of layers", AlignmentError)
    warnings: list[str] = []
    moved: list[str] = []
    with gc_paused():
        for stage in read_stages(tail_align_dict, full_name_align_dict, tail_split_position):
            aligned, moved_now, warnings_now = run_stage(aligned, stage)
            warnings += warnings_now
            moved += moved_now
    notes: tuple[str, ...] = ()
    if specific_match_func is not None:
        if moved:
            notes = (f"the dictionaries moved {plural(len(set(moved)), 'name')} before "
                     "specific_match_func got them",)
        aligned = call_match_function(specific_match_func, aligned)
    return NameAlignment(aligned, tuple(warnings), notes)


def run_stage(names: tuple[str, ...],
              stage: Stage) -> tuple[tuple[str, ...], list[str], tuple[str, ...]]:
    """Play one stage of moves: return the names in their new order, those that moved, warnings."""
    try:
        aligned, moved, unused = _core.move_stage(names, stage.tail_align_dict,
                                                  stage.full_name_align_dict,
                                                  stage.tail_split_position)
    except _core.NamesError as refused:
        raise AlignmentError(describe_refusal(names, stage, *refused.args)) from None
    return aligned, moved, (*stage.warnings, *describe_unused(unused, names, stage))


def read_stages(tail: Any, full: Any, split: Any) -> list[Stage]:
    """Turn the three arguments, in any of their forms, into stages."""
    if not isinstance(split, (list, tuple)):
        tails = [sole_dict(tail, "tail_align_dict")]
        fulls = [sole_dict(full, "full_name_align_dict")]
        splits = [split]
    else:
        if isinstance(tail, Mapping) and tail:
            raise AlignmentError(
                f"tail_split_position is a list ({list(split)!r}), so tail_align_dict must be a "
                "list of dicts too, one for each stage; write [{...}] to use these rules in stage "
                "0, or give tail_split_position as an int")
        tails = [] if isinstance(tail, Mapping) else dicts_by_stage(tail, "tail_align_dict")
        fulls = [full] if isinstance(full, Mapping) else dicts_by_stage(
            full, "full_name_align_dict")
        splits = list(split)
        if not splits:
            raise AlignmentError(
                "tail_split_position is an empty list; give at least one int, such as [2]")
    count = max(len(splits), len(fulls))
    late = [number for number in range(count, len(tails)) if tails[number]]
    if late:
        raise AlignmentError(
            f"tail_align_dict has rules for stage {join_names(late)}, but tail_split_position and "
            f"full_name_align_dict make {count} only; give one tail_split_position for each stage")
    return [
        read_stage(number, tails[number] if number < len(tails) else {},
                   fulls[number] if number < len(fulls) else {},
                   splits[min(number,
                              len(splits) - 1)]) for number in range(count)
    ]


def sole_dict(rules: Any, parameter: str) -> Any:
    """Return the dict of the only stage; a list has no meaning, unless it holds no rule."""
    if not isinstance(rules, (list, tuple)):
        return rules
    if any(rules):
        raise AlignmentError(
            f"{parameter} is a list of {len(rules)} dicts, one for each stage, but "
            "tail_split_position is a single int; give a list of splits, such as "
            f"tail_split_position={[2] * len(rules)}")
    return {}


def dicts_by_stage(rules: Any, parameter: str) -> list[Any]:
    """Return a list of dicts, one for each stage."""
    if not isinstance(rules, (list, tuple)):
        raise AlignmentError(
            f"{parameter} must be a dict or a list of dicts, got {type(rules).__name__}")
    return list(rules)


def read_stage(number: int, tail: Any, full: Any, split: Any) -> Stage:
    """Check the arguments of one stage and copy them."""
    plain_split = plain_value(split)
    if not isinstance(plain_split, int):
        raise AlignmentError(
            f"tail_split_position must be an int or a list of int, got {split!r:.100} at stage "
            f"{number}; 2 makes 'stack1_block1' the head and 'attn_gamma' the tail of "
            "'stack1_block1_attn_gamma'")
    warnings: list[str] = []
    plain_tail = plain_rules(tail, "tail_align_dict", number, warnings)
    plain_full = plain_rules(full, "full_name_align_dict", number, warnings)
    return Stage(number, plain_tail, plain_full, int(plain_split), tuple(warnings))


def plain_rules(rules: Any, parameter: str, number: int, warnings: list[str]) -> dict[str, Any]:
    """Copy rules, with keys, anchors and numbers of exactly the types that the C core knows.

    Values of other types stay: they are an error only once a layer is found for them. Keys that are
    no str match no layer.
    """
    if not isinstance(rules, Mapping):
        raise AlignmentError(
            f"{parameter} must be a dict, got {type(rules).__name__} at stage {number}")
    if set(map(type, rules)) <= {str} and set(map(type, rules.values())) <= {int, str}:
        return dict(rules)
    plain: dict[str, Any] = {}
    for key, value in rules.items():
        if not isinstance(key, str):
            warnings.append(
                f"{parameter}[{key!r:.100}] at stage {number} applies to no layer: names are str")
        elif isinstance(value, Mapping) and parameter == "tail_align_dict":
            plain[str.__str__(key)] = plain_rules(value, f"tail_align_dict[{key!r}]", number,
                                                  warnings)
        else:
            plain[str.__str__(key)] = plain_value(value)
    return plain


def plain_value(value: Any) -> Any:
    """Return subclasses of str, and integers of other libraries, as Python's own."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return value
    try:
        return int(operator.index(value))
    except TypeError:
        return value


def call_match_function(function: MatchFunction, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the user's answer: some or all of the names, in any order, none twice."""
    try:
        answer = function(list(names))
    except BaseException as error:
        if hasattr(error, "add_note"):
            error.add_note(f"raised by specific_match_func, called with {len(names)} names")
        raise
    if not isinstance(answer, (list, tuple)):
        hint = ("; a function that sorts in place must return the list as well"
                if answer is None else "")
        raise AlignmentError("specific_match_func must return a list of layer names, got "
                             f"{type(answer).__name__}{hint}")
    matched = as_plain_strings(answer, "names returned by specific_match_func", AlignmentError)
    left = Counter(names)
    for position, name in enumerate(matched):
        if name not in left:
            raise AlignmentError(
                f"specific_match_func returned {name!r} at position {position}, which is none of "
                f"the layers{did_you_mean(name, names)}")
        left[name] -= 1
        if left[name] < 0:
            raise AlignmentError(
                f"specific_match_func returned {name!r} twice, at position {matched.index(name)} "
                f"and at position {position}")
    return matched
