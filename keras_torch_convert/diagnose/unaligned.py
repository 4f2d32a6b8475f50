"""Where two models part whose layers could not all be aligned, because they part: the weights that have a place are tried in the Keras model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..align.running.keras_values import trial_values
from ..align.static.align import align_statically
from ..plan import Plan, tensors_of
from ..read.source import Source
from ..read.target import Target
from ..transfer.executor import prepare
from ..verify.judge import judge
from .diagnosing import Diagnosis
from .divergence import FirstDivergence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..align.running.inputs import Runs


def cause_of_open_layers(
    source: Source, target: Target, runs: Runs, plan: Plan, hints: Mapping[str, str]
) -> FirstDivergence | None:
    """The first divergence, when its cause is proven: what `plan` settles, the rest by names and order, computed with values that never reach the model."""
    proposal, _ = align_statically(source, target, hints)
    # A layer that was left neutral, since nothing in torch seemed to be its, may be the one that differs.
    settled = {one.place: one for one in plan.assignments if tensors_of(one.expression)}
    others = {one.place: one for one in proposal.assignments if one.place not in settled}
    neutral = [one for one in plan.assignments if one.place not in settled and one.place not in others]
    whole = replace(plan, assignments=(*settled.values(), *others.values(), *neutral))
    prepared = prepare(whole, source, target, strict=False)
    with trial_values(target) as set_value:
        for variable, array in prepared.arrays():
            set_value(variable, array)
        comparison = judge(source.module, target, runs, count=0)
        found = Diagnosis(source, target, runs, whole).result(comparison.relative_diff or 1.0)
    return found if found is not None and found.kind else None
