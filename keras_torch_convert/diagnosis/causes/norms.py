"""Normalizations computed otherwise: other statistics, other axes, another formula."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...comparison.arrays import apart
from ...rules.hyperparameters import torch_epsilon
from ..context import PROVEN_BELOW, Array, DivergenceContext, Hypothesis

MOVING, BATCH = "the moving mean and variance", "the mean and variance of the batch"
LAST, CHANNEL, SAMPLE = "the last axis", "each channel's map", "all axes but the batch"
PLAIN = "the root of the variance"
LAYERS = {(MOVING, PLAIN): "BatchNormalization", (LAST, PLAIN): "LayerNormalization"}
FORMULAS = {
    PLAIN: "variance", "the root of the mean square, without subtracting the mean": "mean square",
    "the root of the unbiased variance": "unbiased",
    "the standard deviation plus epsilon": "deviation"
}


@dataclass(frozen=True, slots=True)
class Norm:
    """One way to normalize: with statistics `over` some axes, dividing by `root`, `groups` of
    channels each by itself.
    """

    over: str
    epsilon: float
    root: str = PLAIN
    groups: int = 1

    def differing(self, other: Norm) -> list[str]:
        """Return the names of the fields in which two differ."""
        return [
            name for name in ("over", "groups", "root", "epsilon")
            if getattr(self, name) != getattr(other, name)
        ]


def hypotheses(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Normalize in every usual way: one gives what Keras has, another may give what torch has."""
    has_epsilon = isinstance(getattr(context.layer, "epsilon", None), float)
    if context.point.kind == "before" or not has_epsilon or not context.keras.outputs:
        return
    every, output = list(usual_norms(context)), context.keras.outputs[0]
    ours = next((norm for norm in every if (
        trial := normalized(context, norm)) is not None and apart(trial, output) < PROVEN_BELOW),
                None)
    for theirs in sorted(every, key=lambda norm: len(norm.differing(ours))) if ours else ():
        trial = normalized(context, theirs) if theirs != ours else None
        if trial is not None and ours is not None:
            yield Hypothesis(*_words(context, ours, theirs), trial)


def _words(context: DivergenceContext, ours: Norm, theirs: Norm) -> tuple[str, str, str]:
    """Return kind, cause and advice for a pair of norms."""
    fields = ours.differing(theirs)
    if {ours.over, theirs.over} == {MOVING, BATCH}:
        if theirs.over == BATCH:
            return ("batch statistics", f"torch normalizes with {BATCH}, Keras with {MOVING}",
                    "run torch with the norm in eval mode and track_running_stats=True")
        return ("batch statistics", f"Keras normalizes with {BATCH}, torch with {MOVING}",
                "call the Keras layer with training=False")
    if fields == ["groups"]:
        return ("groups", f"Keras normalizes {ours.groups} groups, torch {theirs.groups}",
                f"build the Keras layer with groups={theirs.groups}")
    if fields == ["epsilon"]:
        held = context.layer.epsilon
        unused = f" though its epsilon is {held:g}" if held != ours.epsilon else ""
        return ("epsilon", f"Keras computes with epsilon {ours.epsilon:g}{unused}, torch with "
                f"{theirs.epsilon:g}",
                f"compute with epsilon={theirs.epsilon:g} in the Keras layer")
    words = {
        "over": f"over {ours.over}, torch over {theirs.over}",
        "groups": f"in {ours.groups} groups, torch in {theirs.groups}",
        "root": f"dividing by {ours.root}, torch by {theirs.root}",
        "epsilon": f"with epsilon {ours.epsilon:g}, torch with {theirs.epsilon:g}"
    }
    said = "; ".join(words[name] for name in fields if name != "epsilon" or len(fields) == 1)
    layer = LAYERS.get((theirs.over, theirs.root), "layer that normalizes as torch does")
    return "normalization", f"Keras normalizes {said}", f"use the Keras {layer}"


def usual_norms(context: DivergenceContext) -> Iterator[Norm]:
    """Yield usual ways to normalize, those that the layers' own settings say first."""
    held, known = context.layer.epsilon, torch_epsilon(context.module)
    epsilons = dict.fromkeys(one for one in (held, known, 0.0, 1e-3, 1e-5) if one is not None)
    channels = context.keras.inputs[0].shape[-1]
    groups = [getattr(context.layer, "groups", None)]
    groups += [getattr(context.module, name, None) for name in ("num_groups", "num_features")]
    counts = [one for one in groups if isinstance(one, int) and one > 0 and channels % one == 0]
    overs = [(name, 1) for name in (MOVING, BATCH, LAST, CHANNEL)]
    overs += [(SAMPLE, count) for count in dict.fromkeys((*counts, 1))]
    for epsilon in epsilons:
        for over, count in overs:
            for root in FORMULAS if over in (LAST, SAMPLE) else (PLAIN,):
                yield Norm(over, epsilon, root, count)


def normalized(context: DivergenceContext, norm: Norm) -> Array | None:
    """Return the layer's input normalized so, with the gain and offset that the layer holds."""
    x = context.keras.inputs[0].astype(np.float64)
    axis = _channel_axis(context) % x.ndim
    x = np.moveaxis(x, axis, -1)
    moving = context.held.get("moving_mean"), context.held.get("moving_variance")
    if norm.over == MOVING:
        if moving[0] is None or moving[1] is None:
            return None
        normal = (x - moving[0]) / np.sqrt(moving[1] + norm.epsilon)
    elif norm.over == SAMPLE:
        grouped = x.reshape(*x.shape[:-1], norm.groups, -1)
        axes = (*range(1, x.ndim - 1), x.ndim)
        normal = _divided(grouped, axes, norm).reshape(x.shape)
    else:
        spatial = tuple(range(1, x.ndim - 1))
        axes = {BATCH: (0, *spatial), LAST: (-1,), CHANNEL: spatial}[norm.over]
        if not axes:
            return None
        normal = _divided(x, axes, norm)
    gain = context.held.get("gamma", context.held.get("scale"))
    offset = context.held.get("beta")
    try:
        normal = normal if gain is None else normal * gain
        normal = normal if offset is None else normal + offset
    except ValueError:
        # The gain covers more axes than the last.
        return None
    return np.moveaxis(normal, -1, axis).astype(np.float32)


def _divided(x: Array, axes: tuple[int, ...], norm: Norm) -> Array:
    formula = FORMULAS[norm.root]
    centered = x if formula == "mean square" else x - x.mean(axes, keepdims=True)
    count = x.size // x.mean(axes).size
    squares = (centered * centered).sum(axes, keepdims=True)
    variance = squares / (max(count - 1, 1) if formula == "unbiased" else count)
    if formula == "deviation":
        return np.asarray(centered / (np.sqrt(variance) + norm.epsilon))
    return np.asarray(centered / np.sqrt(variance + norm.epsilon))


def _channel_axis(context: DivergenceContext) -> int:
    axis: Any = context.settings.get("axis", -1)
    return int(
        axis[0] if isinstance(axis, tuple) and axis else axis if isinstance(axis, int) else -1)
