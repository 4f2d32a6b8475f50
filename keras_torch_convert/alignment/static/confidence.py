"""How far a pairing that nothing proves can be trusted, as a number that was measured on pairs of
models with a proven alignment.
"""

from __future__ import annotations

from math import exp

from .matching import StaticMatch

# 0.5 where another pairing is as good, 0.9 where every other one costs 1.75 more. On the zoo's
# pairs no layer that a proven alignment contradicts had a larger margin, and seven in ten of the
# right ones had (tests/zoo/measure_static.py).
_STEEPNESS = 0.92
_MOST = 0.99
# Where shapes and names leave the layout itself open (a square table, the order of fused parts).
_MOST_IN_DOUBT = 0.8


def confidence_of(match: StaticMatch, layout_in_doubt: bool) -> float:
    """0 to 1: how likely the weight is right, to two digits."""
    value = 1 - 0.5 * exp(-_STEEPNESS * match.margin)
    return round(min(value, _MOST_IN_DOUBT if layout_in_doubt else _MOST), 2)
