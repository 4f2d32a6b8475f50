"""Bring two arrays of two frameworks together: which order of axes, how far apart."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..running.fingerprint import distance, fingerprint
from .outputs import difference_of
from .tolerances import TOLERANCES

Array = npt.NDArray[Any]


def apart(torch_array: Array, keras_array: Array) -> float:
    """Return the largest difference relative to torch's largest value, in the order of axes that
    fits best; infinite when no shape fits.
    """
    if torch_array.size != keras_array.size or not torch_array.size:
        return inf
    by_statistics = distance(fingerprint(torch_array), fingerprint(keras_array))
    if by_statistics > TOLERANCES.statistics:
        return by_statistics
    return min((difference_of(one, keras_array).relative
                for one in arranged(torch_array, keras_array.shape)), default=inf)


def arranged(array: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield `array` in a shape, with its channels where either framework may have them.

    Axes may be merged or split.

    It comes as it stands, with the second axis moved behind others, and with the last one moved
    forward. Height and width are never exchanged.
    """
    moved = [array.transpose(perm) for perm in dict.fromkeys(orders(array.ndim))]
    fitting = [one for one in moved if one.size == prod(shape) and fits(one.shape, shape)]
    wanted = [extent for extent in shape if extent != 1]
    # Where no axis has to be merged or split, merging makes noise of the values.
    whole = [one for one in fitting if [extent for extent in one.shape if extent != 1] == wanted]
    for one in whole or fitting:
        yield np.ascontiguousarray(one).reshape(shape)


def orders(ndim: int) -> Iterator[tuple[int, ...]]:
    """Yield the orders of axes that either framework may have: see `arranged`."""
    yield tuple(range(ndim))
    for target in range(2, ndim):
        rest = [axis for axis in range(ndim) if axis != 1]
        yield (*rest[:target], 1, *rest[target:])
    for target in range(1, ndim - 1):
        rest = list(range(ndim - 1))
        yield (*rest[:target], ndim - 1, *rest[target:])


def fits(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Return whether one shape comes from the other by merging or splitting neighboring axes and by
    axes of size 1.
    """
    one, two = [extent for extent in first if extent != 1
               ], [extent for extent in second if extent != 1]
    while one and two:
        left, right = one.pop(0), two.pop(0)
        while left != right:
            if left < right:
                if not one:
                    return False
                left *= one.pop(0)
            else:
                if not two:
                    return False
                right *= two.pop(0)
    return not one and not two


def channels_last(array: Array, channels: int) -> Array:
    """Return a torch map with its channels last, when the second axis is the one that counts
    `channels`.
    """
    if array.ndim >= 3 and array.shape[1] == channels:
        return np.ascontiguousarray(np.moveaxis(array, 1, -1))
    return array


def margins(given: Array, array: Array) -> tuple[tuple[int, int], ...] | None:
    """Return how much was put before and after each axis but the first and last of `array` to make
    `given`, None when it is not inside.
    """
    if given.ndim != array.ndim or given.shape[-1] != array.shape[-1]:
        return None
    room = []
    for axis in range(1, array.ndim - 1):
        total = given.shape[axis] - array.shape[axis]
        if total < 0:
            return None
        room.append(total)
    for befores in np.ndindex(*(total + 1 for total in room)):
        inner = (slice(None),
                 *(slice(b, b + n) for b, n in zip(befores, array.shape[1:-1], strict=True)),
                 slice(None))
        if np.abs(given[inner] - array).max() <= 1e-4 * max(float(np.abs(array).max()), 1e-30):
            return tuple((int(b), int(total - b)) for b, total in zip(befores, room, strict=True))
    return None
