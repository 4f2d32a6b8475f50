"""A Plan as a file: JSON with sorted keys, a line for each tensor and each variable, the same bytes
for the same Plan.

    {"constants": [[expression, value, rule], ...],
     "dropped": {name: rule}, "kept": {key: rule},
     "format": "keras_torch_convert plan", "version": 1, "reversed": false,
     "layout": {"compressed": ..., "framework": ..., "version": ...} or null,
     "pairs": [[from layer, to layer], ...] or null: as the prefixes of "variables" say,
     "rules": [sentence, ...], "sha256": of all the rest,
     "sources": [[name prefix, display prefix, [[name, display name, shape, dtype], ...]], ...],
     "stored": {"sources": as above, "tensors": [[name, expression], ...]}, only where files differ,
     "variables": [[key prefix, display prefix, name prefix,
                    [[key, display name, shape, expression, rule, {more}], ...]], ...]}

A rule is the number of its sentence in "rules". Neighbors with a prefix in common stand together,
so that it is written once: keys, display names and names of tensors continue their prefix. A dtype
that is not given is float32; where the display prefix of sources is null, display names are the
names and not written. An expression is the name of a tensor or a list: what is done, to what, and
how (["permute", "weight", [2, 3, 1, 0]]). The layout of Keras files, with the model's config, is
JSON as well: zlib, then base64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any, Union

from ..errors import PlanError
from ..spec.file_layout import recorded
from ..spec.tensor_spec import TensorSpec
from ..util.atomic_file import write_atomically
from ..util.file_limits import read_text
from ..util.gc_pause import gc_paused
from .evaluation import shape_of
from .expressions import Expression, needs_callback, tensors_of
from .file_expressions import Calls, ExpressionReader, expression_as_json
from .file_layout import layout_as_json, read_layout
from .json_file import JsonFormat
from .json_values import (UnexpectedError, each, items, members, number, one_of, part, shape, text,
                          truth)
from .recipe import AnyRecipe, Assignment, Constant, Recipe, Stored

FORMAT = JsonFormat("plan", "report.plan.save(path)", 1,
                    ("constants", "dropped", "kept", "layout", "pairs", "reversed", "rules",
                     "sources", "variables"), ("stored",))
_USUAL_DTYPE = "float32"
# Far more than any plan takes; its largest part are the values that variables keep.
MOST_BYTES = 512 << 20


def save_plan(plan: Recipe, path: str | PathLike[str]) -> Path:
    """Write the Plan to `path`, whole or not at all."""
    path = Path(path)
    data = plan_as_text(plan).encode("utf-8")
    if len(data) > MOST_BYTES:
        raise PlanError(f"the plan takes {len(data)} bytes, a file may have {MOST_BYTES}; save it "
                        "without a layout, by dataclasses.replace(plan, layout=None)")
    write_atomically(path, data)
    return path


def load_plan(path: str | PathLike[str], make: type[AnyRecipe], calls: Calls) -> AnyRecipe:
    """Read a Plan that `save_plan` wrote, as a `make` (Plan).

    `calls` are the user's callbacks by their keys in words. Raises PlanError.
    """
    path = Path(path)
    content = read_text(path, PlanError, "a plan, as Plan.save writes it", MOST_BYTES)
    try:
        return plan_from_text(content, make, calls)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def plan_as_text(plan: Recipe) -> str:
    """Return the Plan as the text of its file."""
    rules = _Rules()
    layout = recorded(plan.layout)
    parts: dict[str, Any] = {
        "constants": [_constant_as_json(constant, rules) for constant in plan.constants],
        "dropped": {name: rules.number(rule) for name, rule in sorted(plan.dropped.items())},
        "kept": {key: rules.number(rule) for key, rule in sorted(plan.kept.items())},
        "layout": None if layout is None else layout_as_json(layout), "reversed": plan.reversed,
        "sources": _specs_as_json(plan.sources, "."), "variables": _variables_as_json(plan, rules)
    }
    if plan.stored is not None:
        parts["stored"] = {
            "sources":
                _specs_as_json(plan.stored.sources, "."),
            "tensors": [[name, expression_as_json(one, "")]
                        for name, one in plan.stored.expressions.items()]
        }
    implied = _implied_pairs(parts["variables"])
    parts["pairs"] = None if implied == plan.pairs else [list(pair) for pair in plan.pairs]
    parts["rules"] = rules.sentences
    return FORMAT.as_text(parts)


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
    """Yield keys in the order of the assignments, then those that nothing is assigned to; the spec
    of each once.
    """
    done: set[str] = set()
    for assignment in plan.assignments:
        key = assignment.key
        yield key, None if key in done else plan.targets.get(key), assignment
        done.add(key)
    yield from ((key, spec, None) for key, spec in plan.targets.items() if key not in done)


def _variables_as_json(plan: Recipe, rules: _Rules) -> list[Any]:
    separator = "." if plan.reversed else "/"
    groups = []
    for head, group in groupby(_rows(plan), lambda row: _head(row[0], separator)):
        rows = list(group)
        display_name = _shared(
            [_head(spec.display_name, separator) for _, spec, _ in rows if spec is not None])
        names = [
            name for _, _, assignment in rows if assignment is not None
            for name in _all_tensors(assignment)
        ]
        prefix = _shared([_head(name, "/" if plan.reversed else ".") for name in names])
        groups.append([
            head, display_name, prefix,
            [_row_as_json(row, (head, display_name, prefix), rules) for row in rows]
        ])
    return groups


def _row_as_json(row: _Row, heads: tuple[str, str, str], rules: _Rules) -> list[Any]:
    key, spec, assignment = row
    head, display_head, prefix = heads
    more: dict[str, Any] = {}
    known: list[Any] = [key[len(head):], None, None]
    if spec is not None:
        known[1:] = [spec.display_name[len(display_head):], list(spec.shape)]
        if spec.dtype != _USUAL_DTYPE:
            more["dtype"] = spec.dtype
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
    expression = expression_as_json(assignment.expression, prefix)
    result = [*known, expression, rules.number(assignment.rule)]
    return [*result, more] if more else result


def _implied_pairs(variables: list[Any]) -> tuple[tuple[str, str], ...]:
    """Return a pair for each group of variables: the prefix of its tensors' names and that of its
    display names.
    """
    return tuple(
        dict.fromkeys((names[:-1], display_name[:-1]) for _, display_name, names, _ in variables))


def _all_tensors(assignment: Assignment) -> tuple[str, ...]:
    constants = (
        name for constant in assignment.constants for name in tensors_of(constant.expression))
    return (*tensors_of(assignment.expression), *constants)


def _constant_as_json(constant: Constant, rules: _Rules, prefix: str = "") -> list[Any]:
    expression = expression_as_json(constant.expression, prefix)
    return [expression, float(constant.value), rules.number(constant.rule)]


def _specs_as_json(specs: Mapping[str, TensorSpec], separator: str) -> list[Any]:
    groups = []
    for head, group in groupby(specs.items(), lambda item: _head(item[0], separator)):
        together = list(group)
        display_name = None
        if any(name != spec.display_name for name, spec in together):
            display_name = _shared([_head(spec.display_name, separator) for _, spec in together])
        groups.append([
            head, display_name,
            [_spec_as_json(name[len(head):], spec, display_name) for name, spec in together]
        ])
    return groups


def _spec_as_json(name: str, spec: TensorSpec, display_name: str | None) -> list[Any]:
    row: list[Any] = [name, list(spec.shape)]
    if display_name is not None:
        row.insert(1, spec.display_name[len(display_name):])
    return row if spec.dtype == _USUAL_DTYPE else [*row, spec.dtype]


def _shared(names: Sequence[str]) -> str:
    """Return what all the names begin with."""
    first, last = min(names, default=""), max(names, default="")
    return next((first[:end] for end in range(len(first)) if first[end] != last[end:end + 1]),
                first)


def _head(name: str, separator: str) -> str:
    """Return a name without its last part, the separator kept: "" for a name of one part."""
    return name[:name.rfind(separator) + 1]


def plan_from_text(content: str, make: type[AnyRecipe], calls: Calls) -> AnyRecipe:
    """Return the Plan that the text of a file describes. Raises PlanError."""
    try:
        # With PyTorch and Keras in memory two thirds of the time would go to the search for cycles.
        with gc_paused():
            plan = _read_plan(FORMAT.read(content), make, calls)
            _check_shapes(plan)
        return plan
    except UnexpectedError as error:
        raise error.as_plan_error() from error
    except RecursionError as error:
        raise PlanError("it is no plan: its values are nested too deeply") from error


def _read_plan(parts: dict[str, Any], make: type[AnyRecipe], calls: Calls) -> AnyRecipe:
    reader = _Reader(part(parts, "rules", lambda rules: each(rules, text)), calls)
    pairs = parts["pairs"]
    part(parts, "variables", lambda groups: each(groups, reader.read_variables))
    part(parts, "sources", lambda groups: each(groups, reader.read_sources))
    expressions = ExpressionReader("", calls)
    return make(
        tuple(reader.assignments), part(parts, "dropped", reader.read_rules),
        part(parts, "kept", reader.read_rules),
        _implied_pairs(parts["variables"]) if pairs is None else tuple(
            part(parts, "pairs", lambda pairs: each(pairs, _read_pair))),
        part(parts, "constants",
             lambda rows: reader.read_constants(rows, expressions)), reader.sources, reader.targets,
        part(parts, "reversed", truth),
        None if parts["layout"] is None else part(parts, "layout", read_layout),
        part(parts, "stored", _read_stored) if "stored" in parts else None)


def _read_stored(value: Any) -> Stored:
    reader, expressions = _Reader((), {}), ExpressionReader("", {})
    found: dict[str, Expression] = {}

    def read_tensor(row: Any) -> None:
        items(row, 2, 2)
        found[part(row, 0, text)] = part(row, 1, expressions.read)

    members(value, "sources", "tensors")
    part(value, "sources", lambda groups: each(groups, reader.read_sources))
    part(value, "tensors", lambda rows: each(rows, read_tensor))
    return Stored(found, reader.sources)


def _read_pair(pair: Any) -> tuple[str, str]:
    items(pair, 2, 2)
    return part(pair, 0, text), part(pair, 1, text)


class _Reader:
    """Reads the lists of a plan file, whose rules are numbers of sentences."""
    def __init__(self, rules: Sequence[str], calls: Calls) -> None:
        self.rules, self.calls = rules, calls
        self.assignments: list[Assignment] = []
        self.targets: dict[str, TensorSpec] = {}
        self.sources: dict[str, TensorSpec] = {}

    def rule(self, value: Any) -> str:
        return one_of(value, self.rules)

    def read_rules(self, value: Any) -> dict[str, str]:
        if type(value) is not dict:
            raise UnexpectedError("an object", value)
        return {name: part(value, name, self.rule) for name in value}

    def read_constants(self, rows: Any, expressions: ExpressionReader) -> tuple[Constant, ...]:
        def read(row: Any) -> Constant:
            items(row, 3, 3)
            return Constant(part(row, 0, expressions.read), part(row, 1, number),
                            part(row, 2, self.rule))

        return tuple(each(rows, read))

    def read_variables(self, group: Any) -> None:
        items(group, 4, 4)
        heads = part(group, 0, text), part(group, 1, text)
        expressions = ExpressionReader(part(group, 2, text), self.calls)
        part(group, 3,
             lambda rows: each(rows, lambda row: self.read_variable(row, heads, expressions)))

    def read_variable(self, row: Any, heads: tuple[str, str],
                      expressions: ExpressionReader) -> None:
        items(row, 5, 6)
        key = heads[0] + part(row, 0, text)
        more = part(row, 5, _read_more) if len(row) == 6 else {}
        if row[2] is not None:
            dtype = part(more, "dtype", text) if "dtype" in more else _USUAL_DTYPE
            display_name = heads[1] + part(row, 1, text)
            _add_new(self.targets, key, TensorSpec(part(row, 2, shape), dtype, display_name))
        if row[3] is None:
            return
        doubt, note = (
            part(more, name, self.rule) if name in more else "" for name in ("doubt", "note"))
        constants: tuple[Constant, ...] = ()
        if "constants" in more:
            constants = part(more, "constants", lambda rows: self.read_constants(rows, expressions))
        self.assignments.append(
            Assignment(key, part(row, 3, expressions.read), part(row, 4, self.rule), doubt, note,
                       constants))

    def read_sources(self, group: Any) -> None:
        items(group, 3, 3)
        head = part(group, 0, text)
        display_head = None if group[1] is None else part(group, 1, text)
        part(group, 2,
             lambda rows: each(rows, lambda row: self.read_source(row, head, display_head)))

    def read_source(self, row: Any, head: str, display_head: str | None) -> None:
        # Without a head of display names the display name is the name, and no row has one.
        named = 0 if display_head is None else 1
        items(row, 2 + named, 3 + named)
        name = display_name = head + part(row, 0, text)
        if display_head is not None:
            display_name = display_head + part(row, 1, text)
        dtype = part(row, 2 + named, text) if len(row) > 2 + named else _USUAL_DTYPE
        _add_new(self.sources, name, TensorSpec(part(row, 1 + named, shape), dtype, display_name))


def _read_more(value: Any) -> dict[str, Any]:
    return members(value, "doubt", "note", "constants", "dtype")


def _add_new(specs: dict[str, TensorSpec], name: str, spec: TensorSpec) -> None:
    if name in specs:
        raise UnexpectedError("a name that is not there yet", name)
    specs[name] = spec


def _check_shapes(plan: Recipe) -> None:
    """Check that every expression gives the shape of its variable, where the Plan knows shapes."""
    shapes = {name: spec.shape for name, spec in plan.sources.items()}
    for index, assignment in enumerate(plan.assignments):
        # A Plan made by hand may lack the specs; what a callback gives has no shape before it is
        # called.
        target = plan.targets.get(assignment.key)
        if target is None or needs_callback(assignment.expression) or not all(
                name in shapes for name in tensors_of(assignment.expression)):
            continue
        try:
            found = shape_of(assignment.expression, shapes)
        except ValueError as error:
            raise PlanError(
                f"variable {index} ('{assignment.key}'): {error}; save the plan again") from error
        if found != target.shape:
            raise PlanError(
                f"variable {index}: '{target.display_name}' has shape {target.shape}, the "
                f"expression gives {found}; save the plan again")
