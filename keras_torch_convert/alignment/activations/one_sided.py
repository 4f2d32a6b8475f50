"""Weights that only one model has a use for: a head of torch's that the Keras model lacks, or one
that it adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ...plan.plan import Plan
from ...running.fingerprint import Fingerprint, FingerprintIndex, distance, fingerprint
from ...running.keras_values import eager_arrays, intercepted_calls, trial_values
from ...running.run import no_grad, preserve_rng_state
from ...running.torch_trace import Recorder, traced_twin
from ...spec.target import Target
from .pass_state import MOST_DRIFT, SearchState
from .trace_index import TraceIndex
from .unused_weights import changed_values

FEEDS_OTHERS = "feeds only outputs that the Keras model does not have"
GOES_ON = "goes on where the torch module ends, and keeps its own values"


def without_other_outputs(plan: Plan, left_over: tuple[str, ...], state: SearchState,
                          trace_index: TraceIndex, module: Any,
                          call: Callable[[Any], Any]) -> tuple[Plan, tuple[str, ...]]:
    """Return the Plan without weights of outputs that the Keras model does not have, and what is
    still left over.

    All of them are changed at once: what torch computes where Keras ends must stay as it is, bit
    for bit.
    """
    if not left_over or state.lost or not all(name in trace_index.shapes for name in left_over):
        return plan, left_over
    given = {key for key, _ in trace_index.trace.seen}
    wanted = {min(given, key=lambda one: distance(one, key)) for key in state.outputs}
    values = changed_values(trace_index.trace.values, left_over)
    if not wanted <= _values_seen(module, values, call):
        return plan, left_over
    return replace(plan, dropped={**plan.dropped, **dict.fromkeys(left_over, FEEDS_OTHERS)}), ()


def _values_seen(module: Any, values: Mapping[str, Any], call: Callable[[Any],
                                                                        Any]) -> set[Fingerprint]:
    import torch

    with traced_twin(module, values, torch.float32) as (twin, own):
        recorder = Recorder(twin, own, keep_arrays=False)
        with recorder.recording():
            call(twin)
    return {key for key, _ in recorder.trace.seen}


def goes_on_behind(target: Target, state: SearchState, trace_index: TraceIndex,
                   keras_call: Callable[[], Any]) -> bool:
    """Return whether the Keras model computes all that torch gives before any layer that found no
    partner is called, and gives nothing of that size itself.
    """
    leaves = {id(leaf.layer) for leaf in target.leaves() if leaf.display_name in state.open}
    before: list[Fingerprint] = []
    begun: list[Any] = []

    def handle(layer: Any, call: Any, args: Any, kwargs: Any) -> Any:
        begun.extend([layer] if id(layer) in leaves else [])
        result = call(*args, **kwargs)
        if not begun:
            before.extend(fingerprint(array) for array in eager_arrays(result) if array.size)
        return result

    with no_grad(target), preserve_rng_state(), trial_values(target) as set_value:
        entries = [entry for match in state.matches.values() for entry in match.mapping.entries]
        for variable, entry in (*trace_index.integers, *entries):
            set_value(variable, trace_index.trial_value(entry.expression, variable.display_name))
        with intercepted_calls(target, handle, operations=True):
            given = list(eager_arrays(keras_call()))
    inside = FingerprintIndex((key, None) for key in before)
    return bool(begun) and all(
        inside.nearest(key) < MOST_DRIFT and all(array.size != other.size for other in given)
        for key, array in trace_index.outputs if array.size)
