"""A Keras model as a source: the other direction."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..spec.dtypes import read_only
from ..spec.source import Source, SourceTensor
from ..spec.target import Target, TargetVariable
from .values import read_values


def read_keras_source(target: Target) -> Source:
    """The variables of a Keras model as a source, by their places; each is read when it is asked
    for.
    """
    tensors = {
        place:
            SourceTensor(place, variable.shape, variable.dtype, partial(_values, target, variable),
                         kind="parameter" if variable.trainable else "buffer",
                         display_name=variable.display_name)
        for place, variable in target.variables.items()
    }
    return Source(tensors, f"Keras model {target.name}")


def _values(target: Target, variable: TargetVariable) -> npt.NDArray[Any]:
    values = read_values(target, variable.variable)
    return read_only(values.view(np.uint16) if variable.dtype == "bfloat16" else values)
