"""The same in another order: values (flattened maps, joined branches, tokens), and two steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from ...comparison.arrays import apart
from ...running.keras_calls import Captured, LayerCall
from ..context import PROVEN_BELOW, Array, DivergenceContext, Hypothesis, called, replaced

JOINS = ("Concatenate", "Concat", "Stack")
SHUFFLES = ("Reshape", "Transpose", "Permute", "Flatten")
SAME_SORTED = 1e-4
OTHER_ORDER = "the branches that are joined come in another order in torch"
COMPARES: tuple[Literal["values", "statistics"], ...] = ("values", "statistics")
JOIN_ALIKE = "join them in torch's order in Keras"


def of_values(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Run the layer on torch's input in torch's order."""
    if not context.keras.inputs or not context.torch_inputs or not context.has_weights:
        return
    ours, theirs = context.keras.inputs[0], context.torch_inputs[0]
    if not same_values(ours, theirs) or apart(theirs, ours) < PROVEN_BELOW:
        return
    for array in _in_shape(theirs, ours.shape):
        trial = context.run_with_input(array)
        if trial is None:
            continue
        kind, cause, at = _words(context, ours)
        yield Hypothesis(
            kind, cause, "bring the values into torch's order before Keras layer "
            f"'{context.name}'", trial, at=at)


def same_values(first: Array, second: Array) -> bool:
    """Whether two arrays hold the same values in whatever order."""
    if first.size != second.size:
        return False
    one, two = (np.sort(array.ravel().astype(np.float64)) for array in (first, second))
    scale = max(float(np.abs(two).max(initial=0.0)), 1e-30)
    return bool(np.abs(one - two).max(initial=0.0) <= SAME_SORTED * scale)


def _in_shape(array: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield torch's values in the shape of the Keras input, in torch's own order: channels last,
    else as they stand.
    """
    if array.ndim == len(shape) and array.ndim > 2:
        moved = np.moveaxis(array, 1, -1)
        if moved.shape == shape:
            yield np.ascontiguousarray(moved)
    if array.shape == shape:
        yield array
    elif array.ndim != len(shape) or sorted(array.shape) != sorted(shape):
        yield array.reshape(shape)


def _words(context: DivergenceContext, ours: Array) -> tuple[str, str, str]:
    """Return kind, cause and the Keras layer to blame."""
    joins, shuffles = ([
        call.display_name for call, _ in context.producers if set(call.class_names) & set(names)
    ] for names in (JOINS, SHUFFLES))
    if joins:
        return "concat order", OTHER_ORDER, joins[-1]
    if ours.ndim == 2 and shuffles:
        return ("flatten order", "torch flattens its map channels first, Keras channels last, and "
                "the rows of the kernel do not allow for it", shuffles[-1])
    at = shuffles[-1] if shuffles else ""
    return "order of values", "the values come in another order in torch", at


def of_two_steps(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Compute the step behind the point before it, or before one of the values that it joins."""
    if context.point.kind == "before" or len(context.consumers) != 1:
        return
    consumer, captured = context.consumers[0]
    one, two = (
        f"'{call.display_name}' ({call.class_names[0]})" for call in (context.call, consumer))
    for trial in _exchanged(context, consumer, captured):
        # Torch's value may stand behind a layer with weights, where it is known by its statistics.
        for compare in COMPARES:
            yield Hypothesis("order of steps",
                             f"torch computes {two} before {one}, Keras behind it",
                             f"put Keras layer '{consumer.display_name}' before '{context.name}'",
                             trial, output_of=consumer.number, compare=compare)


def _exchanged(context: DivergenceContext, consumer: LayerCall,
               captured: Captured) -> Iterator[Array]:
    """Yield what the two steps give in the other order."""
    given, own = context.keras.inputs, context.passed_on
    ways = [(number, [array]) for number, array in enumerate(given)]
    if len(captured.inputs) > 1:
        joined = [
            given[0] if own is not None and np.array_equal(one, own) else one
            for one in captured.inputs
        ] if len(given) == 1 else []
        ways = [(0, joined)] if joined else []
    for number, arrays in ways:
        args, kwargs = replaced((captured.args, captured.kwargs), list(arrays))
        first = called(context.target, consumer.layer, args, kwargs)
        if first is None or np.array_equal(first, given[number]):
            continue
        trial = context.run_with_input(first, number)
        if trial is not None:
            yield trial
