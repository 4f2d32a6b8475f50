"""The whole way from two models to a Plan: trace torch, run Keras, go back on wrong choices, write
down what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import inf
from typing import Any

from ...plan.plan import Plan
from ...running.input_pair import InputPair
from ...running.keras_values import intercepted_calls, trial_values
from ...running.randomize import randomized_values
from ...running.run import no_grad, preserve_rng_state
from ...running.torch_trace import trace_module
from ...spec.source import Source
from ...spec.target import Target
from ...util.time_limit import OutOfTime, TimeLimit
from ..hints import check_hints
from ..names import name_similarity
from .branching import (MOST_PASSES_FOR_A_LINK, MOST_PASSES_FOR_LINKS, Backtrack, block_name,
                        next_exclusions)
from .candidates import layer_mappings
from .channel_order import OUTPUTS, Unflatten, counted_channels_last
from .folding import Fold, with_row
from .frozen_numbers import constants_of, frozen_numbers
from .integers import integers_of_torch
from .keras_pass import KerasPass
from .one_sided import GOES_ON, goes_on_behind, without_other_outputs
from .outcome import Alignment, common_layer, without_unused, written_down
from .pass_state import (BY_NAME_AND_SHAPE, DIFFERS, GIVEN_ITS_INPUT, TOLD_BY_BOTH, UNDECIDED,
                         Match, PassConfig, SearchState)
from .reordering import orders_of_inputs
from .trace_index import TraceIndex
from .unused_weights import unused_weights

# Of whole models with randomized weights; rounding and approximated activations stay below, a
# weight in the wrong place does not.
SAME_OUTPUTS_BELOW = 1e-2


def align_by_running(source: Source, target: Target, inputs: InputPair, hints: Mapping[str, str],
                     accept_unproven: bool, limit: TimeLimit) -> tuple[Plan, Alignment]:
    """The Plan and its evidence. Both models are run, neither is changed.

    When the time is up the layers that were not reached are open.
    """

    integers = integers_of_torch(source.module, target)
    orders = tuple(orders_of_inputs(inputs.keras_inputs, inputs.torch_inputs))

    def trace(fixed: tuple[str, ...] = (), *, keep_arrays: bool) -> TraceIndex:
        values = randomized_values(source.module, unit_gains=_lacks_gains(target))
        for name in fixed:
            del values[name]
        call = inputs.torch_call
        with inputs.blamed("the torch model"):
            return TraceIndex(
                trace_module(source.module, values,
                             lambda module: call(module, inputs.torch_inputs),
                             keep_arrays=keep_arrays), source, integers, orders)

    def keras_call() -> Any:
        with inputs.blamed("the Keras model"):
            return inputs.keras_call(target.model, inputs.keras_inputs)

    def first_pass(fixed: tuple[str, ...] = ()) -> tuple[TraceIndex, SearchState, bool]:
        trace_index = trace(fixed, keep_arrays=False)
        check_hints(hints, target.leaves(), trace_index.shapes)
        state, finished = one_pass(trace_index, target, keras_call,
                                   PassConfig({}, {}, True, hints, limit=limit))
        return trace_index, state, state.is_out_of_time or (finished and state.is_whole)

    trace_index, state, is_settled = first_pass()
    numbers = () if is_settled else frozen_numbers(state, trace_index, source.module)
    if numbers:
        trace_index, state, is_settled = first_pass(numbers)
    backtracks = 0
    if not is_settled:
        # A layer whose input is in another order, or which differs, costs one pass this way.
        state, backtracks = search_through(trace(numbers, keep_arrays=True), target, keras_call,
                                           hints, limit, state)
    if state.is_out_of_time:
        _leave_the_rest_open(state, target, limit)
    settle_by_names(state, trace_index, target, include_open=accept_unproven)
    plan, alignment = written_down(state, trace_index, source, target, backtracks)
    plan = replace(plan, constants=(*plan.constants, *constants_of(numbers, source.module)))
    if state.is_out_of_time:
        return plan, replace(alignment, is_out_of_time=True)
    if alignment.open and goes_on_behind(target, state, trace_index, keras_call):
        added = [leaf for leaf in target.leaves() if leaf.display_name in alignment.open]
        own = {variable.key: GOES_ON for leaf in added for variable in leaf.variables}
        plan, alignment.open = replace(plan, kept={**plan.kept, **own}), {}
    if alignment.open or not alignment.left_over:
        return plan, alignment
    return _without_what_has_no_effect(
        plan, alignment, state, trace_index, source.module,
        lambda module: inputs.torch_call(module, inputs.torch_inputs))


def _without_what_has_no_effect(plan: Plan, alignment: Alignment, state: SearchState,
                                trace_index: TraceIndex, module: Any,
                                call: Callable[[Any], Any]) -> tuple[Plan, Alignment]:
    """The same without weights on which nothing depends that the Keras model gives."""
    unused = unused_weights(module, trace_index.trace.values, call, alignment.left_over)
    plan, alignment = without_unused(plan, alignment, unused)
    plan, alignment.left_over = without_other_outputs(plan, alignment.left_over, state, trace_index,
                                                      module, call)
    return plan, alignment


def settle_by_names(state: SearchState, trace_index: TraceIndex, target: Target, *,
                    include_open: bool) -> None:
    """Layers that this input never called (and with `include_open` those that nothing proved) by
    the names of weights without a place.

    Only where one mapping fits best; the Plan says that it is not proven. What an input does not
    reach cannot change its outputs.
    """
    taken = {tied for name in state.used for tied in trace_index.tied[name]}
    for leaf in target.leaves():
        if (leaf.display_name in state.matches or leaf.display_name in state.kept
                or (leaf.display_name in state.open and not include_open)):
            continue
        sizes = {variable.size for variable in leaf.variables}
        free = [
            name for name, array in trace_index.arrays.items()
            if name not in taken and array.size in sizes
        ]
        if leaf.display_name not in state.open:
            free = [name for name in free if name not in trace_index.trace.reached]
        free.sort(key=lambda name: -name_similarity(name, leaf.base_name))
        mapping = next(layer_mappings(tuple(free[:12]), trace_index.shapes, leaf, ()), None)
        if mapping is not None:
            state.matches[leaf.display_name] = Match(leaf, mapping, common_layer(mapping.names),
                                                     BY_NAME_AND_SHAPE, inf, inf, len(free))
            state.open.pop(leaf.display_name, None)
            taken.update(mapping.names)


def _lacks_gains(target: Target) -> bool:
    """True when a norm of the Keras model has an offset and no gain, so that a gain of one in torch
    may have no place.
    """
    return any("BatchNormalization" in leaf.class_names
               and "gamma" not in {variable.name for variable in leaf.variables}
               for leaf in target.leaves())


def search_through(trace_index: TraceIndex, target: Target, keras_call: Callable[[], Any],
                   hints: Mapping[str, str], limit: TimeLimit,
                   first: SearchState) -> tuple[SearchState, int]:
    """What passes with torch's values find, with what is known of each layer; when the time is up
    before them that is what the `first` pass found, if it found more. And how often a choice was
    taken back for good.
    """
    state, backtracks = _passes_to_the_end(trace_index, target, keras_call, hints, limit)
    if state.is_out_of_time and len(state.matches) < len(first.matches):
        state = replace(first, is_out_of_time=True)
    if not state.is_out_of_time and not state.open:
        alone, _ = one_pass(trace_index, target, keras_call,
                            PassConfig({}, dict(state.matches), False, hints))
        if is_the_same_model(alone, trace_index):
            state.matches = alone.matches
            return state, backtracks
    _mark_differences(state)
    return state, backtracks


def _passes_to_the_end(trace_index: TraceIndex, target: Target, keras_call: Callable[[], Any],
                       hints: Mapping[str, str], limit: TimeLimit) -> tuple[SearchState, int]:
    """Passes in which every layer gets what torch computed before it, so that the end is reached
    though the models differ on the way.

    Where a layer gets something that torch never computed, the choices before it are taken back
    first, the last ones first; only when none of them helps do the models differ there. The number
    tells how often a choice was taken back for good.
    """
    blocks = {leaf.display_name: block_name(leaf) for leaf in target.leaves()}
    config = PassConfig({}, {}, True, hints, True, limit=limit)
    backtracks = tried = 0
    while True:
        state, finished = one_pass(trace_index, target, keras_call, config)
        if state.is_out_of_time:
            return state, backtracks
        if finished:
            return state, backtracks
        most = min(MOST_PASSES_FOR_A_LINK, MOST_PASSES_FOR_LINKS - tried)
        repaired, more = _with_other_choices(trace_index, target, keras_call, config, state, most)
        if repaired is None:
            tried += more
            # What did not help in one block does not help in the next ones; no pass breaks off
            # when none is left to mend it.
            block = blocks.get(state.broken, OUTPUTS)
            config = replace(config, in_vain=config.in_vain | {block}, may_give_up=tried
                             < MOST_PASSES_FOR_LINKS)
        else:
            config, state, finished = repaired
            backtracks += 1
            if finished:
                return state, backtracks
        config = replace(config, accepted={**config.accepted, **state.parted},
                         presets=dict(state.matches), choices=tuple(state.choices))


def _with_other_choices(trace_index: TraceIndex, target: Target, keras_call: Callable[[], Any],
                        config: PassConfig, state: SearchState,
                        most: int) -> tuple[tuple[PassConfig, SearchState, bool] | None, int]:
    """Take back the last choices before the layer at which a pass broke off, until one of at most
    `most` passes gets beyond it; None when none does. And the number of passes.
    """
    broken, excluded, accepted = state.broken, dict(config.excluded), config.accepted
    for number in range(most):
        following = next_exclusions(state.choices, excluded)
        if following is None:
            return None, number
        excluded, before = following
        presets = dict(list(state.matches.items())[:before])
        parted = {name: why for name, why in state.parted.items() if name in presets}
        config = replace(config, excluded=excluded, presets=presets, link=broken,
                         accepted={**accepted, **parted},
                         choices=tuple(one for one in state.choices if one.matched <= before))
        state, finished = one_pass(trace_index, target, keras_call, config)
        if state.is_out_of_time:
            return (replace(config, link=""), state, True), number + 1
        if (finished and not state.lost) if broken == OUTPUTS else state.is_proven(broken):
            return (replace(config, link=""), state, finished), number + 1
    return None, most


def is_the_same_model(state: SearchState, trace_index: TraceIndex) -> bool:
    """True when a pass with nothing of torch's in the place of the Keras model's own values gave
    what torch gives.
    """
    return state.is_whole or (not state.open
                              and outputs_apart(state, trace_index) < SAME_OUTPUTS_BELOW)


def _leave_the_rest_open(state: SearchState, target: Target, limit: TimeLimit) -> None:
    """Say of each layer that the search did not come to why it is open."""
    for leaf in target.leaves():
        if not state.has_met(leaf.display_name):
            state.open[leaf.display_name] = (
                f"the search had no time left for it (time_limit={limit.seconds:g} s)")


def _mark_differences(state: SearchState) -> None:
    """Say of each layer what is known of it in models that differ."""
    is_behind = False
    for display_name, match in state.matches.items():
        if display_name in state.parted:
            is_behind = True
            state.matches[display_name] = replace(match, how=DIFFERS)
        elif is_behind and match.how == TOLD_BY_BOTH:
            state.matches[display_name] = replace(match, how=GIVEN_ITS_INPUT)
    for display_name in _undecided(state):
        state.matches[display_name] = replace(state.matches[display_name], how=UNDECIDED)


def _undecided(state: SearchState) -> Iterator[str]:
    """Layers of which each could be another one, where the first layer behind them gets something
    that torch never computed: only that would have told them apart.
    """
    order = list(state.matches)
    names = {
        tuple(sorted(match.mapping.names)): display_name
        for display_name, match in state.matches.items()
    }
    for choice in state.choices:
        group = [names[one] for one in (choice.chosen, *choice.alternatives) if one in names]
        if len(group) > 1:
            behind = order[max(map(order.index, group)) + 1:]
            if (behind[0] in state.parted) if behind else state.lost:
                yield from (one for one in group if state.matches[one].how == TOLD_BY_BOTH)


def outputs_apart(state: SearchState, trace_index: TraceIndex) -> float:
    """Distance of the Keras model's nearest output from the nearest value in torch."""
    return min((trace_index.seen.nearest(key) for key in state.outputs), default=inf)


def one_pass(trace_index: TraceIndex, target: Target, keras_call: Callable[[], Any],
             config: PassConfig) -> tuple[SearchState, bool]:
    """What one run of the Keras model settles, and whether it came to the end."""
    with no_grad(target), preserve_rng_state(), trial_values(target) as set_value:
        for variable, entry in trace_index.integers:
            set_value(
                variable,
                trace_index.evaluation.values(entry.expression, variable.dtype,
                                              variable.display_name))
        run = KerasPass(trace_index, target, set_value, config)
        set_value.on_read = run.read
        try:
            with intercepted_calls(target, run.handle):
                output = keras_call()
                run.finish(output)
                run.prove_by_outputs(keras_call)
        except OutOfTime:
            run.state.is_out_of_time = True
            return run.state, True
        except Backtrack:
            return run.state, False
        except (Fold, Unflatten) as found:
            matches = run.state.matches
            again = replace(config, presets=dict(matches), choices=tuple(run.state.choices),
                            accepted={**config.accepted, **run.state.parted})
            changed = found
        else:
            return run.state, True
    if isinstance(changed, Fold):
        folded = with_row(matches[changed.display_name], changed.row)
        return one_pass(trace_index, target, keras_call,
                        replace(again, presets={**matches, changed.display_name: folded}))
    display_names = changed.made.display_names
    turned = {
        display_name: counted_channels_last(matches[display_name], changed.made)
        for display_name in display_names
    }
    trial = replace(again, presets={**matches, **turned}, trial_for=changed.display_name)
    state, finished = one_pass(trace_index, target, keras_call, trial)
    if state.is_proven(changed.display_name):
        return state, finished
    return one_pass(
        trace_index, target, keras_call,
        replace(again,
                in_both_orders=config.in_both_orders | {(changed.display_name, changed.made)}))
