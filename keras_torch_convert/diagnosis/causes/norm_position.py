"""Norms that stand elsewhere: before a branch in one model, behind its sum in the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...comparison.arrays import apart, arranged
from ...rules.hyperparameters import torch_epsilon
from ...running.torch_steps import Step
from ..context import Array, DivergenceContext, Hypothesis
from .common import bypass

KIND = "norm position"
# A norm's own input or output tells nothing about a sum.
OTHER_FROM = 1e-2
GIVEN, MADE = "what goes into this norm", "what comes out of this norm"
KINDS_OF_BLOCKS = {GIVEN: "pre-norm", MADE: "post-norm"}


def hypotheses(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Add what goes into a norm for what comes out of it, or the reverse; put torch's norm before a
    layer, and take one of Keras out.
    """
    if not context.keras.inputs or not context.keras.outputs:
        return
    yield from _of_sums(context)
    if context.has_weights and context.point.kind == "layer" and context.scope is not None:
        yield from _before_the_layer(context)
        yield from _only_in_keras(context)


def _of_sums(context: DivergenceContext) -> Iterator[Hypothesis]:
    is_before = context.point.kind == "before"
    ours = (context.keras.inputs if is_before else context.keras.outputs)[0]
    for norm in reversed(context.norms):
        for given in norm.given if norm.made.shape == ours.shape else ():
            ways = ((norm.made, given, MADE, GIVEN), (given, norm.made, GIVEN, MADE))
            for added, other, held, wanted in ways:
                trial = np.asarray(ours.astype(np.float64) - added + other, np.float32)
                known = (apart(one, array) for one in (given, norm.made) for array in (ours, trial))
                if min(known) < OTHER_FROM:
                    continue
                for judged in _judged(ours, is_before):
                    yield Hypothesis(
                        KIND, f"torch adds {wanted} to a branch ({KINDS_OF_BLOCKS[wanted]}), "
                        f"Keras {held} ({KINDS_OF_BLOCKS[held]})", f"add {wanted} in Keras", trial,
                        at=norm.name, **judged)


def _judged(ours: Array, is_before: bool) -> Iterator[dict[str, Any]]:
    """Yield how a sum is compared: code before a layer shows no output."""
    if is_before:
        yield {"compare": "parent", "instead": ours, "is_inside": True}
        return
    yield {"compare": "values"}
    yield {"compare": "statistics"}


def _before_the_layer(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Run a layer on torch's own input: a norm stands before it in one model only."""
    steps = context.steps_between()
    paths = {step.path for step in steps if step.weights}
    path = next(iter(paths), "")
    is_norm = len(paths) == 1 and torch_epsilon(context.modules.get(path)) is not None
    order = context.scope.inputs[0].order if context.scope and context.scope.inputs else 0
    last = next((step for step in context.torch.steps if step.order == order), None)
    for array in arranged(context.torch_inputs[0], context.keras.inputs[0].shape) if last else ():
        trial = context.run_with_input(array)
        if trial is None or last is None:
            continue
        if is_norm:
            held = context.keras_layers.get(path)
            where = "" if held is None else f", which has those weights in '{held}',"
            yield Hypothesis(
                "missing operation" if held is None else KIND,
                f"torch normalizes with '{path}' before the layer, Keras{where} does not",
                f"compute '{held or path}' before the layer in Keras", trial, torch_at=path)
        other = instead_of_norm(context, last, trial, array)
        if other is not None:
            yield other


def _only_in_keras(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Go on with what goes into a norm."""
    if torch_epsilon(context.module) is not None:
        yield from bypass(context, KIND, f"torch goes on with {GIVEN}, and computes it elsewhere",
                          f"take '{context.name}' out at this place in Keras",
                          context.keras.inputs[0])


def instead_of_norm(context: DivergenceContext, step: Step, trial: Array,
                    given: Array) -> Hypothesis | None:
    """Return that torch goes on with what an operation gives where Keras does with what a norm
    gives; None when torch makes it of that, or Keras does not.
    """
    for norm in context.norms:
        if norm.made.shape == context.keras.inputs[0].shape and np.array_equal(
                norm.made, context.keras.inputs[0]) and not context.comes_from(step, norm.made):
            return Hypothesis(
                KIND, f"torch goes on with what {step.name} gives in '{step.path}', Keras with "
                f"{MADE}", f"take '{norm.name}' out at this place in Keras, or put it there in "
                "torch", trial, at=norm.name, torch_at=step.path, given=given)
    return None
