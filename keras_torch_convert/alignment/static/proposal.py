"""From a checkpoint and a Keras model to a Plan that nothing proves, with a confidence for each
weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...errors import AlignmentError
from ...plan.derived_tensors import DerivedTensor
from ...plan.expressions import tensors_of
from ...plan.plan import Plan
from ...plan.recipe import Assignment
from ...rules.families.position_tables import Resize, check_resize
from ...spec.layer_groups import LayerGroups, TorchLayer, group_by_layer
from ...spec.source import Source
from ...spec.target import Target, TargetLayer
from ...util.text import bullets, join_names, percent
from ..assemble import plan_of_pairs
from .confidence import confidence_of
from .matching import StaticMatch, match
from .sides import Sides, distinct_stacks, sides_of, with_hints

_DOUBT = ("weights were paired by shapes, names and order alone, which nothing proves: compare "
          "the outputs of both models before you trust them")
_SHOWN = 12
# Above this the user need not look twice: on the pairs of the zoo no weight above it was wrong.
SURE = 0.9


@dataclass(frozen=True, slots=True)
class StaticAlignment:
    """What was found without running anything: the pairs with their evidence, and what found no
    partner on either side.

    `confidence` is by label of a Keras variable, 0 to 1; `evidence` by label of a layer or
    variable, in words.
    """

    pairs: tuple[tuple[TorchLayer, TargetLayer, StaticMatch], ...]
    open: tuple[TargetLayer, ...]
    left_over: tuple[str, ...]
    confidence: Mapping[str, float]
    evidence: Mapping[str, str]

    def summary(self) -> str:
        """One line: how many weights, and how sure they are."""
        values = self.confidence.values()
        sure = sum(value >= SURE for value in values)
        span = f", confidence {percent(min(values))} to {percent(max(values))}" if values else ""
        return (f"{len(values)} weights by shapes, names and order, unproven{span}, {sure} of "
                f"them at {percent(SURE)} or more")

    def proposal(self) -> str:
        """The pairs, the least sure first, for a message."""
        least = {
            id(layer): min(self.confidence[variable.display_name] for variable in layer.variables)
            for _, layer, _ in self.pairs
        }
        by_confidence = sorted(self.pairs, key=lambda pair: least[id(pair[1])])
        return bullets((f"{layer.display_name} <- {torch_layer.name} ({percent(least[id(layer)])})"
                        for torch_layer, layer, _ in by_confidence), rest=", surer than these")


def align_statically(source: Source, target: Target, hints: Mapping[str, str],
                     resize: Resize = None) -> tuple[Plan, StaticAlignment]:
    """The likeliest Plan and how sure it is. Reads names and shapes, no values; runs nothing."""
    check_resize(resize)
    collection = group_by_layer(source)
    sides = with_hints(sides_of(target, distinct_stacks(source, collection.layers), resize), hints)
    found = match(sides, source.order == "sorted by name")
    pairs = tuple((sides.torch_layers[one.position], layer, one)
                  for layer, one in zip(sides.layers, found, strict=True) if one is not None)
    plan = _plan(collection, target, pairs, resize)
    return plan, _described(plan, source, sides, pairs, found)


def _plan(collection: LayerGroups, target: Target,
          pairs: tuple[tuple[TorchLayer, TargetLayer, StaticMatch], ...], resize: Resize) -> Plan:
    kept = {
        variable.key: "constants of the Keras model's own preprocessing"
        for leaf in target.leaves() if "Normalization" in leaf.class_names
        for variable in leaf.variables
    }
    plan = plan_of_pairs([(torch_layer, layer) for torch_layer, layer, _ in pairs], target, {},
                         dropped=collection.skipped, kept=kept, resize=resize)
    return replace(plan, assignments=tuple(map(_with_doubt, plan.assignments)))


def _with_doubt(assignment: Assignment) -> Assignment:
    return replace(assignment, doubt=assignment.doubt or _DOUBT)


def _described(plan: Plan, source: Source, sides: Sides, pairs: tuple[tuple[TorchLayer, TargetLayer,
                                                                            StaticMatch], ...],
               found: list[StaticMatch | None]) -> StaticAlignment:
    assignments = {assignment.key: assignment for assignment in plan.assignments}
    confidence: dict[str, float] = {}
    evidence: dict[str, str] = {}
    for torch_layer, layer, one in pairs:
        for variable in layer.variables:
            assignment = assignments[variable.key]
            fused = any(isinstance(tensor, DerivedTensor) for tensor in torch_layer.tensors)
            value = confidence_of(one, fused or assignment.doubt != _DOUBT)
            confidence[variable.display_name] = min(value,
                                                    confidence.get(variable.display_name, 1.0))
            names = ", ".join(tensors_of(assignment.expression))
            evidence.setdefault(
                variable.display_name,
                f"from {names} ({assignment.rule}): {_in_words(torch_layer, one, value)}")
        evidence.setdefault(
            layer.display_name,
            _in_words(torch_layer, one, min(confidence[v.display_name] for v in layer.variables)))
    used = {
        name
        for expression in (*(assignment.expression
                             for assignment in plan.assignments), *(constant.expression
                                                                    for constant in plan.constants))
        for name in tensors_of(expression)
    }
    tied = {name: names for names in source.tied for name in names}
    left_over = tuple(name for name in source
                      if name not in plan.dropped and not used & {name, *tied.get(name, ())})
    is_open = tuple(layer for layer, one in zip(sides.layers, found, strict=True) if one is None)
    return StaticAlignment(pairs, is_open, left_over, confidence, evidence)


def _in_words(torch_layer: TorchLayer, one: StaticMatch, value: float) -> str:
    others = (f"{one.candidates} torch layers fit by kind and shape"
              if one.candidates > 1 else "no other fits")
    return (
        f"paired with '{torch_layer.name}', unproven, confidence {percent(value)}: {others}; names "
        f"alike {percent(one.names)}, naming of the other pairs "
        f"followed {percent(one.scheme)}, order {percent(one.order)}; every other pairing "
        f"costs {one.margin:.2f} more")


def refusal_unproven(alignment: StaticAlignment, source: Source, target: Target) -> AlignmentError:
    """The error that shows what would be done if it were accepted."""
    return AlignmentError(
        f"{source.origin} is only weights, which cannot be run, so that nothing can prove how "
        "its layers are aligned; nothing was written. "
        f"The likeliest alignment with {target.name!r}: "
        f"{alignment.summary()}{_open_in_words(alignment)}. The least sure "
        f"ones:{alignment.proposal()}\n"
        "give the torch module with its weights loaded, or a plan (ktc.align(..., mapping=...)), "
        "settle pairs with hints={'keras layer': 'torch layer'}, or "
        "accept it as it is with accept_unproven=True")


def refusal_open(alignment: StaticAlignment, target: Target) -> AlignmentError:
    """The error for Keras layers that no torch layer fits, or more of them than torch layers."""
    return AlignmentError(
        f"{len(alignment.pairs)} layers of {target.name!r} find a torch layer by shapes, names "
        f"and order{_open_in_words(alignment)}; nothing was written; "
        f"torch tensors without a place: {join_names(alignment.left_over, _SHOWN)}; "
        "give the torch module, or map them by hand (ktc.align(..., mapping=...)), or "
        "let them keep their own values with strict=False")


def _open_in_words(alignment: StaticAlignment) -> str:
    if not alignment.open:
        return ""
    named = (f"'{layer.display_name}' {[variable.shape for variable in layer.variables]}"
             for layer in alignment.open)
    return f"; {len(alignment.open)} find none: {join_names(named, _SHOWN)}"
