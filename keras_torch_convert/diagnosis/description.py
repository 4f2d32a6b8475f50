"""What a diagnosis says: the point where two models part, and the cause where one was proven."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite
from pathlib import Path
from typing import Any

from ..comparison.arrays import apart
from ..comparison.divergence import Difference, FirstDivergence
from ..running.outputs import describe
from .context import Array, Cause, DivergenceContext, Hypothesis

# Set to anything, a fault of the diagnosis itself is raised instead of noted: the tests set it.
RAISE_INTERNAL_ERRORS = "KERAS_TORCH_CONVERT_RAISE_INTERNAL_ERRORS"

UNKNOWN = "unknown: none of the known causes makes the outputs equal"


def describe_divergence(context: DivergenceContext, best: tuple[float, Hypothesis] | None,
                        modules: Mapping[str, Any]) -> FirstDivergence:
    """Return what was found at a point; `best` is the cause with how near it comes, None
    when none holds.
    """
    hypothesis = None if best is None else best[1]
    layer, operation = _keras_side(context)
    path = _torch_path(context, hypothesis)
    ours, theirs = _outputs(context)
    found = FirstDivergence(layer, operation=operation,
                            keras_shape=tuple(ours[0].shape) if ours else (),
                            torch_shape=tuple(theirs[0].shape) if theirs else (),
                            difference=_difference(context, ours), cause=UNKNOWN)
    found = in_torch(found, path, modules)
    if hypothesis is None:
        return found
    cause = Cause(hypothesis.kind, hypothesis.cause, hypothesis.advice)
    if hypothesis.at not in ("", layer):
        found = replace(found, keras_layer=hypothesis.at, operation="")
    return with_cause(found, cause, best)


def in_torch(found: FirstDivergence, path: str, modules: Mapping[str, Any]) -> FirstDivergence:
    """Return a divergence with the torch module at a path."""
    module = modules.get(path)
    return replace(found, torch_module=path, torch_source=_source_of(module),
                   torch_class=type(module).__name__ if module is not None else "")


def with_cause(found: FirstDivergence, cause: Cause,
               best: tuple[float, Hypothesis] | None) -> FirstDivergence:
    """Return a divergence with its cause, one of those in `best`."""
    if best is None:
        return found
    distance, hypothesis = best
    fixed = "that and the rest" if hypothesis.others else "that"
    sentence = f"{cause.cause}: with {fixed} fixed the outputs agree to {distance:.0e}"
    return replace(found, kind=cause.kind, cause=sentence, advice=cause.advice, distance=distance)


def difference_of_group(group: Sequence[tuple[FirstDivergence, Cause]],
                        effect: float | None) -> Difference:
    """Return divergences of one cause as one difference."""
    layers = tuple(dict.fromkeys(one.keras_layer for one, _ in group))
    modules = tuple(dict.fromkeys(one.torch_module for one, _ in group))
    return Difference(*group[0][1], layers, modules, effect)


def _keras_side(context: DivergenceContext) -> tuple[str, str]:
    """Return the Keras layer, and what it computes where its class does not tell."""
    point, call = context.point, context.call
    if point.parent is not None:
        layer = point.parent.display_name or call.display_name
        return layer, f"code of its own, before '{call.display_name}'"
    if point.kind == "inputs":
        return "", "the models' inputs"
    if point.kind == "end":
        return call.display_name, "behind the last layer"
    return call.display_name, "" if context.has_weights else call.class_names[0]


def _torch_path(context: DivergenceContext, hypothesis: Hypothesis | None) -> str:
    """Return the torch module in which the change is to be made, else the one that belongs to the
    Keras layer.
    """
    if hypothesis is not None and hypothesis.torch_at is not None:
        return hypothesis.torch_at
    if hypothesis is not None and hypothesis.kind == "activation" and context.has_weights:
        path = context.path_of_value(hypothesis.trial)
        if path:
            return path
    if context.scope is not None:
        return context.scope.path
    return next((step.path for step in context.steps), "")


def _outputs(context: DivergenceContext) -> tuple[list[Array], list[Array]]:
    """Return what the models have there: outputs, or inputs where those have parted."""
    kind = context.point.kind
    ours = context.keras.inputs if kind in ("before", "inputs") else context.keras.outputs
    return ours, context.torch_inputs if kind == "inputs" else context.expected


def _difference(context: DivergenceContext, ours: list[Array]) -> float | None:
    if context.point.kind == "inputs":
        return None
    difference = context.difference
    if context.point.kind == "before":
        difference = apart(context.expected[0], ours[0]) if context.expected and ours else inf
    return difference if isfinite(difference) else None


def _source_of(module: Any) -> str:
    """Return file and line of a module's forward, "" when it has no Python source."""
    if module is None:
        return ""
    try:
        forward = inspect.unwrap(type(module).forward)
        file = Path(inspect.getsourcefile(forward) or "").name
        return f"{file}:{inspect.getsourcelines(forward)[1]}"
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
