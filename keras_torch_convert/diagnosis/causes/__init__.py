"""Why two layers may differ: each rule tries its hypotheses out before they are named.

A rule is a function from a DivergenceContext to hypotheses; `RULES` is the order in which they are
asked, the simplest explanations first. A cause that is one setting of a Keras layer is a row of
`probes.PROBES`; one that needs more is a function in the file of its family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..context import DivergenceContext, Hypothesis
from . import (activations, attention, dropout, ends, norm_position, norms, operations, order,
               probes, rope, spatial, weights)

Rule = Callable[[DivergenceContext], Iterator[Hypothesis]]

RULES: tuple[Rule,
             ...] = (order.of_two_steps, weights.on_one_side, probes.hypotheses, norms.hypotheses,
                     spatial.hypotheses, ends.softmax_only_in_keras, activations.idle_before,
                     activations.of_the_layer, activations.of_cells, activations.of_several_calls,
                     dropout.hypotheses, activations.inside_code, norm_position.hypotheses,
                     attention.hypotheses, rope.hypotheses, activations.before_the_layer,
                     order.of_values, operations.hypotheses)


def hypotheses_of(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Yield what the rules propose for a point, rule by rule."""
    special: dict[str,
                  Sequence[Rule]] = {"inputs": (ends.at_the_beginning,), "end": (ends.at_the_end,)}
    for rule in special.get(context.point.kind, RULES):
        # A trial that is no number is no cause: a negative variance, say.
        with np.errstate(all="ignore"):
            yield from rule(context)
