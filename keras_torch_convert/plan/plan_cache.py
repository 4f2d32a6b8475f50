"""Checks that were made before: a zoo applies one Plan to many checkpoints of the same tensors, and
only the first needs checking.

What is kept knows no source: neither values nor an open file stay behind.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from ..spec.source import Source
from .executor import CheckedPlan, Strict
from .plan import Plan

_MOST_KEPT = 4


@dataclass(frozen=True, slots=True)
class _Kept:
    plan: Plan
    excuses: tuple[dict[str, str], dict[str, str]]
    strict: Strict
    tensors: tuple[Any, ...]
    prepared: CheckedPlan


_kept: deque[_Kept] = deque(maxlen=_MOST_KEPT)


def keep_prepared(plan: Plan, source: Source, strict: Strict, prepared: CheckedPlan) -> None:
    """Keep the outcome of the checks, unless they looked at values."""
    if not prepared.depends_on_values:
        without_source = prepared.for_source(Source({}, ""))
        _kept.append(_Kept(plan, _excuses(plan), strict, _signature(source), without_source))


def prepared_before(plan: Plan, source: Source, strict: Strict) -> CheckedPlan | None:
    """The Plan checked for this source, when it was checked for one of the same names, shapes,
    types and ties; None when it was not.
    """
    for kept in tuple(_kept):
        same_plan = kept.plan is plan and kept.strict == strict and kept.excuses == _excuses(plan)
        if same_plan and kept.tensors == _signature(source):
            return kept.prepared.for_source(source)
    return None


def _excuses(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    return dict(plan.dropped), dict(plan.kept)


def _signature(source: Source) -> tuple[Any, ...]:
    """All that the checks see of a source."""
    tensors = [(one.name, one.shape, one.dtype, one.kind, one.display_name, one.from_array)
               for one in source.tensors.values()]
    return tuple(tensors), source.tied
