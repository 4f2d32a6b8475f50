"""The classic conversion when nothing is told about the alignment: by order first, and where that
is wrong by running both models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..alignment.assemble import with_both_sides
from ..errors import AlignmentError, ClassCountError, PredictionError, TransferError
from ..keras_io.model import read_target
from ..plan.plan import Plan
from ..report.report import Report
from ..running.inputs import InputRequest, input_pair
from ..spec.source import Source
from ..spec.target import Target
from .aligning import aligned_by_running, classic_dictionaries
from .conversion import Stopwatch, add_comparison, apply_to_model
from .reporting import add_alignment
from .verification import VerifyOptions


class OutputsDifferError(Exception):
    """The order of layers fits, and the outputs say that it is wrong; the model has its old weights
    again.
    """


def convert_untold(by_order: Callable[[], Plan], source: Source, target: Target,
                   request: InputRequest, writing: Mapping[str, Any],
                   options: VerifyOptions | None) -> tuple[Report, bool]:
    """The report of the conversion, and whether both predictions are in it.

    `by_order` gives the Plan by order or raises; `writing` is for `apply_to_model`. Without
    `options` nothing is compared: then an order that fits is taken. Raises
    AlignmentError, with both reasons, when neither way finds an alignment, ClassCountError where
    only the head does not fit. An order that fits stays, however much the outputs differ, when
    running finds nothing better.
    """
    try:
        plan = by_order()
    except (AlignmentError, TransferError) as mismatch:
        why = "the order of layers does not fit"
        try:
            return _by_running(source, target, request.sample, writing, why,
                               f"{why}: {mismatch}"), False
        except ClassCountError as error:
            raise ClassCountError(_one_refusal(mismatch, why, error)) from None
    if options is None:
        report = apply_to_model(plan, source, target, **writing)
        report.alignment = "by order"
        return report, False
    try:
        return _by_order_if_equal(plan, source, target, writing, request, options), True
    except OutputsDifferError as difference:
        try:
            return _by_running(source, target, request.sample, writing, str(difference),
                               str(difference)), False
        except (AlignmentError, PredictionError) as error:
            report = apply_to_model(plan, source, target, **writing)
            report.alignment = "by order"
            report.notes = (
                *report.notes,
                f"both models were run to find a better alignment, without success: {error}")
            return report, False


def _one_refusal(mismatch: AlignmentError | TransferError, why: str, error: ClassCountError) -> str:
    """Where nothing but the head does not fit: what is wrong by order when that is the head alone,
    else what running both models has found.
    """
    if isinstance(mismatch, TransferError) and len(mismatch.problems) == 1:
        return f"{mismatch.problems[0]}; nothing was written"
    return f"{why}, and when both models were run to find the alignment {error}"


def _by_order_if_equal(plan: Plan, source: Source, target: Target, writing: Mapping[str, Any],
                       request: InputRequest, options: VerifyOptions) -> Report:
    """Convert as the Plan says; OutputsDifferError, with nothing changed, when the outputs differ.
    """
    failed: list[PredictionError] = []

    def check(report: Report) -> None:
        report.alignment = "by order"
        try:
            compare_safely(report, source, target.model, request, writing["stopwatch"], options)
        except PredictionError as error:
            # That says nothing against the order; the weights are made safe before it is raised.
            failed.append(error)
        if report.comparison is not None and report.verdict == "different":
            raise OutputsDifferError("by order the outputs differ: "
                                     f"{report.comparison.difference_text() or 'no common shape'}")

    report = apply_to_model(plan, source, target, **writing, check=check)
    if failed:
        raise failed[0]
    return report


def compare_safely(report: Report, source: Source, keras_model: Any, request: InputRequest,
                   stopwatch: Stopwatch, options: VerifyOptions) -> None:
    """Run both models once the weights are in place, and put into the report how far they are
    apart. Raises PredictionError, with the report, when one of them cannot be run.
    """
    target = read_target(keras_model, sample=request.sample)
    add_comparison(report, source, target, stopwatch, request, options,
                   state="the weights are in place", remedy="convert with do_predict=False")


def _by_running(source: Source, target: Target, sample: Any, writing: Mapping[str, Any], why: str,
                in_full: str) -> Report:
    """Convert as running both models finds out; the report says `why` order was not enough.
    AlignmentError, with `why` `in_full`, when it finds nothing.
    """
    leaves = read_target(target.model, sample=sample)
    try:
        with writing["stopwatch"].stage("align"):
            inputs = input_pair(source.module, leaves, InputRequest(sample))
            found, alignment = aligned_by_running(source, leaves, inputs, {}, accept_unproven=False)
            plan = with_both_sides(found, source, leaves)
    except ClassCountError:
        raise
    except (AlignmentError, PredictionError) as error:
        raise AlignmentError(
            f"{in_full}; running both models to find the alignment did not help either: {error}"
        ) from error

    def check(report: Report) -> None:
        add_alignment(report, alignment)
        dictionaries = classic_dictionaries(plan, source, target.model)
        said = (f"the same alignment as a call to paste:\n{dictionaries}"
                if dictionaries.found else f"{dictionaries.comment} (report.dictionaries)")
        report.dictionaries = dictionaries
        report.notes = (*report.notes, f"{why}, so both models were run to find the alignment",
                        said)

    return apply_to_model(plan, source, leaves, **writing, check=check)
