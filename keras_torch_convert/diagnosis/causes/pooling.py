"""Pooling: what is taken, window, stride, padding, whether padding counts, rounding up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import inf
from typing import Any

import numpy as np

from ...comparison.arrays import channels_last, margins
from ...running.torch_steps import Step
from ..context import Array, DivergenceContext, Hypothesis

STEPS = (*("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices",
           "max_pool3d_with_indices", "mkldnn_max_pool2d"),
         *("avg_pool1d", "avg_pool2d", "avg_pool3d"))


@dataclass(frozen=True, slots=True)
class Pool:
    """A pooling over all axes between the first and the last.

    `pads` are (before, after) for each axis; `fill` is what they hold: 0, or -inf for what does not
    exist; `counted`: padding counts in an average.
    """

    what: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    fill: float
    counted: bool
    rounded_up: bool = False

    def __call__(self, array: Array) -> Array:
        """The pooled array, channels last."""
        extents = array.shape[1:-1]
        pads = [list(pair) for pair in self.pads]
        overhang = []
        for axis, extent in enumerate(extents):
            room = extent + sum(pads[axis]) - self.size[axis]
            steps = -(-room // self.stride[axis]) if self.rounded_up else room // self.stride[axis]
            if self.rounded_up and steps * self.stride[axis] >= extent + pads[axis][0]:
                steps -= 1
            overhang.append(max(0, steps * self.stride[axis] - room))
        fill = -inf if self.what == "max" and self.fill == -inf else 0.0
        around = [(0, 0), *(tuple(pair) for pair in pads), (0, 0)]
        beyond = [(0, 0), *((0, more) for more in overhang), (0, 0)]
        outside = -inf if self.what == "max" else 0.0
        values = np.pad(np.pad(array.astype(np.float64), around, constant_values=fill), beyond,
                        constant_values=outside)
        windows = self._windows(values)
        axes = tuple(range(-len(self.size), 0))
        if self.what == "max":
            return np.asarray(windows.max(axes), np.float32)
        exists = np.ones((1, *extents, 1))
        exists = np.pad(np.pad(exists, around, constant_values=float(self.counted)), beyond)
        return np.asarray(windows.sum(axes) / self._windows(exists).sum(axes), np.float32)

    def _windows(self, array: Array) -> Array:
        axes = tuple(range(1, array.ndim - 1))
        windows = np.lib.stride_tricks.sliding_window_view(array, self.size, axes)
        every = (slice(None), *(slice(None, None, stride) for stride in self.stride), slice(None))
        return np.asarray(windows[every])


FIELDS = {
    "what": "pooling kind", "pads": "pooling padding", "counted": "count_include_pad",
    "fill": "padding value", "rounded_up": "ceil mode", "size": "pool size",
    "stride": "pool strides"
}


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """Keras's pooling with one setting after the other as in torch; for global pooling the other
    kind.
    """
    if not scene.keras.inputs or not any("Pool" in kind for kind in scene.call.class_names):
        return
    if any(kind.startswith("Global") for kind in scene.call.class_names):
        yield from _global(scene)
        return
    step = scene.step_named(STEPS)
    theirs_in = scene.array_of(step.inputs[0]) if step is not None else None
    if step is None or theirs_in is None or scene.settings.get("data_format") == "channels_first":
        return
    array = channels_last(theirs_in, scene.keras.inputs[0].shape[-1])
    ours, theirs = of_keras(scene, array), of_torch(step, array.ndim - 2)
    if ours is None:
        return
    different = [name for name in FIELDS if getattr(ours, name) != getattr(theirs, name)]
    for count in range(1, len(different) + 1):
        for names in combinations(different, count):
            patched = replace(ours, **{name: getattr(theirs, name) for name in names})
            said = "; ".join(
                f"{FIELDS[name]}: Keras {getattr(ours, name)}, torch {getattr(theirs, name)}"
                for name in names)
            yield Hypothesis(FIELDS[names[0]], said, _advice(theirs), patched(array),
                             torch_at=step.path)


def _advice(theirs: Pool) -> str:
    pads = ", ".join(map(str, theirs.pads))
    value = "with -inf " if theirs.what == "max" else ""
    counts = ("" if theirs.what == "max" or theirs.counted or not any(map(any, theirs.pads)) else
              " that do not count in the average")
    return (f"pad {value}by ({pads}){counts} and pool with {theirs.what}, pool_size={theirs.size}, "
            f"strides={theirs.stride}, padding='valid'"
            f"{', one more window where it is not full (ceil_mode)' if theirs.rounded_up else ''}, "
            "or change torch")


def of_keras(scene: DivergenceContext, array: Array) -> Pool | None:
    """The Keras layer's pooling of `array`, with the zeros that a layer before put around it; None
    when those cannot be told.
    """
    layer = scene.call.layer
    what = "max" if any("Max" in kind for kind in scene.call.class_names) else "avg"
    spatial = array.ndim - 2
    size, stride = _numbers(layer.pool_size, spatial), _numbers(layer.strides, spatial)
    given = scene.keras.inputs[0]
    if given.ndim != array.ndim:
        return None
    explicit = margins(given, array)
    if explicit is None:
        return None
    if str(layer.padding) == "valid":
        edge = float(given.min()) if what == "max" and any(map(
            any, explicit)) and given.min() < -1e30 else 0.0
        padded = any(map(any, explicit))
        fill = -inf if edge < 0 or (what == "max" and not padded) else 0.0
        return Pool(what, size, stride, explicit, fill, True)
    if any(map(any, explicit)):
        return None
    pads = []
    for extent, window, step in zip(array.shape[1:-1], size, stride, strict=True):
        total = max((-(-extent // step) - 1) * step + window - extent, 0)
        pads.append((total // 2, total - total // 2))
    return Pool(what, size, stride, tuple(pads), -inf if what == "max" else 0.0, False)


def of_torch(step: Step, spatial: int) -> Pool:
    """The pooling that a torch operation does."""
    what = "max" if "max" in step.name else "avg"
    size = _numbers(step.settings.get(1), spatial)
    stride = _numbers(step.settings.get(2) or size, spatial)
    pads = tuple((pad, pad) for pad in _numbers(step.settings.get(3) or 0, spatial))
    if what == "max":
        return Pool(what, size, stride, pads, -inf, True, bool(step.settings.get(5, False)))
    counted = bool(step.settings.get(5, True))
    return Pool(what, size, stride, pads, 0.0, counted, bool(step.settings.get(4, False)))


def _numbers(value: Any, count: int) -> tuple[int, ...]:
    numbers: Sequence[int] = (value,) if isinstance(value, int) else tuple(value)
    return tuple(
        int(number) for number in (numbers if len(numbers) == count else (*numbers,) * count))


def _global(scene: DivergenceContext) -> Iterator[Hypothesis]:
    array = scene.keras.inputs[0]
    first = scene.settings.get("data_format") == "channels_first"
    axes = tuple(range(2, array.ndim)) if first else tuple(range(1, array.ndim - 1))
    ours = "max" if any("Max" in kind for kind in scene.call.class_names) else "average"
    for theirs, trial in (("average", array.mean(axes)), ("max", array.max(axes)),
                          ("sum", array.sum(axes))):
        if theirs != ours:
            said = f"Keras takes the {ours} over the whole map, torch the {theirs}"
            yield Hypothesis("pooling kind", said,
                             f"use the global pooling that takes the {theirs} in Keras", trial)
