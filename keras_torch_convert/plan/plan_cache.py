"""The outcome of a check, kept for further checkpoints of the same tensors."""

from __future__ import annotations

from typing import Any

from ..spec.source import Source
from .executor import CheckedPlan, Strict
from .plan import Plan


class PlanCache:
    """Lets `apply` check a Plan once for many checkpoints that differ in their values only.

    Whoever applies a Plan in a loop makes one and gives it to each call. It keeps the last check,
    without the source: neither values nor an open file stay behind. A pickled one is empty again.

    Example:
        >>> cache = ktc.PlanCache()
        >>> for path in ["first.weights.h5", "second.weights.h5"]:
        ...     report = ktc.apply(plan, "model.pth", path, cache=cache)
    """
    def __init__(self) -> None:
        self._kept: tuple[Plan, tuple[Any, ...], CheckedPlan] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return PlanCache, ()

    def find(self, plan: Plan, source: Source, strict: Strict) -> CheckedPlan | None:
        """Return the Plan checked for this source, None when it must be checked.

        Args:
            plan: The very Plan of the last check.
            source: A source with the same names, shapes, dtypes and ties.
            strict: That of the last check.

        Returns:
            The outcome for this source.
        """
        if self._kept is None:
            return None
        kept_plan, conditions, checked = self._kept
        fits = kept_plan is plan and conditions == _conditions(plan, source, strict)
        return checked.for_source(source) if fits else None

    def keep(self, plan: Plan, source: Source, strict: Strict, checked: CheckedPlan) -> None:
        """Keep the outcome of a check, unless it looked at values.

        Args:
            plan: The Plan.
            source: The source it was checked for.
            strict: How it was checked.
            checked: The outcome.
        """
        if not checked.depends_on_values:
            without_source = checked.for_source(Source({}, ""))
            self._kept = plan, _conditions(plan, source, strict), without_source


def _conditions(plan: Plan, source: Source, strict: Strict) -> tuple[Any, ...]:
    """Return all that a check depends on besides the Plan's expressions."""
    tensors = [(one.name, one.shape, one.dtype, one.kind, one.display_name, one.from_array)
               for one in source.tensors.values()]
    return tensors, source.tied, dict(plan.dropped), dict(plan.kept), strict
