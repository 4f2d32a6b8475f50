"""From the dtype of the values at hand to the one that is wanted, with what is lost counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
CASTABLE = frozenset({"bool", "float16", "bfloat16", "float32", "float64", *_INTEGERS})
# NumPy calls these safe, yet 2**53 + 1 is no float64.
_NOT_EXACT = {(whole, "float64") for whole in ("int64", "uint64")}


def is_exact(source_type: str, target_type: str) -> bool:
    """Return whether the target dtype holds every value of the source dtype."""
    if source_type == target_type:
        return True
    if "bfloat16" in (source_type, target_type):
        return (source_type == "bfloat16" and target_type in ("float32", "float64")) or (
            target_type == "bfloat16" and source_type in ("bool", "int8", "uint8"))
    return bool(np.can_cast(source_type,
                            target_type)) and (source_type, target_type) not in _NOT_EXACT


@dataclass(slots=True)
class Losses:
    """What the casts of one conversion rounded, by pair of dtypes."""

    rounded: dict[tuple[str, str], list[tuple[str, int, int]]] = field(default_factory=dict)

    def add(self, types: tuple[str, str], display_name: str, rounded: int, size: int) -> None:
        """Note that `rounded` of the `size` values of `display_name` changed."""
        if rounded:
            self.rounded.setdefault(types, []).append((display_name, rounded, size))

    def sentences(self) -> tuple[str, ...]:
        """Return one sentence for each pair of dtypes."""
        result = []
        for (source_type, target_type), entries in self.rounded.items():
            rounded, size = sum(entry[1] for entry in entries), sum(entry[2] for entry in entries)
            where = f"'{entries[0][0]}'" if len(
                entries) == 1 else f"{len(entries)} places, the first '{entries[0][0]}'"
            result.append(
                f"{source_type} to {target_type}: {rounded} of {size} values rounded, in {where}")
        return tuple(result)


def cast(values: npt.NDArray[Any], source_type: str, target_type: str, display_name: str,
         losses: Losses | None = None) -> npt.NDArray[Any]:
    """Return the values in another dtype, rounded to nearest even; the same array for an equal one.

    bfloat16 travels as its bits (uint16). Raises ValueError when finite values do not fit the
    target dtype.
    """
    if source_type == target_type:
        return values
    result, outside, rounded = _core.cast(values, source_type, target_type)
    if outside:
        raise ValueError(
            f"{outside} of {values.size} values are outside the range of {target_type} (they are "
            f"{source_type}); build the "
            f"Keras model in a wider type, or scale the values with additional_transfer")
    if losses is not None:
        losses.add((source_type, target_type), display_name, rounded, values.size)
    return result
