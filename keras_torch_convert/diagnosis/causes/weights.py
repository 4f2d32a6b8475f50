"""The layer holds other values than torch's: swapped, turned, scaled, in another order, or never
loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise, permutations

import numpy as np

from ..context import Array, DivergenceContext, Hypothesis
from .bypass import behind_next_steps

# Values that were only carried over are equal bit for bit; a computed one (two biases added) may be
# rounded.
EQUAL = 1e-6
# What a new layer has for a gain or an offset.
FRESH = (0.0, 1.0)
AGAIN = "carry those weights over again (ktc.convert with this plan)"


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The layer run with torch's values."""
    leaf = scene.call.leaf
    if leaf is None or not scene.wanted:
        return
    wrong = {
        name: scene.held[name] for name, wanted in scene.wanted.items()
        if name in scene.held and not equal(scene.held[name], wanted)
    }
    if not wrong:
        return
    with scene.weights(scene.wanted):
        trial = scene.run()
    if trial is None:
        return
    kind, said = in_words(wrong, scene.wanted, scene.owners)
    names = ", ".join(f"{leaf.display_name}/{name}" for name in wrong)
    of = f" of torch's '{scene.place.path}'" if scene.place is not None else ""
    advice = (f"carry the weights{of} over again (ktc.convert with this plan), and change {names} "
              "nowhere else")
    yield Hypothesis(kind, f"{names}: {said}", advice, trial)
    if scene.place is None:
        yield from behind_next_steps(scene, kind, f"{names}: {said}", advice, trial)


def equal(first: Array, second: Array) -> bool:
    """Whether two arrays hold the same values."""
    if first.shape != second.shape:
        return False
    scale = float(np.abs(second).max(initial=0.0))
    return bool(
        np.abs(first.astype(np.float64) - second).max(initial=0.0) <= EQUAL * max(scale, 1e-30))


def in_words(wrong: Mapping[str, Array], wanted: Mapping[str, Array],
             owners: Mapping[str, str]) -> tuple[str, str]:
    """The kind of the mistake, and a sentence: the first variable's that has an explanation."""
    explained = [relation(name, held, wanted, owners.get(name, "")) for name, held in wrong.items()]
    return next((one for one in explained if one[0] != "weights"), explained[0])


def relation(name: str, held: Array, every: Mapping[str, Array], owner: str) -> tuple[str, str]:
    """How the held values come from torch's; `every` are the values that the layer's variables
    should have.
    """
    wanted = every[name]
    owner = next(
        (other for other, values in every.items() if other != name and equal(held, values)), owner)
    if owner:
        return "swapped weights", f"it holds the values that belong to '{owner}'"
    if held.size == 1:
        # One number is always a constant, and always a multiple of another.
        ours, theirs = float(held.flat[0]), float(wanted.flat[0])
        kind = "weights not loaded" if ours in FRESH else "weights"
        return kind, f"it holds {ours:.7g}, torch {theirs:.7g}"
    if np.ptp(held) == 0:
        return "weights not loaded", (f"all its values are {float(held.flat[0]):g}: it was never "
                                      "loaded")
    if (factor := ratio(held, wanted)) is not None:
        return "scaled weights", f"all its values are {factor:.6g} times torch's"
    moved = moved_values(held, wanted)
    return moved or (
        "weights",
        f"its values are not torch's (largest difference {float(np.abs(held - wanted).max()):.1e})")


def moved_values(held: Array, wanted: Array) -> tuple[str, str] | None:
    """How torch's values were moved, None when these are others."""
    if (axes := turned(held, wanted)) is not None:
        return "transposed weights", (f"its axes stand in the order {axes} of those that it "
                                      "should have")
    if (flipped := mirrored(held, wanted)) is not None:
        return "flipped weights", f"it is mirrored along axes {flipped}"
    orders = ((axis, order_along(held, wanted, axis)) for axis in range(held.ndim))
    return next((order_kind(order, axis, held) for axis, order in orders if order is not None),
                None)


def turned(held: Array, wanted: Array) -> tuple[int, ...] | None:
    """The order of axes that makes the held values torch's."""
    if held.ndim > 5:
        return None
    for axes in permutations(range(held.ndim)):
        if axes != tuple(range(held.ndim)) and equal(held.transpose(axes), wanted):
            return axes
    return None


def mirrored(held: Array, wanted: Array) -> tuple[int, ...] | None:
    """The axes along which the held values run backwards."""
    for mask in range(1, 2**held.ndim):
        axes = tuple(axis for axis in range(held.ndim) if mask >> axis & 1)
        if all(held.shape[axis] > 1 for axis in axes) and equal(np.flip(held, axes), wanted):
            return axes
    return None


def ratio(held: Array, wanted: Array) -> float | None:
    """The number by which all of torch's values were multiplied."""
    flat = wanted.astype(np.float64).ravel()
    norm = float(flat @ flat)
    if not norm:
        return None
    factor = float(flat @ held.astype(np.float64).ravel()) / norm
    close = np.abs(held - factor * wanted).max() <= 1e-5 * np.abs(held).max()
    return factor if factor and close else None


def order_along(held: Array, wanted: Array, axis: int) -> list[int] | None:
    """For each entry of an axis the one of torch's that it holds, None when some are not torch's.
    """
    rows = np.ascontiguousarray(np.moveaxis(wanted, axis, 0)).reshape(wanted.shape[axis], -1)
    ours = np.ascontiguousarray(np.moveaxis(held, axis, 0)).reshape(held.shape[axis], -1)
    places: dict[bytes, int] = {}
    for number, row in enumerate(rows):
        places.setdefault(row.tobytes(), number)
    order = [places.get(row.tobytes(), -1) for row in ours]
    return order if sorted(order) == list(range(len(order))) and order != sorted(order) else None


def order_kind(order: list[int], axis: int, held: Array) -> tuple[str, str]:
    """Whether an axis is in another order by rows, by blocks, or like a flattened map."""
    count = len(order)
    for channels in range(2, count // 2 + 1):
        if count % channels == 0:
            flattened = np.arange(count).reshape(channels, -1).T.ravel()
            if order in (flattened.tolist(), np.argsort(flattened).tolist()):
                rows = (f"its rows along axis {axis} are in the order of a map flattened in the "
                        "other layout")
                return "flatten order", f"{rows} ({channels} by {count // channels})"
    jumps = sum(two - one != 1 for one, two in pairwise(order))
    if jumps + 1 <= count // 2:
        return (
            "block order",
            f"its entries along axis {axis} come in {jumps + 1} blocks (heads, gates, groups) in "
            "another order")
    return "weights order", (f"its entries along axis {axis} (of {held.shape[axis]}) are torch's "
                             "in another order")
