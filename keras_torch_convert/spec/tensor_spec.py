"""Shape, type and name of one tensor, of either side."""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and type of a tensor or variable, and the name that people know it by."""

    shape: tuple[int, ...]
    dtype: str
    display_name: str
