"""Whole numbers among a Keras layer's variables (positions, indices into a table): no weights, but
they must be those that torch counts with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from ...keras_io.values import read_values
from ...plan.expressions import Concat, Expression, Fill, Reshape
from ...spec.target import Target, TargetLayer, TargetVariable
from ..names import name_similarity
from .transforms import VariableMapping

# Each run of one number is an entry of the Plan.
MOST_RUNS = 4096


def is_integer(variable: TargetVariable) -> bool:
    """True for whole numbers and truth values."""
    return "float" not in variable.dtype


def without_integers(leaf: TargetLayer) -> TargetLayer:
    """The layer with its weights alone; one that holds nothing else as it is."""
    weights = tuple(variable for variable in leaf.variables if not is_integer(variable))
    return replace(leaf, variables=weights) if weights else leaf


def integers_of_torch(module: Any,
                      target: Target) -> tuple[tuple[TargetVariable, VariableMapping], ...]:
    """What the Keras model's integer variables must be where torch has a buffer of the name and the
    size, with other numbers in it.

    Torch often leaves such buffers out of its checkpoints: the numbers stand in the Plan
    themselves.
    """
    return tuple(_differing(module, target)) if module is not None else ()


def _differing(module: Any, target: Target) -> Iterator[tuple[TargetVariable, VariableMapping]]:
    buffers = {
        name: np.asarray(buffer.detach().cpu().numpy()) for name, buffer in module.named_buffers()
        if not buffer.dtype.is_floating_point and not buffer.dtype.is_complex and buffer.numel() > 1
    }
    for variable in target.variables.values():
        if not buffers or not is_integer(variable):
            continue
        own = read_values(target, variable.variable)
        alike = [
            name for name, array in buffers.items() if name.rpartition(".")[2] == variable.name
            and np.squeeze(array).shape == np.squeeze(own).shape
        ]
        name = max(alike, key=lambda one: name_similarity(one, variable.display_name), default=None)
        if name is None or np.array_equal(np.ravel(buffers[name]), np.ravel(own)):
            continue
        runs = [
            (number, len(list(run))) for number, run in groupby(np.ravel(buffers[name]).tolist())
        ]
        if len(runs) <= MOST_RUNS:
            numbers = tuple(Fill(float(number), (length,)) for number, length in runs)
            joined: Expression = Concat(numbers, 0) if len(numbers) > 1 else numbers[0]
            yield variable, VariableMapping(Reshape(joined, variable.shape),
                                            f"the numbers of torch's buffer {name}", 0)
