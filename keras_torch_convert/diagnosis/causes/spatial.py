"""Maps: how convolutions and poolings pad, what poolings take, how maps are resized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import inf
from typing import Any, Literal

import numpy as np

from ...comparison.arrays import apart, channels_last, margins
from ...running.torch_steps import Step
from ..context import Array, DivergenceContext, Hypothesis

CONVOLUTIONS = ("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution",
                "convolution_overrideable")
MAX_POOLINGS = ("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices",
                "max_pool3d_with_indices", "mkldnn_max_pool2d")
POOLINGS = (*MAX_POOLINGS, "avg_pool1d", "avg_pool2d", "avg_pool3d")
PadMode = Literal["reflect", "edge", "wrap"]
PAD_MODES: dict[str, PadMode] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
# Keras and torch interpolate alike to this part of the largest value.
SAME_RESIZED = 1e-4
Pads = tuple[tuple[int, int], ...]


def hypotheses(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Try pooling and resizing as torch may do it, and the other order of colors."""
    if not context.keras.inputs or context.point.kind == "before":
        return
    if any("Pool" in name for name in context.call.class_names):
        is_global = any(name.startswith("Global") for name in context.call.class_names)
        yield from _global_pooling(context) if is_global else _pooling(context)
    elif hasattr(context.layer, "kernel_size"):
        yield from _cropped(context)
        yield from _colors(context)
    elif not context.has_weights:
        yield from _resizing(context)


def numbers(value: Any, count: int) -> tuple[int, ...]:
    """Return a setting of each of `count` axes, given once or for each."""
    given = (value,) if isinstance(value, int) else tuple(value or (1,))
    return tuple(int(one) for one in (given if len(given) == count else given * count))


def _colors(context: DivergenceContext) -> Iterator[Hypothesis]:
    given = context.keras.inputs[0]
    trial = (context.run([np.ascontiguousarray(given[..., ::-1])])
             if 2 <= given.shape[-1] <= 4 else None)
    if trial is not None:
        cause = "the channels of the input are in the other order (RGB and BGR)"
        yield Hypothesis("channel order", cause, "give both models their channels in one order",
                         trial)


# Padding of convolutions.


def padding_change(
        context: DivergenceContext) -> tuple[str, str, str, dict[str, Any], list[Array]] | None:
    """Return kind, cause, advice, settings and input with which a Keras convolution pads as torch
    does.
    """
    step = context.step_named(CONVOLUTIONS)
    spatial = len(getattr(context.layer, "kernel_size", ()) or ())
    is_last = context.settings.get("data_format") != "channels_first"
    if step is None or not spatial or not context.torch_inputs or not is_last or step.settings.get(
            6):
        return None
    given = channels_last(context.torch_inputs[0], context.keras.inputs[0].shape[-1])
    explicit = margins(context.keras.inputs[0], given) if given.ndim == spatial + 2 else None
    padded = _padded_by_torch(context, step, given, spatial) if explicit is not None else None
    if explicit is None or padded is None:
        return None
    mode = str(getattr(context.module, "padding_mode", "zeros"))
    settings = {"padding": "valid"}
    if mode != "zeros":
        return ("padding mode", f"torch pads with padding_mode='{mode}', Keras with zeros",
                f"pad before the Keras layer as torch does ('{mode}') and build it with "
                "padding='valid'", settings, [padded])
    pads = margins(padded, given)
    before = (f"Keras by {explicit} before the layer, which"
              if any(map(any, explicit)) else "in Keras the layer")
    return ("padding", f"torch pads by {pads} (before, after), {before} has "
            f"padding='{context.layer.padding}'",
            f"put ZeroPadding{spatial}D({pads}) before the Keras layer and build it with "
            "padding='valid'", settings, [padded])


def _padded_by_torch(context: DivergenceContext, step: Step, given: Array,
                     spatial: int) -> Array | None:
    """Return torch's input as the kernel meets it, channels last: padded as the module says, by
    code around it, and by the operation.
    """
    mode = PAD_MODES.get(str(getattr(context.module, "padding_mode", "zeros")))
    if mode is not None:
        padding = context.module.padding
        return None if isinstance(padding, str) else np.pad(given, _around(numbers(
            padding, spatial)), mode=mode)
    met = context.array_of(step.inputs[0]) if step.inputs else None
    met = given if met is None or met.ndim != given.ndim else channels_last(met, given.shape[-1])
    if margins(met, given) is None:
        return None
    return np.pad(met, _around(numbers(step.settings.get(4), spatial)))


def _around(pads: Sequence[int]) -> list[tuple[int, int]]:
    return [(0, 0), *((pad, pad) for pad in pads), (0, 0)]


def _cropped(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Crop the whole output of a transposed convolution as torch does."""
    step = context.step_named(CONVOLUTIONS)
    spatial = len(context.layer.kernel_size)
    is_last = context.settings.get("data_format") != "channels_first"
    whole = context.run(padding="valid", output_padding=None)
    if step is None or not step.settings.get(6) or whole is None or not is_last:
        return
    extents, pads = step.outputs[0].shape[-spatial:], numbers(step.settings.get(4), spatial)
    room = [(pad, size - pad - extent)
            for pad, size, extent in zip(pads, whole.shape[1:-1], extents, strict=True)]
    if any(after < 0 for _, after in room):
        # torch goes on behind the last value that the kernel reaches.
        return
    inner = (slice(pad, pad + extent) for pad, extent in zip(pads, extents, strict=True))
    crop = f"Cropping{spatial}D({room[0] if spatial == 1 else tuple(room)})"
    yield Hypothesis(
        "padding", f"torch crops the output of the transposed convolution by {room} (before, "
        f"after), Keras as padding='{context.layer.padding}' says",
        f"build the Keras layer with padding='valid' and put {crop} behind it",
        np.ascontiguousarray(whole[(slice(None), *inner)]))


# Poolings.


@dataclass(frozen=True, slots=True)
class Pool:
    """A pooling over all axes between the first and the last.

    `pads` are (before, after) for each axis; `fill` is what they hold: 0, or -inf for what does not
    exist; `counted`: padding counts in an average.
    """

    what: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    pads: Pads
    fill: float
    counted: bool
    rounded_up: bool = False

    def __call__(self, array: Array) -> Array:
        """Pool an array, channels last."""
        extents = array.shape[1:-1]
        overhang = []
        for axis, extent in enumerate(extents):
            stride = self.stride[axis]
            room = extent + sum(self.pads[axis]) - self.size[axis]
            steps = -(-room // stride) if self.rounded_up else room // stride
            if self.rounded_up and steps * stride >= extent + self.pads[axis][0]:
                steps -= 1
            overhang.append((0, max(0, steps * stride - room)))
        around, beyond = [(0, 0), *self.pads, (0, 0)], [(0, 0), *overhang, (0, 0)]
        is_max = self.what == "max"
        fill, outside = (self.fill, -inf) if is_max else (0.0, 0.0)
        values = np.pad(np.pad(array.astype(np.float64), around, constant_values=fill), beyond,
                        constant_values=outside)
        axes = tuple(range(-len(self.size), 0))
        if is_max:
            return np.asarray(self._windows(values).max(axes), np.float32)
        exists = np.pad(np.ones((1, *extents, 1)), around, constant_values=float(self.counted))
        counts = self._windows(np.pad(exists, beyond)).sum(axes)
        return np.asarray(self._windows(values).sum(axes) / counts, np.float32)

    def _windows(self, array: Array) -> Array:
        axes = tuple(range(1, array.ndim - 1))
        windows = np.lib.stride_tricks.sliding_window_view(array, self.size, axes)
        every = (slice(None), *(slice(None, None, stride) for stride in self.stride), slice(None))
        return np.asarray(windows[every])


# The kinds of causes, by the field in which two poolings differ.
POOL_FIELDS = {
    "what": "pooling kind", "pads": "pooling padding", "counted": "count_include_pad",
    "fill": "padding value", "rounded_up": "ceil mode", "size": "pool size",
    "stride": "pool strides"
}


def _pooling(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Pool as Keras does with one field after the other as in torch, then with several."""
    step = context.step_named(POOLINGS)
    given = context.array_of(step.inputs[0]) if step is not None else None
    if step is None or given is None or context.settings.get("data_format") == "channels_first":
        return
    array = channels_last(given, context.keras.inputs[0].shape[-1])
    ours, theirs = _pool_of_keras(context, array), _pool_of_torch(step, array.ndim - 2)
    if ours is None:
        return
    different = [name for name in POOL_FIELDS if getattr(ours, name) != getattr(theirs, name)]
    for count in range(1, len(different) + 1):
        for names in combinations(different, count):
            pool = replace(ours, **{name: getattr(theirs, name) for name in names})
            cause = "; ".join(f"{POOL_FIELDS[name]}: Keras {getattr(ours, name)}, torch "
                              f"{getattr(theirs, name)}" for name in names)
            yield Hypothesis(POOL_FIELDS[names[0]], cause, _pooling_advice(theirs, array),
                             pool(array), torch_at=step.path)


def _pooling_advice(theirs: Pool, array: Array) -> str:
    is_max, is_padded = theirs.what == "max", any(map(any, theirs.pads))
    pool = f"pool with {theirs.what}, pool_size={theirs.size}, strides={theirs.stride}"
    same = replace(theirs, pads=_pads_of_same(array, theirs), fill=-inf if is_max else 0.0,
                   counted=False, rounded_up=False)
    if np.array_equal(same(array), theirs(array)):
        return f"{pool}, padding='same' in Keras, with no padding before it"
    pads = ", ".join(map(str, theirs.pads))
    ignored = " that do not count in the average" if not is_max and not theirs.counted else ""
    before = f"pad {'with -inf ' if is_max else ''}by ({pads}){ignored} and " if is_padded else ""
    more = ", one more window where it is not full (ceil_mode)" if theirs.rounded_up else ""
    return f"{before}{pool}, padding='valid'{more}, or change torch"


def _pool_of_keras(context: DivergenceContext, array: Array) -> Pool | None:
    """Return the Keras layer's pooling of `array`, with the zeros that a layer before put around
    it; None when those are not known.
    """
    layer, given = context.layer, context.keras.inputs[0]
    what = "max" if any("Max" in name for name in context.call.class_names) else "avg"
    spatial = array.ndim - 2
    size, stride = numbers(layer.pool_size, spatial), numbers(layer.strides, spatial)
    explicit = margins(given, array) if given.ndim == array.ndim else None
    if explicit is None:
        return None
    padded = any(map(any, explicit))
    if str(layer.padding) == "valid":
        with_infinity = what == "max" and (not padded or given.min() < -1e30)
        return Pool(what, size, stride, explicit, -inf if with_infinity else 0.0, True)
    if padded:
        return None
    pool = Pool(what, size, stride, (), -inf if what == "max" else 0.0, False)
    return replace(pool, pads=_pads_of_same(array, pool))


def _pads_of_same(array: Array, pool: Pool) -> Pads:
    """Return what Keras pads a map by where the padding is "same"."""
    pads = []
    for extent, window, step in zip(array.shape[1:-1], pool.size, pool.stride, strict=True):
        total = max((-(-extent // step) - 1) * step + window - extent, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def _pool_of_torch(step: Step, spatial: int) -> Pool:
    """Return the pooling that a torch operation does."""
    settings = step.settings
    size = numbers(settings.get(1), spatial)
    stride = numbers(settings.get(2) or size, spatial)
    pads = tuple((pad, pad) for pad in numbers(settings.get(3) or 0, spatial))
    if step.name in MAX_POOLINGS:
        return Pool("max", size, stride, pads, -inf, True, bool(settings.get(5, False)))
    counted = bool(settings.get(5, True))
    return Pool("avg", size, stride, pads, 0.0, counted, bool(settings.get(4, False)))


def _global_pooling(context: DivergenceContext) -> Iterator[Hypothesis]:
    array = context.keras.inputs[0]
    is_first = context.settings.get("data_format") == "channels_first"
    axes = tuple(range(2, array.ndim)) if is_first else tuple(range(1, array.ndim - 1))
    ours = "max" if any("Max" in name for name in context.call.class_names) else "average"
    for theirs, trial in (("average", array.mean(axes)), ("max", array.max(axes)),
                          ("sum", array.sum(axes))):
        if theirs != ours:
            cause = f"Keras takes the {ours} over the whole map, torch the {theirs}"
            yield Hypothesis("pooling kind", cause,
                             f"use the global pooling that takes the {theirs} in Keras", trial)


# Resizing.


def _resizing(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Come from the input's size to the output's in every way that torch has."""
    array, output = context.keras.inputs[0], next(iter(context.keras.outputs), None)
    if (output is None or array.ndim != 4 or output.ndim != 4 or array.shape[0] != output.shape[0]
            or array.shape[-1] != output.shape[-1] or array.shape[1:3] == output.shape[1:3]):
        return
    every = dict(interpolations(array, output.shape[1:3]))
    ours = next((name for name, trial in every.items() if apart(trial, output) < SAME_RESIZED), "")
    for name, trial in every.items() if ours else ():
        if name != ours:
            same_mode = name.split(",")[0] == ours.split(",")[0]
            kind = "align_corners" if same_mode and "corners" in name + ours else "interpolation"
            advice = _of_corners(name, output.shape) if kind == "align_corners" else (
                f"resize by {ours} in torch, or by {name} in Keras")
            yield Hypothesis(kind, f"Keras resizes by {ours}, torch by {name}", advice, trial)


def _of_corners(name: str, shape: tuple[int, ...]) -> str:
    """Say how to resize as torch does: no layer of Keras aligns corners."""
    if "corners" not in name:
        return "resize with align_corners=True in torch"
    plain = "build torch's with align_corners=False"
    return plain if not name.startswith("bilinear") else (
        f"{plain}, or resize in a layer of your own, as no Keras layer aligns corners: "
        "ops.einsum('ih,jw,bhwc->bijc', rows("
        f"{shape[1]}, x.shape[1]), rows({shape[2]}, x.shape[2]), x) with rows = lambda new, old: "
        "np.maximum(0, 1 - abs(np.linspace(0, old - 1, new)[:, None] - np.arange(old)))"
        ".astype('float32')")


def interpolations(array: Array, size: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    """Yield names and results of torch's interpolations of a map, channels last."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1), np.float32))
    smooth = [(mode, option) for option in ("", "align_corners", "antialias")
              for mode in ("bilinear", "bicubic")]
    words = {"": "", "align_corners": ", corners aligned", "antialias": ", antialiased"}
    choices: list[tuple[str, dict[str, Any]]] = [("nearest", {"mode": "nearest"})]
    choices += [(mode + words[option],
                 {"mode": mode, "align_corners": False, **({option: True} if option else {})})
                for mode, option in smooth]
    choices += [(mode, {"mode": mode}) for mode in ("nearest-exact", "area")]
    for name, settings in choices:
        result = torch.nn.functional.interpolate(tensor, size=tuple(size), **settings)
        yield name, np.moveaxis(result.numpy(), 1, -1)
