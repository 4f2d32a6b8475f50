"""Torch's own outputs in the place of a Keras layer's, so that what a layer gets is right whatever
happened before it.

Rounding cannot add up on the way through a deep network then, and a layer that computes something
else than torch does no harm to those behind it: the places where outputs had to be put right are
where the models differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt

from ...running.fingerprint import Fingerprint, distance

Array = npt.NDArray[np.floating]


def recorded_output(outputs: Sequence[Fingerprint], arrays: Mapping[Fingerprint, Array],
                    own: Fingerprint, within: float) -> Array | None:
    """Of a unit's recorded outputs the one that a layer's output with the fingerprint `own` is, up
    to `within`; None when there is none.
    """
    near = [(distance(own, key), key) for key in outputs if key in arrays]
    apart, key = min(near, default=(np.inf, None))
    return None if key is None or apart > within else arrays[key]


def arranged_like(recorded: Array, own: Array) -> Array | None:
    """What torch computed with its axes in the order in which Keras has them, nearest to what Keras
    computed; None when no order fits.
    """
    squeezed, shape = np.squeeze(recorded), np.squeeze(own).shape
    if squeezed.ndim > 5 or sorted(squeezed.shape) != sorted(shape):
        return None
    wanted = np.squeeze(own).astype(np.float64)
    fitting = [
        squeezed.transpose(perm) for perm in permutations(range(squeezed.ndim)) if tuple(
            squeezed.shape[axis] for axis in perm) == shape
    ]
    nearest = min(fitting, key=lambda moved: float(np.abs(moved - wanted).sum()))
    return np.ascontiguousarray(nearest).reshape(own.shape)


def most_alike(recorded: Iterable[Array], own: Array) -> Array | None:
    """Of what torch computed, the value that a layer's output resembles most, arranged like it;
    None when nothing has its shape.
    """
    arranged = (arranged_like(array, own) for array in recorded if array.size == own.size)
    fitting = [array for array in arranged if array is not None]
    return max(fitting, key=lambda array: likeness(array, own), default=None)


def likeness(first: Array, second: Array) -> float:
    """Centered correlation of two arrays of one shape."""
    one, other = (array.astype(np.float64).ravel() for array in (first, second))
    one, other = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size else 0.0
