"""A family as a file: JSON with sorted keys and a line for each pattern, to be committed.

    {"constants": [[form of tensor, value, rule], ...],
     "dropped": {form of tensor: rule}, "kept": {form of variable: rule},
     "format": "keras_torch_convert family", "version": 1, "learned": [sentence, ...],
     "patterns": [[form of variable, expression, [[index, ...], ...], rule, {more}], ...],
     "rules": [sentence, ...], "sha256": of all the rest,
     "unused": {form of tensor: rows}, "uses": {form of tensor: variables},
     "files": [[form of variable, path in .weights.h5, dtype, run], ...]}

A rule is the number of its sentence. Expressions are those of a plan file, with forms for names and
zeros for sizes. An index says how a number in the tensor's name follows from those of the variable:
"0" is the first, "1-2" the second less two, "0+1/2" half of one more than the first, "=3" always
three; "," separates equals, ";" what is taken if nothing of the first is there, then the values
that were seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ...errors import PlanError
from ...util.atomic_file import write_atomically
from ...util.file_limits import read_text
from ..file_expressions import ExpressionReader, expression_as_json
from ..json_file import JsonFormat
from ..json_values import (UnexpectedError, each, items, members, number, one_of, part, positive,
                           text, truth, whole)
from .index_maps import Index, IndexMap
from .patterns import Condition, ConstantPattern, Family, Pattern
from .sizes import Formula, leaves, repetitions, sizes_in
from .stored_paths import StoredForm

FORMAT = JsonFormat(
    "family", "plan.generalize().save(path)", 1,
    ("constants", "dropped", "kept", "learned", "patterns", "rules", "unused", "uses"), ("files",))
MOST_BYTES = 8 << 20
_INDEX = re.compile(r"(?:=(\d+)|(\d+)([+-]\d+)?(?:/(\d+))?)")
AnyFamily = TypeVar("AnyFamily", bound=Family)


def save_family(family: Family, path: Path) -> Path:
    """Write the family to `path`, whole or not at all."""
    write_atomically(path, family_as_text(family).encode("utf-8"))
    return path


def load_family(path: Path, make: type[AnyFamily]) -> AnyFamily:
    """Read a family that `save_family` wrote, as a `make`. Raises PlanError."""
    content = read_text(path, PlanError, "a family, as FamilyPlan.save writes it", MOST_BYTES)
    try:
        return _read_family(FORMAT.read(content), make)
    except UnexpectedError as error:
        raise PlanError(f"{path}: {error.as_plan_error('family')}") from error
    except RecursionError as error:
        raise PlanError(f"{path}: it is no family: its values are nested too deeply") from error
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def family_as_text(family: Family) -> str:
    """Return the family as the text of its file."""
    rules = list(
        dict.fromkeys([
            *(sentence for one in family.patterns for sentence in (one.rule, one.doubt, one.note)),
            *family.dropped.values(), *family.kept.values(), *(one.rule for one in family.constants)
        ]))
    number_of = {rule: index for index, rule in enumerate(rules)}
    files = [[one.target, one.path, one.dtype, one.run] for one in family.files]
    return FORMAT.as_text({
        **({"files": files} if files else {}), "constants": [
            [one.tensor, float(one.value), number_of[one.rule]] for one in family.constants
        ], "dropped": {form: number_of[rule] for form, rule in family.dropped.items()}, "kept": {
            form: number_of[rule] for form, rule in family.kept.items()
        }, "learned": list(family.learned),
        "patterns": [_pattern_as_json(one, number_of) for one in family.patterns], "rules": rules,
        "unused": dict(family.unused), "uses": dict(family.uses)
    })


def _pattern_as_json(pattern: Pattern, number_of: Mapping[str, int]) -> list[Any]:
    more: dict[str, Any] = {}
    if pattern.sizes:
        more["sizes"] = {
            str(slot): [list(formula) for formula in formulas]
            for slot, formulas in pattern.sizes.items()
        }
    if pattern.conditions:
        more["conditions"] = [[
            one.holes,
            list(one.present),
            list(one.absent),
            list(one.numbers),
            list(one.others)
        ] for one in pattern.conditions]
    more.update((name, number_of[sentence])
                for name, sentence in (("doubt", pattern.doubt), ("note", pattern.note))
                if sentence)
    if not pattern.ordered:
        more["ordered"] = False
    if pattern.count > 1:
        more["count"] = pattern.count
    if pattern.numbers:
        more["numbers"] = list(pattern.numbers)
    if pattern.extents:
        more["extents"] = [[list(one) for one in axis] for axis in pattern.extents]
    row = [
        pattern.target,
        expression_as_json(pattern.expression, ""),
        [[_map_as_text(one) for one in leaf] for leaf in pattern.indices], number_of[pattern.rule]
    ]
    return [*row, more] if more else row


def _map_as_text(one: IndexMap) -> str:
    found = ",".join(map(_index_as_text, one.first))
    if not one.second:
        return found
    return f"{found};{','.join(map(_index_as_text, one.second))};{','.join(map(str, one.seen))}"


def _index_as_text(index: Index) -> str:
    if index.hole is None:
        return f"={index.offset}"
    offset = f"{index.offset:+d}" if index.offset else ""
    return f"{index.hole}{offset}{f'/{index.stride}' if index.stride > 1 else ''}"


def _read_family(parts: dict[str, Any], make: type[AnyFamily]) -> AnyFamily:
    rules = part(parts, "rules", lambda value: each(value, text))
    rule = partial(_rule, rules)
    return make(
        tuple(part(parts, "patterns", lambda rows: each(rows, lambda row: _read_pattern(row, rule)))
              ), _table(parts, "dropped", rule), _table(parts, "kept", rule),
        tuple(part(parts, "constants", lambda rows: each(rows, lambda row: _constant(row, rule)))),
        _table(parts, "uses", positive), _table(parts, "unused", _whole_number),
        tuple(part(parts, "learned", lambda value: each(value, text))),
        tuple(part(parts, "files", lambda rows: each(rows, _read_stored)))
        if "files" in parts else ())  # yapf: disable


def _read_stored(row: Any) -> StoredForm:
    items(row, 4, 4)
    return StoredForm(part(row, 0, text), part(row, 1, text), part(row, 2, text),
                      part(row, 3, whole))


def _rule(rules: Sequence[str], value: Any) -> str:
    return one_of(value, rules)


def _whole_number(value: Any) -> int:
    if type(value) is not int:
        raise UnexpectedError("a whole number", value)
    return value


def _table(parts: dict[str, Any], name: str, read: Any) -> dict[str, Any]:
    def table(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise UnexpectedError("an object", value)
        return {key: part(value, key, read) for key in value}

    return part(parts, name, table)


def _constant(row: Any, rule: Any) -> ConstantPattern:
    items(row, 3, 3)
    return ConstantPattern(part(row, 0, text), part(row, 1, number), part(row, 2, rule))


def _read_pattern(row: Any, rule: Any) -> Pattern:
    items(row, 4, 5)
    more = part(
        row, 4, lambda value: members(value, "conditions", "count", "doubt", "extents", "note",
                                      "numbers", "ordered", "sizes")) if len(row) == 5 else {}
    target = part(row, 0, text)
    holes = target.count("{}")
    expression = part(row, 1, ExpressionReader("", {}).read)
    forms = [leaf.name for leaf in leaves(expression)]
    for form, hole in zip(forms, repetitions(expression), strict=True):
        if hole is not None and hole >= form.count("{}"):
            raise UnexpectedError(f"a hole of '{form}'", hole)

    def read_leaf(leaf: Any, form: str) -> tuple[IndexMap, ...]:
        items(leaf, form.count("{}"), form.count("{}"))
        return tuple(each(leaf, lambda one: _read_map(one, holes)))

    def read_leaves(value: Any) -> tuple[tuple[IndexMap, ...], ...]:
        items(value, len(forms), len(forms))
        return tuple(
            part(value, index, partial(read_leaf, form=form)) for index, form in enumerate(forms))

    found = part(row, 2, read_leaves)
    slots = sizes_in(expression)
    sizes: dict[int, tuple[Formula, ...]] = {}
    if "sizes" in more:
        for key, value in _table(more, "sizes", lambda rows: each(rows, _read_formula)).items():
            if not key.isdecimal() or int(key) >= slots:
                raise UnexpectedError(f"numbers of sizes below {slots}", key)
            sizes[int(key)] = tuple(value)
    conditions = part(more, "conditions", lambda rows: each(rows, lambda one: _read_condition(
        one, holes))) if "conditions" in more else []
    return Pattern(
        target, expression, found, sizes, part(row, 3, rule),
        part(more, "doubt", rule) if "doubt" in more else "",
        part(more, "note", rule) if "note" in more else "",
        part(more, "ordered", truth) if "ordered" in more else True, tuple(conditions),
        part(more, "count", positive) if "count" in more else 1,
        part(more, "numbers", partial(_read_numbers, holes)) if "numbers" in more else (),
        tuple(part(more, "extents", lambda axes: each(axes, lambda axis: tuple(
            each(axis, _read_formula))))) if "extents" in more else ())  # yapf: disable


def _read_numbers(holes: int, value: Any) -> tuple[int | None, ...]:
    return tuple(each(items(value, holes, holes), lambda one: None if one is None else whole(one)))


def _read_map(value: Any, holes: int) -> IndexMap:
    first, *rest = text(value).split(";")
    if len(rest) not in (0, 2):
        raise UnexpectedError("an index such as '0' or '=3;0+1;3'", value)
    indices = [_read_index(one, holes) for one in first.split(",") if first]
    if not rest:
        return IndexMap(tuple(indices), (), ())
    seen = rest[1].split(",")
    if not all(one.isdecimal() for one in seen):
        raise UnexpectedError("the values that were seen as the third part", value)
    return IndexMap(tuple(indices), tuple(_read_index(one, holes) for one in rest[0].split(",")),
                    tuple(map(int, seen)))


def _read_index(value: str, holes: int) -> Index:
    found = _INDEX.fullmatch(value)
    if found is None or len(value) > 40:
        raise UnexpectedError("an index such as '0', '1-2', '0+1/2' or '=3'", value)
    if found[1] is not None:
        return Index(None, int(found[1]))
    index = Index(int(found[2]), int(found[3] or 0), int(found[4] or 1))
    if index.hole is None or index.hole >= holes or not index.stride:
        raise UnexpectedError(f"a number of the variable below {holes}", value)
    return index


def _read_formula(value: Any) -> Formula:
    for one in items(value, 2, 8):
        if type(one) not in (str, int):
            raise UnexpectedError("a text or a whole number", one)
    return tuple(value)


def _read_condition(row: Any, holes: int) -> Condition:
    items(row, 5, 5)
    count = part(row, 0, lambda value: whole(value, 0, holes))
    present, absent = (
        tuple(part(row, column, lambda value: each(value, text))) for column in (1, 2))
    numbers, others = (
        tuple(part(row, column, lambda value: each(value, whole))) for column in (3, 4))
    if numbers and not count:
        raise UnexpectedError("at least one hole for a number", row)
    return Condition(count, present, absent, numbers, others)
