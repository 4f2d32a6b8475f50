"""Rotary positions: which values are paired, by which frequencies they turn, a factor on both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

import numpy as np

from ..context import Array, DivergenceContext, Hypothesis

# A rotation explains a value to this part of the largest one.
TURNED_BELOW = 1e-4
# Cosine and sine of a half type turn and stretch by this much.
EVEN = 1e-2
# Two frequencies, or their ratios, are alike.
ALIKE = 2e-3
# What a half type makes of a number is no further from it than this part.
HALF = 2.0**-7
MOST_SHARES = (1, 2, 4)
HALF_WORDS = ("the angles of rotary positions are rounded to a half type in one model, not in the "
              "other", "compute positions and frequencies in float32 in both models")
ADVICE = "compute cosine and sine in Keras with torch's frequencies: {}"


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """What turns pairs of values: `turns` are complex factors, (positions, pairs).

    `interleaved`: neighbors are pairs, else a value of each half. Only the first `width` values of
    a head are turned.
    """

    turns: Array
    interleaved: bool
    width: int

    @property
    def scale(self) -> float:
        """The factor on cosine and sine."""
        return float(np.abs(self.turns).mean())

    @property
    def frequencies(self) -> Array:
        """How far each pair turns from one position to the next."""
        steps = np.angle(self.turns[1:] * np.conj(self.turns[:-1]))
        first = np.median(steps, 0)
        # The longer the way, the more exact.
        total = np.angle(self.turns[-1] * np.conj(self.turns[0]))
        count = len(self.turns) - 1
        whole = np.round((count * first - total) / (2 * pi))
        return np.asarray((total + 2 * pi * whole) / count)

    @property
    def start(self) -> Array:
        """How far each pair is turned at the first position."""
        return np.asarray(np.angle(self.turns[0]))

    @property
    def stays(self) -> bool:
        """Whether nothing is turned."""
        return bool(np.abs(self.frequencies).max() < ALIKE)

    def applied(self, array: Array, backward: bool = False) -> Array:
        """Turn (..., positions, width), or turn it back."""
        pairs = _pairs(array[..., :self.width], self.interleaved)
        turned = pairs / self.turns if backward else pairs * self.turns
        axis = -1 if self.interleaved else -2
        values = np.stack([turned.real, turned.imag], axis).reshape(*array.shape[:-1], self.width)
        return np.concatenate([values, array[..., self.width:]], -1)


def _pairs(array: Array, interleaved: bool) -> Array:
    wide = array.astype(np.float64)
    if interleaved:
        return np.asarray(wide[..., ::2] + 1j * wide[..., 1::2])
    half = wide.shape[-1] // 2
    return np.asarray(wide[..., :half] + 1j * wide[..., half:])


def rotation(before: Array, after: Array) -> Rotation | None:
    """Return what turns one array into the other, both (..., positions, width); None when nothing
    does. Where all stays as it is, both ways to pair fit: halves are said.
    """
    if before.shape != after.shape or before.ndim < 3 or before.shape[-2] < 2:
        return None
    for share in MOST_SHARES:
        width = before.shape[-1] // share
        if width % 2 or not width:
            continue
        for interleaved in (False, True):
            one, two = (_pairs(array[..., :width], interleaved) for array in (before, after))
            axes = tuple(range(one.ndim - 2))
            norms = (np.abs(one)**2).sum(axes)
            turns = (two * np.conj(one)).sum(axes) / np.where(norms == 0, 1, norms)
            found = Rotation(turns, interleaved, width)
            sizes = np.abs(turns)
            if (norms > 0).all() and np.ptp(sizes) < EVEN * sizes.max() and _is_near(
                    found.applied(before), after):
                return found
    return None


def _is_near(one: Array, two: Array) -> bool:
    return bool(np.abs(one - two).max() <= TURNED_BELOW * max(float(np.abs(two).max()), 1e-30))


def hypotheses(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Turn what goes into a layer for rotary positions as torch does."""
    if context.has_weights or not context.keras.inputs or not context.keras.outputs:
        return
    before, output = context.keras.inputs[0], context.keras.outputs[0]
    if before.ndim != 4 or before.shape != output.shape:
        return
    for axis in (1, 2):
        given = np.moveaxis(before, axis, 2)
        ours = rotation(given, np.moveaxis(output, axis, 2))
        found = [(theirs, step.path) for step, value in context.step_results() if ours is not None
                 for array in _arranged(value, before.shape)
                 if (theirs := rotation(given, np.moveaxis(array, axis, 2))) is not None]
        # What is not turned yet is a value of torch's too.
        for theirs, path in sorted(found, key=lambda pair: pair[0].stays):
            if theirs.stays and abs(theirs.scale - 1) >= TURNED_BELOW:
                # A query that is scaled may be turned behind it.
                continue
            said = difference(ours, theirs) if ours is not None else None
            if said is not None:
                trial = np.moveaxis(theirs.applied(given), 2, axis).astype(np.float32)
                yield Hypothesis("rope", *said, trial, against=trial, torch_at=path)


def _arranged(value: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    for perm in ((0, 1, 2, 3), (0, 2, 1, 3)) if value.ndim == len(shape) == 4 else ():
        if value.transpose(perm).shape == shape:
            yield value.transpose(perm)


def difference(ours: Rotation, theirs: Rotation) -> tuple[str, str] | None:
    """Return in what torch's rotation differs from that of Keras, and what to do; None when in
    nothing.
    """
    found = [
        one
        for one in (_of_pairs(ours, theirs), _of_scale(ours, theirs), _of_frequencies(ours, theirs))
        if one is not None
    ]
    if not found:
        return None
    return "; ".join(one[0] for one in found), "; ".join(one[1] for one in found)


def _of_pairs(ours: Rotation, theirs: Rotation) -> tuple[str, str] | None:
    if ours.width != theirs.width:
        return (f"rotary positions turn the first {ours.width} values of a head in Keras, the "
                f"first {theirs.width} in torch", f"turn the first {theirs.width} values in Keras")
    turned = not (ours.stays or theirs.stays)
    if ours.interleaved == theirs.interleaved or not turned:
        return None
    ways = {True: "values beside each other (interleaved)", False: "values of both halves"}
    return (f"rotary positions pair {ways[ours.interleaved]} in Keras, "
            f"{ways[theirs.interleaved]} in torch", f"pair {ways[theirs.interleaved]} in Keras")


def _of_scale(ours: Rotation, theirs: Rotation) -> tuple[str, str] | None:
    factor = theirs.scale / ours.scale
    if abs(factor - 1) < TURNED_BELOW:
        return None
    return (f"torch multiplies cosine and sine of rotary positions by {theirs.scale:.4g} (the "
            f"attention factor of YaRN), Keras by {ours.scale:.4g}",
            f"multiply cosine and sine by {theirs.scale:.4g} in Keras")


def _of_frequencies(ours: Rotation, theirs: Rotation) -> tuple[str, str] | None:
    one, two = ours.frequencies, theirs.frequencies
    if len(one) != len(two):
        return None
    shown = f"[{', '.join(f'{value:.6g}' for value in two)}]"
    if ours.stays or theirs.stays:
        if ours.stays and theirs.stays:
            return None
        if ours.stays:
            return "torch turns query and key by rotary positions, Keras does not", ADVICE.format(
                shown)
        return ("Keras turns query and key by rotary positions, torch does not",
                "leave rotary positions out in Keras, or build torch with them")
    if np.abs(two - one).max() < ALIKE / len(ours.turns) and np.abs(theirs.start
                                                                    - ours.start).max() < ALIKE:
        exact = np.abs(theirs.turns / theirs.scale - ours.turns / ours.scale).max() < TURNED_BELOW
        return None if exact else HALF_WORDS
    advice = ADVICE.format(shown)
    if np.abs(two - one).max() < ALIKE / len(ours.turns):
        return ("rotary positions begin at another position in torch: its first is turned by "
                f"{theirs.start[0]:.6g}, that of Keras by {ours.start[0]:.6g}",
                "count positions in Keras from the same number as in torch")
    ratios = two / one
    bases = [_base(one, ours.width), _base(two, theirs.width)]
    if None not in bases:
        return (f"the base of rotary positions is {bases[0]:.6g} in Keras, {bases[1]:.6g} in torch "
                "(for exponents -2i / width)", f"build Keras's with base {bases[1]:.6g}")
    scaled = _scaling(ratios) if bases[1] is None else _scaling(1 / ratios)
    if scaled is not None:
        sides = ("torch", "Keras") if bases[1] is None else ("Keras", "torch")
        return (f"{sides[0]} {scaled}, {sides[1]} does not", advice if bases[1] is None else
                f"do not scale positions in Keras: take the base {bases[1]:.6g} alone")
    if np.abs(ratios - 1).max() < HALF:
        return HALF_WORDS
    words = f"[{', '.join(f'{value:.4g}' for value in one)}]"
    return f"the frequencies of rotary positions are {words} in Keras, {shown} in torch", advice


def _scaling(ratios: Array) -> str | None:
    """Say how frequencies are scaled: all alike, or the lower the more."""
    if np.ptp(ratios) < ALIKE * ratios.max():
        return f"multiplies rotary positions by {ratios.mean():.4g} (linear scaling)"
    if abs(ratios[0] - 1) < ALIKE and (np.diff(ratios) < ALIKE).all():
        return (f"multiplies the low frequencies of rotary positions by {ratios[-1]:.4g} and keeps "
                "the high ones (the scaling of llama3 and YaRN)")
    return None


def _base(frequencies: Array, width: int) -> float | None:
    """Return the base of which all frequencies are powers, from 1 in even steps."""
    if abs(frequencies[0] - 1) > ALIKE or (frequencies <= 0).any() or len(frequencies) < 3:
        return None
    steps = -np.log(frequencies[1:]) / (2 * np.arange(1, len(frequencies)) / width)
    return float(f"{np.exp(steps[0]):.4g}") if np.ptp(steps) < ALIKE * steps.max() else None
