"""A Plan as a file: JSON with sorted keys, a line for each tensor and each variable, the same bytes
for the same Plan.

    {"constants": [[expression, value, rule], ...],                     rule: which of the sentences in "rules"
     "dropped": {name: rule}, "kept": {place: rule},
     "format": "keras_torch_convert plan", "version": 1, "reversed": false, "rules": [...], "sha256": of all the rest,
     "layout": {"compressed": ..., "framework": ..., "version": ...} or null,
     "pairs": [[from layer, to layer], ...] or null: as the prefixes of "variables" say,
     "sources": [[name prefix, label prefix, [[name, label, shape, type], ...]], ...],
     "variables": [[place prefix, label prefix, name prefix, [[place, label, shape, expression, rule, {more}], ...]], ...]}

Neighbors with a prefix in common stand together, so that it is written once: places, labels and
names of tensors continue their prefix. A type that is not given is float32; where the label's
prefix of sources is null, labels are the names and not written. An expression is the name of a
tensor or a list: what is done, to what, and how (["permute", "weight", [2, 3, 1, 0]]). The layout
of Keras files, with the model's config, is JSON as well: zlib, then base64.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any, Union

from ..errors import PlanError
from ..spec.file_layout import recorded
from ..spec.tensor_spec import TensorSpec
from ..util.atomic_file import write_atomically
from .evaluation import shape_of
from .expressions import needs_callback, tensors_of
from .file_entries import Entry, entry_at
from .file_expressions import Calls, Names, expression_as_json, read_expression
from .file_layout import layout_as_json, read_layout
from .recipe import AnyRecipe, Assignment, Constant, Recipe

FORMAT = "keras_torch_convert plan"
VERSION = 1
_PARTS = ("constants", "dropped", "format", "kept", "layout", "pairs", "reversed", "rules",
          "sha256", "sources", "variables", "version")
_USUAL_DTYPE = "float32"


def save_plan(plan: Recipe, path: str | PathLike[str]) -> Path:
    """Write the Plan to `path`, whole or not at all: under a temporary name in the same folder
    first.
    """
    path = Path(path)
    write_atomically(path, plan_as_text(plan).encode("utf-8"))
    return path


def load_plan(path: str | PathLike[str], make: type[AnyRecipe], calls: Calls) -> AnyRecipe:
    """Read a Plan that `save_plan` wrote; as a `make` (Plan); `calls` are the user's callbacks by
    their key in words.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PlanError(
            f"{path} is no plan: it is not a text file; a plan is what Plan.save writes") from error
    try:
        return plan_from_text(text, make, calls)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def plan_as_text(plan: Recipe) -> str:
    """The Plan as the text of its file."""
    rules = _Rules()
    layout = recorded(plan.layout)
    parts: dict[str, Any] = {
        "constants": [_constant_as_json(constant, rules) for constant in plan.constants],
        "dropped": {name: rules.number(rule) for name, rule in sorted(plan.dropped.items())},
        "format": FORMAT, "kept": {
            place: rules.number(rule) for place, rule in sorted(plan.kept.items())
        }, "layout": None if layout is None else layout_as_json(layout), "reversed": plan.reversed,
        "sources": _kinds_as_json(plan.sources,
                                  "."), "variables": _variables_as_json(plan,
                                                                        rules), "version": VERSION
    }
    implied = _implied_pairs(entry_at(parts["variables"], "variables"))
    parts["pairs"] = None if implied == plan.pairs else [list(pair) for pair in plan.pairs]
    parts["rules"] = rules.sentences
    parts["sha256"] = _digest(parts)
    return "{\n" + ",\n".join(
        f"{_json(name)}: {_lines(parts[name])}" for name in sorted(parts)) + "\n}\n"


def plan_from_text(text: str, make: type[AnyRecipe], calls: Calls) -> AnyRecipe:
    """The Plan that the text of a file describes. Raises PlanError."""
    parts = _parts(text)
    rules = [entry.text() for entry in parts["rules"].items()]
    assignments, targets = _read_variables(parts["variables"], rules, calls)
    pairs = parts["pairs"]
    plan = make(
        assignments, _read_rules(parts["dropped"], rules), _read_rules(parts["kept"], rules),
        _implied_pairs(parts["variables"]) if pairs.value is None else tuple(
            _read_pair(pair) for pair in pairs.items()),
        tuple(
            _read_constant(entry, Names("", calls), rules) for entry in parts["constants"].items()),
        _read_kinds(parts["sources"]), targets, parts["reversed"].truth(),
        None if parts["layout"].value is None else read_layout(parts["layout"]))
    _check_shapes(plan)
    return plan


class _Rules:
    """Each sentence once, known by its number."""
    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, sentence: str) -> int:
        if sentence not in self._numbers:
            self._numbers[sentence] = len(self.sentences)
            self.sentences.append(sentence)
        return self._numbers[sentence]


_Row = tuple[str, Union[TensorSpec, None], Union[Assignment, None]]


def _rows(plan: Recipe) -> Iterator[_Row]:
    """Places in the order of the assignments, then those that nothing is assigned to; the kind of
    each once.
    """
    told: set[str] = set()
    for assignment in plan.assignments:
        place = assignment.key
        yield place, None if place in told else plan.targets.get(place), assignment
        told.add(place)
    yield from ((place, kind, None) for place, kind in plan.targets.items() if place not in told)


def _variables_as_json(plan: Recipe, rules: _Rules) -> list[Any]:
    separator = "." if plan.reversed else "/"
    groups = []
    for head, group in groupby(_rows(plan), lambda row: _head(row[0], separator)):
        rows = list(group)
        label = _shared(
            [_head(kind.display_name, separator) for _, kind, _ in rows if kind is not None])
        names = [
            name for _, _, assignment in rows if assignment is not None
            for name in _all_tensors(assignment)
        ]
        prefix = _shared([_head(name, "/" if plan.reversed else ".") for name in names])
        groups.append([
            head, label, prefix, [_row_as_json(row, (head, label, prefix), rules) for row in rows]
        ])
    return groups


def _row_as_json(row: _Row, heads: tuple[str, str, str], rules: _Rules) -> list[Any]:
    place, kind, assignment = row
    head, label_head, prefix = heads
    more: dict[str, Any] = {}
    known: list[Any] = [place[len(head):], None, None]
    if kind is not None:
        known[1:] = [kind.display_name[len(label_head):], list(kind.shape)]
        if kind.dtype != _USUAL_DTYPE:
            more["dtype"] = kind.dtype
    if assignment is None:
        return [*known, None, None, more]
    if assignment.doubt:
        more["doubt"] = rules.number(assignment.doubt)
    if assignment.note:
        more["note"] = rules.number(assignment.note)
    if assignment.constants:
        more["constants"] = [
            _constant_as_json(constant, rules, prefix) for constant in assignment.constants
        ]
    result = [
        *known,
        expression_as_json(assignment.expression, prefix),
        rules.number(assignment.rule)
    ]
    return [*result, more] if more else result


def _implied_pairs(variables: Entry) -> tuple[tuple[str, str], ...]:
    """A pair for each group of variables: the prefix of its tensors' names and that of its labels.
    """
    pairs = ((names.text()[:-1], label.text()[:-1])
             for _, label, names, _ in (row.items(4) for row in variables.items()))
    return tuple(dict.fromkeys(pairs))


def _all_tensors(assignment: Assignment) -> tuple[str, ...]:
    constants = (
        name for constant in assignment.constants for name in tensors_of(constant.expression))
    return (*tensors_of(assignment.expression), *constants)


def _constant_as_json(constant: Constant, rules: _Rules, prefix: str = "") -> list[Any]:
    return [
        expression_as_json(constant.expression, prefix),
        float(constant.value),
        rules.number(constant.rule)
    ]


def _kinds_as_json(kinds: Mapping[str, TensorSpec], separator: str) -> list[Any]:
    rows = []
    for head, group in groupby(kinds.items(), lambda item: _head(item[0], separator)):
        together = list(group)
        label = (None if all(name == kind.display_name for name, kind in together) else _shared(
            [_head(kind.display_name, separator) for _, kind in together]))
        rows.append([
            head, label, [_kind_as_json(name[len(head):], kind, label) for name, kind in together]
        ])
    return rows


def _kind_as_json(name: str, kind: TensorSpec, label: str | None) -> list[Any]:
    row: list[Any] = ([name, list(kind.shape)] if label is None else
                      [name, kind.display_name[len(label):],
                       list(kind.shape)])
    return row if kind.dtype == _USUAL_DTYPE else [*row, kind.dtype]


def _shared(names: Sequence[str]) -> str:
    """What all the names begin with."""
    first, last = min(names, default=""), max(names, default="")
    return next((first[:end] for end in range(len(first)) if first[end] != last[end:end + 1]),
                first)


def _head(name: str, separator: str) -> str:
    """A name without its last part, the separator kept: "" for a name of one part."""
    return name[:name.rfind(separator) + 1]


def _json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"),
                          allow_nan=False)
    except ValueError as error:
        raise PlanError("a plan with an infinite or undefined number cannot be saved") from error


def _lines(value: Any) -> str:
    """A list or dict with one line for each entry."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(_json, value)) + "\n]"
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(
            f"{_json(key)}:{_json(value[key])}" for key in sorted(value)) + "\n}"
    return _json(value)


def _digest(parts: Mapping[str, Any]) -> str:
    rest = {name: part for name, part in parts.items() if name != "sha256"}
    return hashlib.sha256(_json(rest).encode("utf-8")).hexdigest()


def _parts(text: str) -> dict[str, Entry]:
    """The parts of a file of our format and version, undamaged."""
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PlanError(
            f"it is no plan, or damaged: it cannot be read as JSON ({error}); save the plan again"
        ) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise PlanError(f'it is JSON but no plan: a plan says "format": "{FORMAT}"; make one with '
                        'report.plan.save(path)')
    version = value.get("version")
    if type(version) is not int or version < 1:
        raise PlanError(
            f"the plan's version is {version!r}, expected {VERSION}; the file is damaged, save "
            "the plan again")
    if version > VERSION:
        raise PlanError(
            f"the plan has version {version}, this keras_torch_convert reads up to {VERSION}: "
            "install the newer one that made it")
    missing, unknown = sorted(set(_PARTS) - set(value)), sorted(set(value) - set(_PARTS))
    if missing or unknown:
        raise PlanError(
            f"the plan is damaged: missing parts {missing}, unknown parts {unknown}; save it again")
    parts = {name: entry_at(value[name], name) for name in _PARTS}
    if parts["sha256"].text() != _digest(value):
        raise PlanError(
            "the plan is damaged or was changed by hand: its contents do not fit its check sum; "
            "save it again, and change plans in Python")
    return parts


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _read_variables(entry: Entry, rules: list[str],
                    calls: Calls) -> tuple[tuple[Assignment, ...], dict[str, TensorSpec]]:
    assignments: list[Assignment] = []
    targets: dict[str, TensorSpec] = {}
    for group in entry.items():
        head, label_head, prefix, rows = group.items(4)
        names = Names(prefix.text(), calls)
        for row in rows.items():
            last, label, shape, expression, rule, *rest = row.items(5, 6)
            more = rest[0].members("doubt", "note", "constants", "dtype") if rest else {}
            place = head.text() + last.text()
            if shape.value is not None:
                if place in targets:
                    raise last.error("a place that is not there yet")
                dtype = more["dtype"].text() if "dtype" in more else _USUAL_DTYPE
                targets[place] = TensorSpec(shape.shape(), dtype, label_head.text() + label.text())
            if expression.value is not None:
                read = read_expression(expression, names)
                assignments.append(
                    Assignment(place, read, rule.one_of(rules), *_read_more(more, names, rules)))
    return tuple(assignments), targets


def _read_more(more: Mapping[str, Entry], names: Names,
               rules: list[str]) -> tuple[str, str, tuple[Constant, ...]]:
    constants = more["constants"].items() if "constants" in more else []
    return (more["doubt"].one_of(rules) if "doubt" in more else "",
            more["note"].one_of(rules) if "note" in more else "",
            tuple(_read_constant(constant, names, rules) for constant in constants))


def _read_constant(entry: Entry, names: Names, rules: list[str]) -> Constant:
    expression, value, rule = entry.items(3)
    return Constant(read_expression(expression, names), value.number(), rule.one_of(rules))


def _read_rules(entry: Entry, rules: list[str]) -> dict[str, str]:
    return {name: rule.one_of(rules) for name, rule in entry.members().items()}


def _read_pair(entry: Entry) -> tuple[str, str]:
    first, second = entry.items(2)
    return first.text(), second.text()


def _read_kinds(entry: Entry) -> dict[str, TensorSpec]:
    kinds: dict[str, TensorSpec] = {}
    for row in entry.items():
        head, label_head, together = row.items(3)
        for one in together.items():
            # Without a label's head the label is the name, and no row has one.
            last, *labels, shape, dtype = _with_dtype(one, 2 if label_head.value is None else 3)
            name = head.text() + last.text()
            if name in kinds:
                raise last.error("a name that is not there yet")
            label = label_head.text() + labels[0].text() if labels else name
            kinds[name] = TensorSpec(shape.shape(), dtype.text(), label)
    return kinds


def _with_dtype(entry: Entry, least: int) -> list[Entry]:
    """The entries of a row, of which the last one, the type, may be left out."""
    items = entry.items(least, least + 1)
    return items if len(items) > least else [*items, entry_at(_USUAL_DTYPE, entry.where)]


def _check_shapes(plan: Recipe) -> None:
    """Every expression must give the shape of its variable, as far as the Plan knows the shapes."""
    shapes = {name: kind.shape for name, kind in plan.sources.items()}
    for number, assignment in enumerate(plan.assignments):
        # A Plan made by hand may lack the kinds; what a callback gives has no shape before it is
        # called.
        target = plan.targets.get(assignment.key)
        known = target is not None and shapes.keys() >= set(tensors_of(assignment.expression))
        if not known or needs_callback(assignment.expression):
            continue
        try:
            shape = shape_of(assignment.expression, shapes)
        except ValueError as error:
            raise PlanError(
                f"variable {number} ('{assignment.key}'): {error}; save the plan again") from error
        if target is not None and shape != target.shape:
            raise PlanError(
                f"variable {number}: '{target.display_name}' has shape {target.shape}, the "
                f"expression gives {shape}; save the plan again")
