"""From a Plan to the weights of a live model: checked, written, compared, saved, or all taken back.

Every way of aligning ends here: there is no second way for weights to reach a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike

from ..comparison.measurement import run_alone
from ..errors import AlignmentError, PredictionError
from ..keras_io.model_writer import transaction
from ..plan.executor import Strict, check_plan
from ..plan.plan import Plan
from ..rules.hyperparameters import compare_hyperparameters
from ..running.input_pair import InputPair
from ..running.inputs import InputRequest, input_pair
from ..spec.source import Source
from ..spec.target import Target
from ..util.progress import progress_bar
from ..util.text import plural
from .adapter_factors import with_adapter_factors
from .kept_layers import before_kept_layer
from .reporting import Stages, timed
from .verification import VerifyOptions, compare_models


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How weights are written into a model.

    - `strict`: what may be left over; see `convert`
    - `save`: the file to write; that it can be written was checked (`keras_save.check_path`)
    - `progress`: show a bar
    - `digests`: the checksums of the file
    """

    strict: Strict = True
    save: str | PathLike[str] | None = None
    progress: bool = False
    digests: tuple[str, ...] = ("md5", "sha256")


@contextmanager
def transferred(stages: Stages, plan: Plan, options: TransferOptions, *,
                last: bool = False) -> Iterator[None]:
    """Check everything and write every weight before the block, and the file after it.

    On any error, also one that the block raises, the model and an existing file are as they were.
    What was found goes into `stages`. `last` says that the block does nothing that may fail.
    """
    source, target = stages.source, stages.target
    assert target is not None
    with timed(stages.seconds, "check"):
        written, stored, filled, factored = with_adapter_factors(plan, source, target)
        stages.checked = check_plan(written, stored, filled, strict=options.strict)
        stages.plan, opaque = stages.checked.lower_callbacks()
        if factored:
            stages.plan = plan
    settings = compare_hyperparameters(plan, source, target)
    stages.warnings = (*stages.checked.warnings, *settings.warnings, *stages.warnings)
    adapters = [
        f"{plural(len(filled.adapters), 'variable')} of adapters (enable_lora) keep their "
        "values; with them the outputs are those of torch only while their product is 0"
    ]
    stages.notes = (*factored, *adapters[:len(filled.adapters)],
                    *(one.note for one in plan.assignments if one.note), *opaque, *settings.notes,
                    *stages.notes)
    with transaction(target) as writer:
        with timed(stages.seconds, "transfer"):
            if not (last and options.save is None and writer.copy_all(stages.checked.copies())):
                for variable, values in progress_bar(stages.checked.writes(),
                                                     total=len(written.assignments),
                                                     title="transfer", shown=options.progress):
                    writer.fill(variable, values)
            # The models are run before the transaction ends.
            writer.finalize_layers()
        yield
        if options.save is not None:
            with timed(stages.seconds, "save"):
                stages.saved = writer.save(options.save, options.digests)


def inputs_for(stages: Stages, source: Source, keras: Target,
               request: InputRequest) -> InputPair | None:
    """Return the inputs on which both models are compared; None, with a note in `stages`, when none
    can be made. Raises PredictionError, with the report, for a picture that cannot be used.
    """
    with timed(stages.seconds, "verify"):
        try:
            return input_pair(source.module, keras, request)
        except AlignmentError as error:
            stages.notes = (*stages.notes, f"not verified: {error}")
        except PredictionError as error:
            error.report = stages.report()
            raise
    return None


def compare_outputs(stages: Stages, source: Source, keras: Target, inputs: InputPair,
                    options: VerifyOptions, *, weights_stay: bool) -> None:
    """Run both models, the Keras one alone when only torch's weights are at hand, and put into
    `stages` how far they are apart.

    Raises PredictionError, with the report, when one of them cannot be run; `weights_stay` says
    whether the weights are kept then.
    """
    state = "the weights are in place" if weights_stay else "model and files are as they were"
    remedy = "do_predict=False" if weights_stay else "verify=False"
    plan = stages.plan if stages.plan is not None and not stages.plan.reversed else None
    if plan is not None and source.module is not None:
        inputs = before_kept_layer(inputs, source, keras, plan) or inputs
    try:
        with timed(stages.seconds,
                   "verify"), inputs.failures_reported(state=state,
                                                       remedy=f"convert with {remedy}"):
            stages.comparison = (run_alone(keras, inputs) if source.module is None else
                                 compare_models(source, keras, inputs, plan, options))
    except PredictionError as error:
        error.report = stages.report()
        raise
