"""Code of a layer that calls others: what it does between their calls is not seen, so it is run again with one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...align.running.fingerprint import distance, fingerprint
from ...align.running.keras_values import as_tensor_like, eager_arrays
from ..scene import ENOUGH, Array, Hypothesis, Scene
from . import weights
from .functions import Function, functions, identity, recognised


def hypotheses(scene: Scene) -> Iterator[Hypothesis]:
    """Weights of a layer inside whose output has the right statistics in spite of them, or adds nothing; another activation in the code."""
    if scene.parent is None:
        return
    for wrong in scene.wrong_before:
        trial = scene.parent_with_weights(wrong)
        if trial is not None:
            yield Hypothesis(
                wrong.kind,
                wrong.said,
                weights.AGAIN,
                trial,
                at=wrong.call.label,
                how="statistics",
                now=scene.parent_with({}),
            )
    if scene.spot.kind == "before" or scene.call.children:
        yield from _activation(scene)


def _activation(scene: Scene) -> Iterator[Hypothesis]:
    """The layer has an activation that its code applies: another one in its place."""
    assert scene.parent is not None
    call, _ = scene.parent
    for name, ours in activations_of(scene, call.layer).items():
        for theirs in (identity(), *functions()):
            if theirs.name == ours.name:
                continue
            trial = scene.parent_with({name: as_activation(scene, theirs)})
            if trial is not None:
                kind = "missing activation" if ours.name == "none" else "activation"
                said = f"Keras computes {ours.name} in layer '{call.label}' ({name}), torch {theirs.name}"
                todo = f"give that layer {theirs.keras}, or torch {ours.torch}"
                path = path_of_function(scene, theirs)
                yield Hypothesis(
                    kind,
                    said,
                    todo,
                    trial,
                    at=call.label,
                    how="statistics",
                    now=scene.parent_with({}),
                    torch_at=path,
                )


def activations_of(scene: Scene, layer: Any) -> dict[str, Function]:
    """Attributes of a layer that are known activations."""
    probe = np.linspace(-6, 6, 49, dtype=np.float32)
    found = {}
    for name, value in vars(layer).items():
        if "activation" not in name or not callable(value) or isinstance(value, type):
            continue
        result = _applied(value, probe, scene)
        function = recognised(probe, result) if result is not None and result.shape == probe.shape else None
        if function is not None:
            found[name] = function
    return found


def _applied(function: Callable[[Any], Any], array: Array, scene: Scene) -> Array | None:
    try:
        return next(eager_arrays(function(as_tensor_like(array, array, scene.target))), None)
    except (ValueError, TypeError, RuntimeError, AttributeError):
        # Not a function of one tensor.
        return None


def as_activation(scene: Scene, function: Function) -> Callable[[Any], Any]:
    """A function of arrays as one of the framework's tensors."""
    return lambda x: as_tensor_like(function(next(eager_arrays(x))), x, scene.target)


def path_of_function(scene: Scene, function: Function) -> str:
    """The torch module in which an operation gives this function of what a layer inside gives, "" when there is none."""
    for _, captured in scene.before:
        key = fingerprint(function(captured.outputs[0])) if captured.outputs else None
        for step in scene.torch.steps if key is not None else ():
            if key is not None and any(distance(value.key, key) < ENOUGH for value in step.outputs):
                return step.path
    return ""
