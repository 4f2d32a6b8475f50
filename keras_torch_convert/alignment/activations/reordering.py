"""A layer whose input holds torch's channels in another order, as when branches are joined the
other way round.

Fingerprints do not depend on order, so that the layer finds its input in torch and never its
output. Which channel is which is read off the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ...plan.expressions import Concat, Slice, tensors_of
from ...running.keras_values import eager_arrays
from ...spec.target import TargetLayer, TargetVariable
from .candidates import LayerMapping
from .transforms import VariableMapping

Array = npt.NDArray[Any]
# More runs of channels that stay together than this are no branches that were joined.
MOST_RUNS = 64
# Largest difference of values that count as one, as a part of the largest value.
EQUAL_WITHIN = 1e-3
# Layers that work feature by feature: what they give is in the order of what they get.
_BY_FEATURE = ("BatchNormalization", "LayerNormalization", "RMSNormalization", "PReLU",
               "DepthwiseConv1D", "DepthwiseConv2D")


def order_of_channels(own: Array, theirs: Array, *,
                      standardized: bool = False) -> tuple[int, ...] | None:
    """For each channel (last axis) of `own` the number of the channel of `theirs` with its values,
    wherever torch has its channels.

    None when they are in one order already, when not every channel is found, or when the order is
    no few runs of channels. With `standardized` a factor and an offset of each channel do not
    matter.
    """
    channels = own.shape[-1]
    if own.size != theirs.size:
        return None
    ours = own.reshape(-1, channels).T.astype(np.float64)
    for axis, extent in enumerate(theirs.shape):
        if extent != channels:
            continue
        others = np.moveaxis(theirs, axis, 0).reshape(channels, -1).astype(np.float64)
        order = _matched(
            *map(_standardized, (ours, others))) if standardized else _matched(ours, others)
        if order is not None and order != tuple(range(channels)) and len(_runs(order)) <= MOST_RUNS:
            return order
    return None


def orders_of_inputs(own: Any, theirs: Any) -> Iterator[tuple[int, ...]]:
    """The orders in which Keras's inputs hold the channels of torch's, where that is another one,
    as in pictures of which one is RGB and the other BGR, each scaled as its model wants it.
    """
    for one in eager_arrays(own):
        for other in eager_arrays(theirs):
            order = order_of_channels(one, other, standardized=True) if one.ndim else None
            if order is not None:
                yield order


def _standardized(channels: Array) -> Array:
    """Channels (number, values) with a mean of 0 and a deviation of 1, constant ones of 0."""
    centered = channels - channels.mean(1, keepdims=True)
    deviation = centered.std(1, keepdims=True)
    return np.asarray(centered / np.where(deviation > 0, deviation, 1.0))


def _matched(ours: Array, theirs: Array) -> tuple[int, ...] | None:
    """Channels (number, values) paired by their sums with random weights, and compared."""
    weights = np.random.default_rng(0).standard_normal(ours.shape[1])
    first, second = (np.argsort(side @ weights, kind="stable") for side in (ours, theirs))
    order = np.empty(len(first), np.int64)
    order[first] = second
    apart = np.abs(ours - theirs[order]).max(initial=0.0)
    if apart > EQUAL_WITHIN * np.abs(ours).max(initial=0.0):
        return None
    return tuple(order.tolist())


def _runs(order: tuple[int, ...]) -> list[tuple[int, int]]:
    """Start and end of the runs of following numbers."""
    runs: list[tuple[int, int]] = []
    for number in order:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


def keeps_order(leaf: TargetLayer) -> bool:
    """Whether what a layer gives is in the order of what it gets."""
    return any(name in _BY_FEATURE for name in leaf.class_names)


def reordered(mapping: LayerMapping, leaf: TargetLayer, order: tuple[int,
                                                                     ...]) -> LayerMapping | None:
    """The mapping for an input in that order; None for a layer of which it is not known which axes
    count the input.
    """
    entries = []
    for variable, entry in mapping.entries:
        axis = _axis_of_input(variable, leaf, len(order))
        if axis is None:
            return None
        entries.append((variable, _moved(entry, axis, order) if axis >= 0 else entry))
    return LayerMapping(tuple(entries), mapping.penalty)


def _axis_of_input(variable: TargetVariable, leaf: TargetLayer, count: int) -> int | None:
    """The axis of a variable that counts the layer's inputs, -1 when none does, None when that is
    not known.
    """
    shape, class_names = variable.shape, set(leaf.class_names)
    if keeps_order(leaf):
        axis = len(shape) - 2 if variable.name == "kernel" or "depthwise" in variable.name else len(
            shape) - 1
        return axis if axis >= 0 and shape[axis] == count else None
    if len(shape) == 1:
        return -1
    if "Dense" in class_names or any(
            name in class_names for name in ("Conv1D", "Conv2D", "Conv3D")):
        axis = len(shape) - 2
    elif any(name in class_names
             for name in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")):
        axis = len(shape) - 1
    else:
        return None
    return axis if shape[axis] == count else None


def _moved(entry: VariableMapping, axis: int, order: tuple[int, ...]) -> VariableMapping:
    """The way with the entries along `axis` in that order; a value that torch does not have is the
    same everywhere.
    """
    if not tensors_of(entry.expression):
        return entry
    parts = tuple(Slice(entry.expression, axis, start, end) for start, end in _runs(order))
    return VariableMapping(Concat(parts, axis),
                           f"{entry.rule}; inputs in the order in which Keras joins them",
                           entry.penalty)
