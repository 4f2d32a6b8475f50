"""The place where two models part, and the cause where one was proven, in words."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from ..comparison.arrays import apart
from ..comparison.divergence import FirstDivergence
from ..running.keras_calls import KerasRun
from ..running.outputs import describe
from .context import Array, DivergenceContext, Hypothesis

# Set to anything, a fault of the diagnosis itself is raised instead of noted: the tests set it.
RAISE_INTERNAL_ERRORS = "KERAS_TORCH_CONVERT_RAISE_INTERNAL_ERRORS"

UNKNOWN = "unknown: none of the known causes makes the outputs equal"


def described(scene: DivergenceContext, best: tuple[float, Hypothesis] | None, keras: KerasRun,
              modules: Mapping[str, Any]) -> FirstDivergence:
    """What was found at a spot of a run; `best` is the cause with how near it comes, None when none
    holds.
    """
    distance, hypothesis = best if best is not None else (None, None)
    label, operation = _keras_side(scene, keras)
    if hypothesis is not None and hypothesis.at:
        label = hypothesis.at
    path = _torch_path(scene, hypothesis)
    module = modules.get(path)
    ours, theirs = _outputs(scene)
    return FirstDivergence(
        label, torch_module=path, torch_class=type(module).__name__ if module is not None else "",
        torch_source=source_of(module), operation=operation,
        keras_shape=tuple(ours[0].shape) if ours else (),
        torch_shape=tuple(theirs[0].shape) if theirs else (), difference=_difference(scene, ours),
        kind=hypothesis.kind if hypothesis is not None else "", cause=UNKNOWN if hypothesis is None
        else f"{hypothesis.cause}: with that mended the outputs agree to {distance:.0e}",
        advice=hypothesis.advice if hypothesis is not None else "", distance=distance)


def _keras_side(scene: DivergenceContext, keras: KerasRun) -> tuple[str, str]:
    """The label of the Keras layer, and what it computes where that is not told by its kind."""
    spot, call = scene.spot, scene.call
    if spot.kind == "before" and call.parent is not None:
        return keras.calls[
            call.
            parent].display_name or call.display_name, f"code of its own, before '{call.display_name}'"
    if spot.kind == "inputs":
        return "", "the models' inputs"
    if spot.kind == "end":
        return call.display_name, "behind the last layer"
    return call.display_name, "" if call.leaf is not None else call.class_names[0]


def _torch_path(scene: DivergenceContext, hypothesis: Hypothesis | None) -> str:
    """The torch module in which the change is to be made, else the one that belongs to the Keras
    layer.
    """
    if hypothesis is not None and hypothesis.torch_at:
        return hypothesis.torch_at
    if hypothesis is not None and hypothesis.kind == "activation" and scene.call.leaf is not None:
        path = scene.path_of_value(hypothesis.trial)
        if path:
            return path
    if scene.place is not None:
        return scene.place.path
    return next((step.path for step in scene.steps), "")


def _outputs(scene: DivergenceContext) -> tuple[list[Array], list[Array]]:
    """What the models have there: outputs, or inputs where those have parted."""
    ours = scene.keras.inputs if scene.spot.kind in ("before", "inputs") else scene.keras.outputs
    return ours, scene.torch_inputs if scene.spot.kind == "inputs" else scene.expected


def _difference(scene: DivergenceContext, ours: list[Array]) -> float | None:
    if scene.spot.kind == "inputs":
        return None
    difference = scene.difference
    if scene.spot.kind == "before":
        difference = apart(scene.expected[0], ours[0]) if scene.expected and ours else float("inf")
    return difference if isfinite(difference) else None


def source_of(module: Any) -> str:
    """File and line of a module's forward, "" when it has no Python source."""
    if module is None:
        return ""
    try:
        forward = inspect.unwrap(type(module).forward)
        return f"{Path(inspect.getsourcefile(forward) or '').name}:{inspect.getsourcelines(forward)[1]}"
    except (TypeError, OSError):
        # Scripted modules and built-in ones.
        return ""


class InternalFault(BaseException):
    """A fault of the diagnosis itself, raised past every handler of errors where tests ask for it.
    """


def internal_error(error: Exception) -> str:
    """Return the note for a user about a fault of the diagnosis itself; raise it in tests."""
    if os.environ.get(RAISE_INTERNAL_ERRORS):
        raise InternalFault(describe(error)) from error
    return f"internal error in the diagnosis, please report it: {describe(error)}"
