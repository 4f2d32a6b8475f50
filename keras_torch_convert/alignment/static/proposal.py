"""A Plan from a checkpoint and a Keras model, which nothing proves, with a confidence by weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp

from ...errors import AlignmentError
from ...plan.derived_tensors import DerivedTensor
from ...plan.expressions import tensors_of
from ...plan.plan import Plan
from ...plan.recipe import tensors_read
from ...rules.families.flattened import HIDDEN
from ...rules.families.position_tables import Resize, check_resize
from ...spec.layer_groups import TorchLayer, group_by_layer
from ...spec.source import Source
from ...spec.target import Target, TargetLayer
from ...util.text import bullets, join_names, percent
from ..assemble import plan_of_pairs
from .matching import StaticMatch, match
from .sides import (Sides, distinct_layers, doubtful_rows, layers_that_do_nothing, sides_of,
                    with_hints)

_DOUBT = ("weights were paired by shapes, names and order alone, which nothing proves: compare "
          "the outputs of both models before you trust them")
_SHOWN = 12
# Above this the user need not look twice: on the pairs of the zoo no weight above it was wrong.
SURE = 0.9
# 0.5 where another pairing is as good, 0.9 where every other one costs 1.75 more. On the zoo's
# pairs no layer that a proven alignment contradicts had a larger margin, and seven in ten of the
# right ones had (tests/zoo/measure_static.py).
_STEEPNESS = 0.92
_MOST = 0.99
# Where shapes and names leave the layout itself open (a square table, the order of fused parts).
_MOST_IN_DOUBT = 0.8
# Where the Keras graph does not show whether a map is flattened.
_MOST_UNSEEN = 0.5

Pair = tuple[TorchLayer, TargetLayer, StaticMatch]


def confidence_of(match: StaticMatch, doubt: str = "") -> float:
    """Return how likely a weight is right, 0 to 1, to two digits.

    Args:
        match: The torch layer that was found, and the evidence.
        doubt: What shapes and names leave open about the layout, "" for nothing.
    """
    most = (_MOST_UNSEEN if HIDDEN in doubt else _MOST_IN_DOUBT) if doubt else _MOST
    return round(min(1 - 0.5 * exp(-_STEEPNESS * match.margin), most), 2)


@dataclass(frozen=True, slots=True)
class StaticAlignment:
    """What was found without running anything.

    Args:
        pairs: The pairs with their evidence.
        open: The Keras layers that found no partner.
        left_over: The names of the torch tensors that found none.
        confidence: By display name of a Keras variable, 0 to 1.
        evidence: By display name of a layer or variable, in words.
    """

    pairs: tuple[Pair, ...]
    open: tuple[TargetLayer, ...]
    left_over: tuple[str, ...]
    confidence: Mapping[str, float]
    evidence: Mapping[str, str]

    def summary(self) -> str:
        """Say in one line how many weights there are, and how sure."""
        values = self.confidence.values()
        sure = sum(value >= SURE for value in values)
        span = f", confidence {percent(min(values))} to {percent(max(values))}" if values else ""
        return (f"{len(values)} weights by shapes, names and order, unproven{span}, {sure} of "
                f"them at {percent(SURE)} or more")

    def proposal(self) -> str:
        """List the pairs for a message, the least sure first."""
        least = {
            id(layer): min(self.confidence[variable.display_name] for variable in layer.variables)
            for _, layer, _ in self.pairs
        }
        by_confidence = sorted(self.pairs, key=lambda pair: least[id(pair[1])])
        return bullets((f"{layer.display_name} <- {torch_layer.name} ({percent(least[id(layer)])})"
                        for torch_layer, layer, _ in by_confidence), rest=", surer than these")


def align_statically(source: Source, target: Target, hints: Mapping[str, str],
                     resize: Resize = None) -> tuple[Plan, StaticAlignment]:
    """Find the likeliest Plan. It reads names and shapes, no values, and runs nothing.

    Args:
        source: The checkpoint.
        target: The Keras model.
        hints: Keras layers or variables to torch layers or tensors.
        resize: How position tables of another resolution are resized.

    Returns:
        The Plan, and how sure it is.

    Raises:
        AlignmentError: A hint names nothing, or a pair that does not fit.
    """
    check_resize(resize)
    groups = group_by_layer(source)
    sides = with_hints(sides_of(target, distinct_layers(source, groups.layers), resize), hints)
    found = match(sides, source.order == "sorted by name")
    pairs = tuple((sides.torch_layers[one.position], layer, one)
                  for layer, one in zip(sides.layers, found, strict=True) if one is not None)
    kept = {
        variable.key: "constants of the Keras model's own preprocessing"
        for leaf in target.leaves() if "Normalization" in leaf.class_names
        for variable in leaf.variables
    }
    plan = plan_of_pairs([(torch_layer, layer) for torch_layer, layer, _ in pairs], target, {},
                         dropped=groups.skipped, kept=kept, resize=resize)
    absent = layers_that_do_nothing(
        [layer for layer, one in zip(sides.layers, found, strict=True) if one is None], source)
    plan = replace(plan, assignments=(*plan.assignments, *absent))
    unseen = doubtful_rows(target)
    doubts = {
        one.key: "; ".join(filter(None, (one.doubt, unseen.get(one.key))))
        for one in plan.assignments
    }
    alignment = _with_evidence(plan, source, sides, pairs, found, doubts)
    assignments = tuple(replace(one, doubt=doubts[one.key] or _DOUBT) for one in plan.assignments)
    return replace(plan, assignments=assignments), alignment


def _with_evidence(plan: Plan, source: Source, sides: Sides, pairs: tuple[Pair, ...],
                   found: list[StaticMatch | None], doubts: Mapping[str, str]) -> StaticAlignment:
    assignments = {assignment.key: assignment for assignment in plan.assignments}
    confidence: dict[str, float] = {}
    evidence: dict[str, str] = {}
    for torch_layer, layer, one in pairs:
        fused = any(isinstance(tensor, DerivedTensor) for tensor in torch_layer.tensors)
        for variable in layer.variables:
            name, assignment = variable.display_name, assignments[variable.key]
            value = confidence_of(one, doubts[variable.key] or ("fused" if fused else ""))
            confidence[name] = min(value, confidence.get(name, 1.0))
            tensors = ", ".join(tensors_of(assignment.expression))
            evidence.setdefault(
                name,
                f"from {tensors} ({assignment.rule}): {_describe_match(torch_layer, one, value)}"
                f"{'; ' * bool(doubts[variable.key])}{doubts[variable.key]}")
        least = min(confidence[variable.display_name] for variable in layer.variables)
        evidence.setdefault(layer.display_name, _describe_match(torch_layer, one, least))
    used = tensors_read(plan).keys()
    tied = {name: names for names in source.tied for name in names}
    left_over = tuple(name for name in source
                      if name not in plan.dropped and not used & {name, *tied.get(name, ())})
    is_open = tuple(
        layer for layer, one in zip(sides.layers, found, strict=True)
        if one is None and not all(variable.key in assignments for variable in layer.variables))
    for layer in (one for one in sides.layers if one.display_name not in evidence):
        for variable in layer.variables if layer not in is_open else ():
            confidence[variable.display_name] = _MOST_UNSEEN
            evidence[variable.display_name] = assignments[variable.key].rule
    return StaticAlignment(pairs, is_open, left_over, confidence, evidence)


def _describe_match(torch_layer: TorchLayer, one: StaticMatch, value: float) -> str:
    others = (f"{one.candidates} torch layers fit by kind and shape"
              if one.candidates > 1 else "no other fits")
    return (
        f"paired with '{torch_layer.name}', unproven, confidence {percent(value)}: {others}; names "
        f"alike {percent(one.names)}, naming of the other pairs "
        f"followed {percent(one.scheme)}, order {percent(one.order)}; every other pairing "
        f"costs {one.margin:.2f} more")


def refusal_unproven(alignment: StaticAlignment, source: Source, target: Target) -> AlignmentError:
    """Return the error that shows what would be done if it were accepted."""
    return AlignmentError(
        f"{source.origin} is only weights, which cannot be run, so that nothing can prove how "
        "its layers are aligned; nothing was written. "
        f"The likeliest alignment with {target.name!r}: "
        f"{alignment.summary()}{_describe_open(alignment)}. The least sure "
        f"ones:{alignment.proposal()}\n"
        "give the torch module with its weights loaded, or a plan (ktc.align(..., mapping=...)), "
        "settle pairs with hints={'keras layer': 'torch layer'}, or "
        "accept it as it is with accept_unproven=True")


def refusal_open(alignment: StaticAlignment, target: Target) -> AlignmentError:
    """Return the error for Keras layers that find no torch layer."""
    return AlignmentError(
        f"{len(alignment.pairs)} layers of {target.name!r} find a torch layer by shapes, names "
        f"and order{_describe_open(alignment)}; nothing was written; "
        f"torch tensors without a counterpart: {join_names(alignment.left_over, _SHOWN)}; "
        "give the torch module, or map them with ktc.align(..., mapping=...), or "
        "let them keep their own values with strict=False")


def _describe_open(alignment: StaticAlignment) -> str:
    if not alignment.open:
        return ""
    named = (f"'{layer.display_name}' {[variable.shape for variable in layer.variables]}"
             for layer in alignment.open)
    return f"; {len(alignment.open)} find none: {join_names(named, _SHOWN)}"
