"""The pipeline, one line a stage: read, align, transfer, save, verify.

`convert` applies a Plan to a live Keras model. The classic functions (classic.py) make their Plan
from names and then come through the same `apply_to_model`: there is no second way for weights to
reach a model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from ..alignment.assemble import with_both_sides
from ..comparison.measurement import run_alone
from ..comparison.tolerances import TOLERANCES
from ..errors import AlignmentError, NotEqualError, PredictionError, SaveError, TransferError
from ..keras_io import keras_save
from ..keras_io.model import is_keras_model, read_target
from ..keras_io.model_writer import transaction
from ..plan.executor import Strict, check_plan
from ..plan.plan import Plan, check_is_plan
from ..report.report import Report
from ..rules.families.position_tables import Resize
from ..rules.hyperparameters import compare_hyperparameters
from ..running.inputs import InputRequest, input_pair
from ..spec.source import Source
from ..spec.target import Target
from ..torch_io.live_tensor import is_torch_module
from ..torch_io.reader import read as read_source
from ..util.progress import progress_bar
from . import state_dicts
from .aligning import aligned_by_running, aligned_statically
from .kept_layers import before_kept_layer
from .reporting import add_alignment
from .verification import VerifyOptions, compare_models

if TYPE_CHECKING:
    from ..alignment.activations.search import Alignment
    from ..alignment.static.proposal import StaticAlignment
    from ..running.input_pair import Call, InputPair


@dataclass(slots=True)
class Stopwatch:
    """Wall-clock seconds by stage, for the report."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time spent inside toward the stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def convert(source: Any, target: Any, *, plan: Plan | None = None, sample: Any = None,
            torch_call: Call | None = None, keras_call: Call | None = None,
            hints: Mapping[str, str] | None = None, accept_unproven: bool = False,
            strict: Strict = True, verify: bool = True, if_different: Literal["raise",
                                                                              "keep"] = "raise",
            accept: Literal["close", "equal"] = "close", tolerance: float = TOLERANCES.accepted,
            save: str | PathLike[str] | None = None, progress: bool = False,
            resize: Resize = None) -> Report:
    """Carry the weights of a PyTorch model into a Keras model, or the reverse, and prove it.

    A Plan says where each weight goes; without one, `align` finds it. Everything is checked before
    the first value is written, and after an error both models and the file are as they were. With
    `verify` and a torch module at hand both models are run on several inputs. The verdict is
    "equal" if rounding explains the difference, "close" up to `tolerance`, else "different", or
    "undecided" if the inputs prove nothing.

    Args:
        source: A torch module, a state dict, or the path of a checkpoint. Or a Keras model, with a
            torch module as `target`.
        target: A Keras 3 or tf_keras model. Or a torch module: a Plan from torch to Keras is
            inverted then, and without a Plan the layers are paired in their order.
        plan: The Plan to apply, of an earlier conversion or of `align`.
        sample: That of `align`: one array in the Keras layout, or (torch inputs, Keras inputs).
        torch_call: That of `align`.
        keras_call: That of `align`.
        hints: That of `align`.
        accept_unproven: That of `align`. A checkpoint alone needs it, unless a Plan is given; the
            report then has a confidence for each weight.
        strict: True wants every variable set and every tensor used, "target" only the first, False
            neither. What is left over stands in the ledger of the report.
        verify: Run both models and compare their outputs.
        if_different: "raise" undoes the conversion if more differs than is accepted, "keep" keeps
            the weights and saves.
        accept: The worst verdict that is accepted, "close" or "equal".
        tolerance: The largest difference that counts as close, as a fraction of torch's largest
            output.
        save: The file to write (.h5, .weights.h5 or .keras), of the Keras model that was filled.
        progress: Show a bar.
        resize: "bicubic" or "bilinear" aligns by shapes, names and order, and resizes position
            tables that were made for another image size. None refuses them.

    Returns:
        The report.

    Raises:
        AlignmentError: No Plan was found; the message has what is open.
        TransferError: The Plan does not fit; `.problems` lists all bad pairs.
        NotEqualError: The outputs differ by more than is accepted; it has `.report` and
            `.comparison`.
        PredictionError: A model cannot be run.
        SaveError: The file cannot be written.

    Example:
        >>> report = ktc.convert(torch_model, keras_model, save="model.h5")
        >>> report.verdict
        'equal'
    """
    if plan is not None:
        check_is_plan(plan)
    if if_different not in ("raise", "keep"):
        raise ValueError(f'if_different must be "raise" or "keep", got {if_different!r}')
    stopwatch = Stopwatch()
    if accept not in ("close", "equal"):
        raise ValueError(f'accept must be "close" or "equal", got {accept!r}')
    options = ConvertOptions(InputRequest(sample, torch_call, keras_call), verify,
                             if_different == "keep", accept, tolerance)
    into_torch = is_torch_module(target) and not is_keras_model(target)
    if resize is not None and (plan is not None or into_torch):
        raise TransferError(
            "resize is for aligning without a plan, into a Keras model; a Plan says itself how "
            "tables are resized: give it to ktc.align(..., mapping=...)")
    if into_torch:
        return _into_torch(source, target, plan, options, strict, save, progress, stopwatch)
    with stopwatch.stage("read"):
        source = source if isinstance(source, Source) else read_source(source)
        target = target if isinstance(target, Target) else read_target(target, sample=sample)
    if save is not None:
        # Alignment may take minutes.
        keras_save.check_path(save, target)
    found: Alignment | StaticAlignment | None = None
    inputs: InputPair | None = None
    if plan is None:
        with stopwatch.stage("align"):
            if resize is None and source.module is not None:
                inputs = input_pair(source.module, target, options.request)
                plan, found = aligned_by_running(source, target, inputs, hints or {},
                                                 accept_unproven, strict)
            else:
                accepted = accept_unproven or source.module is not None
                plan, found = aligned_statically(source, target, hints or {}, accepted, resize,
                                                 strict)

    def check(report: Report) -> None:
        if found is not None:
            add_alignment(report, found)
        options.compare(report, source, target, stopwatch, inputs)

    plan = with_both_sides(plan, source, target)
    return apply_to_model(plan, source, target, strict=strict, save=save, progress=progress,
                          stopwatch=stopwatch, check=check)


def _into_torch(model: Any, module: Any, plan: Plan | None, options: ConvertOptions, strict: Strict,
                save: str | PathLike[str] | None, progress: bool, stopwatch: Stopwatch) -> Report:
    if save is not None:
        raise SaveError("save= writes Keras files; keep the weights of a torch module with "
                        "torch.save(module.state_dict(), path)")
    with stopwatch.stage("read"):
        plan, source, target, keras = state_dicts.sides_of(model, module, plan,
                                                           options.request.sample)

    def check(report: Report) -> None:
        report.warnings += plan.losses()
        options.compare(report, read_source(module), keras, stopwatch)

    return apply_to_model(plan, source, target, strict=strict, save=None, progress=progress,
                          stopwatch=stopwatch, check=check)


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """How `convert` compares both models, and what it accepts; its parameters of these names."""

    request: InputRequest
    verify: bool
    keep: bool
    accept: Literal["close", "equal"]
    tolerance: float

    def compare(self, report: Report, source: Source, keras: Target, stopwatch: Stopwatch,
                inputs: InputPair | None = None) -> None:
        """Run both models and put into the report how far they are apart; without a module, or
        `verify`, nothing happens.

        `inputs` are those that the layers were aligned on: to make them may take runs of the
        module. Raises NotEqualError for models that are not accepted, PredictionError when one of
        them cannot be run.
        """
        if source.module is None or not self.verify:
            return
        add_comparison(report, source, keras, stopwatch, self.request,
                       VerifyOptions(randomized=False, tolerance=self.tolerance), inputs=inputs,
                       state="model and files are as they were", remedy="convert with verify=False")
        found = report.comparison
        if found is None or self.keep or found.verdict in ("equal", "undecided"):
            return
        if found.verdict == "different" or self.accept == "equal":
            where = "" if found.first_divergence is None else f"\n{found.first_divergence}"
            keep = '; if_different="keep" keeps the weights'
            accept = "" if found.verdict == "different" else ', and so does accept="close"'
            raise NotEqualError(
                f"the models are aligned but their outputs differ: {found.summary()}"
                f"{report.kept_text()}; model and files are as they were{keep}{accept}{where}",
                report, found)


def add_comparison(report: Report, source: Source, target: Target, stopwatch: Stopwatch,
                   request: InputRequest, options: VerifyOptions, *, state: str, remedy: str,
                   inputs: InputPair | None = None) -> None:
    """Run both models (the Keras one alone when only weights are at hand) and put into the report
    how far they are apart, or why that is not known.

    Raises PredictionError, with the report, when one of them cannot be run.
    """
    with stopwatch.stage("verify"):
        try:
            inputs = inputs or input_pair(source.module, target, request)
        except AlignmentError as error:
            report.notes = (*report.notes, f"not verified: {error}")
            return
        except PredictionError as error:
            error.report = report
            raise
        plan = report.plan if report.plan is not None and not report.plan.reversed else None
        if plan is not None and source.module is not None:
            inputs = before_kept_layer(inputs, source, target, plan) or inputs
        with inputs.failures_reported(report, state=state, remedy=remedy):
            found = (run_alone(target, inputs) if source.module is None else compare_models(
                source, target, inputs, plan, options))
    report.comparison = found
    report.layer_differences = found.layer_differences or report.layer_differences
    report.notes = tuple(dict.fromkeys((*report.notes, *found.notes)))


def apply_to_model(plan: Plan, source: Source, target: Target, *, strict: Strict,
                   save: str | PathLike[str] | None, progress: bool, stopwatch: Stopwatch,
                   check: Callable[[Report], None] | None = None) -> Report:
    """Check everything, then write every weight and the file; on any error model and files are as
    they were.

    That `save` can be written the caller has looked at, before it aligned the two sides
    (`keras_save.check_path`). `check` is called with the report once the weights are in and before
    a file is written; what it raises takes the weights back.
    """
    with stopwatch.stage("check"):
        prepared = check_plan(plan, source, target, strict=strict)
        recorded, opaque = prepared.lower_callbacks()
    differences = compare_hyperparameters(plan, source, target)
    with transaction(target) as writer:
        with stopwatch.stage("transfer"):
            count = len(plan.assignments)
            for variable, array in progress_bar(prepared.arrays(), total=count, title="transfer",
                                                shown=progress):
                writer.write(variable, array)
            # The models are run before the transaction ends.
            writer.finalize_layers()
        report = Report(
            source=source.origin, target=in_words(target), ledger=prepared.ledger, plan=recorded,
            callback_hits=prepared.callback_hits, seconds=stopwatch.seconds,
            warnings=(*prepared.warnings, *differences.warnings),
            notes=(*source.notes, *placeholder_notes(source), *plan_notes(plan), *opaque,
                   *differences.notes))
        if check is not None:
            check(report)
        if save is not None:
            with stopwatch.stage("save"):
                saved = writer.save(save)
            report.path = saved.path
            report.md5, report.sha256 = saved.digests["md5"], saved.digests["sha256"]
            report.notes = (*report.notes, *saved.notes)
    return report


def in_words(target: Target) -> str:
    """A Keras model in a few words."""
    if target.framework == "torch":
        return f"module {target.name} (torch)"
    framework = f"Keras on {target.backend}" if target.framework == "keras" else target.framework
    return f"{target.name} ({framework})"


def plan_notes(plan: Plan) -> tuple[str, ...]:
    """What the assignments have to tell, each sentence once."""
    return tuple(
        dict.fromkeys(assignment.note for assignment in plan.assignments if assignment.note))


def placeholder_notes(source: Source) -> tuple[str, ...]:
    """What stood in the file beside the weights and was not rebuilt."""
    if not source.placeholders:
        return ()
    return (("objects beside the weights were read as inert placeholders: "
             f"{', '.join(source.placeholders)}"),)
