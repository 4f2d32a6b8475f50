"""Up to which differences outputs count as equal or close: every bound in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Bounds, each a part of the largest output of the torch model unless said otherwise.

    - `accepted`: what a caller accepts as close unless told otherwise. Twins that approximate an
      activation or differ in an epsilon lie below it; a wrong weight was never seen there
    - `rounding`: what rounding explains in a network of `depth` layers with weights, by the type
      that it computes in. EfficientNet-Lite0 on the bundled cat: 4.5e-7 when converted rightly, and
      5.7e-3 at least when two of its variables of equal shape (120 pairs drawn) are swapped
    - `depth`, `least_depth`: rounding grows with the square root of the depth, which counts as at
      least the second
    - `unit`: what one rounding to a half type changes at most
    - `times_noise`: rounding that differs between the frameworks grows through a network like the
      rounding of torch itself; so many times that is the same answer. `times_half_noise` is the
      same in half precision, where nearly all of the noise is the type's own
    - `times_noise_of_cause`: rounding differs by more than this only where it has a reason: one is
      looked for, and with a proven one the models are not equal
    - `of_sensitivity`: a larger part of what the output moves by from one input to another proves
      no equality, however small the number; `of_half_sensitivity` is the same in half precision
    - `ill_conditioned`: rounding that moves outputs by more says that nothing can be decided
    - `perturbation`: by this part every weight is changed to see whether rounding may do that: a
      thousand roundings of float32
    - `clear`: the part of `rounding` below which the noise is not measured, which costs a pass
    - `swap`: an output that moves by less does not show a swap
    - `statistics`: arrays whose statistics are further apart are not compared value by value
    """

    accepted: float = 1e-3
    rounding: Mapping[str, float] = field(default_factory=lambda: MappingProxyType(
        {"float32": 1e-4, "float64": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}))
    depth: int = 100
    least_depth: int = 4
    unit: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType({"float16": 2.0**-11, "bfloat16": 2.0**-8}))
    times_noise: float = 20
    times_half_noise: float = 3
    times_noise_of_cause: float = 10
    of_sensitivity: float = 0.02
    of_half_sensitivity: float = 0.1
    ill_conditioned: float = 0.1
    perturbation: float = 1e-4
    clear: float = 0.1
    swap: float = 1e-3
    statistics: float = 0.05


TOLERANCES = Tolerances()


def is_half(dtype: str) -> bool:
    """Return whether a type has two bytes."""
    return dtype in TOLERANCES.unit


def narrowest(dtypes: Sequence[str]) -> str:
    """Return the type that rounds most, "float32" when none of them is floating-point."""
    known = TOLERANCES.rounding
    return max((dtype for dtype in dtypes if dtype in known), key=known.__getitem__,
               default="float32")


def rounding_bound(dtype: str, depth: int, noise: float | None) -> float:
    """Return the relative difference that rounding explains.

    Args:
        dtype: The narrower of the types that the two models compute in.
        depth: Number of layers with weights.
        noise: How far torch's outputs in that type are from those in a wider one, None when that
            was not measured: then the type and the depth decide alone.
    """
    if is_half(dtype) and noise is not None:
        return max(TOLERANCES.unit[dtype], TOLERANCES.times_half_noise * noise)
    growth = sqrt(max(depth, TOLERANCES.least_depth) / TOLERANCES.depth)
    by_depth = TOLERANCES.rounding.get(dtype, TOLERANCES.rounding["float32"]) * growth
    return max(by_depth, TOLERANCES.times_noise * (noise or 0.0))


def visible_bound(dtype: str, sensitivity: float | None) -> float:
    """Return the relative difference that is small beside what the outputs move by from one input
    to another; infinite when that was not measured.
    """
    if sensitivity is None:
        return inf
    half = is_half(dtype)
    return sensitivity * (TOLERANCES.of_half_sensitivity if half else TOLERANCES.of_sensitivity)
