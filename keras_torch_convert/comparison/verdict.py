"""The verdict on two models: how far their outputs are apart, and whether that makes them equal.

The noise floor is how far torch's outputs are from those in a wider type, the sensitivity how far
they move from one input to another. A difference below the noise cannot speak against equality, and
an output that hardly moves cannot speak for it. Where the slightest change of the weights makes
another output, equal outputs at some inputs say nothing about the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal

from .divergence import FirstDivergence
from .outputs import ComparedOutputs, OutputComparison
from .tolerances import TOLERANCES
from .top_classes import TopClass

Verdict = Literal["equal", "close", "different", "undecided"]


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """Whether two models compute the same, and how that was decided.

    Attributes:
        verdict: "equal" when the difference of the outputs is what the pair's own rounding
            explains; "close" when it is larger, but within `tolerance`; "different"; "undecided"
            when these inputs prove nothing, for which `reason` says why.
        max_abs_diff: Largest difference of any output on any input, None when there was nothing to
            compare.
        relative_diff: The same as a fraction of torch's largest value there.
        rounding: The `relative_diff` that rounding explains; `rounding_from` says what it follows
            from.
        tolerance: The `relative_diff` that the caller accepts as close.
        cosine: The smallest cosine of the angle between two outputs.
        top5_agree: Whether the five best classes are always the same ones.
        outputs: One OutputComparison for each output, that of the input where it is worst.
        inputs: What the models were run on, in words.
        rescale_mode: How a picture was brought to the models' range, "" without one.
        torch_top, keras_top: (class index, name, score) of the best classes for the first input,
            best first; () for outputs that are not rows of classes.
        noise: How far torch's outputs are from those in a wider type, None when not measured.
        sensitivity: How far they move from one input to another, None when not measured.
        instability: How far they move when every weight is changed by 1e-4 of its value.
        softmax_only_in: "torch" or "Keras" when only that model ends in a softmax (the other one's
            output was put through one to compare), else "".
        randomized: The comparison with norm statistics, biases and scales replaced by random values
            in both models, None when that was not asked for.
        unnoticed_swaps: Pairs of Keras layers that could be swapped without any output showing it,
            even so.
        first_divergence: Where the models part and why, None when nothing was found or looked for.
        layer_differences: Keras layer to how far the statistics of its output are from torch's, in
            order of execution, when a divergence was looked for.
        settings: Hyperparameters that differ between paired layers, as sentences; some show in
            training only.
        notes: Further sentences.
    """

    verdict: Verdict = "undecided"
    max_abs_diff: float | None = None
    relative_diff: float | None = None
    rounding: float = TOLERANCES.rounding["float32"]
    rounding_from: str = ""
    tolerance: float = TOLERANCES.accepted
    reason: str = ""
    cosine: float | None = None
    top5_agree: bool | None = None
    outputs: tuple[OutputComparison, ...] = ()
    unmatched: bool = False
    inputs: tuple[str, ...] = ()
    rescale_mode: str = ""
    torch_top: tuple[TopClass, ...] = ()
    keras_top: tuple[TopClass, ...] = ()
    diagnosed_above: float = inf
    visible: float = inf
    noise: float | None = None
    sensitivity: float | None = None
    instability: float | None = None
    softmax_only_in: str = ""
    randomized: Comparison | None = None
    unnoticed_swaps: tuple[tuple[str, str], ...] = ()
    first_divergence: FirstDivergence | None = None
    layer_differences: Mapping[str, float] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool | None:
        """True for the verdict "equal" only, None for "undecided", False otherwise."""
        return None if self.verdict == "undecided" else self.verdict == "equal"

    @property
    def unexplained(self) -> bool:
        """True when the outputs differ by more than is explained without a cause."""
        return self.relative_diff is not None and self.relative_diff > min(
            self.rounding, self.diagnosed_above, self.visible)

    def summary(self) -> str:
        """Return the verdict in one sentence."""
        size = self.difference_text()
        if self.verdict == "equal":
            return f"outputs are equal: {size}"
        if self.verdict == "undecided":
            return f"undecided: {self.reason or 'the outputs were not shown to be equal'}"
        reason = f"; {self.reason}" if self.reason else ""
        if self.verdict == "different":
            return f"OUTPUTS DIFFER: {size or 'they have no common shape'}{reason}"
        causes = self.first_divergence.causes() if self.first_divergence is not None else ()
        return f"close, not equal: {size}; cause: {'; '.join(causes) or 'unknown'}"

    def difference_text(self) -> str:
        """Return the largest difference in words, "" when nothing was compared."""
        if self.relative_diff is None or self.max_abs_diff is None:
            return ""
        is_equal = self.verdict == "equal"
        accepted = "" if is_equal else f", accepted is {self.tolerance:.1g}"
        rounding = self.rounding if is_equal else min(self.rounding, self.diagnosed_above)
        return (f"largest difference {self.max_abs_diff:.2e}, {self.relative_diff:.2e} of torch's "
                f"largest output (rounding explains {rounding:.1g}{accepted})")

    def __str__(self) -> str:
        """Return the comparison for a terminal; its last line is the verdict."""
        lines = [self.summary()] if self.verdict == "close" else []
        lines += [str(output) for output in self.outputs]
        lines += [f"inputs: {len(self.inputs)}: {'; '.join(self.inputs)}"] if self.inputs else []
        lines += [f"rounding: {self.rounding_from}"] if self.rounding_from else []
        if self.randomized is not None:
            lines.append(
                f"with random norm statistics, biases and scales: {self.randomized.summary()}")
        if self.unnoticed_swaps:
            swaps = ", ".join(f"{one} with {other}" for one, other in self.unnoticed_swaps)
            lines.append(f"swaps that no output would show: {swaps}")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"setting: {sentence}" for sentence in self.settings]
        if self.first_divergence is not None:
            lines.append(str(self.first_divergence))
        return "\n".join([*lines, self.summary()])

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as numbers, strings, lists and dicts."""
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("unmatched", "diagnosed_above", "visible"):
            del data[name]
        divergence, randomized = self.first_divergence, self.randomized
        return data | {
            "equal": self.equal, "summary": self.summary(), "outputs": [
                {name: getattr(output, name) for name in output.__dataclass_fields__}
                for output in self.outputs
            ], "randomized": None if randomized is None else randomized.to_dict(),
            "first_divergence": None if divergence is None else divergence.to_dict()
        }


def comparison_of(compared: Sequence[ComparedOutputs], **facts: Any) -> Comparison:
    """Return the decided Comparison of the outputs on several inputs: the worst of each counts.

    Args:
        compared: The outputs for each input; all have the same.
        **facts: Further fields of the Comparison.
    """
    worst = tuple(
        max(of_one, key=_badness)
        for of_one in zip(*(one.outputs for one in compared), strict=True))
    tops = [output.top5_agree for output in worst if output.top5_agree is not None]
    cosines = [output.cosine for output in worst if output.cosine is not None]
    notes = dict.fromkeys([
        *facts.pop("notes", ()), *(note for output in worst for note in output.notes),
        *(note for one in compared for note in one.notes)
    ])
    largest, relative = (max((value for value in values if value is not None), default=None)
                         for values in ([output.max_abs_diff for output in worst],
                                        [output.relative_diff for output in worst]))
    return decide(
        Comparison(max_abs_diff=largest, relative_diff=relative, cosine=min(cosines, default=None),
                   top5_agree=all(tops) if tops else None, outputs=worst,
                   unmatched=any(one.unmatched for one in compared), notes=tuple(notes), **facts))


def _badness(output: OutputComparison) -> tuple[int, float]:
    """Order comparisons of one output by how bad they are."""
    return {False: 2, None: 1, True: 0}[output.comparable], output.relative_diff or 0.0


def decide(comparison: Comparison) -> Comparison:
    """Return the comparison with the verdict that follows from its other fields, and the reason."""
    verdict, reason = _verdict(comparison)
    return replace(comparison, verdict=verdict, reason=reason)


def _verdict(found: Comparison) -> tuple[Verdict, str]:
    if any(output.comparable is False for output in found.outputs):
        return "different", ""
    largest = found.relative_diff
    if largest is None:
        return "undecided", "the outputs prove nothing"
    if unstable := _instability(found):
        return "undecided", unstable
    if any(output.is_exact and output.relative_diff for output in found.outputs):
        return "different", "whole numbers differ"
    cause = found.first_divergence
    is_proven = cause is not None and cause.explains_difference
    rounding = min(found.rounding, found.diagnosed_above) if is_proven else found.rounding
    if largest > max(rounding, found.tolerance):
        return "different", ""
    # Who accepts more accepts more of what the outputs move by, too.
    accepted = 1.0 if largest <= rounding else found.tolerance / TOLERANCES.accepted
    if largest > found.visible * accepted:
        if is_proven:
            return "different", ("outputs that hardly move with the input cannot decide it, but "
                                 "the cause of their difference is proven: the models are not "
                                 "equal")
        return "undecided", (
            f"the outputs differ by {largest:.1e}, and move by only {found.sensitivity:.1e} from "
            "one input to another")
    if found.randomized is not None and found.randomized.verdict == "different":
        return "different", ("the outputs agree with the values that both models hold and differ "
                             "with random norm statistics, biases and scales in both: the plan "
                             "has put weights that happen to be equal now in each other's place")
    if found.sensitivity == 0 and not any(output.is_exact for output in found.outputs):
        return "undecided", "the outputs are the same for every input, which any weights may give"
    if found.unmatched or any(output.comparable is None for output in found.outputs):
        return "undecided", "not every output of the Keras model could be compared"
    return ("equal" if largest <= rounding else "close"), ""


def _instability(found: Comparison) -> str:
    """Return why rounding is as large as the outputs themselves, "" when it is not."""
    if found.noise is not None and found.noise > TOLERANCES.ill_conditioned:
        return f"torch itself moves its outputs by {found.noise:.1e} by rounding"
    if found.instability is not None and found.instability > TOLERANCES.ill_conditioned:
        return (f"torch itself moves its outputs by {found.instability:.1e} when each of its "
                f"weights is changed by {TOLERANCES.perturbation:.0e} of its value, so that "
                "rounding may do the same")
    return ""
