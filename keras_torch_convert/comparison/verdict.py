"""The verdict on two models: every output on every input compared, and what the threshold was made
of.

The noise floor is how far torch in float32 is from torch in float64; the sensitivity how far the
output moves from one input to another. A difference below the noise cannot speak against equality,
and an output that hardly moves cannot speak for it. Where the slightest change of the weights makes
another output, equal outputs at some inputs say nothing about the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from .outputs import OutputComparison, closest_layout, compare_arrays
from .tolerances import EQUAL_BELOW

if TYPE_CHECKING:
    from .divergence import FirstDivergence

Array = npt.NDArray[Any]
Outputs = Union[Array, Sequence[Array], Mapping[str, Array]]

# Rounding that differs between the frameworks grows through a network like the rounding of torch
# itself; a few times that is the same answer. Between that and TWINS_BELOW lie twins that
# approximate an activation; a wrong weight was never seen there.
TIMES_NOISE = 20
TWINS_BELOW = 1e-3
PART_OF_SENSITIVITY = 0.02
ILL_CONDITIONED = 0.1
# The depth, in layers with weights, from which rounding is taken to grow by the square root.
DEPTH_OF_BOUND = 100


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """Whether two models compute the same, and how that was judged.

    - `equal`: True, False, or None when it cannot be decided at these inputs; `notes` say why
    - `max_abs_diff`, `relative_diff`: largest difference of any output on any input, and as a
      fraction of torch's largest value there
    - `threshold`: the `relative_diff` up to which outputs count as equal; `threshold_from` says in
      words what it was made of
    - `rounding`: the difference that rounding alone explains; more than that was diagnosed, also
      where it is below the threshold
    - `cosine`: the smallest cosine of the angle between two outputs; `top5_agree`: whether the five
      best classes are always the same ones
    - `outputs`: one OutputComparison for each output, that of the input where it is worst
    - `inputs`: in words what the models were run on
    - `noise`, `sensitivity`: as above, None when not measured; `instability`: how far torch's
      outputs move when every weight is changed by 1e-4 of its value
    - `softmax_only_in`: "torch" or "Keras" when only that model ends in a softmax (the other's
      output was put through one to compare), else ""
    - `randomized`: the verdict with norm statistics, biases and scales replaced by random values in
      both, None when that was not asked for
    - `unnoticed_swaps`: pairs of Keras layers that could be swapped without any output showing it,
      even so
    - `first_divergence`: where the models part and why, None when nothing was found or nothing was
      looked for
    - `layer_differences`: Keras layer to how far the statistics of its output are from torch's, in
      order of execution, when a divergence was looked for
    - `settings`: hyperparameters that differ between paired layers, as sentences; some show in
      training only
    """

    equal: bool | None
    max_abs_diff: float | None
    relative_diff: float | None
    threshold: float
    threshold_from: str = ""
    rounding: float = 0.0
    cosine: float | None = None
    top5_agree: bool | None = None
    outputs: tuple[OutputComparison, ...] = ()
    inputs: tuple[str, ...] = ()
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
    def unexplained(self) -> bool:
        """True when the outputs differ by more than rounding, whether or not that is still called
        equal.
        """
        return self.equal is False or (self.relative_diff is not None
                                       and self.relative_diff > self.rounding)

    def verdict(self) -> str:
        """One sentence."""
        if self.equal is None:
            return "unproven: the outputs of the two models were not shown to be equal"
        size = self.difference_text()
        return f"outputs are equal: {size}" if self.equal else f"OUTPUTS DIFFER: {size or 'they have no common shape'}"

    def difference_text(self) -> str:
        """The largest difference in words, "" when nothing was compared."""
        if self.relative_diff is None or self.max_abs_diff is None:
            return ""
        bound = f"equal is up to {self.threshold:.1g}"
        bound += f": {self.threshold_from}" if self.threshold_from else ""
        return (f"largest difference {self.max_abs_diff:.2e}, {self.relative_diff:.2e} of torch's "
                f"largest output ({bound})")

    def __str__(self) -> str:
        """The comparison for a terminal; its last line is the verdict."""
        lines = [output_line(output) for output in self.outputs]
        lines += [f"inputs: {len(self.inputs)}: {'; '.join(self.inputs)}"] if self.inputs else []
        if self.randomized is not None:
            lines.append(
                f"with random norm statistics, biases and scales: {self.randomized.verdict()}")
        if self.unnoticed_swaps:
            swaps = ", ".join(f"{one} with {other}" for one, other in self.unnoticed_swaps)
            lines.append(f"swaps that no output would show: {swaps}")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"setting: {sentence}" for sentence in self.settings]
        if self.first_divergence is not None:
            lines.append(str(self.first_divergence))
        lines.append(self.verdict())
        return "\n".join(lines)

    def __repr__(self) -> str:
        """The same: what an interactive session shows for the value of a call."""
        return str(self)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data: numbers, strings, lists and dicts."""
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["outputs"] = [{name: getattr(output, name) for name in output.__dataclass_fields__}
                           for output in self.outputs]
        data["verdict"] = self.verdict()
        data["randomized"] = None if self.randomized is None else self.randomized.to_dict()
        data[
            "first_divergence"] = None if self.first_divergence is None else self.first_divergence.to_dict(
            )
        return data


def output_line(output: OutputComparison) -> str:
    """One output in a line."""
    names = output.torch_name if output.torch_name == output.keras_name else f"{output.torch_name}/{output.keras_name}"
    label = f"output {names}".strip()
    if output.max_abs_diff is None or output.relative_diff is None:
        return (f"{label}: torch {output.torch_shape}, Keras {output.keras_shape}: "
                f"{'; '.join(output.notes)}")
    layout = "" if output.layout == tuple(range(len(
        output.layout))) else f", torch's axes in the order {output.layout}"
    cosine = "" if output.cosine is None else f", cosine {output.cosine:.7f}"
    top = "" if output.top5_agree is None else f", top 5 {'agree' if output.top5_agree else 'DIFFER'}"
    return (f"{label}: {output.keras_shape}{layout}: {output.max_abs_diff:.2e}, relative "
            f"{output.relative_diff:.2e}{cosine}{top}")


def compare_outputs(torch_output: Outputs, keras_output: Outputs, *,
                    precision: str = "float32") -> Comparison:
    """Compare what both models gave for one input.

    Each side is an array, a sequence of arrays, or a mapping of names to arrays. Outputs of the
    same names belong together, others are paired by order, or, where that does not fit, by their
    values. Shapes that differ only in the order of their axes (NCHW and NHWC) or in axes of size 1
    are brought together. `precision` is the narrower of the types that the two models computed in;
    it decides the threshold (`EQUAL_BELOW`).
    """
    threshold = EQUAL_BELOW.get(precision, EQUAL_BELOW["float32"])
    outputs, notes, equal = pairwise(named(torch_output), named(keras_output), threshold)
    return summary(outputs, equal, threshold, notes, threshold_from=precision)


def named(output: Outputs) -> dict[str, Array]:
    """Outputs by name; the only one is called ""."""
    if isinstance(output, np.ndarray):
        return {"": output}
    if isinstance(output, Mapping):
        return dict(output)
    return {str(number) if len(output) > 1 else "": array for number, array in enumerate(output)}


def pairwise(
    torch_outputs: Mapping[str, Array], keras_outputs: Mapping[str, Array], threshold: float,
    layouts: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[tuple[OutputComparison, ...], tuple[str, ...], bool | None]:
    """The comparison of each pair of outputs, what there is to say, and whether all are equal.

    `layouts` gives the order of axes by Keras name where an earlier input has shown it.
    """
    if not torch_outputs or not keras_outputs:
        side = "torch" if not torch_outputs else "Keras"
        return (), (f"the {side} model gave no numbers to compare",), None
    pairs, notes = paired_names(torch_outputs, keras_outputs)
    compared = tuple(
        replace(
            compare_arrays(torch_outputs[one], keras_outputs[two], threshold, (
                layouts or {}).get(two)), torch_name=one, keras_name=two) for one, two in pairs)
    equal = all_equal([comparison.equal for comparison in compared])
    # What Keras computes beyond torch's outputs stays unproven; what torch gives in addition is not
    # the Keras model's.
    if len(keras_outputs) > len(pairs) and equal:
        equal = None
    return compared, notes, equal


def paired_names(
        torch_outputs: Mapping[str, Array],
        keras_outputs: Mapping[str, Array]) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Which output belongs to which, and a note when that was not plain."""
    shared = [
        name for name in keras_outputs if name in torch_outputs and not name.isdigit() and name
    ]
    if len(shared) == len(keras_outputs):
        return [(name, name) for name in shared], ()
    in_order = list(zip(torch_outputs, keras_outputs, strict=False))
    counts = (f"the torch model gave {len(torch_outputs)} outputs and the Keras model "
              f"{len(keras_outputs)}")
    if len(torch_outputs) == len(keras_outputs) == 1:
        return in_order, ()
    apart = {(one, two): distance(torch_outputs[one], keras_outputs[two]) for one in torch_outputs
             for two in keras_outputs}
    if max(apart[pair] for pair in in_order) > TWINS_BELOW:
        by_value = nearest_first(apart)
        if max(apart[pair] for pair in by_value) <= EQUAL_BELOW["float32"]:
            told = ", ".join(f"torch's {one} is Keras's {two}" for one, two in by_value)
            return by_value, ((
                f"{counts}; they are not in the same order, and were paired by their values: "
                f"{told}"),)
    if len(torch_outputs) == len(keras_outputs):
        return in_order, ()
    return in_order, (f"{counts}: the first {len(in_order)} of both were compared, in order",)


def distance(first: Array, second: Array) -> float:
    """Relative difference in the closest layout, infinite when the shapes do not fit."""
    best, _, _ = closest_layout(first, second)
    return float("inf") if best is None else best[2].relative


def nearest_first(apart: Mapping[tuple[str, str], float]) -> list[tuple[str, str]]:
    """Pairs chosen from the nearest on, in the order of the Keras outputs."""
    chosen: dict[str, str] = {}
    for one, two in sorted(apart, key=lambda pair: apart[pair]):
        if two not in chosen and one not in chosen.values():
            chosen[two] = one
    return [(chosen[two], two) for two in dict.fromkeys(two for _, two in apart) if two in chosen]


def all_equal(verdicts: Sequence[bool | None]) -> bool | None:
    """False when one is, else None when one is, else True."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


def largest_of(values: Sequence[float | None]) -> float | None:
    """The largest of the numbers that are there."""
    return max((value for value in values if value is not None), default=None)


def summary(outputs: Sequence[OutputComparison], equal: bool | None, threshold: float,
            notes: Sequence[str], **more: Any) -> Comparison:
    """The Comparison of some outputs: the worst counts."""
    tops = [output.top5_agree for output in outputs if output.top5_agree is not None]
    cosines = [output.cosine for output in outputs if output.cosine is not None]
    said = dict.fromkeys([*(note for output in outputs for note in output.notes), *notes])
    return Comparison(equal, largest_of([output.max_abs_diff for output in outputs]),
                      largest_of([output.relative_diff for output in outputs]), threshold,
                      cosine=min(cosines, default=None), top5_agree=all(tops) if tops else None,
                      outputs=tuple(outputs), notes=tuple(said), **more)


def decide(comparisons: Sequence[tuple[Sequence[OutputComparison], Sequence[str], bool | None]],
           precision: str, depth: int, noise: float | None, sensitivity: float | None,
           instability: float | None = None) -> Comparison:
    """The verdict that follows from the comparisons on all inputs, the models' type and depth, the
    noise floor, sensitivity and instability.

    `comparisons` are what `pairwise` gave for each input, `depth` is the number of layers with
    weights.
    """
    worst = [
        max(of_one, key=badness)
        for of_one in zip(*(outputs for outputs, _, _ in comparisons), strict=True)
    ]
    notes = [note for _, said, _ in comparisons for note in said]
    rounding = rounding_of(precision, depth, noise)
    threshold = threshold_of(precision)
    words = [f"{precision}, {depth} layers with weights, rounding explains {rounding:.1e}"]
    allowed = max(threshold, rounding)
    if sensitivity is not None and PART_OF_SENSITIVITY * sensitivity < threshold:
        threshold = PART_OF_SENSITIVITY * sensitivity
        words.append(
            f"{PART_OF_SENSITIVITY:.0%} of the {sensitivity:.1e} by which the output moves with "
            "the input")
    found = summary(worst, None, threshold, notes, threshold_from=", ".join(words),
                    rounding=min(rounding, threshold))
    equal, reasons = ill_conditioned(found, noise, instability) or decided(
        comparisons, found, allowed, noise, sensitivity)
    if noise is not None and sensitivity is not None:
        reasons = (*reasons,
                   f"noise floor of the torch model {noise:.1e}, sensitivity of its output "
                   f"{sensitivity:.1e}")
    return replace(found, equal=equal, noise=noise, sensitivity=sensitivity,
                   instability=instability, notes=(*found.notes, *reasons))


def threshold_of(precision: str) -> float:
    """The relative difference up to which models of this type count as equal."""
    return max(TWINS_BELOW, EQUAL_BELOW.get(precision, EQUAL_BELOW["float32"]))


def rounding_of(precision: str, depth: int, noise: float | None) -> float:
    """The relative difference that rounding explains: from the type, growing with the square root
    of the depth, or from the noise floor.
    """
    bound = EQUAL_BELOW.get(precision, EQUAL_BELOW["float32"])
    from_depth = bound * sqrt(max(depth, 4) / DEPTH_OF_BOUND)
    return max(from_depth, TIMES_NOISE * (noise or 0.0))


def badness(output: OutputComparison) -> tuple[int, float]:
    """Orders comparisons of one output by how bad they are."""
    relative = output.relative_diff
    return (2 if output.equal is False and relative is None else 1 if relative is None else 0,
            relative or 0.0)


def ill_conditioned(found: Comparison, noise: float | None,
                    instability: float | None) -> tuple[None, tuple[str, ...]] | None:
    """Why nothing can be decided about a model whose rounding is as large as its outputs; None when
    it is not, or when shapes differ.
    """
    if found.relative_diff is None:
        return None
    if noise is not None and noise > ILL_CONDITIONED:
        why = f"torch itself differs by {noise:.1e} between float32 and float64"
    elif instability is not None and instability > ILL_CONDITIONED:
        why = (f"torch itself moves by {instability:.1e} when each of its weights is changed by "
               "1e-4 of its value, "
               "so that rounding may do the same")
    else:
        return None
    return None, (f"cannot be decided at this input: {why}",)


def decided(comparisons: Sequence[tuple[Sequence[OutputComparison], Sequence[str],
                                        bool | None]], found: Comparison, allowed: float,
            noise: float | None, sensitivity: float | None) -> tuple[bool | None, tuple[str, ...]]:
    """Whether the outputs are equal, and why that cannot be decided or what speaks against it."""
    verdicts = [equal for _, _, equal in comparisons]
    everything_measured = all(
        output.relative_diff is not None for outputs, _, _ in comparisons for output in outputs)
    largest = found.relative_diff
    if largest is None or not everything_measured:
        return (False if False in verdicts else None), ()
    if largest <= found.threshold:
        reasons: tuple[str, ...] = ()
        if largest > found.rounding:
            reasons = (
                f"the outputs differ by {largest:.1e}, more than rounding explains: the models "
                "compute a little differently "
                "(an approximated activation, an epsilon), which no weight can mend",)
        unmatched = any(equal is None for equal in verdicts)
        return (None if unmatched else True), reasons
    if largest <= allowed:
        why = (f"the output moves by only {sensitivity:.1e} from one input to another"
               if sensitivity is not None and PART_OF_SENSITIVITY * sensitivity < largest else
               f"torch itself differs by {noise or 0.0:.1e} between float32 and float64")
        return None, (
            f"cannot be decided at this input: the outputs differ by {largest:.1e}, and {why}",)
    return False, ()
