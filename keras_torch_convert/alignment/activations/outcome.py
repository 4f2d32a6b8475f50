"""What a search found, as a Plan and its evidence."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

from ...plan.evaluation import Evaluation
from ...plan.expressions import Tensor, tensors_of
from ...plan.plan import Plan
from ...plan.recipe import Assignment, Constant
from ...rules.families.normalization import NEUTRAL
from ...spec.roles import role_of
from ...spec.source import Source
from ...spec.target import Target, TargetLayer, TargetVariable
from .integers import is_integer
from .pass_state import (BUT_FOR_A_CAUSE, DIFFERS, PROVEN_GIVEN_ITS_INPUT, UNDECIDED, Match,
                         SearchState)
from .trace_index import TraceIndex
from .transforms import by_axes


@dataclass(slots=True)
class Alignment:
    """What running both models found: for each layer the evidence, what stayed open, what this
    input does not reach; sentences about what was `changed` in the torch module.
    """

    matches: dict[str, Match]
    open: dict[str, str]
    left_over: tuple[str, ...]
    backtracks: int
    is_out_of_time: bool = False
    changed: tuple[str, ...] = ()

    def summary(self) -> str:
        """How the alignment was found, in words."""
        return "found by running both models"

    def notes(self) -> tuple[str, ...]:
        """What the report should say besides."""
        if not self.backtracks:
            return self.changed
        choices = "a choice was" if self.backtracks == 1 else f"{self.backtracks} choices were"
        return (*self.changed,
                f"while aligning {choices} taken back, since what followed did not fit")

    @property
    def differs(self) -> bool:
        """True when some layer does something else than its counterpart in torch."""
        return any(match.how == DIFFERS for match in self.matches.values())

    def evidence(self) -> dict[str, str]:
        """Display name of the layer and of the variable to the reason in words."""
        found = {}
        for match in self.matches.values():
            sentence = match.summary()
            found[match.layer.display_name] = sentence
            for variable, entry in match.mapping.entries:
                found[variable.display_name] = (
                    f"from {', '.join(tensors_of(entry.expression))} ({entry.rule}): "
                    f"{sentence}")
        return found

    def statuses(self, explained: Collection[str], all_explained: bool) -> dict[str, str]:
        """Layer's display name to how much is known of its match, given the layers whose
        difference is `explained` by a proven cause.
        """
        return {
            display_name: match.status(explained, all_explained)
            for display_name, match in self.matches.items()
        }

    def answered_doubts(self, statuses: Mapping[str, str]) -> frozenset[str]:
        """Sentences about what stayed unproven, of layers whose status now says more."""
        return frozenset(
            doubt_about(match, variable) for display_name, match in self.matches.items()
            if statuses[display_name] in (BUT_FOR_A_CAUSE, PROVEN_GIVEN_ITS_INPUT)
            for variable, _ in match.mapping.entries)

    def doubted_places(self) -> frozenset[str]:
        """Places of the variables of layers whose output nothing in torch confirmed, or that got a
        value which torch does not have: a layer that is made to do nothing, or a part of what it
        does, may give an output of torch's by that.
        """
        return frozenset(variable.key for one in self.matches.values()
                         if one.is_tentative or any(not tensors_of(entry.expression)
                                                    for _, entry in one.mapping.entries)
                         for variable in one.layer.variables)

    def output_distances(self) -> dict[str, float]:
        """Layer's display name to how far its output was from torch's, where it was compared."""
        return {
            one.layer.display_name: one.output_distance
            for one in self.matches.values() if isfinite(one.output_distance)
        }


def without_unused(plan: Plan, alignment: Alignment,
                   unused: Collection[str]) -> tuple[Plan, Alignment]:
    """The same with weights left out on whose values no output depends."""
    dropped = {
        **plan.dropped,
        **dict.fromkeys(unused, "computed with, but no output depends on it at this input")
    }
    left_over = tuple(name for name in alignment.left_over if name not in unused)
    return replace(plan, dropped=dropped), replace(alignment, left_over=left_over)


def written_down(state: SearchState, trace_index: TraceIndex, source: Source, target: Target,
                 backtracks: int) -> tuple[Plan, Alignment]:
    """The Plan in the target's order, with a rule for every weight that has no partner."""
    order = {key: number for number, key in enumerate(target.variables)}
    assignments = {
        variable.key:
            Assignment(variable.key, entry.expression, entry.rule, doubt_about(match, variable))
        for match in state.matches.values() for variable, entry in match.mapping.entries
    }
    assignments |= {
        variable.key: Assignment(variable.key, entry.expression, entry.rule, "")
        for variable, entry in trace_index.integers
    }
    reached = {tied for name in trace_index.trace.reached for tied in trace_index.tied[name]}
    taken = {
        tied for match in state.matches.values() for name in match.mapping.names
        for tied in trace_index.tied[name]
    }
    unreached = tuple(name for name in source
                      if name in trace_index.shapes and name not in reached and name not in taken)
    entries = [one for match in state.matches.values() for one in match.mapping.entries]
    whole = {name for _, entry in entries if not entry.cut for name in tensors_of(entry.expression)}
    for variable, entry in entries:
        if entry.cut and whole.issuperset(tensors_of(entry.expression)):
            other = unreached_whole(variable, unreached, trace_index)
            assignments[variable.key] = other or assignments[variable.key]
    used = {name for one in assignments.values() for name in tensors_of(one.expression)}
    unreached = tuple(name for name in unreached if name not in used)
    dropped = dict.fromkeys(unreached, "not reached by this input")
    dropped |= {
        name: "a constant of the computation" for name, tensor in source.items()
        if name not in trace_index.shapes and name not in taken and tensor.kind == "buffer"
    }
    kept: dict[str, str] = {}
    for leaf in target.leaves():
        rule = reason_to_keep(leaf, state)
        if rule:
            kept |= {
                variable.key: rule for variable in leaf.variables if variable.key not in assignments
            }
            state.open.pop(leaf.display_name, None)
        integers = [one for one in leaf.variables if is_integer(one) and one.key not in assignments]
        kept |= {
            one.key: "whole numbers, which are no weights"
            for one in integers if one.key not in kept
        }
    pairs = tuple((common_layer(match.mapping.names), match.layer.display_name)
                  for match in state.matches.values() if match.mapping.names)
    left_over = tuple(name for name in source if name in reached and name not in taken)
    constants = tuple(without_effect(left_over, state, source))
    plan = Plan(tuple(sorted(assignments.values(), key=lambda item: order[item.key])), dropped,
                kept, pairs, constants)
    known = {name for constant in constants for name in tensors_of(constant.expression)}
    left_over = tuple(name for name in left_over if name not in known)
    return plan, Alignment(state.matches, state.open, left_over, backtracks)


def without_effect(left_over: Sequence[str], state: SearchState,
                   source: Source) -> Iterator[Constant]:
    """Gains that are 1 and offsets that are 0 throughout, of torch layers whose other weights went
    to a Keras layer that has none.
    """
    layers = {
        name.rpartition(".")[0]: one.layer for one in state.matches.values()
        for name in one.mapping.names
    }
    evaluation = Evaluation(source)
    for name in left_over:
        layer, value = layers.get(name.rpartition(".")[0]), NEUTRAL.get(role_of(name) or "")
        if layer is None or value is None or "Normalization" not in layer.class_name:
            continue
        if bool((evaluation.values(Tensor(name), source[name].dtype, name) == value).all()):
            yield Constant(Tensor(name), value,
                           f"'{layer.display_name}' has none, and {value:g} changes nothing")


def doubt_about(match: Match, variable: TargetVariable) -> str:
    """What stays unproven about a variable, "" when its layer was told by its input or output."""
    if match.how == DIFFERS:
        return (f"'{match.layer.display_name}' gives something else than "
                f"{match.unit or 'the whole module'} in torch: it differs, or a step before it; "
                "they were matched by their input and their names")
    if match.how == UNDECIDED:
        return (f"'{match.layer.display_name}' was told from others of its shape by its name: the "
                "models differ behind them")
    if match.output_distance < inf and variable.key not in match.without_effect:
        return ""
    return (f"'{variable.display_name}' was paired by names and shapes alone: this input does not "
            "reach it, or nothing it computes is in torch")


def unreached_whole(variable: TargetVariable, unreached: Sequence[str],
                    trace_index: TraceIndex) -> Assignment | None:
    """Return the whole of an unreached tensor for a variable that got a part of a tensor that
    another one has whole, when exactly one has its shape; None otherwise.
    """
    fitting = [
        found for name in unreached
        for found in (*by_axes(Tensor(name), trace_index.shapes[name], variable.shape),)[:1]
    ]
    if len(fitting) != 1:
        return None
    return Assignment(
        variable.key, fitting[0].expression, fitting[0].rule,
        f"'{variable.display_name}' was paired by its shape alone: this input does not reach it")


def reason_to_keep(leaf: TargetLayer, state: SearchState) -> str:
    """Why a layer without a partner may keep its values, "" when it may not."""
    if leaf.display_name in state.kept:
        return state.kept[leaf.display_name]
    if "Normalization" in leaf.class_names:
        return "constants of the Keras model's own preprocessing"
    if leaf.display_name not in state.matches and leaf.display_name not in state.open:
        return "not reached by this input"
    return ""


def common_layer(names: Sequence[str]) -> str:
    """The layer that the names of some weights have in common."""
    split = [name.split(".") for name in names]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common[:max(1, min(len(name) for name in split) - 1)])
