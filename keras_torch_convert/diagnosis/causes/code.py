"""Code of a layer that calls others: what it does between their calls is not seen, so it is run
again with one thing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...running.fingerprint import distance, fingerprint
from ...running.keras_calls import LayerCall
from ...running.keras_values import as_tensor_like, eager_arrays
from ..context import ENOUGH, Array, DivergenceContext, Hypothesis
from . import weights
from .functions import Function, functions, identity, recognized


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """Weights of a layer inside whose output has the right statistics in spite of them, or adds
    nothing; another activation in the code.
    """
    if scene.parent is None:
        return
    for wrong in scene.wrong_before:
        trial = scene.around_with_weights(wrong)
        if trial is not None:
            yield Hypothesis(wrong.kind, wrong.said, weights.AGAIN, trial,
                             at=wrong.call.display_name, how="around")
    if scene.spot.kind == "before" or scene.call.children:
        yield from _activation(scene)


def _activation(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The layer has an activation that its code applies, or one inside has that is not of Keras
    itself: another one in its place.
    """
    assert scene.parent is not None
    around = scene.parent[0]
    inside = [
        call for call, _ in scene.before
        if not type(call.layer).__module__.startswith(("keras.", "tf_keras."))
    ]
    for call in (around, *inside):
        for name, ours in activations_of(scene, call.layer).items():
            yield from _other_activations(scene, call, name, ours)


def _other_activations(scene: DivergenceContext, call: LayerCall, name: str,
                       ours: Function) -> Iterator[Hypothesis]:
    inside = None if scene.parent is None or call is scene.parent[0] else call.layer
    for theirs in (identity(), *functions()):
        settings = {name: as_activation(scene, theirs)}
        trial = scene.around(inside, settings=settings) if theirs.name != ours.name else None
        if trial is None:
            continue
        kind = "missing activation" if ours.name == "none" else "activation"
        said = (f"Keras computes {ours.name} in layer '{call.display_name}' ({name}), torch "
                f"{theirs.name}")
        todo = f"give that layer {theirs.keras}, or torch {ours.torch}"
        path = path_of_function(scene, theirs)
        yield Hypothesis(kind, said, todo, trial, at=call.display_name, how="around", torch_at=path)


def activations_of(scene: DivergenceContext, layer: Any) -> dict[str, Function]:
    """Attributes of a layer that are known activations."""
    probe = np.linspace(-6, 6, 49, dtype=np.float32)
    found = {}
    for name, value in vars(layer).items():
        if "activation" not in name or not callable(value) or isinstance(value, type):
            continue
        result = _applied(value, probe, scene)
        function = recognized(
            probe, result) if result is not None and result.shape == probe.shape else None
        if function is not None:
            found[name] = function
    return found


def _applied(function: Callable[[Any], Any], array: Array,
             scene: DivergenceContext) -> Array | None:
    try:
        return next(eager_arrays(function(as_tensor_like(array, array, scene.target))), None)
    except (ValueError, TypeError, RuntimeError, AttributeError):
        # Not a function of one tensor.
        return None


def as_activation(scene: DivergenceContext, function: Function) -> Callable[[Any], Any]:
    """A function of arrays as one of the framework's tensors."""
    return lambda x: as_tensor_like(function(next(eager_arrays(x))), x, scene.target)


def path_of_function(scene: DivergenceContext, function: Function) -> str:
    """The torch module in which an operation gives this function of what a layer inside gives, ""
    when there is none.
    """
    for _, captured in scene.before:
        key = fingerprint(function(captured.outputs[0])) if captured.outputs else None
        for step in scene.torch.steps if key is not None else ():
            if key is not None and any(distance(value.key, key) < ENOUGH for value in step.outputs):
                return step.path
    return ""
