"""Recognizing a tensor in another layout: numbers that neither the order of axes nor padding with
zeros changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .. import _core

Fingerprint = tuple[float, float, float, float, float]
Item = TypeVar("Item")

# Below this distance two tensors count as one. The same tensor computed by two frameworks reads 0
# to 1e-5, different ones of a few hundred elements 1e-2 and more.
EQUAL_BELOW = 5e-4
_TINY = 1e-30


def fingerprint(array: npt.NDArray[Any]) -> Fingerprint:
    """Return the fingerprint of an array of any number type.

    It is log sum|x|, sum / sum|x|, log of the 2-norm, sum x^3 / sum|x|^3, and log max|x|.
    """
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    total, magnitudes, squares, cubes, magnitude_cubes, largest = _core.fingerprint(array)
    return (_log(magnitudes), total / max(magnitudes, _TINY), _log(math.sqrt(squares)),
            cubes / max(magnitude_cubes, _TINY), _log(largest))


def _log(value: float) -> float:
    return math.nan if math.isnan(value) else math.log(value + _TINY)


def distance(first: Fingerprint, second: Fingerprint) -> float:
    """Return the largest difference of two fingerprints, that of the maxima counting half; infinite
    with NaN.
    """
    if any(math.isnan(value) for value in (*first, *second)):
        return math.inf
    differences = [abs(one - two) for one, two in zip(first, second, strict=True)]
    differences[-1] /= 2
    return max(differences)


class FingerprintIndex(Generic[Item]):
    """Items found again by a fingerprint, by bisection in C."""
    def __init__(self, items: Iterable[tuple[Fingerprint, Item]]) -> None:
        """Sort the items; those whose fingerprint holds NaN cannot be found."""
        self.items = sorted(
            ((key, item) for key, item in items if not any(math.isnan(value) for value in key)),
            key=lambda pair: pair[0][0])
        self.keys = np.array([key for key, _ in self.items], np.float64).reshape(-1, 5)

    def find(self, wanted: Fingerprint, within: float = EQUAL_BELOW) -> list[tuple[float, Item]]:
        """Return all items nearer than `within`, as (distance, item), in no order that means
        anything.
        """
        return [(apart, self.items[row][1])
                for apart, row in _core.near_fingerprints(self.keys, wanted, within)]

    def nearest(self, wanted: Fingerprint) -> float:
        """Return the distance to the nearest item if it is below 1, infinity otherwise."""
        return _core.nearest_fingerprint(self.keys, wanted, 1.0)
