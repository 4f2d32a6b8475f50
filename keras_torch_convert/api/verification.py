"""The public `verify`: are two models equal, would a swap show, and if they differ, where and why.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from ..comparison.models import compare_on_inputs
from ..comparison.randomized import compare_randomized
from ..comparison.verdict import Comparison
from ..diagnosis.causes.ends import SOFTMAX_AT_THE_END
from ..diagnosis.description import internal_error
from ..diagnosis.diagnosis import Diagnosis
from ..errors import PredictionError
from ..keras_io.model import read_target
from ..plan.plan import Plan, check_is_plan
from ..rules.hyperparameters import compare_hyperparameters
from ..spec.source import Source
from ..spec.target import Target
from ..torch_io.reader import read as read_source

if TYPE_CHECKING:
    from ..running.input_pair import Call, InputPair


def verify(torch_model: Any, keras_model: Any, *, plan: Plan | None = None, sample: Any = None,
           torch_call: Call | None = None, keras_call: Call | None = None, inputs: int = 3,
           randomized: bool | None = None, diagnose: bool = True) -> Comparison:
    """Compare what two models compute, and say where and why they part when they do.

    Both run, with the weights that they have, on the caller's inputs and on others in the same
    range, `inputs` in all; neither is changed. `sample`, `torch_call` and `keras_call` are those of
    `convert`; without a sample inputs are made from the Keras model's specs. `plan` is the Plan by
    which the weights were carried over (`report.plan`). With it, and outputs that are equal, the
    comparison is repeated with norm statistics, biases and scales replaced by random values in both
    (`randomized=False`: not), since fresh norms hide swaps; and hyperparameters are compared.
    `diagnose=False` leaves out the search for the first divergence.

    Raises ValueError for a `randomized` proof without a plan, AlignmentError when no inputs can be
    made, PredictionError when a model fails.
    """
    if plan is not None:
        check_is_plan(plan)
    if randomized and plan is None:
        raise ValueError(
            "randomized=True needs plan=: only a Plan says which random value belongs where in "
            "both models")
    if inputs < 1:
        raise ValueError(f"inputs must be at least 1, got {inputs}")
    source = torch_model if isinstance(torch_model, Source) else read_source(torch_model)
    target = keras_model if isinstance(keras_model, Target) else read_target(
        keras_model, sample=sample)
    if source.module is None:
        raise PredictionError(
            f"{source.origin} is only weights, which cannot be run: give the torch module")
    from ..running.inputs import InputRequest, input_pair

    pair = input_pair(source.module, target, InputRequest(sample, torch_call, keras_call))
    with pair.failures_reported():
        return compare_models(source, target, pair, plan, count=inputs - 1, randomized=randomized
                              is not False, diagnose=diagnose)


def compare_models(source: Source, target: Target, inputs: InputPair, plan: Plan | None, *,
                   count: int = 2, randomized: bool = True, diagnose: bool = True) -> Comparison:
    """See `verify`; `source` has its module, and `count` is the number of further inputs."""
    comparison = compare_on_inputs(source.module, target, inputs, count)
    if plan is not None:
        differences = compare_hyperparameters(plan, source, target)
        comparison = replace(comparison, settings=(*differences.warnings, *differences.notes))
    if plan is not None and randomized and comparison.equal:
        comparison = with_random_values(comparison, source, target, inputs, plan)
    if diagnose and (comparison.unexplained or comparison.softmax_only_in):
        comparison = diagnosed(comparison, source, target, inputs, plan)
    return comparison


def diagnosed(comparison: Comparison, source: Source, target: Target, inputs: InputPair,
              plan: Plan | None) -> Comparison:
    """The comparison with the first divergence and the differences by layer; what went wrong while
    looking for it is a note, since the comparison stands without.
    """
    try:
        diagnosis = Diagnosis(source, target, inputs, plan)
        if plan is None and not diagnosis.names:
            note = ("no layer of the Keras model holds weights of the torch module: carry them "
                    "over first (ktc.convert), or give plan= when they are computed")
            return replace(comparison, notes=(*comparison.notes, note))
        divergence = diagnosis.result(comparison.relative_diff or inf)
        comparison = replace(comparison, first_divergence=divergence,
                             layer_differences=diagnosis.layer_differences())
        return with_proven_difference(comparison)
    except Exception as error:
        return replace(comparison, notes=(*comparison.notes, internal_error(error)))


def with_proven_difference(comparison: Comparison) -> Comparison:
    """The comparison, not equal where outputs alone could not decide it and the cause of their
    difference is proven: that is no rounding.
    """
    divergence, difference = comparison.first_divergence, comparison.relative_diff
    if comparison.equal is not None or divergence is None or divergence.kind in (
            "", SOFTMAX_AT_THE_END):
        return comparison
    if difference is None or difference <= comparison.threshold:
        return comparison
    note = ("the outputs alone cannot decide it, but the cause of their difference is proven: the "
            "models are not equal")
    return replace(comparison, equal=False, notes=(*comparison.notes, note))


def with_random_values(comparison: Comparison, source: Source, target: Target, inputs: InputPair,
                       plan: Plan) -> Comparison:
    """The comparison with that on random values; it is no longer equal when that one is not."""
    proof, swaps = compare_randomized(source.module, target, inputs, plan, source)
    comparison = replace(comparison, randomized=proof, unnoticed_swaps=swaps)
    if proof.equal is not False:
        return comparison
    note = ("the outputs agree with the values that both models hold and differ with random norm "
            "statistics, biases and scales in both: "
            "the plan has put weights that happen to be equal now in each other's place")
    return replace(comparison, equal=False, notes=(*comparison.notes, note))
