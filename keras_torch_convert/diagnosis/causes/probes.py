"""Settings of one Keras layer that may be otherwise in torch: the layer is run with torch's.

`PROBES` is the table. A new cause of this form is a row in it, and a seeded fault that names it
(tests/helpers/faults). `hypotheses` runs the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...rules.hyperparameters import torch_epsilon
from ..context import Array, Cause, DivergenceContext, Hypothesis
from .spatial import CONVOLUTIONS, numbers, padding_change

Values = Iterable[Any]

USUAL_EPSILONS = (1e-3, 1e-5, 1e-6, 1e-12, 1e-8, 1e-4, 1e-7, 1e-2, 0.1)


@dataclass(frozen=True, slots=True)
class Probe:
    """One attribute of Keras layers.

    `class_names` are the classes of layers that are asked, () for all that have the attribute.
    `torch_values` gives what torch has there, from its module or its operation; `guesses` what to
    try where torch's code does not show it. The sentences take {keras} and {torch}.
    """

    kind: str
    class_names: tuple[str, ...]
    attribute: str
    torch_values: Callable[[DivergenceContext], Values] = lambda context: ()
    guesses: Callable[[DivergenceContext], Values] = lambda context: ()
    cause: str = "{attribute} is {keras} in Keras and {torch} in torch"
    advice: str = "build the Keras layer with {attribute}={torch}"
    by_statistics: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A layer's call with other settings, or other inputs."""

    kind: str
    cause: str
    advice: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Array] | None = None
    by_statistics: bool = False
    others: tuple[Cause, ...] = ()


def of_module(*names: str) -> Callable[[DivergenceContext], Values]:
    """Return a function that gives the first attribute of these names of the torch module; for a
    layer without weights those of all modules that run there.
    """
    def values(context: DivergenceContext) -> Values:
        modules = [context.module] if context.module is not None else context.modules_here
        found = (getattr(module, name, None) for module in modules for name in names)
        numbers = dict.fromkeys(value for value in found if isinstance(value, (int, float)))
        return list(numbers)[:1 if context.module is not None else None]

    return values


def of_convolution(position: int) -> Callable[[DivergenceContext], Values]:
    """Return a function that gives an argument of torch's convolution for each axis."""
    def values(context: DivergenceContext) -> Values:
        step = context.step_named(CONVOLUTIONS)
        size = len(getattr(context.layer, "kernel_size", ()) or ())
        if step is None or not size or bool(step.settings.get(6)):
            return []
        return [numbers(step.settings.get(position), size)]

    return values


def epsilon_of_torch(context: DivergenceContext) -> Values:
    """Give the epsilon of the torch norm."""
    known = torch_epsilon(context.module)
    return [] if known is None else [known]


def other_axes(context: DivergenceContext) -> Values:
    """Give every other axis of the input, the last first."""
    ndim, held = context.keras.inputs[0].ndim, context.layer.axis
    axes = (-1, *range(ndim - 1)) if isinstance(held, int) else ()
    return [axis for axis in axes if axis % ndim != held % ndim]


PROBES = (Probe("epsilon", (), "epsilon", epsilon_of_torch, lambda context: USUAL_EPSILONS),
          Probe("groups", ("GroupNormalization",), "groups",
                of_module("num_groups",
                          "num_features"), cause="Keras normalizes {keras} groups, torch {torch}"),
          Probe("dilation", (), "dilation_rate", of_convolution(5)),
          Probe("strides", (), "strides", of_convolution(3),
                cause="strides are {keras} in Keras and {torch} in torch"),
          Probe("softmax axis", ("Softmax",), "axis", guesses=other_axes,
                cause="Keras computes the softmax over axis {keras}, torch over axis {torch}",
                by_statistics=True),
          Probe("activation", ("LeakyReLU",), "negative_slope", of_module("negative_slope")),
          Probe("activation", ("LeakyReLU",), "alpha", of_module("negative_slope")),
          Probe("activation", ("ELU",), "alpha", of_module("alpha")),
         )


def hypotheses(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Run the layer with torch's settings, one by one and all together, then with usual ones."""
    if not context.keras.inputs:
        return
    if context.point.kind == "before":
        # The layer's input is to blame, but what torch has there may be known by its output only.
        for probe in (probe for probe in PROBES if probe.by_statistics):
            for change in _changes(context, probe, probe.guesses):
                yield from _tried(context, change)
        return
    known = [change for probe in PROBES for change in _changes(context, probe, probe.torch_values)]
    padding = padding_change(context)
    if padding is not None:
        known.append(Change(*padding))
    for change in known:
        yield from _tried(context, change)
    if len(known) > 1:
        yield from _tried(context, _together(known))
    for probe in PROBES:
        for change in _changes(context, probe, probe.guesses):
            yield from _tried(context, change)


def _changes(context: DivergenceContext, probe: Probe,
             values: Callable[[DivergenceContext], Values]) -> Iterator[Change]:
    held = getattr(context.layer, probe.attribute, None)
    if held is None or (probe.class_names and not context.is_a(*probe.class_names)):
        return
    for value in values(context):
        if same_setting(held, value):
            continue
        words = {"attribute": probe.attribute, "keras": _shown(held), "torch": _shown(value)}
        yield Change(probe.kind, probe.cause.format(**words), probe.advice.format(**words),
                     {probe.attribute: value}, by_statistics=probe.by_statistics)


def same_setting(held: Any, value: Any) -> bool:
    """Whether a Keras attribute already has torch's value."""
    if isinstance(held, float) and isinstance(value, (int, float)):
        return bool(np.isclose(held, value, rtol=1e-6, atol=0))
    return bool(held == value)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _together(changes: Sequence[Change]) -> Change:
    settings = {name: value for change in changes for name, value in change.settings.items()}
    inputs = next((change.inputs for change in changes if change.inputs is not None), None)
    first, *rest = (Cause(change.kind, change.cause, change.advice) for change in changes)
    return Change(*first, settings, inputs, others=tuple(rest))


def _tried(context: DivergenceContext, change: Change) -> Iterator[Hypothesis]:
    trial = context.run(change.inputs, **change.settings)
    if trial is None:
        return
    yield Hypothesis(change.kind, change.cause, change.advice, trial, at=context.name,
                     others=change.others)
    if change.by_statistics:
        # Inside fused attention torch's values are known by their statistics only.
        yield Hypothesis(change.kind, change.cause, change.advice, trial, at=context.name,
                         compare="statistics")
