"""Two outputs compared by number, whatever the order of their axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Axes are searched up to this many: 120 orders. Outputs with more are compared as they stand.
MOST_AXES_PERMUTED = 5


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """How far one output of each model are apart.

    `max_abs_diff` is the largest difference, `relative_diff` the same as a fraction of the largest
    output of the torch model. `equal` is True when that is at most `threshold`, False when not,
    None when it cannot be decided; `notes` say why, and what was done to make the two comparable.
    `top5_agree`: the five largest of the last axis are the same classes in the same order (None for
    outputs without classes). `cosine` is that of the angle between the two, 1 for outputs that
    differ by a factor only. All three are None when nothing could be compared. `torch_name` and
    `keras_name` say where in the structure each stood ("" for the only output, "0" or "logits"
    inside a tuple or dict); `layout` is the order in which torch's axes match Keras's.
    """

    equal: bool | None
    max_abs_diff: float | None
    relative_diff: float | None
    threshold: float
    top5_agree: bool | None = None
    notes: tuple[str, ...] = ()
    cosine: float | None = None
    torch_name: str = ""
    keras_name: str = ""
    torch_shape: tuple[int, ...] = ()
    keras_shape: tuple[int, ...] = ()
    layout: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Two arrays of one shape.

    The largest difference and the largest absolute value of the first, where both are finite, and
    the number of places where only one is NaN or the infinities differ.
    """

    largest: float
    scale: float
    mismatched: int

    @property
    def proves_nothing(self) -> bool:
        """True when no place holds a finite number other than zero on either side, and no place
        disagrees.
        """
        return not self.mismatched and self.scale == 0 and self.largest == 0

    @property
    def relative(self) -> float:
        """Largest difference as a fraction of the first array's largest value; infinite when places
        are mismatched.
        """
        if self.mismatched:
            return float("inf")
        if self.scale == 0:
            return 0.0 if self.largest == 0 else float("inf")
        return self.largest / self.scale


def compare_arrays(torch_output: Array, keras_output: Array, threshold: float,
                   layout: tuple[int, ...] | None = None) -> OutputComparison:
    """One output of each model; `layout` is the order of torch's axes where it is known already."""
    blank = OutputComparison(None, None, None, threshold, torch_shape=torch_output.shape,
                             keras_shape=keras_output.shape)
    if torch_output.size == 0 and keras_output.size == 0:
        return replace(blank, notes=("both outputs are empty",))
    best, perm, notes = closest_layout(torch_output, keras_output, layout)
    if best is None:
        said = (f"the outputs have no common shape: torch gave {torch_output.shape}, Keras "
                f"{keras_output.shape}")
        return replace(blank, equal=False, notes=(said,))
    first, second, difference = best
    blank = replace(blank, layout=perm)
    if difference.proves_nothing:
        reason = ("both outputs are zero, NaN or infinite everywhere, which proves nothing: try "
                  "another input")
        return replace(blank, notes=(*notes, reason))
    if difference.mismatched:
        notes = (
            *notes,
            f"{difference.mismatched} values are NaN or infinite on one side only, or infinite "
            "with opposite signs")
    shared = _not_finite_in_both(first, second)
    if shared:
        notes = (*notes,
                 f"{shared} of {first.size} values are NaN or infinite on both sides, and were not "
                 "compared")
    relative = difference.relative
    if first.dtype.kind in "iub" and second.dtype.kind in "iub":
        threshold = 0.0
    return replace(blank, equal=relative <= threshold, max_abs_diff=difference.largest,
                   relative_diff=relative, threshold=threshold, top5_agree=same_top(first, second),
                   cosine=cosine_of(first, second), notes=notes)


def _not_finite_in_both(first: Array, second: Array) -> int:
    """At how many places neither array holds a finite number."""
    return int(np.count_nonzero(~(np.isfinite(first) | np.isfinite(second))))


def closest_layout(
    first: Array, second: Array, layout: tuple[int, ...] | None = None
) -> tuple[tuple[Array, Array, Difference] | None, tuple[int, ...], tuple[str, ...]]:
    """`first` in the order of axes that fits `second` best, that order, and a note when something
    was changed; None when none fits.

    `layout` is tried alone when it gives the right shape.
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


def cosine_of(first: Array, second: Array) -> float | None:
    """Cosine of the angle between two arrays of one shape; None when one is zero or not finite."""
    one, two = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(two))
    return float(one @ two) / lengths if np.isfinite(lengths) and lengths > 0 else None


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape without axes of size 1."""
    return tuple(extent for extent in shape if extent != 1)


def orders(first: tuple[int, ...], second: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of the axes that give `first` the shape of `second`: as it stands, channels moved,
    then, if none fits, any.

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
    """Largest difference of two arrays of one shape, in one pass."""
    from .. import _core

    double = any(array.dtype not in (np.float32, np.float16) for array in (first, second))
    element = np.float64 if double else np.float32
    largest, scale, mismatched = _core.compare(np.ascontiguousarray(first, element),
                                               np.ascontiguousarray(second, element))
    return Difference(float(largest), float(scale), int(mismatched))


def top_classes(scores: Array, count: int = 5) -> list[int]:
    """Indices of the largest of a vector of scores, largest first, ties by index."""
    return [
        int(index) for index in np.argsort(-np.asarray(scores, np.float64), kind="stable")[:count]
    ]


def same_top(first: Array, second: Array) -> bool | None:
    """Whether every row has the same five classes in the same order; None when the output is not
    rows of classes.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape != second.shape or first.shape[1] < 5:
        return None
    return all(top_classes(one) == top_classes(two) for one, two in zip(first, second, strict=True))
