"""Families where a Plan is wanted: the Plan of the member at hand takes their place."""

from __future__ import annotations

from os import PathLike
from typing import Any, Union

from ..alignment.assemble import with_both_sides
from ..errors import PlanError
from ..keras_io.model import read_target
from ..plan.executor import Strict
from ..plan.generalization.family_file import FORMAT
from ..plan.generalization.readers import READERS
from ..plan.plan import FamilyPlan, Plan, check_is_plan
from ..torch_io.reader import read

AnyPlan = Union[Plan, FamilyPlan]
READERS.source, READERS.target, READERS.complete = read, read_target, with_both_sides


def member_plan(plan: AnyPlan, source: Any, target: Any, strict: Strict = True) -> Plan:
    """Return a Plan as it is, and of a family the Plan for this source and this target.

    Raises PlanError for anything else, TransferError for a member that the family does not fit.
    """
    if isinstance(plan, FamilyPlan):
        return plan.plan_for(source, target, strict=strict)
    check_is_plan(plan)
    return plan


def load_plan(path: str | PathLike[str]) -> AnyPlan:
    """Read the file of a Plan or of a family. Raises PlanError."""
    try:
        return FamilyPlan.load(path)
    except PlanError as error:
        if FORMAT.name not in str(error):
            raise
    return Plan.load(path)
