"""Which units of the torch trace a Keras layer may be, and which of their weights go where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import islice, permutations
from math import prod

from ...plan.expressions import (Concat, Expression, Fill, Permute, Reshape, Slice, Tensor,
                                 tensors_of)
from ...rules.registry import rule_for
from ...running.torch_trace import TracedOp
from ...spec.roles import role_of
from ...spec.target import TargetLayer, TargetVariable
from ...spec.tensor_spec import Shape
from ..names import name_similarity
from .transforms import VariableMapping, entries, joined, of_rows, stacked

# Enough to try each order of a small kernel's axes with each order of the heads; what is right
# comes first nearly always.
MOST_FILLINGS = 40
MOST_WAYS = 60
MOST_COMBINATIONS = 2000
# More than any place in torch costs: a bias of 0 only where torch has no bias at all.
NEUTRAL_PENALTY = 80


@dataclass(frozen=True, slots=True)
class LayerMapping:
    """One way to fill all variables of a layer: (variable, entry), with the weights taken."""

    entries: tuple[tuple[TargetVariable, VariableMapping], ...]
    penalty: int

    @property
    def names(self) -> tuple[str, ...]:
        """The torch weights that are used."""
        return tuple(
            dict.fromkeys(
                name for _, entry in self.entries for name in tensors_of(entry.expression)))

    @property
    def torch_layers(self) -> frozenset[str]:
        """The torch modules that own those weights."""
        return frozenset(name.rpartition(".")[0] for name in self.names)

    @property
    def cut(self) -> tuple[int, ...]:
        """Which part of its tensors it takes, () for all of them."""
        return next((entry.cut for _, entry in self.entries if entry.cut), ())

    @property
    def is_part(self) -> bool:
        """True when a part of a tensor is taken, such as some of its rows."""
        return any(sliced(entry.expression) for _, entry in self.entries)

    @property
    def part(self) -> tuple[str, ...]:
        """The part as a choice that may be taken back; () when all is taken."""
        return (*self.names, f"part {self.cut}") if self.cut else ()

    def cut_like(self, other: LayerMapping) -> bool:
        """True for another part of the same division."""
        same = len(self.cut) == len(other.cut) and self.cut != other.cut
        if same and len(self.cut) == 2:
            return self.cut[1] - self.cut[0] == other.cut[1] - other.cut[0]
        return same and (len(self.cut) != 3 or self.cut[::2] == other.cut[::2])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A unit for a layer: its weights, what comes out of it, and how good it looks before anything
    is run (less is better).
    """

    unit: TracedOp
    names: tuple[str, ...]
    cost: tuple[float, ...]


def side_by_side(units: Sequence[TracedOp], most_names: int) -> TracedOp | None:
    """Small units on one input as one, for a Keras layer that holds them fused (query, key and
    value); None when there is only one.
    """
    small = sorted((unit for unit in units if len(unit.names) <= most_names),
                   key=lambda unit: unit.order)
    names = tuple(dict.fromkeys(name for unit in small for name in unit.names))
    if len(small) < 2 or not names:
        return None
    return replace(small[0], names=names, outputs=())


def joined_sizes(mapping: LayerMapping, shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    """Numbers of outputs of the weights whose rows a mapping joins into its main variable, () when
    it joins none.
    """
    for variable, entry in mapping.entries:
        base = below_moves(entry.expression)
        if role_of(variable.name) == "main" and isinstance(base, Concat) and base.axis == 0:
            return tuple(shapes[one.name][0] for one in base.operands if isinstance(one, Tensor))
    return ()


def roles_agree(name: str, variable: TargetVariable) -> bool:
    """False when the names say two different roles, as a bias and a kernel."""
    first, second = role_of(name), role_of(variable.name)
    return None in (first, second) or first == second


def layer_mappings(names: Iterable[str], shapes: Mapping[str, Shape], layer: TargetLayer,
                   map_shapes: tuple[Shape, ...]) -> Iterator[LayerMapping]:
    """Ways to fill all variables of `layer` from some of `names`, the likeliest first; nothing when
    one of them cannot be.
    """
    choices = [
        _choices(tuple(names), shapes, variable, layer, map_shapes) for variable in layer.variables
    ]
    if all(choices):
        found = _best_first(layer.variables, choices)
        yield from islice((mapping for mapping in found if mapping.names), MOST_FILLINGS)


def mapping_of_group(names: Iterable[str], shapes: Mapping[str, Shape], layer: TargetLayer,
                     part: tuple[int, ...]) -> LayerMapping | None:
    """Fill a layer with one group of the rows of `names`; None when one of its variables cannot be.
    """
    found: list[tuple[TargetVariable, VariableMapping]] = []
    for variable in layer.variables:
        ways = (entry for name in names if roles_agree(name, variable)
                for entry in of_rows(name, shapes[name], part, variable, layer))
        best = min(ways, key=lambda entry: entry.penalty, default=None)
        if best is None:
            return None
        found.append((variable, best))
    return LayerMapping(tuple(found), sum(10 * entry.penalty for _, entry in found))


def _choices(names: tuple[str, ...], shapes: Mapping[str, Shape], variable: TargetVariable,
             layer: TargetLayer, map_shapes: tuple[Shape, ...]) -> list[VariableMapping]:
    ways = [(name, min(position, 3), entry)
            for position, name in enumerate(names) if roles_agree(name, variable)
            for entry in islice(entries(name, shapes[name], variable, layer, map_shapes), MOST_WAYS)
           ]
    if len(variable.shape) > 1 and rule_for(layer) is None:
        # As good as one tensor of the size.
        ways += [(tensors_of(entry.expression)[0], 0, replace(entry, penalty=entry.penalty - 5))
                 for entry in islice(_bank_choices(names, shapes, variable), MOST_WAYS)]
    found: list[VariableMapping] = []
    for name, position, entry in ways:
        unlike = 0 if role_of(name) is not None and role_of(name) == role_of(variable.name) else 1
        display_name = f"{layer.base_name}/{variable.name}"
        far = round(3 * (1 - name_similarity(name, display_name))) if len(names) > 1 else 0
        found.append(replace(entry, penalty=10 * entry.penalty + 5 * unlike + far + position))
    found.sort(key=lambda entry: entry.penalty)
    if not found:
        found = list(islice(_joined_choices(names, shapes, variable, layer), 12))
    return found or neutral(variable, layer)


def neutral(variable: TargetVariable, layer: TargetLayer) -> list[VariableMapping]:
    """The value with which a variable that torch lacks does nothing (a bias of 0, a gain of 1); []
    for kernels and the like.
    """
    role = role_of(variable.name)
    value = {
        "offset": 0.0, "mean": 0.0, "gain": 1.0,
        "variance": 1.0 - float(layer.settings.get("epsilon") or 0.0)
    }.get(role or "")
    if variable.name in ("gamma", "scale"):
        value = 1.0
    if value is None:
        return []
    return [
        VariableMapping(Fill(value, variable.shape),
                        f"torch has none: {value:g}, which changes nothing", NEUTRAL_PENALTY)
    ]


def neutral_mapping(layer: TargetLayer) -> LayerMapping | None:
    """A layer that torch lacks filled so that it only normalizes, or does nothing at all; None when
    it has other variables.
    """
    choices = [neutral(variable, layer) for variable in layer.variables]
    if not all(choices):
        return None
    return LayerMapping(
        tuple(
            (variable, entry) for variable, (entry,) in zip(layer.variables, choices, strict=True)),
        0)


def _joined_choices(names: tuple[str, ...], shapes: Mapping[str, Shape], variable: TargetVariable,
                    layer: TargetLayer) -> Iterator[VariableMapping]:
    """Weights of one role that fill the variable together, of one shape or of several that differ
    in their first axis, as torch registers them.
    """
    groups: dict[tuple[Shape, str | None], list[str]] = {}
    for name in names:
        if roles_agree(name, variable) and shapes[name]:
            groups.setdefault((shapes[name][1:], role_of(name)), []).append(name)
    for members in groups.values():
        if len(members) > 1 and sum(prod(shapes[name]) for name in members) == variable.size:
            members.sort(key=list(shapes).index)
            yield from joined(tuple(members), tuple(shapes[name] for name in members), variable,
                              layer)


def _bank_choices(names: tuple[str, ...], shapes: Mapping[str, Shape],
                  variable: TargetVariable) -> Iterator[VariableMapping]:
    """Weights of one shape that fill the variable together and whose names differ in one number
    (the experts of a bank); or two such banks, side by side in each entry (gate and up).
    """
    groups: dict[tuple[str, str, Shape], list[str]] = {}
    for name in names:
        for number in re.finditer(r"\d+", name) if roles_agree(name, variable) else ():
            key = name[:number.start()], name[number.end():], shapes[name]
            groups.setdefault(key, []).append(name)
    banks = [(shape, sorted(members, key=list(shapes).index))
             for (*_, shape), members in groups.items() if len(members) > 1]
    for shape, members in banks:
        if len(members) * prod(shape) == variable.size:
            yield from stacked((members,), shape, variable)
    for (shape, first), (other_shape, second) in permutations(banks, 2):
        if (shape, len(first)) == (other_shape, len(second)) and set(first).isdisjoint(
                second) and 2 * len(first) * prod(shape) == variable.size:
            yield from stacked((first, second), shape, variable)


@dataclass(frozen=True, slots=True)
class _Use:
    """What an entry takes: the tensors, and the part of one; known once for all combinations."""

    entry: VariableMapping
    names: tuple[str, ...]
    part: Slice | None


def _use_of(entry: VariableMapping) -> _Use:
    base = below_moves(entry.expression)
    return _Use(entry, tensors_of(entry.expression), base if isinstance(base, Slice) else None)


def _best_first(variables: tuple[TargetVariable, ...],
                choices: list[list[VariableMapping]]) -> Iterator[LayerMapping]:
    """Combinations of one way for each variable by growing sum of penalties; no tensor (or part of
    one) twice.
    """
    uses = [list(map(_use_of, entries)) for entries in choices]
    least = sum(entries[0].penalty for entries in choices)
    # The sum with the best ways for the variables behind, how many are chosen (negative), which.
    waiting: list[tuple[int, int, tuple[int, ...]]] = [(least, -1, (0,))]
    looked_at = 0
    while waiting and looked_at < MOST_COMBINATIONS:
        total, negative, indices = heappop(waiting)
        looked_at += 1
        depth, last = -negative, indices[-1]
        entries = choices[depth - 1]
        if last + 1 < len(entries):
            step = entries[last + 1].penalty - entries[last].penalty
            heappush(waiting, (total + step, negative, (*indices[:-1], last + 1)))
        filled = [(variable, found[index])
                  for variable, found, index in zip(variables, uses, indices, strict=False)]
        own = [use for one, use in filled if not _is_copy(one, use, filled)]
        if not (_cut_alike([use for _, use in filled]) and _apart(own)):
            continue
        if depth == len(variables):
            yield LayerMapping(tuple((variable, use.entry) for variable, use in filled), total)
        else:
            heappush(waiting, (total, negative - 1, (*indices, 0)))


def _cut_alike(chosen: list[_Use]) -> bool:
    """True when all tensors that are cut give the same parts in the same order: a kernel and its
    bias, or two of each.
    """
    cuts: dict[tuple[str, ...], tuple[tuple[int, ...], ...]] = {}
    for use in chosen:
        if use.entry.cut:
            cuts[use.names] = (*cuts.get(use.names, ()), use.entry.cut)
    return len(set(cuts.values())) < 2


def _is_copy(variable: TargetVariable, use: _Use, filled: list[tuple[TargetVariable,
                                                                     _Use]]) -> bool:
    """True for a variable that is never trained and holds what another one of the layer holds (a
    table as it was before it was trained).
    """
    return (not variable.trainable and role_of(variable.name) is None
            and any(other.trainable and use.entry.expression == of_other.entry.expression
                    for other, of_other in filled))


def _apart(uses: list[_Use]) -> bool:
    """True when no element is used twice: whole tensors once, parts of one tensor cut along one
    axis and different.
    """
    whole = [name for use in uses if use.part is None for name in use.names]
    parts = [use for use in uses if use.part is not None]
    if not parts:
        return len(set(whole)) == len(whole)
    axes = {(use.names, use.part.axis) for use in parts if use.part is not None}
    cut = [name for names, _ in axes for name in names]
    return (len(set(whole + cut)) == len(whole) + len(cut)
            and len({use.part for use in parts}) == len(parts))


def covers(mapping: LayerMapping, shapes: Mapping[str, Shape]) -> bool:
    """True when every element of the weights that a mapping takes has a place."""
    taken = sum(
        variable.size for variable, entry in mapping.entries if tensors_of(entry.expression))
    return taken == sum(prod(shapes[name]) for name in mapping.names)


def sliced(expression: Expression) -> bool:
    """True when an expression takes a part of a tensor."""
    return isinstance(below_moves(expression), Slice)


def below_moves(expression: Expression) -> Expression:
    """What is at the bottom of a chain of permutations and reshapes."""
    while isinstance(expression, (Permute, Reshape)):
        expression = expression.operand
    return expression
