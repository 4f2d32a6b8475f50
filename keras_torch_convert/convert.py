"""The pipeline, one line a stage: read, align, transfer, save, verify.

`convert` applies a Plan to a live Keras model. The classic functions (classic.py) make their Plan from names and then come through
the same `apply_to_model`: there is no second way for weights to reach a model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from . import read as reading
from . import to_torch
from .errors import PredictionError, SaveError
from .plan import Plan
from .progress import progress_bar
from .read.keras_model import is_keras_model, read_target
from .read.live_tensor import is_torch_module
from .read.source import Source
from .read.target import Target
from .report import Report
from .save import into_model, keras_file
from .transfer.executor import Strict, prepare
from .transfer.hyperparameters import compare_hyperparameters
from .verify import predict


@dataclass(slots=True)
class Stopwatch:
    """Wall-clock seconds by stage, for the report."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time spent inside towards the stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def convert(
    source: Any,
    target: Any,
    *,
    plan: Plan | None = None,
    sample: Any = None,
    strict: Strict = True,
    verify: bool = True,
    save: str | PathLike[str] | None = None,
    progress: bool = False,
) -> Report:
    """Carry the weights of `source` into `target` as `plan` says; without a Plan the layers are paired in their order.

    `source` is a torch module, a state dict, or the path of a checkpoint, and `target` a Keras 3 or tf_keras model; or the
    other way round, a Keras model into a torch module, all or nothing there too (a Plan from torch to Keras is inverted). `sample`
    is one array in the Keras layout, or a tuple of two (torch inputs, Keras inputs); by default random inputs are drawn
    from the Keras model's own input specs. With `verify` and a module at hand both models are run and compared. `save`
    names a file (.h5, .weights.h5 or .keras) of the Keras model that was filled. `strict=True` wants every variable set and every tensor used,
    "target" only the first, False neither; whatever is left over stands in the report's ledger.

    Raises TransferError when the Plan does not fit, with all bad pairs in `.problems`; SaveError when the file cannot be
    written; PredictionError when a model cannot be run once the weights are in. On the first two, model and files are as they were.
    """
    stopwatch = Stopwatch()
    if is_torch_module(target) and not is_keras_model(target):
        return _into_torch(source, target, plan, sample, strict, verify, save, progress, stopwatch)
    with stopwatch.stage("read"):
        source = source if isinstance(source, Source) else reading.read(source)
        target = target if isinstance(target, Target) else read_target(target, sample=sample)
    if plan is None:
        with stopwatch.stage("align"):
            plan = to_torch.plan_by_order(source, target)
    report = apply_to_model(plan, source, target, strict=strict, save=save, progress=progress, stopwatch=stopwatch)
    if verify and source.module is not None:
        add_predictions(report, source, target, stopwatch, sample=sample, from_samples=True)
    return report


def _into_torch(
    model: Any,
    module: Any,
    plan: Plan | None,
    sample: Any,
    strict: Strict,
    verify: bool,
    save: str | PathLike[str] | None,
    progress: bool,
    stopwatch: Stopwatch,
) -> Report:
    if save is not None:
        raise SaveError("save= writes Keras files; keep the weights of a torch module with torch.save(module.state_dict(), path)")
    with stopwatch.stage("read"):
        plan, source, target, keras = to_torch.sides_of(model, module, plan, sample)
    report = apply_to_model(plan, source, target, strict=strict, save=None, progress=progress, stopwatch=stopwatch)
    report.warnings += plan.losses()
    if verify:
        add_predictions(report, replace(source, module=module), keras, stopwatch, sample=sample, from_samples=True)
    return report


def apply_to_model(
    plan: Plan,
    source: Source,
    target: Target,
    *,
    strict: Strict,
    save: str | PathLike[str] | None,
    progress: bool,
    stopwatch: Stopwatch,
) -> Report:
    """Check everything, then write every weight and the file; on any error model and files are as they were."""
    if save is not None:
        keras_file.check_path(save, target)
    with stopwatch.stage("check"):
        prepared = prepare(plan, source, target, strict=strict)
        recorded = prepared.recorded_plan()
    differences = compare_hyperparameters(plan, source, target)
    saved = None
    with into_model.writing(target) as writer:
        with stopwatch.stage("transfer"):
            count = len(plan.assignments)
            for variable, array in progress_bar(prepared.arrays(), total=count, title="transfer", shown=progress):
                writer.write(variable, array)
        if save is not None:
            with stopwatch.stage("save"):
                saved = keras_file.save_model(target, save)
    return Report(
        source=source.origin,
        target=in_words(target),
        ledger=prepared.ledger,
        plan=recorded,
        callback_hits=prepared.callback_hits,
        path=saved.path if saved else None,
        md5=saved.md5 if saved else None,
        sha256=saved.sha256 if saved else None,
        seconds=stopwatch.seconds,
        warnings=(*prepared.warnings, *differences.warnings),
        notes=(*source.notes, *placeholder_notes(source), *plan_notes(plan), *differences.notes, *(saved.notes if saved else ())),
    )


def add_predictions(report: Report, source: Source, target: Target, stopwatch: Stopwatch, **options: Any) -> None:
    """Run both models (the Keras one alone when only a checkpoint is at hand) and put what came out into the report.

    Raises PredictionError, with the report, when one of them cannot be run.
    """
    try:
        with stopwatch.stage("predict"):
            predictions = predict.run_both(source.module, target, **options)
    except PredictionError as error:
        error.report = report
        raise
    report.add(predictions)


def in_words(target: Target) -> str:
    """A Keras model in a few words."""
    if target.framework == "torch":
        return f"module {target.name} (torch)"
    framework = f"Keras on {target.backend}" if target.framework == "keras" else target.framework
    return f"{target.name} ({framework})"


def plan_notes(plan: Plan) -> tuple[str, ...]:
    """What the assignments have to tell, each sentence once."""
    return tuple(dict.fromkeys(assignment.note for assignment in plan.assignments if assignment.note))


def placeholder_notes(source: Source) -> tuple[str, ...]:
    """What stood in the file beside the weights and was not rebuilt."""
    if not source.placeholders:
        return ()
    return (f"objects beside the weights were read as inert placeholders: {', '.join(source.placeholders)}",)
