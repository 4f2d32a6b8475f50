"""One run of the Keras model in which every layer gets its weights when it is called.

The torch unit with an equal input is the one that the layer is; its weights are set, the layer
runs, and its output must be one that torch computed. The order of layers and their names decide
only between units of equal input and shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from math import inf, isfinite, prod
from typing import Any

import numpy.typing as npt

from ...plan.expressions import Slice, Tensor
from ...rules.families.recurrent import keras_cells
from ...running.fingerprint import EQUAL_BELOW, Fingerprint, distance, fingerprint
from ...running.keras_values import LayerCall, eager_arrays
from ...running.outputs import leaves_of
from ...running.torch_trace import TracedOp
from ...spec.roles import role_of
from ...spec.target import TargetLayer
from ..names import name_similarity, part_number
from .branching import Backtrack, BranchPoint, block_name
from .candidate_search import reason_for_nothing
from .candidates import (NEUTRAL_PENALTY, Candidate, LayerMapping, covers, layer_mappings,
                         neutral_mapping)
from .channel_order import OUTPUTS, Unflatten, in_one_order, maps_of_vectors
from .folding import Fold
from .pass_state import BY_NAME_AND_SHAPE, BY_WHAT_FOLLOWS, MOST_DRIFT, Match
from .reordering import keeps_order, order_of_channels, reordered
from .teacher_forcing import on_a_similar_input, outputs_with, recorded_output
from .trials import LayerTrials

MOST_TRIALS = 48
MOST_ROWS_TO_FOLD = 8
# Mappings that are tried with their inputs in another order: it is the order that is looked for,
# not the mapping.
MOST_REORDERED = 4
# Each costs a pass; models that differ would try in vain at every layer.
MOST_ORDERS_TRIED = 16
# How many shapes of maps are remembered.
MOST_MAPS = 8
# Candidates of which one is taken where the models differ.
MOST_TENTATIVE = 4
# Of each layer that only its output can tell.
MOST_BY_OUTPUT = 16


def eager_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[npt.NDArray[Any]]:
    """The arrays that a layer is called with, empty ones left out."""
    return [array for array in eager_arrays((args, kwargs)) if array.size]


class KerasPass(LayerTrials):
    """Settles the layers of one Keras model, one by one as they are called."""
    def handle(self, layer: Any, call: LayerCall, args: tuple[Any, ...], kwargs: dict[str,
                                                                                      Any]) -> Any:
        """A call of any Keras layer; those that own variables are settled the first time."""
        if self.paused:
            return call(*args, **kwargs)
        if not self.batch:
            self.batch = next((one.shape[0] for one in leaves_of((args, kwargs)) if one.shape), 0)
        for given in args:
            self._note_map(given)
        leaf, group = self.leaves.get(id(layer)), self.groups.get(id(layer))
        if group is not None and any(
                self.state.has_met(inner.display_name) for inner in group.children):
            group = None
        known = group is None and (leaf is None or self.state.has_met(leaf.display_name))
        arrays = [] if known and not self._rows_to_fold() else eager_inputs(args, kwargs)
        inputs = [fingerprint(array) for array in arrays]
        if inputs and (leaf is None or not known):
            self.raise_fold(leaf, arrays, inputs)
        if group is not None and inputs:
            output = self.handle_group(group, inputs, lambda: call(*args, **kwargs))
        elif known or leaf is None or (not inputs and any(True for _ in leaves_of((args, kwargs)))):
            output = call(*args, **kwargs)
        else:
            self.looked_for.append(leaf.display_name)
            try:
                output = self.settle(leaf, arrays, inputs, lambda: call(*args, **kwargs))
            finally:
                self.looked_for.pop()
            if self.config.forced:
                output = self.forced(leaf, output)
        self._note_map(output)
        return output

    def handle_group(self, group: TargetLayer, inputs: list[Fingerprint],
                     run: Callable[[], Any]) -> Any:
        """A call of a layer made of others: as a whole by the rule of its kind, else each of its
        leaves when that is called.
        """
        output, found = self.settle_group(group, inputs, run)
        if found:
            return self.forced(group.children[0], output) if self.config.forced else output
        output = run()
        reason = f"no weights of torch give what {group.display_name} makes of its input"
        cells = keras_cells(group)
        for leaf in group.children:
            if cells and not self.state.is_proven(leaf.display_name):
                # What its cell gets at a step torch never shows.
                nearest = min(self.trace_index.seen.nearest(key) for key in inputs)
                reason = reason_for_nothing(self.trace_index, leaf, inputs, nearest,
                                            self.state.tolerance)
            if not self.state.has_met(leaf.display_name) or (cells and leaf.display_name
                                                             in self.state.open):
                self.state.open[leaf.display_name] = reason
        return output

    def settle_group(self, group: TargetLayer, inputs: list[Fingerprint],
                     run: Callable[[], Any]) -> tuple[Any, bool]:
        """Find the weights of all leaves of `group` at once, by the rule of its kind."""
        if all(leaf.display_name in self.config.presets for leaf in group.children):
            for leaf in group.children:
                self._take(self.config.presets[leaf.display_name])
            return run(), True
        excluded = self.config.excluded.get(group.display_name, set())
        units = {
            id(unit): unit for key in inputs
            for _, unit in self.trace_index.by_input.find(key, self.state.tolerance)
        }
        entries = [(unit, mapping) for unit in units.values()
                   for mapping in self.search.by_rules(unit.names, group)]
        if not entries and keras_cells(group):
            # A cell that torch calls step by step never sees the sequence; what comes out of the
            # last step, or is stacked, tells.
            modules = {unit.names: unit for unit in self.trace_index.trace.units if unit.is_module}
            entries = [(unit, mapping) for unit in modules.values()
                       for mapping in self.search.by_rules(unit.names, group)]
        entries = [(unit, mapping) for unit, mapping in entries if mapping.names not in excluded]
        entries.sort(key=lambda entry: (-name_similarity(entry[0].display_name, group.base_name),
                                        abs(entry[0].order - self.state.last_order)))
        for number, (unit, mapping) in enumerate(entries[:MOST_TRIALS]):
            candidate = Candidate(unit, mapping.names, (0.0,))
            output, found = self.attempt(group, mapping, candidate, inputs, run, len(entries))
            if found:
                alternatives = dict.fromkeys(other.names for _, other in entries[number + 1:]
                                             if other.names != mapping.names)
                self.state.choices.append(
                    BranchPoint(group.display_name, mapping.names, tuple(alternatives),
                                len(self.state.matches)))
                return output, True
        if self.config.forced and entries and keras_cells(group):
            # Its cells cannot be told one by one: what torch computes at each step is not seen.
            unit, mapping = entries[0]
            self._take(
                Match(group, mapping, unit.display_name, BY_WHAT_FOLLOWS, 0.0, 0.0, len(entries),
                      unit.outputs))
            for leaf in group.children:
                self.state.parted[leaf.display_name] = (
                    f"its input is that of {unit.quoted} in torch, and its output is not"
                    f"{self._describe_distance(group)}")
            return run(), True
        return None, False

    def finish(self, output: Any) -> None:
        """At the end: what the model gives must be something that torch computes, else an earlier
        choice was wrong.

        Where weights are without a place it must be something that torch gives: another branch of
        the same shape is computed too.
        """
        arrays = [array for array in eager_arrays(output) if array.size]
        self.state.outputs = tuple(map(fingerprint, arrays))
        lost = is_swapped = False
        is_some_left = bool(self.trace_index.left_over(self.state.used, self.state.parts))
        theirs = [key for key, _ in self.trace_index.outputs]
        for number, (array, key) in enumerate(zip(arrays, self.state.outputs, strict=True)):
            alike = [(other, distance(one, key))
                     for one, other in self.trace_index.outputs if other.size == array.size]
            equal = [other for other, apart in alike if apart < MOST_DRIFT]
            lost |= not equal and ((is_some_left and bool(alike))
                                   or self.trace_index.seen.nearest(key) >= MOST_DRIFT)
            is_swapped |= (len(theirs) == len(arrays) and bool(equal)
                           and distance(theirs[number], key) >= MOST_DRIFT)
            is_in_order = not equal or any(in_one_order(other, array) for other in equal)
            self.state.outputs_in_order[f"{OUTPUTS}, number {number + 1}"] = is_in_order
        self.state.lost = lost
        for display_name, is_in_order in self.state.outputs_in_order.items():
            if not is_in_order:
                self.raise_unflatten(display_name)
        if ((lost or is_swapped) and self.config.gives_up_at(OUTPUTS, OUTPUTS)
                and any(choice.alternatives for choice in self.state.choices)):
            self.state.broken = OUTPUTS
            raise Backtrack(OUTPUTS)

    def _rows_to_fold(self) -> list[str]:
        """Small tables of torch without a place (token types), as long as some table of the Keras
        model may take one of their rows.
        """
        if not self.state.tables:
            return []
        shapes = self.trace_index.shapes
        return [
            name for name in self.search.free(self.trace_index.tables)
            if shapes[name][0] <= MOST_ROWS_TO_FOLD
        ]

    def raise_fold(self, leaf: TargetLayer | None, arrays: list[npt.NDArray[Any]],
                   inputs: list[Fingerprint]) -> None:
        """Where an input lacks one row of an unused table (token types that torch adds and Keras
        has no place for), say so by Fold.
        """
        if (leaf is not None and leaf.display_name in self.config.presets) or min(
                self.trace_index.seen.nearest(key) for key in inputs) < self.state.tolerance:
            return
        for name in self._rows_to_fold():
            table = self.trace_index.arrays[name]
            for array in arrays:
                if (array.shape[-1:] == table.shape[1:] and self.trace_index.seen.nearest(
                        fingerprint(array + table[0])) < EQUAL_BELOW):
                    raise Fold(list(self.state.tables)[-1], Slice(Tensor(name), 0, 0, 1))

    def _note_map(self, tensor: Any) -> None:
        """Remember the shape of a map (batch, extents, channels), which the next layers may get
        flattened.
        """
        shape = tuple(getattr(tensor, "shape", ()))
        if 3 <= len(shape) <= 5 and all(isinstance(extent, int) for extent in shape):
            self.state.map_shapes = tuple(dict.fromkeys(
                (shape[1:], *self.state.map_shapes)))[:MOST_MAPS]

    def settle(self, leaf: TargetLayer, arrays: list[npt.NDArray[Any]], inputs: list[Fingerprint],
               run: Callable[[], Any]) -> Any:
        """Find the weights of `leaf`, which is called with `arrays`, of which `inputs` are the
        fingerprints; its output with them.
        """
        preset = self.config.presets.get(leaf.display_name)
        if preset is not None:
            self._take(preset)
            if leaf.display_name in self.config.accepted:
                self.state.parted[leaf.display_name] = self.config.accepted[leaf.display_name]
            return run()
        self.search.begin()
        is_owner, candidates = id(leaf.layer) in self.owners, []
        if is_owner or not inputs:
            output, found = self.settle_by_shape(leaf, inputs, run)
            if found or not inputs:
                return output if found else run()
            candidates = [
                Candidate(unit, one.names, (0.0,))
                for unit, one in self.search.by_shape(leaf, inputs)[:1] if not one.is_part
            ]
        if not candidates:
            output, found, candidates = self.settle_by_input(leaf, inputs, run)
            if found:
                return output
        output, found = self.settle_with_used(leaf, inputs, run)
        if not found and self.config.forced:
            output, found = self.settle_reordered(leaf, arrays, inputs, run, candidates)
        if found:
            return output
        if candidates:
            self.raise_unflatten(leaf.display_name)
        if self.config.forced:
            # A unit on the same input, or one much like it, is the one, though the layer differs.
            candidates = candidates or on_a_similar_input(self.search.by_order(leaf), arrays[0],
                                                          self.trace_index)
        otherwise = [self.settle_by_shape, self.settle_without_partner, self.settle_with_buffers]
        if is_owner:
            # First what lets the layers inside be found.
            otherwise = [self.settle_with_buffers, self.settle_without_partner]
        if self.config.forced and candidates:
            otherwise = [self.settle_with_buffers]
        for settle_otherwise in otherwise:
            output, found = settle_otherwise(leaf, inputs, run)
            if found:
                return output
        return self._leave_open(leaf, inputs, candidates, run)

    def settle_by_input(self, leaf: TargetLayer, inputs: list[Fingerprint],
                        run: Callable[[], Any]) -> tuple[Any, bool, list[Candidate]]:
        """Try the weights of units on the same input, the best first; where none of them gives what
        torch computed, these are the candidates.
        """
        excluded = self.config.excluded.get(leaf.display_name, set())
        found_before: list[Candidate] = []
        trials = 0
        for candidates in self.search.by_input(leaf, inputs):
            for number, candidate in enumerate(candidates):
                free = self.search.free_for(candidate.names, leaf)
                for mapping in self.search.layer_mappings(free, leaf, candidate.unit.part):
                    if trials >= MOST_TRIALS:
                        break
                    if not self.config.honors(leaf, mapping) or mapping.part in excluded:
                        continue
                    trials += 1
                    output, found = self.attempt(leaf, mapping, candidate, inputs, run,
                                                 len(candidates))
                    if found:
                        # Those that look worse too: a shortcut fits as a whole where a third of a
                        # fused projection belongs.
                        most = candidate.cost[0] + NEUTRAL_PENALTY // 10
                        alternatives = [
                            other.names for other in candidates[number + 1:] if other.cost[0] < most
                        ]
                        # Which group it is the input tells.
                        parts = () if candidate.unit.part else self._other_parts(
                            free, leaf, mapping)
                        chosen = mapping.part if parts else candidate.names
                        self.state.choices.append(
                            BranchPoint(leaf.display_name, chosen, (*parts, *alternatives),
                                        len(self.state.matches)))
                        return output, True, []
            found_before += candidates
        return None, False, found_before

    def settle_with_used(self, leaf: TargetLayer, inputs: list[Fingerprint],
                         run: Callable[[], Any]) -> tuple[Any, bool]:
        """For a layer that has weights of its own where torch uses some once more: a shared layer,
        the table of tokens at the other end.
        """
        for unit, mapping in islice(self.search.used_again(leaf, inputs), MOST_TRIALS):
            output, found = self.attempt(leaf, mapping, Candidate(unit, mapping.names, (0.0,)),
                                         inputs, run, 1)
            if found:
                return output, True
        return None, False

    def settle_reordered(self, leaf: TargetLayer, arrays: list[npt.NDArray[Any]],
                         inputs: list[Fingerprint], run: Callable[[], Any],
                         candidates: list[Candidate]) -> tuple[Any, bool]:
        """For a layer that gets the channels of a unit's input in another order."""
        for candidate in candidates:
            theirs = recorded_output(candidate.unit.inputs, self.trace_index.trace.arrays,
                                     inputs[0], self.state.tolerance)
            order = None if theirs is None else order_of_channels(arrays[0], theirs)
            # What the caller's pictures differ in is no matter of the layer's weights.
            if order is None or order in self.trace_index.input_orders:
                continue
            free = self.search.free_for(candidate.names, leaf)
            for mapping in islice(self.search.layer_mappings(free, leaf, candidate.unit.part),
                                  MOST_REORDERED):
                changed = reordered(mapping, leaf, order)
                if changed is None:
                    continue
                output, found = self.attempt(leaf, changed, candidate, inputs, run, len(candidates))
                if found:
                    match = self.state.matches[leaf.display_name]
                    self.state.matches[leaf.display_name] = replace(match,
                                                                    is_turned=keeps_order(leaf))
                    return output, True
        return None, False

    def raise_unflatten(self, display_name: str) -> None:
        """Where no unit on its input fits a layer behind a map that may be made of a vector: say so
        by Unflatten, once for each map.

        While one is tried for the sake of a layer the trial ends, by DeadEnd, when that layer does
        not fit either.
        """
        if self.config.trial_for and not self.state.is_proven(self.config.trial_for):
            if display_name == self.config.trial_for:
                raise Backtrack(display_name)
            return
        if len(self.config.in_both_orders) < MOST_ORDERS_TRIED:
            for made in maps_of_vectors(self.state):
                if (display_name, made) not in self.config.in_both_orders:
                    raise Unflatten(display_name, made)

    def _other_parts(self, free: tuple[str, ...], leaf: TargetLayer,
                     mapping: LayerMapping) -> tuple[tuple[str, ...], ...]:
        """The other parts of the same tensors, cut alike, that the layer could be; () when its name
        says which it is.
        """
        if not mapping.part or part_number(leaf.display_name) is not None:
            return ()
        taken_back = self.config.excluded.get(leaf.display_name, set())
        others = {
            other.part: None for other in self.search.layer_mappings(free, leaf)
            if other.names == mapping.names and other.cut_like(mapping) and not any(
                entry.expression in self.state.parts for _, entry in other.entries)
        }
        return tuple(part for part in others if part not in taken_back)

    def settle_by_shape(self, leaf: TargetLayer, inputs: list[Fingerprint],
                        run: Callable[[], Any]) -> tuple[Any, bool]:
        """For a layer whose input does not tell its weights: free tensors of just its shapes, told
        by the output.
        """
        excluded = self.config.excluded.get(leaf.display_name, set())
        before = len(self.state.matches)
        most = max(2, MOST_BY_OUTPUT >> 2 * self.depth)
        tried = [one for one in self.search.by_shape(leaf, inputs) if one[1].names not in excluded
                ][:most]
        for number, (unit, mapping) in enumerate(tried):
            candidate = Candidate(unit, mapping.names, (0.0,))
            output, found = self.attempt(leaf, mapping, candidate, inputs, run, len(tried))
            if found:
                self._note_effects(leaf, run)
                # Without an input any tensor of the shape gives what it gives in torch.
                alternatives = () if inputs else dict.fromkeys(
                    other.names for _, other in tried[number + 1:] if other.names != mapping.names)
                self.state.choices.append(
                    BranchPoint(leaf.display_name, mapping.names, tuple(alternatives), before + 1))
                return output, True
        return None, False

    def read(self, variable: Any) -> None:
        """Before a variable without a value is read: where its layer is not the one that runs
        (another layer uses its table) it gets a tensor of its name and shape, and the layers behind
        decide.
        """
        leaf = self.leaf_of.get(id(variable))
        if (leaf is None or self.paused or leaf.display_name in self.looked_for
                or self.state.has_met(leaf.display_name)):
            return
        match = self.config.presets.get(leaf.display_name)
        if match is None:
            excluded = self.config.excluded.get(leaf.display_name, set())
            possible = [
                mapping
                for _, mapping in self.search.by_shape(leaf, []) if mapping.names not in excluded
            ]
            if not possible:
                return
            everything = frozenset(one.key for one in leaf.variables)
            match = Match(leaf, possible[0], "", BY_NAME_AND_SHAPE, inf, inf, len(possible),
                          without_effect=everything)
            self._take(match)
            alternatives = dict.fromkeys(
                one.names for one in possible[1:] if one.names != possible[0].names)
            self.state.choices.append(
                BranchPoint(leaf.display_name, possible[0].names, tuple(alternatives),
                            len(self.state.matches)))
        else:
            self._take(match)

    def settle_without_partner(self, leaf: TargetLayer, inputs: list[Fingerprint],
                               run: Callable[[], Any]) -> tuple[Any, bool]:
        """For a layer that torch lacks: values with which it does nothing, or only normalizes; else
        its own (constants that it computed).
        """
        if min(self.trace_index.seen.nearest(key) for key in inputs) >= self.state.tolerance:
            return None, False
        mapping = neutral_mapping(leaf)
        if mapping is not None and self.config.honors(leaf, mapping):
            unit = TracedOp(self.state.last_order, "nothing", (), (), (), False)
            output, found = self.attempt(leaf, mapping, Candidate(unit, (), (0.0,)), inputs, run, 0)
            if found:
                return output, True
        for variable in leaf.variables:
            self.set_value.reset(variable)
        output = run()
        outputs = [fingerprint(array) for array in eager_arrays(output) if array.size]
        nothing = TracedOp(0, "", (), (), (), False)
        if self._distance_of_outputs(outputs, nothing, inputs) < self.state.tolerance:
            self.state.kept[
                leaf.display_name] = "its own values give what torch computes without a weight"
        elif all(not variable.trainable and role_of(variable.name) is None
                 for variable in leaf.variables):
            self.state.kept[
                leaf.
                display_name] = "constants that are never trained, which torch has no weight for"
        else:
            return None, False
        return output, True

    def settle_with_buffers(self, leaf: TargetLayer, inputs: list[Fingerprint],
                            run: Callable[[], Any]) -> tuple[Any, bool]:
        """For a layer whose values torch holds in buffers, as constants (a table of positions)."""
        unit = TracedOp(self.state.last_order, "by its output", (), (), (), False)
        sizes = {variable.size for variable in leaf.variables}
        shapes = {
            name: shape
            for name, shape in self.trace_index.constants.items() if prod(shape) in sizes
        }
        possible = layer_mappings(self.search.free(tuple(shapes)), shapes, leaf, ())
        for mapping in islice(possible, MOST_BY_OUTPUT):
            output, found = self.attempt(leaf, mapping, Candidate(unit, mapping.names, (0.0,)),
                                         inputs, run, 1)
            if found:
                return output, True
        return None, False

    def _leave_open(self, leaf: TargetLayer, inputs: list[Fingerprint], candidates: list[Candidate],
                    run: Callable[[], Any]) -> Any:
        nearest = min(self.trace_index.seen.nearest(key) for key in inputs)
        lost = nearest >= self.state.tolerance
        # What proved right by its output was taken back, and nothing else does: the fault is
        # further up.
        taken_back = any(names[0] in self.trace_index.shapes
                         for names in self.config.excluded.get(leaf.display_name, ()))
        astray = lost or taken_back or not candidates
        has_choices = self.depth or any(choice.alternatives for choice in self.state.choices)
        if (astray and self.config.gives_up_at(leaf.display_name, block_name(leaf))
                and (has_choices or self.config.link)):
            self.state.broken = leaf.display_name
            raise Backtrack(leaf.display_name)
        if not candidates and self.config.forced:
            candidates = self.search.by_order(leaf)
        # A whole tensor, though torch has nothing for some variable, before a part of one.
        taken = next((one for is_whole in (True, False) for one in candidates[:MOST_TENTATIVE]
                      if self._take_tentatively(leaf, one, run, is_whole)), None)
        if taken is not None:
            if self.config.forced:
                what = (
                    f"its input is {nearest:.1e} from the nearest value in torch, so that a step "
                    "before it differs"
                    if lost else f"its input is that of {taken.unit.quoted} in torch, and its "
                    f"output is not{self._describe_distance(leaf)}")
                self.state.parted[leaf.display_name] = what
            return run()
        self.state.open[leaf.display_name] = reason_for_nothing(self.trace_index, leaf, inputs,
                                                                nearest, self.state.tolerance)
        return run()

    def _describe_distance(self, leaf: TargetLayer) -> str:
        apart = self.missed.get(leaf.display_name, inf)
        return f" (at best {apart:.1e} from the nearest value in torch)" if isfinite(apart) else ""

    def _take_tentatively(self, leaf: TargetLayer, candidate: Candidate, run: Callable[[], Any],
                          is_whole: bool) -> bool:
        """Weights of the unit with an equal input though torch shows no such output (a bank of
        experts): the layers behind decide.

        The first mapping that was not taken back, with `is_whole` of those in which every element
        has a place; False when there is none.
        """
        taken_back = self.config.excluded.get(leaf.display_name, set())
        every = [
            mapping for mapping in self.search.layer_mappings(
                self.search.free_for(candidate.names, leaf), leaf, candidate.unit.part)
            if not any(entry.expression in self.state.parts or entry.only_by_output
                       for _, entry in mapping.entries)
        ]
        possible = sorted(every,
                          key=lambda mapping: not covers(mapping, self.trace_index.shapes))[:12]
        numbered = [((f"mapping {number}",), mapping) for number, mapping in enumerate(possible)]
        left = [(key, mapping) for key, mapping in numbered
                if key not in taken_back and self.config.honors(leaf, mapping) and (
                    not is_whole or covers(mapping, self.trace_index.shapes))]
        if not left:
            return False
        chosen, mapping = left[0]
        alike = None
        if self.config.forced:
            alike = self._most_alike(leaf, [one for _, one in left], candidate.unit, run)
        mapping = mapping if alike is None else alike
        match = Match(
            leaf, mapping, candidate.unit.display_name, BY_WHAT_FOLLOWS, 0.0, 0.0, len(possible),
            outputs_with(mapping, leaf, candidate.unit, self.trace_index)
            if self.config.forced else candidate.unit.outputs, order=candidate.unit.order)
        if id(leaf.layer) in self.owners:
            everything = frozenset(variable.key for variable in leaf.variables)
            match = replace(match, output_distance=inf, without_effect=everything)
        self._take(match)
        # What comes behind gets torch's own output, whichever of them it is, if torch shows it.
        alternatives = tuple(key for key, _ in left[1:]) if alike is None else ()
        self.state.choices.append(
            BranchPoint(leaf.display_name, chosen, alternatives, len(self.state.matches)))
        return True
