"""Other inputs of the same kind: new values that both models get alike and that keep the structure
of the caller's.

Arrays of both sides belong together where one is a function of the other value by value (another
order of axes, pixels that one side rescales inside). They are redrawn together; an array that only
one side has stays as it is. Masks, lengths and padding stay, boxes stay boxes, sorted rows sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from .outputs import as_array, map_leaves, named_leaves, squeezed

Array = npt.NDArray[Any]
Follower = Callable[[Array], Array]

# How often the range of values is folded up: neighboring values come far apart, and rounding grows
# by as much.
FOLDS = 37
# One array is a function of another when less than this part of its range is unexplained: half
# precision rounds by so much.
FITS_WITHIN = 5e-3
# A slice of fewer values lies on a straight line by chance; a table of values needs each so often.
FEWEST_POINTS = 8
FEWEST_REPEATS = 4
MOST_AXES = 5


def redrawn(torch_inputs: Any, keras_inputs: Any, count: int) -> list[tuple[Any, Any]] | None:
    """Draw `count` other inputs for both models.

    Returns:
        Pairs of torch's and Keras's inputs, as they are where all values are constant or masks;
        None when no array of one side is seen to belong to one of the other.
    """
    arrays = {(side, name): as_array(leaf)
              for side, inputs in (("torch", torch_inputs), ("keras", keras_inputs))
              for name, leaf in named_leaves(inputs)}
    movable = [key for key, array in arrays.items() if _may_move(array)]
    groups = _groups({key: arrays[key] for key in movable})
    if movable and not groups:
        return None
    pairs = []
    for number in range(count):
        new: dict[tuple[str, str], Array] = {}
        for ordered in (True, False):
            for index, (root, followers) in enumerate(groups.items()):
                if not _are_lengths(arrays[root], arrays.values()):
                    drawn = _drawn(arrays[root], number, index, ordered)
                    new.update((key, follow(drawn)) for key, follow in followers.items())
            # Rows of rising ids cannot change and stay rising: then they are mixed.
            if any(not np.array_equal(array, arrays[key]) for key, array in new.items()):
                break
        pairs.append((_with_values(torch_inputs, "torch",
                                   new), _with_values(keras_inputs, "keras", new)))
    return pairs


def _may_move(array: Array) -> bool:
    """Return False for constants, masks and what is no plain number."""
    if array.dtype.kind not in "fiu" or array.size < 2 or not np.all(np.isfinite(array)):
        return False
    few = len(np.unique(array)) <= 2
    return not few or (array.dtype.kind == "f" and array.size < 4)


def _are_lengths(array: Array, others: Iterable[Array]) -> bool:
    """Return whether whole numbers may be how many steps of another input count."""
    return (array.dtype.kind in "iu" and array.size == len(array) and array.min() > 0
            and any(other.ndim > 1 and len(other) == len(array) and other.size > len(other)
                    and array.max() <= other.shape[1] for other in others))


def _groups(arrays: Mapping[tuple[str, str], Array]) -> dict[Any, dict[Any, Follower]]:
    """Return for each array that others of both sides are functions of those functions, its own
    among them; whole numbers, and Keras's layout, come first.
    """
    order = sorted(arrays, key=lambda key: (arrays[key].dtype.kind == "f", key[0] != "keras"))
    groups: dict[Any, dict[Any, Follower]] = {}
    taken: set[tuple[str, str]] = set()
    for root in order:
        if root in taken:
            continue
        followers = {
            key: follow for key in order
            if key not in taken and (follow := _follower(arrays[root], arrays[key])) is not None
        }
        if len({side for side, _ in followers}) == 2:
            groups[root] = followers
            taken |= set(followers)
    return groups


def _follower(root: Array, leaf: Array) -> Follower | None:
    """Return how an array follows from the root, None when it does not."""
    if root.size != leaf.size:
        return None
    shape, wanted = squeezed(root.shape), squeezed(leaf.shape)
    perms: Iterable[tuple[int, ...]] = [tuple(range(len(shape)))]
    if sorted(shape) == sorted(wanted) and len(shape) <= MOST_AXES:
        perms = permutations(range(len(shape)))
    else:
        wanted = shape
    for perm in perms:
        moved = root.reshape(shape).transpose(perm)
        if moved.shape != wanted:
            continue
        rule = _value_rule(moved, leaf.reshape(moved.shape))
        if rule is not None:
            return lambda new, perm=perm, rule=rule: rule(  # type: ignore[misc]
                new.reshape(shape).transpose(perm)).reshape(leaf.shape)
    return None


def _value_rule(one: Array, two: Array) -> Follower | None:
    """Return the function of one value that makes the second array of the first: none, a straight
    line, one for each channel, or a table of whole numbers.
    """
    if np.array_equal(one, two):
        return lambda new: new
    x, y = one.astype(np.float64), two.astype(np.float64)
    within = FITS_WITHIN * max(float(np.ptp(y)), 1e-30)
    for channel in (None, *range(one.ndim)):
        axes = tuple(axis for axis in range(one.ndim) if axis != channel)
        if channel is not None and x.size // x.shape[channel] < FEWEST_POINTS:
            continue
        means = x.mean(axes, keepdims=True), y.mean(axes, keepdims=True)
        spread = np.maximum(((x - means[0])**2).sum(axes, keepdims=True), 1e-30)
        slope = ((x - means[0]) * (y - means[1])).sum(axes, keepdims=True) / spread
        offset = means[1] - slope * means[0]
        if np.abs(slope * x + offset - y).max() <= within:
            return partial(_line, slope, offset)
    if one.dtype.kind == "f":
        return None
    found, positions = np.unique(one, return_inverse=True)
    positions = positions.reshape(one.shape)
    table = np.bincount(positions.ravel(), y.ravel()) / np.bincount(positions.ravel())
    if len(found) * FEWEST_REPEATS > one.size or np.abs(table[positions] - y).max() > within:
        return None
    return lambda new: table[np.searchsorted(found, new)]


def _line(slope: Array, offset: Array, new: Array) -> Array:
    result: Array = slope * new + offset
    return result


def _drawn(array: Array, number: int, index: int, ordered: bool) -> Array:
    """Return new values within the range of the array's own; `index` is that of its group."""
    is_whole = array.dtype.kind != "f"
    is_sorted = is_whole and array.shape[-1] > 2 and bool(
        np.all(np.diff(array.astype(np.int64)) >= 0))
    kept = np.zeros(array.shape, bool) if is_sorted else _padding(array)
    if is_whole and not is_sorted:
        kept |= _ends(array, kept)
        kept |= np.isin(array, array[kept])
    result = array.copy()
    if is_whole and array.ndim == 2:
        _roll_columns(result, ~kept, number + index + 1)
    if not is_whole:
        result[~kept] = folded(array[~kept], number)
    elif np.array_equal(result, array):
        result[~kept] = exchanged(array[~kept], number)
    if array.ndim > 1 and array.shape[-1] == 4 and np.all(array[..., 2:] >= array[..., :2]):
        corners = result.reshape(*array.shape[:-1], 2, 2)
        result = np.sort(corners, axis=-2).reshape(array.shape)
    elif is_sorted and ordered:
        result = np.sort(result, axis=-1)
    return result


def _padding(array: Array) -> npt.NDArray[np.bool_]:
    """Mark what fills up rows behind or before their steps: one value, which stands nowhere else,
    at least twice in a row.
    """
    kept = np.zeros(array.shape, bool)
    if array.ndim < 2:
        return kept
    steps = array.reshape(*array.shape[:2], -1)
    for end, step in ((-1, -1), (0, 1)):
        edge = steps[:, end]
        for value in np.unique(edge[(edge == edge[:, :1]).all(1)]):
            same = (steps == value).all(2)[:, ::step]
            run = np.cumprod(same, axis=1, dtype=bool)[:, ::step]
            is_pad = run.sum(1).max(initial=0) > 1 and not run.all()
            if is_pad and np.count_nonzero(same) == np.count_nonzero(run):
                kept |= run.reshape(*run.shape, *(1,) * (array.ndim - 2))
    return kept


def _ends(array: Array, padding: Array) -> npt.NDArray[np.bool_]:
    """Mark the first and the last token of rows of ids where all rows have the same there."""
    kept = np.zeros(array.shape, bool)
    if array.ndim != 2 or array.shape[1] < 4:
        return kept
    rows, real = np.arange(len(array)), ~padding
    positions = (real.argmax(1), array.shape[1] - 1 - real[:, ::-1].argmax(1))
    for position in positions:
        if len(np.unique(array[rows, position])) == 1:
            kept[rows, position] = True
    return kept


def _roll_columns(array: Array, free: Array, shift: int) -> None:
    """Exchange values within each column, each by another distance: a column may have a table of
    its own.
    """
    for column in range(array.shape[1]):
        rows = np.flatnonzero(free[:, column])
        array[rows, column] = np.roll(array[rows, column], shift + column)


def exchanged(array: Array, number: int) -> Array:
    """Exchange whole numbers by rank: the largest with the smallest and so on, or further apart,
    two by two for one of them: a mean over tokens does not see their order.
    """
    found, ranks = np.unique(array, return_inverse=True)
    shift = (FOLDS + 2 * number) * len(found) // (2 * FOLDS + 2 * number)
    order = found[::-1] if number == 0 else np.roll(found, shift)
    if number and len(found) > 2:
        order = order[np.arange(len(found)) // 2 * 2]
    return np.asarray(order[ranks].reshape(array.shape), array.dtype)


def folded(array: Array, number: int) -> Array:
    """Reflect the range of values, or fold it up like a strip of paper and stretch it again, so
    that each value is nearly a new draw.
    """
    low, extent = (float(array.min()), float(np.ptp(array))) if array.size else (0.0, 0.0)
    if not number or not extent:
        return np.asarray(array.min() + array.max() - array, array.dtype) if extent else array
    position = (array.astype(np.float64) - low) / extent * (FOLDS + 2 * (number - 1))
    return np.asarray(low + extent * np.abs(position - 2 * np.round(position / 2)), array.dtype)


def _with_values(inputs: Any, side: str, new: Mapping[tuple[str, str], Array]) -> Any:
    """Return the inputs of one side with new values for some of its tensors."""
    def changed(name: str, leaf: Any) -> Any:
        return _like(new[side, name], leaf) if (side, name) in new else leaf

    return map_leaves(inputs, changed)


def _like(array: Array, before: Any) -> Any:
    """Return new values as a tensor of the kind and type of the old one."""
    old = as_array(before)
    array = np.ascontiguousarray(np.rint(array) if old.dtype.kind in "iu" else array, old.dtype)
    if not hasattr(before, "detach"):
        return array
    import torch

    return torch.from_numpy(array).to(before.device, before.dtype)
