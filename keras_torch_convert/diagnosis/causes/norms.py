"""Normalizations: epsilon, statistics of the batch, groups, what is subtracted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...rules.hyperparameters import torch_epsilon
from ..context import Array, DivergenceContext, Hypothesis

KINDS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization",
         "UnitNormalization")
USUAL_EPSILONS = (1e-3, 1e-5, 1e-6, 1e-12, 1e-8, 1e-4, 1e-7, 1e-2, 0.1)


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """Another epsilon, statistics of the batch on one side, another number of groups, with or
    without the mean.
    """
    if not isinstance(getattr(scene.call.layer, "epsilon", None), float) or not scene.keras.inputs:
        return
    yield from _epsilon(scene)
    yield from _batch_statistics(scene)
    yield from _groups(scene)
    yield from _centering(scene)


def _epsilon(scene: DivergenceContext) -> Iterator[Hypothesis]:
    held = scene.call.layer.epsilon
    known = torch_epsilon(scene.module)
    for epsilon in dict.fromkeys((*([known] if known is not None else []), *USUAL_EPSILONS)):
        if np.isclose(epsilon, held, rtol=1e-6):
            continue
        trial = scene.run(epsilon=epsilon)
        if trial is not None:
            yield Hypothesis("epsilon", f"epsilon is {held:g} in Keras and {epsilon:g} in torch",
                             f"build the Keras layer with epsilon={epsilon:g}", trial)


def _batch_statistics(scene: DivergenceContext) -> Iterator[Hypothesis]:
    if not scene.class_names("BatchNormalization"):
        return
    from_batch = normalized_by_batch(scene)
    if from_batch is not None:
        yield Hypothesis(
            "batch statistics",
            "torch normalizes with the mean and variance of the batch, Keras with the moving ones",
            "run torch with the norm in eval mode and track_running_stats=True", from_batch)
    by_moving = normalized_by_moving(scene)
    if by_moving is not None:
        yield Hypothesis(
            "batch statistics",
            "Keras normalizes with the mean and variance of the batch, torch with the running ones",
            "call the Keras layer with training=False", by_moving)


def _affine(scene: DivergenceContext, normal: Array, axis: int) -> Array:
    shape = [1] * normal.ndim
    shape[axis] = normal.shape[axis]
    gamma, beta = scene.held.get("gamma"), scene.held.get("beta")
    scaled = normal if gamma is None else normal * gamma.reshape(shape)
    return np.asarray(scaled if beta is None else scaled + beta.reshape(shape), np.float32)


def _axis(scene: DivergenceContext) -> int:
    axis = scene.settings.get("axis", -1)
    return int(axis[0] if isinstance(axis, tuple) else axis)


def normalized_by_batch(scene: DivergenceContext) -> Array | None:
    """The layer's input normalized with its own mean and variance."""
    x = scene.keras.inputs[0].astype(np.float64)
    axis = _axis(scene) % x.ndim
    others = tuple(one for one in range(x.ndim) if one != axis)
    mean, variance = x.mean(others, keepdims=True), x.var(others, keepdims=True)
    return _affine(scene, (x - mean) / np.sqrt(variance + scene.call.layer.epsilon), axis)


def normalized_by_moving(scene: DivergenceContext) -> Array | None:
    """The layer's input normalized with the statistics that the layer holds."""
    x = scene.keras.inputs[0].astype(np.float64)
    axis = _axis(scene) % x.ndim
    mean, variance = scene.held.get("moving_mean"), scene.held.get("moving_variance")
    if mean is None or variance is None:
        return None
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    centered = x - mean.reshape(shape)
    return _affine(scene, centered / np.sqrt(variance.reshape(shape) + scene.call.layer.epsilon),
                   axis)


def _groups(scene: DivergenceContext) -> Iterator[Hypothesis]:
    held = getattr(scene.call.layer, "groups", None)
    known = getattr(scene.module, "num_groups", getattr(scene.module, "num_features", None))
    if not isinstance(held, int) or not isinstance(known, int) or held in (known, -1):
        return
    trial = scene.run(groups=known)
    if trial is not None:
        said = f"Keras normalizes {held} groups, torch {known}"
        yield Hypothesis("groups", said, f"build the Keras layer with groups={known}", trial)


def _centering(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """Over the last axis, with the mean subtracted and without."""
    if not scene.class_names("LayerNormalization", "RMSNormalization"):
        return
    x = scene.keras.inputs[0].astype(np.float64)
    epsilon = scene.call.layer.epsilon
    gamma = scene.held.get("gamma", scene.held.get("scale", np.ones(1)))
    beta = scene.held.get("beta", np.zeros(1))
    if gamma.ndim != 1:
        return
    squares = np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)
    centered = x - x.mean(-1, keepdims=True)
    for words, normal in (
        ("torch divides by the root of the mean square and subtracts no mean, Keras subtracts it",
         x / squares), ("torch subtracts the mean, Keras does not",
                        centered / np.sqrt(x.var(-1, keepdims=True) + epsilon)),
        ("torch divides by the unbiased variance",
         centered / np.sqrt(x.var(-1, ddof=1, keepdims=True) + epsilon)),
        ("torch adds epsilon to the standard deviation", centered /
         (np.sqrt(x.var(-1, keepdims=True)) + epsilon))):
        trial = np.asarray(normal * gamma + beta, np.float32)
        yield Hypothesis("normalization", words,
                         "use the Keras layer that normalizes as torch does", trial)
