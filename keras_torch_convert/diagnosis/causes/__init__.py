"""Rules that know why two layers may differ, one small file for each family. Each tries its
hypothesis out before it speaks.

A rule is a function from a Scene to hypotheses; `RULES` is the order in which they are asked, the
simplest explanations first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..context import DivergenceContext, Hypothesis
from . import (activations, attention, code, convolutions, dropout, elements, ends, norms, pooling,
               resizing, structure, weights)

Rule = Callable[[DivergenceContext], Iterator[Hypothesis]]

RULES: tuple[Rule, ...] = (weights.hypotheses, norms.hypotheses, convolutions.hypotheses,
                           pooling.hypotheses, resizing.hypotheses, ends.softmax_only_in_keras,
                           activations.idle_before, activations.of_the_layer,
                           activations.of_several_calls, dropout.hypotheses, code.hypotheses,
                           attention.hypotheses, structure.order_of_norm_and_activation,
                           activations.before_the_layer, elements.hypotheses, structure.hypotheses)


def hypotheses_of(scene: DivergenceContext, rules: Sequence[Rule]) -> Iterator[Hypothesis]:
    """What the rules propose, rule by rule."""
    for rule in rules:
        yield from rule(scene)
