"""A Keras layer tried with some weights: what it gives with them, beside what torch computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from ...keras_io.keras_private import all_layers
from ...plan.expressions import tensors_of
from ...rules.families.recurrent import keras_cells
from ...running.fingerprint import EQUAL_BELOW, Fingerprint, distance, fingerprint
from ...running.keras_values import TrialValues, as_tensor_like, eager_arrays
from ...running.torch_trace import TracedOp
from ...spec.target import Target, TargetLayer, TargetVariable
from ...util.time_limit import OutOfTime
from .branching import Backtrack
from .candidate_search import CandidateSearch
from .candidates import Candidate, LayerMapping, joined_sizes, sliced
from .folding import is_table
from .integers import without_integers
from .layer_rules import layers_of_layers
from .pass_state import (BY_NAME_AND_SHAPE, BY_WHAT_FOLLOWS, TOLD_BY_BOTH, Match, PassConfig,
                         SearchState)
from .teacher_forcing import (MOST_ALIKE_FROM, arranged_like, most_alike, outputs_with,
                              recorded_output, similarity)
from .trace_index import TraceIndex

# By how much the output of another mapping must be more like torch's than that of the rule.
CLEARLY_MORE_ALIKE = 0.05


class LayerTrials:
    """Tries layers of one Keras model, and keeps what proves right in the state of a pass."""
    def __init__(self, trace_index: TraceIndex, target: Target, set_value: TrialValues,
                 config: PassConfig) -> None:
        """A pass that may set trial values by `set_value`."""
        self.trace_index = trace_index
        self.target = target
        given = {variable.key for variable, _ in trace_index.integers}
        self.leaves = {
            id(leaf.layer): without_integers(leaf) for leaf in target.leaves()
            if not given.issuperset(variable.key for variable in leaf.variables)
        }
        self.groups = layers_of_layers(target)
        self.leaf_of = {
            id(variable.variable): leaf for leaf in self.leaves.values()
            for variable in leaf.variables
        }
        # Layers with variables of their own beside layers inside.
        self.owners = {
            key for key, leaf in self.leaves.items() if any(
                id(inner) in self.leaves
                for inner in all_layers(leaf.layer) if inner is not leaf.layer)
        }
        self.set_value = set_value
        self.config = config
        self.state = SearchState(choices=list(config.choices))
        self.search = CandidateSearch(trace_index, config, self.state, self.leaves.values())
        # For layers that are being looked for: how far from the nearest value in torch the best
        # output was.
        self.missed: dict[str, float] = {}
        # The layers that are being looked for, of which owners try weights; nothing is looked for
        # while the pass is paused.
        self.looked_for: list[str] = []
        self.depth = 0
        self.batch = 0
        self.paused = False

    def attempt(self, leaf: TargetLayer, mapping: LayerMapping, candidate: Candidate,
                inputs: list[Fingerprint], run: Callable[[], Any], count: int) -> tuple[Any, bool]:
        """Run the layer with these weights; True when its output is one that torch computed."""
        if any(entry.expression in self.state.parts for _, entry in mapping.entries):
            return None, False
        self.config.limit.check(len(self.state.matches))
        tolerance, before, lookups = self.state.tolerance, self.state.mark(), self.search.lookups
        is_owner = id(leaf.layer) in self.owners
        match = Match(leaf, mapping, candidate.unit.display_name, TOLD_BY_BOTH, 0.0, 0.0, count,
                      candidate.unit.outputs, order=0 if is_owner else candidate.unit.order)
        self._take(match)
        parted = len(self.state.parted)
        self.depth += is_owner
        try:
            output = run()
        except Backtrack:
            # A layer inside gets what torch never computed: these are not the owner's weights.
            if not is_owner:
                raise
            output = None
        except OutOfTime:
            self.state.matches.pop(leaf.display_name)
            raise
        finally:
            self.depth -= is_owner
        apart = self._distance_of_output(leaf, match, candidate.unit, inputs, output)
        if apart < tolerance:
            # The output proves nothing where torch's own values were put in inside.
            is_open_inside = is_owner and len(self.state.parted) > parted
            nearest = min((self.trace_index.seen.nearest(key) for key in inputs), default=0.0)
            self._settle(
                replace(match, input_distance=nearest, output_distance=inf, how=BY_NAME_AND_SHAPE)
                if is_open_inside else replace(match, input_distance=nearest, output_distance=apart)
            )
            if not is_owner:
                self.state.drift = apart
            self.missed.pop(leaf.display_name, None)
            return output, True
        self.missed[leaf.display_name] = min(apart, self.missed.get(leaf.display_name, inf))
        self.state.back_to(before)
        if self.search.lookups > lookups:
            # Layers inside this one were looked for while its weights were taken, which are free
            # again.
            self.search.forget_groups()
        return output, False

    def _distance_of_output(self, leaf: TargetLayer, match: Match, unit: TracedOp,
                            inputs: list[Fingerprint], output: Any) -> float:
        """How far what a layer gives is from what torch computed, as a whole, in parts or step by
        step.
        """
        tolerance = self.state.tolerance
        arrays = [array for array in eager_arrays(output) if array.size]
        outputs = [fingerprint(array) for array in arrays]
        apart = self._distance_of_outputs(outputs, unit, inputs if match.mapping.names else [])
        if arrays and apart >= tolerance:
            apart = self._distance_of_parts(arrays[0], match.mapping)
        if arrays and apart >= tolerance and arrays[0].ndim == 3 and keras_cells(leaf):
            apart = self._distance_of_steps(arrays[0])
        if arrays and apart >= tolerance and 1 < self.batch not in arrays[0].shape[:1]:
            # Torch may count positions for each sample of a batch.
            repeated = np.broadcast_to(arrays[0], (self.batch, *arrays[0].shape))
            apart = self._distance_of_outputs([fingerprint(np.ascontiguousarray(repeated))], unit,
                                              [])
        return apart

    def _distance_of_outputs(self, outputs: list[Fingerprint], unit: TracedOp,
                             inputs: list[Fingerprint]) -> float:
        if not outputs:
            return inf
        own = min((distance(outputs[0], key) for key in unit.outputs), default=inf)
        if own < self.state.tolerance:
            return own
        if any(distance(outputs[0], key) < EQUAL_BELOW for key in inputs):
            return inf
        return min(self.trace_index.seen.nearest(outputs[0]),
                   self.trace_index.tainted.nearest(outputs[0]))

    def _distance_of_parts(self, output: npt.NDArray[Any], mapping: LayerMapping) -> float:
        """For a layer that holds several of torch's: each of them must have given its part of the
        output.
        """
        sizes = joined_sizes(mapping, self.trace_index.shapes)
        if not sizes or sum(sizes) != output.shape[-1]:
            return inf
        parts = np.split(output, np.cumsum(sizes)[:-1], axis=-1)
        return max(self.trace_index.seen.nearest(fingerprint(part)) for part in parts)

    def _distance_of_steps(self, output: npt.NDArray[Any]) -> float:
        """For a sequence (batch, steps, features) that torch computes step by step and never puts
        together.
        """
        return max(
            self.trace_index.seen.nearest(fingerprint(output[:, step]))
            for step in range(output.shape[1]))

    def forced(self, leaf: TargetLayer, output: Any) -> Any:
        """Torch's own output in the place of a layer's; the layer's where torch has none of its
        shape.
        """
        match = self.state.matches.get(leaf.display_name)
        own = list(eager_arrays(output))
        if match is None or match.is_turned or len(own) != 1 or not hasattr(output, "shape"):
            return output
        arrays = self.trace_index.trace.arrays
        if leaf.display_name in self.state.parted:
            arranged = most_alike((arrays[key] for key in match.outputs if key in arrays), own[0])
        else:
            recorded = recorded_output(match.outputs, arrays, fingerprint(own[0]),
                                       self.state.tolerance)
            arranged = None if recorded is None else arranged_like(recorded, own[0])
        return output if arranged is None else as_tensor_like(arranged, output, self.target)

    def _most_alike(self, leaf: TargetLayer, mappings: list[LayerMapping], unit: TracedOp,
                    run: Callable[[], Any]) -> LayerMapping | None:
        """The first mapping, or one clearly more like torch; None for a bank of experts."""
        if len(mappings) == 1:
            return mappings[0]
        found: list[float] = []
        for mapping in mappings:
            before = self.state.mark()
            self._take(Match(leaf, mapping, unit.display_name, "", 0.0, 0.0, 1))
            own = [array for array in eager_arrays(run()) if array.size]
            self.state.back_to(before)
            arrays = self.trace_index.trace.arrays
            outputs = outputs_with(mapping, leaf, unit, self.trace_index)
            recorded = [arrays[key] for key in outputs if key in arrays]
            nearest = most_alike(recorded, own[0]) if own else None
            found.append(-1.0 if nearest is None else similarity(nearest, own[0]))
        best = max(range(len(found)), key=found.__getitem__)
        if found[best] < 0 and sum(len(one.shape) == 3 for one in leaf.variables) > 1:
            return None
        clear = found[best] >= MOST_ALIKE_FROM and found[best] > found[0] + CLEARLY_MORE_ALIKE
        return mappings[best if clear else 0]

    def _take(self, match: Match) -> None:
        for variable, entry in match.mapping.entries:
            self.set_value(variable,
                           self.trace_index.trial_value(entry.expression, variable.display_name))
            if sliced(entry.expression):
                self.state.parts[entry.expression] = None
            else:
                for name in tensors_of(entry.expression):
                    self.state.used.setdefault(self.trace_index.tied[name][0],
                                               match.layer.display_name)
        self.state.last_order = match.order or self.state.last_order
        self._settle(match)

    def _settle(self, match: Match) -> None:
        """Note the layer as settled, or each leaf of a layer that is made of others."""
        for leaf in match.layer.children or (match.layer,):
            keys = {variable.key for variable in leaf.variables}
            own = tuple(pair for pair in match.mapping.entries if pair[0].key in keys)
            mapping = replace(match.mapping, entries=own)
            self.state.matches[leaf.display_name] = replace(match, layer=leaf, mapping=mapping)
            if is_table(self.state.matches[leaf.display_name]):
                self.state.tables[leaf.display_name] = None

    def _note_effects(self, leaf: TargetLayer, run: Callable[[], Any]) -> None:
        """Note which variables of a layer change nothing that it gives: its output proves nothing
        about them.
        """
        match = self.state.matches[leaf.display_name]
        keys = self._without_effect(match, match.layer.variables, run)
        how = BY_NAME_AND_SHAPE if len(keys) == len(match.layer.variables) else match.how
        self.state.matches[leaf.display_name] = replace(match, without_effect=keys, how=how)

    def _without_effect(self, match: Match, variables: Iterable[TargetVariable],
                        run: Callable[[], Any]) -> frozenset[str]:
        """The keys of those variables of a match whose change leaves what `run` gives as it is."""
        entries = {variable.key: entry for variable, entry in match.mapping.entries}
        self.paused = True
        try:
            before, keys = list(map(fingerprint, eager_arrays(run()))), []
            for variable in variables:
                value = self.trace_index.trial_value(entries[variable.key].expression,
                                                     variable.display_name)
                self.set_value(variable, 1.0 - 2.0 * value)
                if list(map(fingerprint, eager_arrays(run()))) == before:
                    keys.append(variable.key)
                self.set_value(variable, value)
        finally:
            self.paused = False
        return frozenset(keys)

    def prove_by_outputs(self, run: Callable[[], Any]) -> None:
        """When all outputs are torch's with nothing of torch's put in, those variables are proven
        after all on which they depend, and what the layers behind were to decide.
        """
        if self.config.forced or not self.state.is_whole:
            return
        for display_name, match in list(self.state.matches.items()):
            if match.how == BY_WHAT_FOLLOWS and not match.without_effect:
                self.state.matches[display_name] = replace(match, how=TOLD_BY_BOTH)
            if match.without_effect:
                asked = [one for one in match.layer.variables if one.key in match.without_effect]
                keys = self._without_effect(match, asked, run)
                if len(keys) < len(asked):
                    apart = max(map(self.trace_index.seen.nearest, self.state.outputs))
                    self.state.matches[display_name] = replace(match, without_effect=keys,
                                                               how=TOLD_BY_BOTH,
                                                               output_distance=apart)
