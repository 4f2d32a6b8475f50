"""The outputs of both models for one input compared by number, whatever the order of their axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from ..running.outputs import squeezed
from .tolerances import TOLERANCES
from .top_classes import same_top

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

# Axes are searched up to this many: 120 orders. Outputs with more are compared as they stand.
MOST_AXES_PERMUTED = 5


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """How far one output of each model are apart.

    - `comparable`: False when the two have no common shape, None when they prove nothing (empty,
      zero or not finite everywhere)
    - `max_abs_diff`, `relative_diff`: largest difference, and the same as a fraction of torch's
      largest value; None unless comparable
    - `top5_agree`: whether the five largest of the last axis are the same classes in the same
      order, None for outputs that are not rows of classes
    - `cosine`: that of the angle between the two, 1 for outputs that differ by a factor only
    - `torch_name`, `keras_name`: position or key in the structure of outputs, "" for the only one
    - `layout`: the order in which torch's axes match Keras's
    - `is_exact`: True for whole numbers, which rounding cannot change
    - `notes`: what was done to make the two comparable
    """

    comparable: bool | None
    max_abs_diff: float | None = None
    relative_diff: float | None = None
    top5_agree: bool | None = None
    cosine: float | None = None
    torch_name: str = ""
    keras_name: str = ""
    torch_shape: tuple[int, ...] = ()
    keras_shape: tuple[int, ...] = ()
    layout: tuple[int, ...] = ()
    is_exact: bool = False
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the comparison in a line."""
        names = (self.torch_name
                 if self.torch_name == self.keras_name else f"{self.torch_name}/{self.keras_name}")
        title = f"output {names}".strip()
        if self.max_abs_diff is None or self.relative_diff is None:
            return (f"{title}: torch {self.torch_shape}, Keras {self.keras_shape}: "
                    f"{'; '.join(self.notes)}")
        in_order = self.layout == tuple(range(len(self.layout)))
        layout = "" if in_order else f", torch's axes in the order {self.layout}"
        cosine = "" if self.cosine is None else f", cosine {self.cosine:.7f}"
        top = {None: "", True: ", top 5 agree", False: ", top 5 DIFFER"}[self.top5_agree]
        return (f"{title}: {self.keras_shape}{layout}: {self.max_abs_diff:.2e}, relative "
                f"{self.relative_diff:.2e}{cosine}{top}")


@dataclass(frozen=True, slots=True)
class ComparedOutputs:
    """All outputs for one input; `unmatched` when Keras gave more than torch, or one gave none."""

    outputs: tuple[OutputComparison, ...]
    unmatched: bool
    notes: tuple[str, ...]

    @property
    def layouts(self) -> dict[str, tuple[int, ...]]:
        """The order of torch's axes by Keras name."""
        return {output.keras_name: output.layout for output in self.outputs if output.layout}


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two arrays of one shape are apart.

    The largest difference and the largest absolute value of the first, where both are finite, and
    the number of elements where only one is NaN or the infinities differ.
    """

    largest: float
    scale: float
    mismatched: int

    @property
    def proves_nothing(self) -> bool:
        """True when no element is finite and other than zero on either side, and none disagrees."""
        return not self.mismatched and self.scale == 0 and self.largest == 0

    @property
    def relative(self) -> float:
        """Largest difference as a fraction of the first array's largest value; infinite when
        elements are mismatched.
        """
        if self.mismatched:
            return float("inf")
        if self.scale == 0:
            return 0.0 if self.largest == 0 else float("inf")
        return self.largest / self.scale


def compare_outputs(torch_outputs: Arrays, keras_outputs: Arrays,
                    layouts: Mapping[str, tuple[int, ...]] | None = None) -> ComparedOutputs:
    """Compare what both models gave for one input.

    Outputs of the same names belong together, others are paired by order, or, where that does not
    fit, by their values. Shapes that differ only in the order of their axes (NCHW and NHWC) or in
    axes of size 1 are brought together.

    Args:
        torch_outputs: Arrays by name.
        keras_outputs: Arrays by name.
        layouts: The order of torch's axes by Keras name, where an earlier input has shown it.
    """
    if not torch_outputs or not keras_outputs:
        side = "Keras" if torch_outputs else "torch"
        return ComparedOutputs((), True, (f"the {side} model gave no numbers to compare",))
    pairs, notes = _paired_names(torch_outputs, keras_outputs)
    compared = tuple(
        replace(compare_arrays(torch_outputs[one], keras_outputs[two], (
            layouts or {}).get(two)), torch_name=one, keras_name=two) for one, two in pairs)
    # What Keras computes beyond torch's outputs stays unproven; what torch gives in addition is not
    # the Keras model's.
    return ComparedOutputs(compared, len(keras_outputs) > len(pairs), notes)


def _paired_names(torch_outputs: Arrays,
                  keras_outputs: Arrays) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return which output belongs to which, and a note when that was not plain."""
    shared = [
        name for name in keras_outputs if name in torch_outputs and not name.isdigit() and name
    ]
    ours = [name for name in torch_outputs if name not in shared]
    theirs = [name for name in keras_outputs if name not in shared]
    pairs = [(name, name) for name in shared]
    if not ours or not theirs:
        return pairs, ()
    in_order = list(zip(ours, theirs, strict=False))
    if len(ours) == len(theirs) == 1:
        return [*pairs, *in_order], ()
    counts = (f"the torch model gave {len(torch_outputs)} outputs and the Keras model "
              f"{len(keras_outputs)}")
    distances = {(one, two): distance(torch_outputs[one], keras_outputs[two]) for one in ours
                 for two in theirs}
    if max(distances[pair] for pair in in_order) > TOLERANCES.accepted:
        by_value = _nearest_first(distances)
        farthest = max(distances[pair] for pair in by_value)
        if farthest <= TOLERANCES.rounding["float32"] or (len(ours) != len(theirs)
                                                          and farthest < float("inf")):
            words = ", ".join(f"torch's {one} is Keras's {two}" for one, two in by_value)
            return [
                *pairs, *by_value
            ], ((f"{counts}; they are not in the same order, and were paired by their values: "
                 f"{words}"),)
    if len(ours) == len(theirs):
        return [*pairs, *in_order], ()
    return [*pairs, *in_order], (f"{counts}: the first {len(in_order)} of both were compared, in "
                                 "order",)


def _nearest_first(distances: Mapping[tuple[str, str], float]) -> list[tuple[str, str]]:
    """Return pairs chosen from the nearest on, in the order of the Keras outputs."""
    chosen: dict[str, str] = {}
    for one, two in sorted(distances, key=distances.__getitem__):
        if two not in chosen and one not in chosen.values():
            chosen[two] = one
    return [
        (chosen[two], two) for two in dict.fromkeys(two for _, two in distances) if two in chosen
    ]


def distance(first: Array, second: Array) -> float:
    """Return the relative difference in the closest layout, infinite when the shapes do not fit."""
    best, _, _ = closest_layout(first, second)
    return float("inf") if best is None else best[2].relative


def compare_arrays(torch_output: Array, keras_output: Array,
                   layout: tuple[int, ...] | None = None) -> OutputComparison:
    """Compare one output of each model; `layout` is the order of torch's axes where it is known."""
    blank = OutputComparison(None, torch_shape=torch_output.shape, keras_shape=keras_output.shape)
    if torch_output.size == 0 and keras_output.size == 0:
        return replace(blank, notes=("both outputs are empty",))
    best, perm, notes = closest_layout(torch_output, keras_output, layout)
    if best is None:
        note = (f"the outputs have no common shape: torch gave {torch_output.shape}, Keras "
                f"{keras_output.shape}")
        return replace(blank, comparable=False, notes=(note,))
    first, second, difference = best
    if difference.proves_nothing:
        note = ("both outputs are zero, NaN or infinite everywhere, which proves nothing: try "
                "another input")
        return replace(blank, layout=perm, notes=(*notes, note))
    if difference.mismatched:
        notes = (
            *notes,
            f"{difference.mismatched} values are NaN or infinite on one side only, or infinite "
            "with opposite signs")
    shared = int(np.count_nonzero(~(np.isfinite(first) | np.isfinite(second))))
    if shared:
        notes = (*notes,
                 f"{shared} of {first.size} values are NaN or infinite on both sides, and were not "
                 "compared")
    return replace(blank, comparable=True, max_abs_diff=difference.largest,
                   relative_diff=difference.relative, top5_agree=same_top(first, second),
                   cosine=cosine_of(first, second), layout=perm, is_exact=first.dtype.kind in "iub"
                   and second.dtype.kind in "iub", notes=notes)


def closest_layout(
    first: Array, second: Array, layout: tuple[int, ...] | None = None
) -> tuple[tuple[Array, Array, Difference] | None, tuple[int, ...], tuple[str, ...]]:
    """Find the order of axes of `first` that fits `second` best.

    `layout` is tried alone when it gives the right shape.

    Returns:
        Both arrays and their difference, None when no order fits; the order; and a note when
        something was changed.
    """
    notes: tuple[str, ...] = ()
    if sorted(first.shape) != sorted(second.shape) and squeezed(first.shape) == squeezed(
            second.shape):
        notes = (f"axes of size 1 were dropped to compare {first.shape} with {second.shape}",)
        first, second = first.reshape(squeezed(first.shape)), second.reshape(squeezed(second.shape))
    best: tuple[Array, Array, Difference] | None = None
    best_perm: tuple[int, ...] = ()
    possible = list(orders(first.shape, second.shape))
    if layout is not None and layout in possible:
        possible = [layout]
    for perm in possible:
        candidate = np.ascontiguousarray(first.transpose(perm))
        difference = difference_of(candidate, second)
        if best is None or difference.relative < best[2].relative:
            best, best_perm = (candidate, second, difference), perm
        if difference.relative == 0:
            break
    if best_perm != tuple(range(first.ndim)) and best is not None:
        notes = (*notes,
                 f"the torch output's axes were put in the order {best_perm} to match Keras")
    return best, best_perm, notes


def orders(first: tuple[int, ...], second: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield orders of the axes that give `first` the shape of `second`: as it stands, channels
    moved, then, if none fits, any.

    Between equal shapes only the channels may move (a square map can hide NCHW against NHWC):
    trying all orders there would look for agreement where none was meant.
    """
    ndim = len(first)
    if ndim != len(second) or sorted(first) != sorted(second):
        return
    likely = [tuple(range(ndim))]
    if ndim >= 3:
        likely.append((0, *range(2, ndim), 1))
        likely.append((0, ndim - 1, *range(1, ndim - 1)))
    fitting = [
        perm for perm in dict.fromkeys(likely) if tuple(first[axis] for axis in perm) == second
    ]
    if not fitting and ndim <= MOST_AXES_PERMUTED:
        fitting = [
            perm
            for perm in permutations(range(ndim)) if tuple(first[axis] for axis in perm) == second
        ]
    yield from fitting


def difference_of(first: Array, second: Array) -> Difference:
    """Measure the largest difference of two arrays of one shape, in one pass."""
    from .. import _core

    double = any(array.dtype not in (np.float32, np.float16) for array in (first, second))
    element = np.float64 if double else np.float32
    largest, scale, mismatched = _core.compare(np.ascontiguousarray(first, element),
                                               np.ascontiguousarray(second, element))
    return Difference(float(largest), float(scale), int(mismatched))


def cosine_of(first: Array, second: Array) -> float | None:
    """Return the cosine of the angle between two arrays; None when one is zero or not finite."""
    one, two = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(two))
    return float(one @ two) / lengths if np.isfinite(lengths) and lengths > 0 else None


def relative_change(first: Arrays, second: Arrays) -> float | None:
    """Return the largest difference of two sets of outputs as a fraction of the largest value of
    the second; None when their shapes differ.
    """
    if {name: array.shape for name, array in first.items()
       } != {name: array.shape for name, array in second.items()}:
        return None
    changes = []
    for name, one in first.items():
        wide = second[name].astype(np.float64)
        scale = max(float(np.abs(wide).max(initial=0.0)), 1e-30)
        changes.append(float(np.abs(one - wide).max(initial=0.0)) / scale)
    return max(changes, default=None)


def on_one_scale(torch_outputs: Arrays,
                 keras_outputs: Arrays) -> tuple[tuple[Arrays, Arrays], tuple[str, str]]:
    """Apply softmax or sigmoid to the single output of one model when only the other one's are
    probabilities.

    Returns:
        Both sets of outputs, which model ends in that ("torch", "Keras" or ""), and its name.
    """
    both = [*torch_outputs.items(), *keras_outputs.items()]
    if len(torch_outputs) == len(keras_outputs) == 1 and both[0][1].shape == both[1][1].shape:
        (name, ours), (other, theirs) = both
        for ends_in, function in (("softmax", softmax), ("sigmoid", sigmoid)):
            torch_ends, keras_ends = (_may_end_in(ends_in, one) for one in (ours, theirs))
            if torch_ends == keras_ends:
                continue
            scaled: tuple[Arrays,
                          Arrays] = (({name: function(ours)}, keras_outputs) if keras_ends else
                                     (torch_outputs, {other: function(theirs)}))
            # Many values lie between 0 and 1.
            if ends_in == "softmax" or distance(
                    *(next(iter(one.values())) for one in scaled)) < TOLERANCES.accepted:
                return scaled, ("Keras" if keras_ends else "torch", ends_in)
    return (torch_outputs, keras_outputs), ("", "")


def scale_note(side: str, ends_in: str) -> str:
    """Return the note for a model that alone ends in a softmax or sigmoid."""
    other = "torch" if side == "Keras" else "Keras"
    return (f"the {side} model ends in a {ends_in} and the {other} model does not: {ends_in} was "
            f"applied to {other}'s output to compare")


def _may_end_in(name: str, output: Array) -> bool:
    if name == "softmax":
        return are_probabilities(output)
    return output.dtype.kind == "f" and bool(np.all((output >= 0) & (output <= 1)))


def are_probabilities(output: Array) -> bool:
    """Return whether the last axis holds probabilities: no negative numbers, sums of one."""
    if output.ndim < 2 or output.dtype.kind != "f" or output.shape[-1] < 2:
        return False
    # Sums in float32 over a few thousand classes stay within 1e-5 of one; half types within 1e-2.
    return bool(
        np.all(output >= 0) and np.allclose(output.sum(axis=-1, dtype=np.float64), 1, atol=1e-2))


def softmax(logits: Array) -> Array:
    """Compute the softmax over the last axis, in float64; return it in the type of the logits."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), logits.dtype)


def sigmoid(logits: Array) -> Array:
    """Compute the sigmoid in float64; return it in the type of the logits."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), logits.dtype)
