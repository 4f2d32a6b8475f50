"""Epsilons that move the outputs by less than what rounding may explain, and by more than rounding
does in this pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..comparison.divergence import Difference, FirstDivergence
from ..comparison.measurement import measure
from ..comparison.verdict import Comparison, decide
from ..plan.plan import Plan
from ..rules.hyperparameters import other_epsilons
from ..running.keras_values import intercepted_calls
from ..spec.source import Source
from ..spec.target import Target
from .context import altered

if TYPE_CHECKING:
    from ..running.input_pair import InputPair

# Smaller differences are not worth another run of both models.
MOVES_FROM = 5e-7
# What is left with torch's epsilons is the pair's own rounding; so many times that is more.
TIMES_ROUNDING = 3


def named_epsilons(found: Comparison, source: Source, target: Target, inputs: InputPair,
                   plan: Plan | None) -> Comparison:
    """Return the comparison of models that differ a little without a known cause, with their
    epsilons as the cause and the verdict that follows, when torch's in their place leave a third of
    the difference or less.
    """
    relative, known = found.relative_diff, found.first_divergence
    if (plan is None or found.verdict not in ("equal", "close") or relative is None
            or relative < MOVES_FROM or (known is not None and known.causes())):
        return found
    others = other_epsilons(plan, source, target)
    if not others:
        return found
    theirs = {id(leaf.layer): epsilon for _, epsilon, leaf in others}
    with intercepted_calls(target, lambda *given: _with_epsilon(theirs, *given)):
        fixed = measure(source.module, target, inputs,
                        len(found.inputs) - 1, disturb=False, tolerance=found.tolerance)
    left = fixed.relative_diff
    if left is None or relative <= TIMES_ROUNDING * left:
        return found
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, epsilon, leaf in others:
        key = (f"epsilon is {leaf.settings['epsilon']:g} in Keras and {epsilon:g} in torch",
               f"build the Keras layer with epsilon={epsilon:g}")
        groups.setdefault(key, []).append((leaf.display_name, name))
    differences = tuple(
        Difference("epsilon", cause, advice, tuple(
            layer for layer, _ in pairs), tuple(
                name for _, name in pairs), relative if len(groups) == 1 else None)
        for (cause, advice), pairs in groups.items())
    first, fixed_words = differences[0], "that" if len(groups) == 1 else "that and the rest"
    divergence = FirstDivergence(
        first.keras_layers[0], first.torch_modules[0], kind=first.kind,
        cause=(f"{first.cause}: with {fixed_words} fixed the outputs agree to {left:.0e}"),
        advice=first.advice, distance=left, differences=differences)
    above = min(found.diagnosed_above, TIMES_ROUNDING * left)
    return decide(replace(found, first_divergence=divergence, diagnosed_above=above))


def _with_epsilon(theirs: Mapping[int, float], layer: Any, call: Any, args: Any,
                  kwargs: Any) -> Any:
    epsilon = theirs.get(id(layer))
    run = call if epsilon is None else altered(layer, {"epsilon": epsilon})
    return run(*args, **kwargs)
