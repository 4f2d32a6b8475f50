"""Where two models part whose layers could not all be aligned, because they part: the weights that
have a place are tried in the Keras model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..alignment.static.proposal import align_statically
from ..comparison.divergence import FirstDivergence
from ..comparison.measurement import measure
from ..plan.executor import check_plan
from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..running.keras_values import trial_values
from ..spec.source import Source
from ..spec.target import Target
from .counterparts import without_counterpart
from .diagnosis import Diagnosis

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..alignment.activations.search import Alignment
    from ..running.input_pair import InputPair


def why_open(source: Source, target: Target, inputs: InputPair, plan: Plan, alignment: Alignment,
             hints: Mapping[str, str]) -> list[str]:
    """Sentences about why layers stayed open: what has no counterpart, and the first divergence
    where its cause is proven.

    What `plan` settles and, for the rest, what names and order say is computed with values that
    never reach the model. Layers that nothing confirmed may be settled wrongly: where no cause is
    found they too go by names and order.
    """
    proposal, _ = align_statically(source, target, hints)
    trusting = _completed(plan, proposal, ())
    cautious = _completed(plan, proposal, alignment.doubted_places())
    found = _cause(source, target, inputs, trusting)
    if found is None and cautious != trusting:
        found = _cause(source, target, inputs, cautious)
    sentences = without_counterpart(source, target, cautious, alignment.open)
    return sentences if found is None else [*sentences, str(found)]


def _completed(plan: Plan, proposal: Plan, doubted: Collection[str]) -> Plan:
    """The plan, with the proposal's assignments for what it leaves open and for the `doubted`
    places.
    """
    # A layer that was left neutral, since nothing in torch seemed to be its, may be the one that
    # differs.
    settled = {
        one.key: one
        for one in plan.assignments if tensors_of(one.expression) and one.key not in doubted
    }
    others = {one.key: one for one in proposal.assignments if one.key not in settled}
    rest = [one for one in plan.assignments if one.key not in settled and one.key not in others]
    return replace(plan, assignments=(*settled.values(), *others.values(), *rest))


def _cause(source: Source, target: Target, inputs: InputPair,
           whole: Plan) -> FirstDivergence | None:
    prepared = check_plan(whole, source, target, strict=False)
    with trial_values(target) as set_value:
        for variable, array in prepared.arrays():
            set_value(variable, array)
        comparison = measure(source.module, target, inputs, count=0)
        found = Diagnosis(source, target, inputs, whole).result(comparison.relative_diff or 1.0)
    return found if found is not None and found.kind else None
