"""Whether two models are equal, would a swap show, and if they differ, where and why: the one
verdict of the classic functions, `convert`, `verify` and the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..comparison.measurement import measure
from ..comparison.randomized import compare_randomized
from ..comparison.tolerances import TOLERANCES
from ..comparison.verdict import Comparison, decide
from ..diagnosis.description import internal_error
from ..diagnosis.diagnosis import Diagnosis
from ..diagnosis.epsilons import named_epsilons
from ..errors import PredictionError
from ..keras_io.model import read_target
from ..keras_io.values import WITHOUT_VALUES, is_without_values
from ..plan.plan import Plan
from ..rules.hyperparameters import compare_hyperparameters
from ..running.inputs import InputRequest, input_pair
from ..running.unchanged import watched
from ..spec.source import Source
from ..spec.target import Target
from ..torch_io.reader import read as read_source
from ..torch_io.renaming import fit_to_plan
from ..util.time_limit import DEFAULT_TIME_LIMIT, TimeLimit
from .family_plans import AnyPlan, member_plan

if TYPE_CHECKING:
    from ..running.input_pair import Call, InputPair


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How two models are compared; the parameters of `verify` of these names."""

    inputs: int = 3
    randomized: bool = True
    diagnose: bool = True
    tolerance: float = TOLERANCES.accepted
    time_limit: float | None = DEFAULT_TIME_LIMIT

    def __post_init__(self) -> None:
        if self.inputs < 1:
            raise ValueError(f"inputs must be at least 1, got {self.inputs}")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance must not be negative, got {self.tolerance}")


# The parameters are public, and most of the lines say what they mean.
def verify(torch_model: Any, keras_model: Any, *, plan: AnyPlan | None = None, sample: Any = None,
           torch_call: Call | None = None, keras_call: Call | None = None, inputs: int = 3,
           randomized: bool | None = None, diagnose: bool = True,
           tolerance: float = TOLERANCES.accepted,
           time_limit: float | None = DEFAULT_TIME_LIMIT) -> Comparison:
    """Compare what two models compute, and say where and why they part when they do.

    Both run, with the weights that they have, on the caller's inputs and on others in the same
    range; neither is changed.

    Args:
        torch_model: A torch module.
        keras_model: A Keras 3 or tf_keras model.
        plan: The Plan by which the weights were carried over (`report.plan`), or the models'
            family. With it the hyperparameters of paired layers are compared too.
        sample: One array in the Keras layout, batch included, or (torch inputs, Keras inputs),
            where several inputs of a side go in a list or dict. None makes inputs from the Keras
            model's specs.
        torch_call, keras_call: `call(model, inputs)` runs a model that takes more than its inputs,
            or of which only a part is meant.
        inputs: How many inputs the models are compared on.
        randomized: Repeat the comparison with norm statistics, biases and scales replaced by random
            values in both models, since fresh norms hide swaps; needs a plan. None: with a plan.
        diagnose: Look for the first divergence when the outputs differ by more than rounding.
        tolerance: The largest difference, as a fraction of torch's largest output, up to which
            models that are not equal count as close.
        time_limit: Seconds after which the search for causes ends with those that it has; None is
            no limit.

    Returns:
        A Comparison; its `verdict` is "equal", "close", "different" or "undecided".

    Raises:
        ValueError: `randomized=True` without a plan, or `inputs` below 1.
        AlignmentError: No inputs can be made.
        PredictionError: A model cannot be run.

    Example:
        >>> comparison = ktc.verify(torch_model, keras_model, plan=report.plan)
        >>> comparison.verdict
        'equal'
    """
    if plan is not None:
        plan = member_plan(plan, torch_model, keras_model)
    if randomized and plan is None:
        raise ValueError(
            "randomized=True needs plan=: only a Plan says which random value belongs where in "
            "both models")
    options = VerifyOptions(inputs, randomized is not False, diagnose, tolerance, time_limit)
    source = torch_model if isinstance(torch_model, Source) else read_source(torch_model)
    target = keras_model if isinstance(keras_model, Target) else read_target(
        keras_model, sample=sample)
    if any(is_without_values(target, one.variable) for one in target.variables.values()):
        raise PredictionError(WITHOUT_VALUES)
    if source.module is None:
        raise PredictionError(
            f"{source.origin} is only weights, which cannot be run: give the torch module")
    if plan is not None:
        plan, source = fit_to_plan(plan, source)
    pair = input_pair(source.module, target, InputRequest(sample, torch_call, keras_call))
    with pair.failures_reported():
        return compare_models(source, target, pair, plan, options)


def compare_models(
    source: Source, target: Target, inputs: InputPair, plan: Plan | None = None,
    options: VerifyOptions = VerifyOptions()) -> Comparison:
    """Compare two models, with the weights that they have now; see `verify`.

    `source` must have its module. Raises PredictionError when a model cannot be run.
    """
    with watched(source.module) as changed:
        found = measure(source.module, target, inputs, options.inputs - 1,
                        tolerance=options.tolerance)
        if plan is not None:
            differences = compare_hyperparameters(plan, source, target)
            found = replace(found, settings=(*differences.warnings, *differences.notes))
            if options.randomized and found.verdict in ("equal", "close"):
                proof, swaps = compare_randomized(source.module, target, inputs, plan, source)
                found = decide(replace(found, randomized=proof, unnoticed_swaps=swaps))
        if options.diagnose:
            found = find_cause(found, source, target, inputs, plan, options.time_limit)
    return replace(found, notes=(*found.notes, *changed))


def find_cause(found: Comparison, source: Source, target: Target, inputs: InputPair,
               plan: Plan | None, time_limit: float | None = DEFAULT_TIME_LIMIT) -> Comparison:
    """Return the comparison with the first divergence, the differences by layer, and the verdict
    that follows, when the outputs differ by more than is explained.

    A fault of the search is a note: the comparison stands without it.
    """
    limit = TimeLimit(time_limit)
    try:
        if not (found.unexplained or found.softmax_only_in):
            return named_epsilons(found, source, target, inputs, plan)
        diagnosis = Diagnosis(source, target, inputs, plan)
        if plan is None and not diagnosis.names:
            note = ("no layer of the Keras model holds weights of the torch module: carry them "
                    "over first (ktc.convert), or give plan= when they are computed")
            return replace(found, notes=(*found.notes, note))
        divergence = diagnosis.result(limit)
        if limit.is_over:
            note = f"the search for causes ended after time_limit={time_limit:g} s"
            found = replace(found, notes=(*found.notes, note))
        known = decide(
            replace(found, first_divergence=divergence,
                    layer_differences=diagnosis.layer_differences()))
        has_cause = divergence is not None and divergence.causes()
        # Without one the difference is rounding where that may explain it.
        found = known if has_cause or not known.equal else found
        return named_epsilons(found, source, target, inputs, plan)
    except Exception as error:
        return replace(found, notes=(*found.notes, internal_error(error)))
