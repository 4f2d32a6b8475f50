"""The weights of a Keras model, or of a Keras file, as a source: the way from Keras to torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import PlanError, SourceError
from ..plan.plan import Plan
from ..spec.dtypes import read_only
from ..spec.file_layout import recorded
from ..spec.source import Source, SourceTensor
from ..spec.target import Target, TargetVariable
from ..spec.tensor_spec import TensorSpec
from .values import read_values
from .weights_file import StoredWeights, is_legacy, read_stored


def read_keras_source(target: Target) -> Source:
    """Return the variables of a Keras model by their keys; each is read when it is asked for."""
    tensors = {
        key:
            SourceTensor(key, variable.shape, variable.dtype, partial(_live_values, target,
                                                                      variable),
                         kind="parameter" if variable.trainable else "buffer",
                         display_name=variable.display_name)
        for key, variable in target.variables.items()
    }
    return Source(tensors, f"Keras model {target.name}")


def _live_values(target: Target, variable: TargetVariable) -> npt.NDArray[Any]:
    return read_only(_as_bits(read_values(target, variable.variable), variable.dtype))


def read_keras_file(path: str | PathLike[str], plan: Plan) -> Source:
    """Return the variables of a Keras file by their keys, found where a Plan's layout says.

    Keras is not needed. Each variable is read when it is asked for, from a file that is open only
    meanwhile.

    Args:
        path: A .h5, .weights.h5 or .keras file, or the .weights.json index of shards.
        plan: A Plan from Keras to torch that knows its layout.

    Raises:
        PlanError: The Plan does not know the layout of such files.
        SourceError: The file cannot be read, or is of another architecture: with all data sets
            that are missing or of another shape.
    """
    path = Path(path)
    array_paths = _array_paths(plan, path)
    stored = read_stored(path)
    arrays = {array.path: array for array in stored.layout.arrays}
    tensors: dict[str, SourceTensor] = {}
    problems: list[str] = []
    for key, spec in plan.sources.items():
        name = array_paths.get(key, "")
        found = arrays.get(name)
        if found is None:
            problems.append(f"'{spec.display_name}' {spec.shape} is missing (expected at "
                            f"{name or 'no place in such a file'})")
        elif found.shape != spec.shape:
            problems.append(
                f"'{spec.display_name}' is {found.shape}, expected {spec.shape} (at {name})")
        elif np.dtype(found.dtype).itemsize != _item_size(spec):
            problems.append(f"'{spec.display_name}' is of type {np.dtype(found.dtype)}, expected "
                            f"{spec.dtype} (at {name})")
        else:
            tensors[key] = SourceTensor(key, spec.shape, spec.dtype,
                                        partial(_stored_values, stored, name, spec),
                                        display_name=spec.display_name)
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise SourceError(f"{path} does not fit the plan, {len(problems)} differences:{listed}")
    return Source(tensors, str(path))


def _array_paths(plan: Plan, path: Path) -> Mapping[str, str]:
    """Return where each variable lies in a file of this suffix."""
    layout = recorded(plan.layout)
    if layout is None:
        raise PlanError("the plan does not know how the Keras files look: make it again, with a "
                        "conversion of live models")
    file = layout.legacy if is_legacy(path) else layout.weights
    if file is None:
        raise PlanError(
            f"the plan knows no files like {path.name}: its Keras cannot save this model so")
    return {array.key: array.path for array in reversed(file.arrays) if array.key}


def _stored_values(stored: StoredWeights, name: str, spec: TensorSpec) -> npt.NDArray[Any]:
    return _as_bits(stored.read(name, SourceError), spec.dtype)


def _as_bits(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    return values.view(np.uint16) if dtype == "bfloat16" else values


def _item_size(spec: TensorSpec) -> int:
    return 2 if spec.dtype == "bfloat16" else np.dtype(spec.dtype).itemsize
