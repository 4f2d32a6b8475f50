"""Up to which difference two outputs count as equal, by the type that the models compute in."""

from __future__ import annotations

from collections.abc import Sequence

# Largest difference, relative to the largest output of the torch model, up to which outputs count
# as equal. EfficientNet- Lite0 on the bundled cat: 4.5e-7 when converted rightly, and 5.7e-3 at
# least when two of its variables of equal shape (120 pairs drawn) are swapped; the bound is in
# between, nearer to the wrong ones in ratio, since deeper models sum up more rounding. float16 and
# bfloat16 carry 10 and 7 bits of mantissa where float32 carries 23: theirs are so much wider that
# only gross mistakes show.
EQUAL_BELOW = {"float32": 1e-4, "float64": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def narrowest(names: Sequence[str]) -> str:
    """The type with the widest threshold, "float32" when none of them is floating-point."""
    return max((name for name in names if name in EQUAL_BELOW), key=EQUAL_BELOW.__getitem__,
               default="float32")
