"""Which units of torch, and which of their weights in which way, a Keras layer may be, as far as a
pass has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from heapq import nsmallest
from itertools import islice
from math import prod

import numpy as np

from ... import _core
from ...plan.expressions import tensors_of
from ...rules.registry import rule_for
from ...running.fingerprint import Fingerprint
from ...running.torch_trace import TracedOp
from ...spec.target import TargetLayer
from ...util.text import join_names
from ..hints import hinted
from ..names import name_similarity
from .candidates import (Candidate, LayerMapping, layer_mappings, mapping_of_group, roles_agree,
                         side_by_side)
from .groups import UNITS_AT_ONCE, UnitGroup
from .pass_state import PassConfig, SearchState
from .trace_index import TraceIndex

# Units with more free weights than this are whole models and stages, looked at only when nothing
# smaller fits.
MOST_FREE_NAMES = 24
MOST_UNITS_BY_ORDER = 200
# How many of the last maps may have been flattened before a layer.
MAPS_FLATTENED = 3
# So many layers that look the same share candidates by their names, if those say so clearly.
MOST_TOGETHER = 64
LEAST_MARGIN = 0.01
# Names whose likeness differs by no more than this are equally likely.
ALIKE_BY_NAME = 0.1
# Of each unit, for a layer whose input does not tell its weights.
MOST_BY_SHAPE = 16


class CandidateSearch:
    """Looks for the candidates of one layer after the other; it reads the state of the pass and
    changes nothing in it.
    """
    def __init__(self, trace_index: TraceIndex, config: PassConfig, state: SearchState,
                 leaves: Iterable[TargetLayer]) -> None:
        self.trace_index, self.config, self.state = trace_index, config, state
        self._siblings: dict[tuple[object, ...], list[TargetLayer]] = {}
        for leaf in leaves:
            self._siblings.setdefault(_kind_of(leaf), []).append(leaf)
        # How often units were looked up, which tells whether layers inside another were looked for.
        self.lookups = 0
        self._large_groups: dict[tuple[Fingerprint, float], UnitGroup] = {}
        self._by_rule: dict[tuple[int, frozenset[str]], tuple[LayerMapping, ...]] = {}

    def begin(self) -> None:
        """For the next layer: what the rules gave for the last one is not needed again."""
        self._by_rule.clear()

    def forget_groups(self) -> None:
        """After weights became free again."""
        self._large_groups.clear()

    def by_rules(self, names: tuple[str, ...], layer: TargetLayer) -> Iterator[LayerMapping]:
        """By the rule of the layer's kind, of weights that are all free and as the caller's hints
        want it.
        """
        if len(names) <= MOST_FREE_NAMES:
            key = (id(layer), frozenset(names))
            if key not in self._by_rule:
                self._by_rule[key] = tuple(self.trace_index.rules.layer_mappings(names, layer))
            for mapping in self._by_rule[key]:
                if len(self.free(mapping.names)) == len(mapping.names) and self.config.honors(
                        layer, mapping):
                    yield mapping

    def layer_mappings(self, names: tuple[str, ...], leaf: TargetLayer,
                       part: tuple[int, ...] = ()) -> Iterator[LayerMapping]:
        """By the rule of the layer's kind first, then in any way that the shapes allow; of the
        `part` of a unit only that one.
        """
        if part:
            mapping = mapping_of_group(names, self.trace_index.shapes, leaf, part)
            yield from () if mapping is None else (mapping,)
            return
        yield from self.by_rules(names, leaf)
        yield from self.in_any_way(names, leaf)

    def in_any_way(self, names: tuple[str, ...], leaf: TargetLayer) -> Iterator[LayerMapping]:
        """As the shapes allow, the last maps counted as what may have been flattened before the
        layer.
        """
        return layer_mappings(names, self.trace_index.shapes, leaf,
                              self.state.map_shapes[:MAPS_FLATTENED])

    def by_input(self, leaf: TargetLayer, inputs: list[Fingerprint]) -> Iterator[list[Candidate]]:
        """Units with an equal input whose free weights can fill the layer, the best first; of very
        many, a batch of likely ones at a time.
        """
        excluded = self.config.excluded.get(leaf.display_name, set())
        groups = [self.units_on(key) for key in dict.fromkeys(inputs)]
        nothing = True
        for batch in self._batches(groups, leaf):
            found = self._candidates_among(batch, leaf, excluded)
            if found:
                nothing = False
                yield self._jointly(leaf, sorted(found.values(), key=lambda one: one.cost))
        together = side_by_side(_all_of(groups), len(leaf.variables)) if nothing else None
        candidate = self._candidate(leaf, together) if together is not None else None
        if candidate is not None and candidate.names not in excluded:
            yield [candidate]

    def _jointly(self, leaf: TargetLayer, candidates: list[Candidate]) -> list[Candidate]:
        """Of candidates that running cannot tell apart, first the one that the names give to the
        layer when each of the layers that look the same gets another one.
        """
        equal = [one for one in candidates if one.cost[0] == candidates[0].cost[0]]
        if not 1 < len(equal) <= MOST_TOGETHER:
            return candidates
        # Of very many the first ones are settled: from the end there are soon too many.
        waiting = (other for other in reversed(self._siblings[_kind_of(leaf)])
                   if other is not leaf and not self.state.has_met(other.display_name))
        layers = [leaf, *reversed(list(islice(waiting, MOST_TOGETHER)))]
        if not 1 < len(layers) <= MOST_TOGETHER:
            return candidates
        costs = np.array([[1 - name_similarity(one.names[0], other.base_name) for one in equal]
                          for other in layers])
        rows, columns = costs.shape
        chosen, margins = _core.assign(np.arange(0, rows * columns + 1, columns),
                                       np.tile(np.arange(columns), rows), costs.ravel(),
                                       np.ones(rows), columns, 1.0)
        if chosen[0] < 0 or margins[0] < LEAST_MARGIN:
            return candidates
        first = equal[chosen[0]]
        return [first, *(one for one in candidates if one is not first)]

    def units_on(self, key: Fingerprint) -> UnitGroup:
        """The units with that input; large groups are kept, since many layers ask for them."""
        self.lookups += 1
        input_key = (key, self.state.tolerance)
        if input_key in self._large_groups:
            return self._large_groups[input_key]
        group = UnitGroup(
            {id(unit): unit for _, unit in self.trace_index.by_input.find(*input_key)}.values())
        if group.is_large:
            self._large_groups[input_key] = group
        return group

    def _batches(self, groups: list[UnitGroup], leaf: TargetLayer) -> Iterator[list[TracedOp]]:
        """All units at once when they are few, else the likeliest, some at a time, then all others.
        """
        if not any(group.is_large for group in groups):
            yield _all_of(groups)
            return
        last, has_free = self.state.last_order, partial(self._has_free, most=_most_names(leaf))
        likely = [
            unit for group in groups for unit in group.likeliest(leaf.base_name, last, has_free)
        ]
        for start in range(0, len(likely), UNITS_AT_ONCE):
            yield likely[start:start + UNITS_AT_ONCE]
        looked_at = set(map(id, likely))
        yield [unit for unit in _all_of(groups) if id(unit) not in looked_at and has_free(unit)]

    def _has_free(self, unit: TracedOp, most: int) -> bool:
        """True for a unit with weights to spare and not with many more than a layer has."""
        used, tied = self.state.used, self.trace_index.tied
        return len(unit.names) - len(used) <= most and any(
            tied[name][0] not in used for name in unit.names)

    def _candidates_among(self, units: list[TracedOp], leaf: TargetLayer,
                          excluded: set[tuple[str, ...]]) -> dict[tuple[str, ...], Candidate]:
        found: dict[tuple[str, ...], Candidate] = {}
        for unit in units:
            for names in (unit.names, *self.chains(unit, leaf)):
                candidate = self._candidate(leaf, replace(unit, names=names))
                if candidate is None or candidate.names in excluded:
                    continue
                known = found.get(candidate.names)
                if known is None or candidate.cost < known.cost:
                    found[candidate.names] = candidate
        return found

    def chains(self, unit: TracedOp, leaf: TargetLayer) -> list[tuple[str, ...]]:
        """The weights of a unit with those of the units that take its output, for layers that do in
        one what torch does in steps; or with a bias that torch adds after steps without weights.
        """
        if len(self.free(unit.names)) >= len(leaf.variables) or not unit.outputs:
            return []
        following = [
            other for _, other in self.trace_index.by_input.find(unit.outputs[0])
            if other.order > unit.order
        ]
        behind = self.trace_index.operation_behind(unit)
        if behind is not None and behind not in following and len(behind.names) == 1:
            following.append(behind)
        return [(*unit.names, *other.names)
                for other in following if len(other.names) <= len(leaf.variables)]

    def _candidate(self, leaf: TargetLayer, unit: TracedOp) -> Candidate | None:
        free = self.free_for(unit.names, leaf)
        if len(free) > MOST_FREE_NAMES and len(free) > _most_names(leaf):
            return None
        # Each pass asks again.
        key = (free, leaf.display_name, unit.part, self.state.map_shapes[:MAPS_FLATTENED])
        known = self.trace_index.best_mappings
        if key not in known:
            known[key] = self._best_mapping(free, leaf, unit.part)
        best = known[key]
        if best is None:
            return None
        left_over = len(free) - len(best.names)
        gap = abs(unit.order - self.state.last_order)
        return Candidate(
            unit,
            tuple(sorted(best.names)) if left_over else tuple(sorted(free)),
            (left_over + best.penalty // 10, -round(self._likeness(leaf, best), 2), gap))

    def _best_mapping(self, free: tuple[str, ...], leaf: TargetLayer,
                      part: tuple[int, ...]) -> LayerMapping | None:
        mappings = self.layer_mappings(free, leaf, part)
        best = next(mappings, None)
        if best is not None and len(best.torch_layers) > 1:
            # A bias beside the kernel of its own layer comes before that of any other.
            alike = [one for one in mappings if one.penalty // 10 <= best.penalty // 10]
            best = min(best, *alike, best, key=lambda one: len(one.torch_layers))
        return best

    def free(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that no other layer has taken whole; of tied ones the first."""
        firsts = dict.fromkeys(self.trace_index.tied[name][0] for name in names)
        return tuple(name for name in firsts if name not in self.state.used)

    def free_for(self, names: tuple[str, ...], leaf: TargetLayer) -> tuple[str, ...]:
        """The same with all names of tied weights where a layer has more variables than that (a
        table kept once for each end).
        """
        free = self.free(names)
        if len(free) >= len(leaf.variables):
            return free
        return tuple(tied for name in free for tied in self.trace_index.tied[name])

    def used_again(self, leaf: TargetLayer,
                   inputs: list[Fingerprint]) -> Iterator[tuple[TracedOp, LayerMapping]]:
        """Units with an equal input whose weights other layers have taken already, and which torch
        uses on several inputs.
        """
        units = _all_of([self.units_on(key) for key in dict.fromkeys(inputs)])
        for unit in sorted(units, key=lambda unit: -len(unit.names)):
            names = self.trace_index.without_aliases(unit.names)
            if len(names) > len(leaf.variables) or not self._is_used_again(names):
                continue
            for mapping in (*self.trace_index.rules.layer_mappings(names, leaf),
                            *self.in_any_way(names, leaf)):
                if self.config.honors(leaf, mapping):
                    yield unit, mapping

    def _is_used_again(self, names: tuple[str, ...]) -> bool:
        """True when some of the weights are taken, and torch uses each of those several times."""
        index = self.trace_index
        taken = [name for name in names if index.tied[name][0] in self.state.used]
        return bool(taken) and all(index.is_used_again(name) for name in taken)

    def by_shape(self, leaf: TargetLayer,
                 inputs: list[Fingerprint]) -> list[tuple[TracedOp, LayerMapping]]:
        """Free tensors of just the sizes of the layer's variables, those most alike by name first,
        of these the ones of the smallest unit on its input; parts of larger tensors where there are
        none.
        """
        shapes, free = self.trace_index.shapes, self.free(tuple(self.trace_index.shapes))
        free = tuple(hinted(self.config.hints, leaf, free)) or free
        sizes = {variable.size for variable in leaf.variables}
        exact = [name for name in free if prod(shapes[name]) in sizes]
        if not self.has_whole_tensors(leaf, exact):
            exact = [name for name in free if self.fits_somewhere(name, leaf)]
        display_names = [f"{leaf.base_name}/{variable.name}" for variable in leaf.variables]
        exact.sort(key=lambda name: -max(
            name_similarity(name, display_name) for display_name in display_names))
        units = _all_of([self.units_on(key) for key in dict.fromkeys(inputs)])
        anywhere = TracedOp(self.state.last_order, "by its output", tuple(exact), (), (), False)
        found: dict[tuple[object, ...], tuple[TracedOp, LayerMapping]] = {}
        for unit in (*sorted(units, key=lambda unit: len(unit.names)), anywhere):
            inside = [name for name in exact if name in unit.names][:MOST_FREE_NAMES // 2]
            for mapping in islice(self.in_any_way(tuple(inside), leaf), MOST_BY_SHAPE):
                if self.config.honors(leaf, mapping):
                    key = tuple(entry.expression for _, entry in mapping.entries)
                    found.setdefault(key, (unit, mapping))
        return sorted(found.values(), key=lambda one: -round(self._likeness(leaf, one[1]), 1))

    def _likeness(self, leaf: TargetLayer, mapping: LayerMapping) -> float:
        """How alike the names of a mapping's tensors and of its variables are; 0 to 1."""
        return sum(
            name_similarity(name, f"{leaf.base_name}/{variable.name}")
            for variable, entry in mapping.entries
            for name in tensors_of(entry.expression)[:1]) / len(mapping.entries)

    def has_whole_tensors(self, leaf: TargetLayer, names: Sequence[str]) -> bool:
        """True when each variable of the layer has a tensor of its size among `names`."""
        shapes = self.trace_index.shapes
        return all(
            any(
                prod(shapes[name]) == variable.size and roles_agree(name, variable)
                for name in names) for variable in leaf.variables)

    def by_order(self, leaf: TargetLayer) -> list[Candidate]:
        """The units around the last one found that could be the layer, the best first, of equally
        good ones those behind it, for a layer whose input torch never saw.

        Keras calls branches in turns that torch goes through one by one.
        """
        last = self.state.last_order
        around = nsmallest(MOST_UNITS_BY_ORDER, self.trace_index.trace.units,
                           key=lambda unit: abs(unit.order - last))
        units = (self._candidate(leaf, unit) for unit in around)
        found = [one for one in units if one is not None]
        # Numbers in names, which both sides count otherwise, make small differences.
        best: dict[float, float] = {}
        for one in found:
            best[one.cost[0]] = min(one.cost[1] + ALIKE_BY_NAME, best.get(one.cost[0], 0.0))
        return sorted(
            found, key=lambda one:
            (one.cost[0], max(one.cost[1], best[one.cost[0]]), one.unit.order < last, one.cost[2]))

    def fits_somewhere(self, name: str, leaf: TargetLayer) -> bool:
        """Whether a weight has the size of one of the layer's variables, or more rows of the same
        width.
        """
        shape = self.trace_index.shapes[name]
        return any(
            variable.size == prod(shape) or (len(shape) == len(variable.shape) == 2 and shape[1] ==
                                             variable.shape[1] and shape[0] > variable.shape[0])
            for variable in leaf.variables)


def reason_for_nothing(trace_index: TraceIndex, leaf: TargetLayer, inputs: list[Fingerprint],
                       nearest: float, within: float) -> str:
    """Why a layer stays open: what has its input in torch and does not fit, or how far its input is
    from everything; and what to try.
    """
    shapes = trace_index.shapes
    wanted = ", ".join(f"{variable.name} {variable.shape}" for variable in leaf.variables)
    units = {id(unit): unit for key in inputs for _, unit in trace_index.by_input.find(key, within)}
    modules = {unit.display_name for unit in units.values() if unit.is_module}
    distinct = [
        unit for unit in units.values()
        if unit.is_module or unit.display_name.partition(":")[0] not in modules
    ]
    users = sorted(distinct, key=lambda unit: (len(unit.names), unit.order))[:3]
    if not users:
        return (f"{wanted}: it gets something that torch never computes ({nearest:.1e} from the "
                "nearest value in torch), so that a step before it differs")
    held = "; or ".join(f"{unit.quoted}, which has " + join_names((f"{name} {shapes[name]}"
                                                                   for name in unit.names), 3)
                        for unit in users)
    sizes = {
        prod(shapes[name]) for unit in users if len(unit.names) == len(users[0].names)
        for name in unit.names
    }
    too_large = [variable.name for variable in leaf.variables if variable.size not in sizes]
    why = (f"nothing there has as many values as {join_names(too_large)}: build both models with "
           "the same sizes" if too_large else
           "with those weights it gives nothing that torch computes: compare how both are built "
           "(padding, strides, activation, epsilon)")
    return f"{wanted}: it gets in Keras what torch gives to {held}; {why}"


def _most_names(leaf: TargetLayer) -> int:
    """How many weights a layer may be made of: one that holds banks has some of each entry."""
    shapes = [variable.shape for variable in leaf.variables] if rule_for(leaf) is None else []
    entries = max((shape[0] for shape in shapes if len(shape) == 3), default=0)
    return max(MOST_FREE_NAMES, entries * (len(leaf.variables) + 1))


def _kind_of(leaf: TargetLayer) -> tuple[object, ...]:
    """What layers have in common that only names and inputs tell apart."""
    return (leaf.display_name.rpartition("/")[0], leaf.class_name,
            tuple(variable.shape for variable in leaf.variables))


def _all_of(groups: list[UnitGroup]) -> list[TracedOp]:
    return list({id(unit): unit for group in groups for unit in group.units}.values())
