"""A Plan that needs no callbacks any more where they only moved values: what they did, in the
Plan's own steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .callback_tracing import trace_callbacks
from .callbacks import apply_callbacks
from .copy_program import CopyProgram
from .coverage import AxisEntries, coverage
from .evaluation import Evaluation
from .expressions import CallbackOutput, Expression, LayerCallback, Tensor, tensors_of
from .plan import Plan
from .recipe import Assignment

Kinds = Sequence[tuple[tuple[int, ...], np.dtype[Any]]]


def lower_callbacks(plan: Plan, kinds: Mapping[LayerCallback, Kinds], evaluation: Evaluation,
                    dtype_of: Callable[[str], str]) -> tuple[Plan, tuple[str, ...]]:
    """The Plan with every callback recorded whose real results are, bit for bit, what the recorded
    steps give; and why others stay.

    `kinds` are shapes and types of what each callback got, `dtype_of` gives the type of a place's
    variable. Of a layer all outputs are recorded or none. What a callback leaves out of its tensors
    is then dropped by a rule that names the callback.
    """
    steps: dict[LayerCallback, tuple[Expression, ...]] = {}
    notes: list[str] = []
    for callback, about in kinds.items():
        of_layer = [
            one for one in plan.assignments
            if isinstance(one.expression, CallbackOutput) and one.expression.callback == callback
        ]
        try:
            outputs = _recorded(callback, about)
            if not all(_agrees(one, outputs, evaluation, dtype_of(one.key)) for one in of_layer):
                raise _OpaqueError("with the real weights it does more than move values")
            steps[callback] = outputs
        except _OpaqueError as error:
            keys = ", ".join(call.key for call in callback.calls)
            notes.append(
                f"the plan needs additional_transfer {keys} again for layer '{callback.layer}', "
                f"since {error}: give it to Plan.load")
    if not steps:
        return plan, tuple(notes)
    assignments = tuple(
        replace(one, expression=steps[one.expression.callback][one.expression.index])
        if isinstance(one.expression, CallbackOutput) and one.expression.callback in steps else one
        for one in plan.assignments)
    dropped = {**_left_out(assignments, steps, evaluation), **plan.dropped}
    return replace(plan, assignments=assignments, dropped=dropped), tuple(notes)


class _OpaqueError(Exception):
    """What a callback does is no movement of values; says why."""


def _recorded(callback: LayerCallback, kinds: Kinds) -> tuple[Expression, ...]:
    calls = [(call.key, call.function) for call in callback.calls]
    try:
        outputs = trace_callbacks(lambda arrays: apply_callbacks(callback.layer, arrays, calls),
                                  callback.operands, kinds)
    except Exception as error:
        # Only real weights must suit a user's function, and it served them: on numbers it may fail
        # as it likes.
        raise _OpaqueError(
            f"on arrays of element numbers it raised {type(error).__name__}, so it looks at values"
        ) from error
    found = tuple(output for output in outputs if output is not None)
    if not len(found) == len(outputs) == callback.count:
        raise _OpaqueError("it computes values, or moves them in no regular way")
    return found


def _agrees(assignment: Assignment, outputs: Sequence[Expression], evaluation: Evaluation,
            dtype: str) -> bool:
    """Whether the recorded steps give the very bits that came out of the real call."""
    assert isinstance(assignment.expression, CallbackOutput)
    try:
        real = evaluation.values(assignment.expression, dtype, assignment.key)
        steps = evaluation.values(outputs[assignment.expression.index], dtype, assignment.key)
    except ValueError:
        return False
    return real.shape == steps.shape and real.tobytes() == steps.tobytes()


def _left_out(assignments: Sequence[Assignment], steps: Mapping[LayerCallback,
                                                                Sequence[Expression]],
              evaluation: Evaluation) -> dict[str, str]:
    """Tensors that recorded callbacks got and did not use, or used in part: the rule that says who
    left them out.
    """
    taken: dict[str, list[tuple[AxisEntries, ...]]] = {}
    rules: dict[str, str] = {}
    for callback in steps:
        keys = ", ".join(call.key for call in callback.calls)
        for name in dict.fromkeys(
                name for operand in callback.operands for name in tensors_of(operand)):
            taken[name] = []
            rules[name] = f"left out by additional_transfer {keys} of layer '{callback.layer}'"
    pending: list[Expression] = [one.expression for one in assignments]
    while pending:
        layout: CopyProgram = evaluation.program(pending.pop())
        pending += [operand for base in layout.bases for operand in base.children()]
        for region in layout.regions:
            base = layout.bases[region.base]
            if isinstance(base, Tensor) and base.name in taken:
                taken[base.name].append(region.base_entries())
    return {
        name: rule for name, rule in rules.items() if coverage(
            evaluation.source[name].shape, taken[name]).covered < evaluation.source[name].size
    }
