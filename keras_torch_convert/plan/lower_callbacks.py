"""A Plan that needs no callbacks any more where they only moved values: what they did, in the
Plan's own steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from .callback_tracing import ArraySpec, trace_callbacks
from .callbacks import apply_callbacks
from .coverage import AxisEntries, coverage
from .evaluation import Evaluation
from .expressions import CallbackOutput, Expression, LayerCallback, tensors_of
from .plan import Plan
from .recipe import Assignment


def lower_callbacks(plan: Plan, kinds: Mapping[LayerCallback,
                                               Sequence[ArraySpec]], evaluation: Evaluation,
                    dtype_of: Callable[[str], str]) -> tuple[Plan, tuple[str, ...]]:
    """Replace each callback whose real results are, bit for bit, what traced steps give.

    Args:
        plan: A Plan whose callbacks were run.
        kinds: Shapes and dtypes of what each callback got.
        evaluation: Has their results.
        dtype_of: Gives the dtype of a variable by its key.

    Returns:
        The Plan, and a sentence for each callback that stays. Of a layer all outputs are replaced
        or none. What a callback leaves out of its tensors is dropped by a rule that names it.
    """
    steps: dict[LayerCallback, tuple[Expression, ...]] = {}
    notes: list[str] = []
    for callback, about in kinds.items():
        try:
            outputs = _traced(callback, about)
            for assignment in plan.assignments:
                one = assignment.expression
                if isinstance(one, CallbackOutput) and one.callback == callback and not _agree(
                        one, outputs[one.index], evaluation, dtype_of(assignment.key)):
                    raise _OpaqueError("with the real weights it does more than move values")
            steps[callback] = outputs
        except _OpaqueError as error:
            notes.append(f"the plan needs additional_transfer {_keys(callback)} again for layer "
                         f"'{callback.layer}', since {error}: give it to Plan.load")
    if not steps:
        return plan, tuple(notes)
    assignments = tuple(_with_steps(one, steps) for one in plan.assignments)
    dropped = {**_left_out(assignments, steps, evaluation), **plan.dropped}
    return replace(plan, assignments=assignments, dropped=dropped), tuple(notes)


class _OpaqueError(Exception):
    """What a callback does is no movement of values; says why."""


def _keys(callback: LayerCallback) -> str:
    return ", ".join(call.key for call in callback.calls)


def _traced(callback: LayerCallback, kinds: Sequence[ArraySpec]) -> tuple[Expression, ...]:
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


def _agree(output: CallbackOutput, steps: Expression, evaluation: Evaluation, dtype: str) -> bool:
    """Return whether the traced steps give the very bits that came out of the real call."""
    try:
        real, traced = (evaluation.values(one, dtype, "") for one in (output, steps))
    except ValueError:
        return False
    return real.shape == traced.shape and real.tobytes() == traced.tobytes()


def _with_steps(assignment: Assignment, steps: Mapping[LayerCallback,
                                                       Sequence[Expression]]) -> Assignment:
    one = assignment.expression
    if isinstance(one, CallbackOutput) and one.callback in steps:
        return replace(assignment, expression=steps[one.callback][one.index])
    return assignment


def _left_out(assignments: Iterable[Assignment], lowered: Iterable[LayerCallback],
              evaluation: Evaluation) -> dict[str, str]:
    """Return for tensors that lowered callbacks got and did not use, or used in part, the rule that
    says who left them out.
    """
    rules = {
        name: f"left out by additional_transfer {_keys(callback)} of layer '{callback.layer}'"
        for callback in lowered for operand in callback.operands for name in tensors_of(operand)
    }
    taken: dict[str, list[tuple[AxisEntries, ...]]] = {name: [] for name in rules}
    for name, region in evaluation.regions_read(one.expression for one in assignments):
        if name in taken:
            taken[name].append(region.base_entries())
    return {
        name: rule for name, rule in rules.items() if coverage(
            evaluation.source[name].shape, taken[name]).covered < evaluation.source[name].size
    }
