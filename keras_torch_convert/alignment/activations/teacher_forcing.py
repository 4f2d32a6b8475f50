"""Torch's own outputs in the place of a Keras layer's, so that what a layer gets is right whatever
happened before it.

Rounding cannot add up on the way through a deep network then, and a layer that computes something
else than torch does no harm to those behind it: the places where outputs had to be put right are
where the models differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt

from ...running.fingerprint import Fingerprint, distance
from ...running.torch_trace import TracedOp
from ...spec.target import TargetLayer
from .candidates import Candidate, LayerMapping
from .trace_index import TraceIndex

Array = npt.NDArray[np.floating]

# The centered correlation from which on two values may be the same thing: right ones read 0.76 and
# more where the models differ, unrelated ones up to 0.3.
MOST_ALIKE_FROM = 0.5
SAME_LIKENESS = 1e-5
# Behind a layer with an activation of its own, what it gives goes into one of so many units.
MOST_UNITS_BEHIND = 6
MOST_UNITS_COMPARED = 16


def recorded_output(outputs: Sequence[Fingerprint], arrays: Mapping[Fingerprint, Array],
                    own: Fingerprint, within: float) -> Array | None:
    """Of a unit's recorded outputs the one that a layer's output with the fingerprint `own` is, up
    to `within`; None when there is none.
    """
    near = [(distance(own, key), key) for key in outputs if key in arrays]
    apart, key = min(near, default=(np.inf, None))
    return None if key is None or apart > within else arrays[key]


def arranged_like(recorded: Array, own: Array) -> Array | None:
    """What torch computed with its axes in the order in which Keras has them, nearest to what Keras
    computed; None when no order fits.
    """
    squeezed, shape = np.squeeze(recorded), np.squeeze(own).shape
    if squeezed.ndim > 5 or sorted(squeezed.shape) != sorted(shape):
        return None
    wanted = np.squeeze(own).astype(np.float64)
    fitting = [
        squeezed.transpose(perm) for perm in permutations(range(squeezed.ndim)) if tuple(
            squeezed.shape[axis] for axis in perm) == shape
    ]
    nearest = min(fitting, key=lambda moved: float(np.abs(moved - wanted).sum()))
    return np.ascontiguousarray(nearest).reshape(own.shape)


def most_alike(recorded: Iterable[Array], own: Array) -> Array | None:
    """Of what torch computed, the value that a layer's output resembles most, arranged like it;
    None when nothing has its shape.
    """
    arranged = (arranged_like(array, own) for array in recorded if array.size == own.size)
    fitting = [array for array in arranged if array is not None]
    found = [similarity(array, own) for array in fitting]
    # A multiple is as much alike: the first of them is the layer's own.
    return next((array for array, alike in zip(fitting, found, strict=True)
                 if alike > max(found) - SAME_LIKENESS), None)


def similarity(first: Array, second: Array) -> float:
    """Centered correlation of two arrays of one shape."""
    one, other = (array.astype(np.float64).ravel() for array in (first, second))
    one, other = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size else 0.0


def on_a_similar_input(candidates: Sequence[Candidate], own: Array,
                       trace_index: TraceIndex) -> list[Candidate]:
    """Those of the candidates whose recorded input resembles what a layer gets, the ones that fit
    best first, of these the most alike.
    """
    recorded = trace_index.trace.arrays
    found: list[tuple[float, Candidate]] = []
    for candidate in candidates[:MOST_UNITS_COMPARED]:
        nearest = most_alike((recorded[key] for key in candidate.unit.inputs if key in recorded),
                             own)
        alike = -1.0 if nearest is None else similarity(nearest, own)
        if alike >= MOST_ALIKE_FROM:
            found.append((alike, candidate))
    found.sort(key=lambda pair: (pair[1].cost[0], -pair[0]))
    return [candidate for _, candidate in found]


def outputs_with(mapping: LayerMapping, leaf: TargetLayer, unit: TracedOp,
                 trace_index: TraceIndex) -> tuple[Fingerprint, ...]:
    """What torch computes with just the weights of a mapping; for a layer that ends in an
    activation also what goes into the units behind.
    """
    wanted = {trace_index.tied[name][0] for name in mapping.names}
    own = [
        one for one in trace_index.trace.units if {trace_index.tied[name][0]
                                                   for name in one.names} == wanted
    ]
    outputs = [key for one in own for key in one.outputs]
    activation = getattr(leaf.layer, "activation", None)
    if outputs and getattr(activation, "__name__", "linear") != "linear":
        last = max(one.order for one in own)
        behind = [one for one in trace_index.trace.units if one.order > last]
        outputs += [key for one in behind[:MOST_UNITS_BEHIND] for key in one.inputs]
    return tuple(dict.fromkeys(outputs)) or unit.outputs
