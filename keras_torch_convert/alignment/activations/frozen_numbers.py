"""Weights of torch that are never trained and hold the numbers of a formula, with which a Keras
model computes without a weight (the bins of a distribution over distances in a detector).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from ...plan.expressions import Reshape, Slice, Tensor
from ...plan.recipe import Constant
from .pass_state import SearchState
from .trace_index import TraceIndex

# More numbers than that are no formula.
MOST_NUMBERS = 64
NEVER_TRAINED = "never trained, and no weight of the Keras model, which computes with the number"


def frozen_numbers(state: SearchState, trace_index: TraceIndex, module: Any) -> tuple[str, ...]:
    """Return the weights that a pass left over when each is a few numbers that are never trained;
    () when a layer is open or another weight is left over.
    """
    left = trace_index.left_over(state.used, state.parts)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    frozen = all(name in parameters and not parameters[name].requires_grad
                 and parameters[name].numel() <= MOST_NUMBERS for name in left)
    return tuple(sorted(left)) if frozen and not state.open else ()


def constants_of(names: tuple[str, ...], module: Any) -> Iterator[Constant]:
    """Yield for each run of one number that it must stay that number."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name in names:
        values = parameters[name].detach().flatten().tolist()
        flat, start = Reshape(Tensor(name), (len(values),)), 0
        for value, run in groupby(values):
            end = start + len(list(run))
            yield Constant(Slice(flat, 0, start, end), value, NEVER_TRAINED)
            start = end
