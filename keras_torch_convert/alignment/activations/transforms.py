"""Ways in which a torch tensor may become a Keras variable: the rule of the layer's kind first,
then what the shapes allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from math import prod

from ...plan.copy_program import check_reshape
from ...plan.expressions import Concat, Expression, Permute, Reshape, Slice, Tensor
from ...rules.registry import rule_for
from ...rules.rule import raw_parameter
from ...spec.target import TargetLayer, TargetVariable
from ...spec.tensor_spec import Shape
from ..names import last_number, part_number

# So many layers may be held in one tensor: gate and up, query, key and value, and an output gate.
MOST_PARTS = 4


@dataclass(frozen=True, slots=True)
class VariableMapping:
    """One way to fill a variable: `penalty` is 0 for a documented convention and grows with what
    had to be assumed.

    `cut` says which part of the tensor is taken: the tensors of a layer are cut alike. () for all
    of it, (start, stop) for a block, (groups, start, rows) for rows of each group, (entry,) for
    one of a bank. With `only_by_output` it is too easily right in shape to be taken unless torch
    computes the same from it (some rows of many, which might be other classes).
    """

    expression: Expression
    rule: str
    penalty: int
    cut: tuple[int, ...] = ()
    only_by_output: bool = False


def entries(name: str, shape: Shape, variable: TargetVariable, layer: TargetLayer,
            map_shapes: tuple[Shape, ...]) -> Iterator[VariableMapping]:
    """All ways for the tensor `name` of `shape` to fill `variable`, the likeliest first, each once.

    `map_shapes` are those (height, width, channels) of feature maps, of any rank, that may have
    been flattened before the layer.
    """
    given: set[Expression] = set()
    for entry in _all_entries(name, shape, variable, layer, map_shapes):
        if entry.expression not in given:
            given.add(entry.expression)
            yield entry


def _all_entries(name: str, shape: Shape, variable: TargetVariable, layer: TargetLayer,
                 map_shapes: tuple[Shape, ...]) -> Iterator[VariableMapping]:
    size, wanted = prod(shape), prod(variable.shape)
    parts = size // wanted if wanted and size % wanted == 0 else 0
    if size == wanted:
        yield from flattened_map(name, shape, variable, map_shapes)
        yield from by_rule(Tensor(name), shape, variable, layer)
        yield from by_axes(Tensor(name), shape, variable.shape)
        yield from by_heads(Tensor(name), shape, variable.shape)
    elif parts > 1:
        if parts <= MOST_PARTS:
            yield from by_part(name, shape, variable, layer, parts)
            yield from by_group(name, shape, variable, layer, equal=True)
        yield from by_entry(name, shape, variable, layer, parts)
    if size > wanted:
        yield from by_block(name, shape, variable, layer)
        if variable.name != "kernel":
            yield from by_rows(name, shape, variable)
        if not 1 < parts <= MOST_PARTS:
            yield from by_group(name, shape, variable, layer, equal=False)


def by_rule(base: Expression, shape: Shape, variable: TargetVariable,
            layer: TargetLayer) -> Iterator[VariableMapping]:
    """The rule of the layer's kind, as in any other conversion."""
    rule = rule_for(layer)
    axes = rule.axes.get(variable.name) if rule else None
    if rule is not None and axes is not None:
        if axes.torch_shape(variable.shape) == shape:
            expression = axes.expression(base, variable.shape)
            yield VariableMapping(expression, f"{rule.name}: {axes.torch} -> {axes.keras}", 0)
        return
    raw = raw_parameter(base, shape, variable.shape)
    if raw is not None and (len([extent for extent in shape if extent > 1]) < 2
                            or variable.name != "kernel"):
        # A bank of matrices may be transposed in each; a vector or a table may not.
        yield VariableMapping(raw, "as it stands", 2 if len(shape) == 3 and min(shape) > 1 else 0)


def by_axes(base: Expression, shape: Shape, wanted: Shape) -> Iterator[VariableMapping]:
    """Any order of the axes, then exact splits and merges (heads): reversed orders first, as Keras
    keeps outputs last.
    """
    squeezed = tuple(extent for extent in shape if extent != 1)
    operand = base if squeezed == shape else Reshape(base, squeezed)
    if len(squeezed) > 4:
        return
    for perm in sorted(permutations(range(len(squeezed))), key=_likelihood):
        moved = tuple(squeezed[axis] for axis in perm)
        if not splits_or_merges(moved, wanted):
            continue
        expression: Expression = operand if perm == tuple(range(len(perm))) else Permute(
            operand, perm)
        expression = expression if moved == wanted else Reshape(expression, wanted)
        yield VariableMapping(
            expression, f"axes in the order {perm}" + ("" if moved == wanted else f", as {wanted}"),
            2 if moved == wanted else 3)


def by_heads(base: Expression, shape: Shape, wanted: Shape) -> Iterator[VariableMapping]:
    """A matrix whose rows or columns are heads, with the axes of the heads apart from each other:
    (N H, D) as (N, D, H).
    """
    if len(shape) != 2 or not 3 <= len(wanted) <= 4:
        return
    axes = range(len(wanted))
    for count in range(1, len(wanted)):
        for first in combinations(axes, count):
            second = tuple(axis for axis in axes if axis not in first)
            split = tuple(wanted[axis] for axis in (*first, *second))
            if prod(split[:count]) == shape[0] and prod(split[count:]) == shape[1]:
                perm = tuple((*first, *second).index(axis) for axis in axes)
                yield VariableMapping(Permute(Reshape(base, split), perm),
                                      f"heads split as {split}, axes in the order {perm}", 3)


def _likelihood(perm: tuple[int, ...]) -> tuple[bool, tuple[int, ...]]:
    likely = {(1, 0), (1, 2, 0), (2, 1, 0), (2, 3, 1, 0), (0, 2, 1)}
    return perm not in likely, perm


def splits_or_merges(shape: Shape, wanted: Shape) -> bool:
    """True when axes of `wanted` are axes of `shape`, or whole numbers of them joined, or parts of
    one of them.
    """
    if prod(shape) != prod(wanted):
        return False
    try:
        check_reshape(shape, wanted)
    except ValueError:
        return False
    return True


def flattened_map(name: str, shape: Shape, variable: TargetVariable,
                  map_shapes: tuple[Shape, ...]) -> Iterator[VariableMapping]:
    """Rows of a dense kernel behind a flattened feature map: torch counts them channels first,
    Keras channels last.
    """
    if len(shape) != 2 or len(variable.shape) != 2 or shape != variable.shape[::-1]:
        return
    for *extents, channels in map_shapes:
        positions = prod(extents)
        if positions > 1 and channels > 1 and positions * channels == shape[1]:
            by_channel = Reshape(Tensor(name), (shape[0], channels, positions))
            expression = Reshape(Permute(by_channel, (2, 1, 0)), variable.shape)
            size = " x ".join(map(str, (*extents, channels)))
            yield VariableMapping(expression, f"dense behind a flattened map of {size}", 1)


def by_part(name: str, shape: Shape, variable: TargetVariable, layer: TargetLayer,
            parts: int) -> Iterator[VariableMapping]:
    """One of several equal parts of a tensor that holds query, key and value, or the like."""
    said = part_number(layer.display_name)
    order = _said_first(said, parts)
    for axis, extent in enumerate(shape):
        if extent % parts or extent == parts:
            continue
        step = extent // parts
        part_shape = (*shape[:axis], step, *shape[axis + 1:])
        for part in order:
            base = Slice(Tensor(name), axis, part * step, (part + 1) * step)
            words, unlikely = f"part {part + 1} of {parts} along axis {axis}", 2 + (
                said is not None and said != part)
            cut = (part * step, (part + 1) * step)
            yield from _of_part(base, part_shape, words, unlikely, cut, variable, layer)


def of_rows(name: str, shape: Shape, part: tuple[int, ...], variable: TargetVariable,
            layer: TargetLayer) -> Iterator[VariableMapping]:
    """One part, (number, of how many), of the rows of a tensor: the weights of one group."""
    number, count = part
    rows = shape[0] // count if shape and shape[0] % count == 0 else 0
    cut = (number * rows, (number + 1) * rows)
    if rows:
        yield from _of_part(Slice(Tensor(name), 0, *cut), (rows, *shape[1:]),
                            f"group {number + 1} of {count}", 0, cut, variable, layer)


def by_group(name: str, shape: Shape, variable: TargetVariable, layer: TargetLayer, *,
             equal: bool) -> Iterator[VariableMapping]:
    """Some rows in each group of rows: one of several equal parts, or where the parts are unequal
    (the queries that share a key and a value) the first, the last, or those beside the last.
    """
    size, wanted = prod(shape), variable.size
    if not shape or not wanted or shape[0] * wanted % size:
        return
    rows = shape[0] * wanted // size
    said = part_number(layer.display_name)
    for groups in _numbers_of_groups(rows, variable.shape):
        whole, taken = shape[0] // groups, rows // groups
        if shape[0] % groups:
            continue
        starts = range(0, whole, taken) if equal else dict.fromkeys(
            (0, whole - 2 * taken, whole - taken))
        grouped = Reshape(Tensor(name), (groups, whole, *shape[1:]))
        for part, start in enumerate(starts):
            if start < 0:
                continue
            one = Reshape(Slice(grouped, 1, start, start + taken), (rows, *shape[1:]))
            words = f"rows {start} to {start + taken} in each of {groups} groups of rows"
            unlikely = 4 + (groups not in (rows, *variable.shape)) + (said not in (None, part))
            for entry in _of_part(one, (rows, *shape[1:]), words, unlikely, (groups, start, taken),
                                  variable, layer):
                yield replace(entry, only_by_output=not equal)


def _numbers_of_groups(rows: int, shape: Shape) -> list[int]:
    """Into how many groups rows may fall: as many as there are heads in the shape, else any number
    that divides them.
    """
    numbers = [number for number in range(2, rows + 1) if rows % number == 0]
    return sorted(numbers, key=lambda number: number not in (rows, *shape))


def by_block(name: str, shape: Shape, variable: TargetVariable,
             layer: TargetLayer) -> Iterator[VariableMapping]:
    """Some rows of a tensor that holds several matrices of unequal heights (query and fewer keys
    and values): the first, the last, those beside them.
    """
    size, wanted = prod(shape), variable.size
    if shape and wanted and (shape[0] * wanted) % size == 0:
        rows = shape[0] * wanted // size
        starts = dict.fromkeys((0, shape[0] - 2 * rows, shape[0] - rows, rows))
        said = part_number(layer.display_name)
        for number, start in enumerate(starts):
            if 0 <= start <= shape[0] - rows:
                base = Slice(Tensor(name), 0, start, start + rows)
                words, unlikely = f"rows {start} to {start + rows}", 4 + (said is not None
                                                                          and said != number)
                cut = (start, start + rows)
                for entry in _of_part(base, (rows, *shape[1:]), words, unlikely, cut, variable,
                                      layer):
                    yield replace(entry, only_by_output=True)


def by_entry(name: str, shape: Shape, variable: TargetVariable, layer: TargetLayer,
             entries: int) -> Iterator[VariableMapping]:
    """One entry of a bank of matrices, such as one expert of several."""
    if len(shape) < 3 or shape[0] != entries:
        return
    said = last_number(layer.display_name)
    for entry in _said_first(said, entries):
        base = Reshape(Slice(Tensor(name), 0, entry, entry + 1), shape[1:])
        unlikely = 2 + (said is not None and said != entry)
        yield from _of_part(base, shape[1:], f"entry {entry + 1} of {entries}", unlikely, (entry,),
                            variable, layer)


def _said_first(said: int | None, count: int) -> list[int]:
    """All numbers below `count`, the one that the layer's name says first."""
    return sorted(range(count), key=lambda number: number != said)


def _of_part(base: Expression, shape: Shape, words: str, penalty: int, cut: tuple[int, ...],
             variable: TargetVariable, layer: TargetLayer) -> Iterator[VariableMapping]:
    """By the rule or the axes, of a part of a tensor."""
    for entry in (*by_rule(base, shape, variable, layer), *by_axes(base, shape, variable.shape)):
        yield VariableMapping(entry.expression, f"{words}; {entry.rule}", penalty + entry.penalty,
                              cut)


def by_rows(name: str, shape: Shape, variable: TargetVariable) -> Iterator[VariableMapping]:
    """The last or first rows of a table that is longer (positions with an offset, unused tokens).
    """
    if len(shape) != 2 or len(
            variable.shape) != 2 or shape[1] != variable.shape[1] or shape[0] <= variable.shape[0]:
        return
    rows = variable.shape[0]
    for start in dict.fromkeys((shape[0] - rows, 0, 1, 2)):
        if start + rows <= shape[0]:
            yield VariableMapping(Slice(Tensor(name), 0, start, start + rows),
                                  f"rows {start} to {start + rows}", 4)


def joined(names: tuple[str, ...], shapes: tuple[Shape, ...], variable: TargetVariable,
           layer: TargetLayer) -> Iterator[VariableMapping]:
    """Several tensors joined into one variable: of one shape along any axis of theirs or a new
    first one, else along their first one.
    """
    operands = tuple(Tensor(name) for name in names)
    shape = shapes[0]
    if len(set(shapes)) > 1:
        base, whole = Concat(operands, 0), (sum(one[0] for one in shapes), *shape[1:])
        for entry in (*by_rule(base, whole, variable, layer),
                      *by_axes(base, whole, variable.shape)):
            yield VariableMapping(entry.expression,
                                  f"{len(names)} tensors joined along axis 0; {entry.rule}",
                                  4 + entry.penalty)
        return
    for axis, extent in enumerate(shape):
        whole = (*shape[:axis], extent * len(names), *shape[axis + 1:])
        base = Concat(operands, axis)
        for entry in (*by_rule(base, whole, variable, layer),
                      *by_axes(base, whole, variable.shape)):
            yield VariableMapping(entry.expression,
                                  f"{len(names)} tensors joined along axis {axis}; {entry.rule}",
                                  3 + entry.penalty)
    yield from stacked((names,), shape, variable)


def stacked(banks: Sequence[Sequence[str]], shape: Shape,
            variable: TargetVariable) -> Iterator[VariableMapping]:
    """Tensors of one shape as the entries of a new first axis; of several banks those of one number
    joined along their first axis.
    """
    stacks = tuple(
        Concat(tuple(Reshape(Tensor(name), (1, *shape)) for name in bank), 0) for bank in banks)
    base = stacks[0] if len(stacks) == 1 else Concat(stacks, 1)
    whole = (len(banks[0]), len(banks) * shape[0], *shape[1:])
    words = f"{sum(map(len, banks))} tensors stacked"
    words += f", {len(banks)} by {len(banks)}" if len(banks) > 1 else ""
    for entry in by_axes(base, whole, variable.shape):
        yield VariableMapping(entry.expression, f"{words}; {entry.rule}", 3 + entry.penalty)
