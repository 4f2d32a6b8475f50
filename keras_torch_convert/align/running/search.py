"""The whole way from two models to a Plan: trace torch, run Keras, go back on wrong choices, write down what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import AlignmentError
from ...plan import Assignment, Plan, tensors_of
from ...read.source import Source
from ...read.target import Target, TargetLayer
from ...verify.predict import gradients_off, python_generators_kept
from .ambiguity import MOST_BACKTRACKS, DeadEnd, next_exclusions
from .inputs import Runs
from .keras_pass import KerasPass, Knowledge, Settled, State
from .keras_values import intercepted_calls, trial_values
from .randomise import randomised_values
from .torch_trace import trace_module


@dataclass(slots=True)
class Alignment:
    """What running both models found: for each layer the evidence, what stayed open, what this input does not reach."""

    settled: dict[str, Settled]
    open: dict[str, str]
    unreached_names: tuple[str, ...]
    left_over: tuple[str, ...]
    backtracks: int
    notes: tuple[str, ...] = ()

    def evidence(self) -> dict[str, str]:
        """Layer label and variable label to the reason in words."""
        found = {}
        for settled in self.settled.values():
            sentence = settled.in_words()
            found[settled.layer.label] = sentence
            for variable, way in settled.filling.ways:
                found[variable.label] = f"from {', '.join(tensors_of(way.expression))} ({way.rule}): {sentence}"
        return found


def refusal(alignment: Alignment, target: Target) -> AlignmentError:
    """The error that shows what is aligned, what is open and what may settle it."""
    shown = "".join(f"\n  - {label}: {reason}" for label, reason in list(alignment.open.items())[:12])
    more = len(alignment.open) - 12
    shown += f"\n  and {more} more" if more > 0 else ""
    free = ", ".join(alignment.left_over[:8]) or "none"
    return AlignmentError(
        f"{len(alignment.settled)} layers of {target.name!r} are aligned, {len(alignment.open)} are open, nothing was written:{shown}\n"
        f"torch tensors without a place: {free}; settle one with hints={{'keras layer': 'torch layer'}}"
    )


def align_by_running(
    source: Source, target: Target, runs: Runs, hints: Mapping[str, str], accept_unproven: bool
) -> tuple[Plan, Alignment]:
    """The Plan and its evidence. Both models are run, neither is changed."""
    module = source.module
    values = randomised_values(module, keep_ones=_lacks_gains(target))
    knowledge = Knowledge(trace_module(module, values, lambda module: runs.torch_call(module, runs.torch_inputs)))
    state, backtracks = search(knowledge, target, lambda: runs.keras_call(target.model, runs.keras_inputs))
    return written_down(state, knowledge, source, target, backtracks)


def _lacks_gains(target: Target) -> bool:
    """True when a norm of the Keras model has an offset and no gain, so that a gain of one in torch may have no place."""
    return any(
        "BatchNormalization" in leaf.kinds and "gamma" not in {variable.name for variable in leaf.variables}
        for leaf in target.leaves()
    )


def search(knowledge: Knowledge, target: Target, keras_call: Callable[[], Any]) -> tuple[State, int]:
    """Passes through the Keras model until none of its layers hits a dead end, or the choices or the patience run out."""
    leaves = {id(leaf.layer): leaf for leaf in target.leaves()}
    excluded: dict[str, set[tuple[str, ...]]] = {}
    presets: dict[str, Settled] = {}
    best: tuple[int, dict[str, set[tuple[str, ...]]]] = (-1, {})
    for backtracks in range(MOST_BACKTRACKS + 1):
        state, finished = one_pass(knowledge, target, leaves, keras_call, excluded, presets, backtracks < MOST_BACKTRACKS)
        if finished:
            return state, backtracks
        if len(state.settled) > best[0]:
            best = (len(state.settled), excluded)
        following = next_exclusions(state.choices, excluded)
        if following is None:
            break
        excluded, before = following
        presets = dict(list(state.settled.items())[:before])
    state, _ = one_pass(knowledge, target, leaves, keras_call, best[1], {}, False)
    return state, MOST_BACKTRACKS


def one_pass(
    knowledge: Knowledge,
    target: Target,
    leaves: dict[int, TargetLayer],
    keras_call: Callable[[], Any],
    excluded: dict[str, set[tuple[str, ...]]],
    presets: dict[str, Settled],
    may_give_up: bool,
) -> tuple[State, bool]:
    """What one run of the Keras model settles, and whether it came to the end."""
    with gradients_off(target), python_generators_kept(), trial_values(target) as set_value:
        run = KerasPass(knowledge, leaves, set_value, excluded=excluded, presets=presets, may_give_up=may_give_up)
        try:
            with intercepted_calls(target, run.handle):
                keras_call()
        except DeadEnd:
            return run.state, False
        return run.state, True


def written_down(
    state: State, knowledge: Knowledge, source: Source, target: Target, backtracks: int
) -> tuple[Plan, Alignment]:
    """The Plan in the target's order, with a rule for every weight that has no partner."""
    order = {place: number for number, place in enumerate(target.variables)}
    assignments = {
        variable.place: Assignment(variable.place, way.expression, way.rule)
        for settled in state.settled.values()
        for variable, way in settled.filling.ways
    }
    reached = {tied for name in knowledge.trace.reached for tied in knowledge.tied[name]}
    taken = {tied for settled in state.settled.values() for name in settled.filling.names for tied in knowledge.tied[name]}
    unreached = tuple(name for name in source if name in knowledge.shapes and name not in reached and name not in taken)
    dropped = {name: "not reached by this input" for name in unreached}
    dropped |= {
        name: "a constant of the computation"
        for name, tensor in source.items()
        if name not in knowledge.shapes and tensor.kind == "buffer"
    }
    kept = {
        variable.place: "constants of the Keras model's own preprocessing"
        for leaf in target.leaves()
        if "Normalization" in leaf.kinds
        for variable in leaf.variables
        if variable.place not in assignments
    }
    for place in kept:
        state.open.pop(next((l.label for l in target.leaves() if any(v.place == place for v in l.variables)), ""), None)
    pairs = tuple((_torch_layer(settled), settled.layer.label) for settled in state.settled.values())
    plan = Plan(tuple(sorted(assignments.values(), key=lambda item: order[item.place])), dropped, kept, pairs)
    left_over = tuple(name for name in source if name in reached and name not in taken)
    return plan, Alignment(state.settled, state.open, unreached, left_over, backtracks)


def _torch_layer(settled: Settled) -> str:
    """The common beginning of the names of a layer's weights."""
    names = [name.split(".") for name in settled.filling.names]
    common = []
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common[: max(1, min(len(name) for name in names) - 1)])
