"""Resizing of maps: the interpolation, and whether corners are aligned."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...comparison.arrays import apart
from ..context import Array, DivergenceContext, Hypothesis

RECOGNIZED = 1e-4


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """Other ways to come from the input's size to the output's."""
    inputs, outputs = scene.keras.inputs, scene.keras.outputs
    if not inputs or not outputs or scene.call.leaf is not None or inputs[0].ndim != 4 or outputs[
            0].ndim != 4:
        return
    array, output = inputs[0], outputs[0]
    if (array.shape[0] != output.shape[0] or array.shape[-1] != output.shape[-1]
            or array.shape[1:3] == output.shape[1:3]):
        return
    every = dict(ways(array, output.shape[1:3]))
    ours = next((name for name, trial in every.items() if apart(trial, output) < RECOGNIZED), None)
    if ours is None:
        return
    for name, trial in every.items():
        if name == ours:
            continue
        same_mode = name.split(",")[0] == ours.split(",")[0]
        kind = "align_corners" if same_mode and "corners" in name + ours else "interpolation"
        yield Hypothesis(kind, f"Keras resizes by {ours}, torch by {name}",
                         f"resize by {ours} in torch, or by {name} in Keras", trial)


def ways(array: Array, size: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    """Names and results of torch's interpolations of a map, channels last."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1), np.float32))
    choices: tuple[tuple[str, dict[str, object]], ...] = (("nearest", {
        "mode": "nearest"
    }), ("bilinear", {"mode": "bilinear", "align_corners": False}), ("bilinear, corners aligned", {
        "mode": "bilinear", "align_corners": True
    }), ("bicubic", {"mode": "bicubic", "align_corners": False}), ("bicubic, corners aligned", {
        "mode": "bicubic", "align_corners": True
    }), ("nearest-exact", {"mode": "nearest-exact"}), ("area", {"mode":
        "area"}), ("bilinear, antialiased", {
            "mode": "bilinear", "align_corners": False, "antialias": True
        }), ("bicubic, antialiased", {"mode": "bicubic", "align_corners": False,
                                      "antialias": True}))
    for name, settings in choices:
        result = torch.nn.functional.interpolate(tensor, size=tuple(size),
                                                 **settings)  # type: ignore[arg-type]
        yield name, np.moveaxis(result.numpy(), 1, -1)
