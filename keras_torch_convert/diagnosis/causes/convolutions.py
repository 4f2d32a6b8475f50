"""Convolutions: padding, its mode, dilation, strides, the order of a picture's channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from ...comparison.arrays import channels_last, margins
from ...running.torch_steps import Step
from ..context import Array, DivergenceContext, Hypothesis

STEPS = ("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution",
         "convolution_overrideable")


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The Keras layer run with torch's padding, dilation and strides, one by one and together."""
    layer = scene.call.layer
    step = scene.step_named(STEPS)
    spatial = len(getattr(layer, "kernel_size", ()) or ())
    if step is None or not spatial or not scene.keras.inputs or scene.settings.get(
            "data_format") == "channels_first":
        return
    ours = scene.keras.inputs[0]
    given = channels_last(scene.torch_inputs[0], ours.shape[-1]) if scene.torch_inputs else None
    if given is not None and given.ndim == spatial + 2 and margins(ours, given) is not None:
        padded = as_torch_pads(scene, step, given, spatial)
        if padded is not None:
            yield from _settings(scene, step, given, padded, spatial)
    if 2 <= ours.shape[-1] <= 4:
        trial = scene.run([np.ascontiguousarray(ours[..., ::-1])])
        if trial is not None:
            said = "the channels of the input are in the other order (RGB and BGR)"
            yield Hypothesis("channel order", said, "give both models their channels in one order",
                             trial)


def as_torch_pads(scene: DivergenceContext, step: Step, given: Array, spatial: int) -> Array | None:
    """torch's input as it is when the kernel meets it, channels last: padded as the module says, by
    code around it, and by the operation.
    """
    modes: dict[str,
                Literal["reflect", "edge",
                        "wrap"]] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    mode = modes.get(str(getattr(scene.module, "padding_mode", "zeros")))
    if mode is not None:
        pads = _numbers(scene.module.padding,
                        spatial) if not isinstance(scene.module.padding, str) else None
        return None if pads is None else np.pad(given, _around(pads), mode=mode)
    met = scene.array_of(step.inputs[0]) if step.inputs else None
    met = given if met is None or met.ndim != given.ndim else channels_last(met, given.shape[-1])
    if margins(met, given) is None:
        return None
    return np.pad(met, _around(_numbers(step.settings.get(4), spatial)))


def _around(pads: Sequence[int]) -> list[tuple[int, int]]:
    return [(0, 0), *((pad, pad) for pad in pads), (0, 0)]


def _settings(scene: DivergenceContext, step: Step, given: Array, padded: Array,
              spatial: int) -> Iterator[Hypothesis]:
    layer = scene.call.layer
    strides = _numbers(step.settings.get(3), spatial)
    dilation = _numbers(step.settings.get(5), spatial)
    if bool(step.settings.get(6)):
        return
    ours_dilation, ours_strides = _numbers(layer.dilation_rate,
                                           spatial), _numbers(layer.strides, spatial)
    mode = str(getattr(scene.module, "padding_mode", "zeros"))
    changes: list[tuple[str, str, str, list[Array] | None, dict[str, Any]]] = []
    if dilation != ours_dilation:
        said = f"dilation is {ours_dilation} in Keras and {dilation} in torch"
        todo = f"build the Keras layer with dilation_rate={dilation}"
        changes.append(("dilation", said, todo, None, {"dilation_rate": dilation}))
    if strides != ours_strides:
        said = f"strides are {ours_strides} in Keras and {strides} in torch"
        changes.append(("strides", said, f"build the Keras layer with strides={strides}", None,
                        {"strides": strides}))
    if mode != "zeros":
        said = f"torch pads with padding_mode='{mode}', Keras with zeros"
        todo = (f"pad before the Keras layer as torch does ('{mode}') and build it with "
                "padding='valid'")
        changes.append(("padding mode", said, todo, [padded], {"padding": "valid"}))
    else:
        pads = margins(padded, given)
        said = f"torch pads by {pads} (before, after), {_ours_in_words(scene, given)}"
        todo = (f"put ZeroPadding{spatial}D({pads}) before the Keras layer and build it with "
                "padding='valid'")
        changes.append(("padding", said, todo, [padded], {"padding": "valid"}))
    for kind, said, todo, inputs, settings in changes:
        trial = scene.run(inputs, **settings)
        if trial is not None:
            yield Hypothesis(kind, said, todo, trial)
    if len(changes) > 1:
        trial = scene.run([padded], padding="valid", dilation_rate=dilation, strides=strides)
        if trial is not None:
            said, todo = "; ".join(change[1] for change in changes), "; ".join(
                change[2] for change in changes)
            yield Hypothesis(changes[0][0], said, todo, trial)


def _ours_in_words(scene: DivergenceContext, given: Array) -> str:
    explicit = margins(scene.keras.inputs[0], given)
    before = (f"Keras by {explicit} before the layer, which"
              if explicit and any(map(any, explicit)) else "in Keras the layer")
    return f"{before} has padding='{scene.call.layer.padding}'"


def _numbers(value: Any, count: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * count
    numbers: Sequence[Any] = value or (1,) * count
    return tuple(
        int(number) for number in (numbers if len(numbers) == count else (*numbers,) * count))
