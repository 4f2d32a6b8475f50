"""The weights in a Keras file as a source, without Keras: found where a Plan's layout says that
they lie.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import PlanError, SourceError
from ..plan.plan import Plan
from ..spec.source import Source, SourceTensor
from ..spec.tensor_spec import TensorSpec


def read_keras_file(path: str | PathLike[str], plan: Plan) -> Source:
    """The variables of a .h5, .weights.h5 or .keras file, or of shards under a .weights.json, by
    their places: a source for a Plan from Keras to torch.

    `plan` leads from Keras to torch and knows its layout. Each variable is read when it is asked
    for, from a file that is open only then. Raises PlanError when the Plan does not know the layout
    of such files, SourceError for a file that cannot be read, and for one of another architecture,
    with all data sets that are missing or of another shape.
    """
    path = Path(path)
    arrays = _arrays(plan, path)
    stored = _stored(path, {arrays[place] for place in plan.sources if place in arrays})
    tensors: dict[str, SourceTensor] = {}
    problems: list[str] = []
    for place, kind in plan.sources.items():
        name = arrays.get(place, "")
        found = stored.get(name)
        if found is None:
            problems.append(f"'{kind.display_name}' {kind.shape} is missing (expected at "
                            f"{name or 'no place in such a file'})")
        elif found.shape != kind.shape:
            problems.append(
                f"'{kind.display_name}' is {found.shape}, expected {kind.shape} (at {name})")
        elif found.dtype.itemsize != _width(kind):
            problems.append(
                f"'{kind.display_name}' is of type {found.dtype}, expected {kind.dtype} (at {name})"
            )
        else:
            read = partial(_values, found.path, name, kind)
            tensors[place] = SourceTensor(place, kind.shape, kind.dtype, read,
                                          display_name=kind.display_name)
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise SourceError(f"{path} does not fit the plan, {len(problems)} differences:{listed}")
    return Source(tensors, str(path), path=path)


@dataclass(frozen=True, slots=True)
class _Stored:
    """One data set: the file that it lies in, its shape and its type there."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _stored(path: Path, names: Collection[str]) -> dict[str, _Stored]:
    """Those of the data sets called `names` that are in the file, or in one of its shards."""
    # save builds on this package.
    from .sharded import INDEX_SUFFIX, shard_names
    from .verify_written import opened_weights

    parts = [path]
    if path.name.endswith(INDEX_SUFFIX):
        parts = [path.with_name(name) for name in shard_names(path)]
        if not parts:
            raise SourceError(f"{path} is no index of Keras's sharded weights")
    found: dict[str, _Stored] = {}
    for part in parts:
        with opened_weights(part, SourceError, str(part)) as file:
            for name in names:
                item = file.get(name)
                if isinstance(item, h5py.Dataset):
                    found[name] = _Stored(part, tuple(item.shape), item.dtype)
    return found


def _arrays(plan: Plan, path: Path) -> Mapping[str, str]:
    """Where each place lies in a file of this suffix."""
    # save builds on this package.
    from ..spec.file_layout import recorded
    from .write_from_layout import is_legacy

    layout = recorded(plan.layout)
    if layout is None:
        raise PlanError(
            "the plan does not know how the Keras files look: make it anew, with a conversion of "
            "live models")
    file = layout.legacy if is_legacy(path) else layout.weights
    if file is None:
        raise PlanError(
            f"the plan knows no files like {path.name}: its Keras cannot save this model so")
    return {array.key: array.path for array in reversed(file.arrays) if array.key}


def _values(path: Path, name: str, kind: TensorSpec) -> npt.NDArray[Any]:
    # save builds on this package.
    from .verify_written import opened_weights

    with opened_weights(path, SourceError, str(path)) as file:
        values: npt.NDArray[Any] = np.asarray(file[name][()])
    return values.view(np.uint16) if kind.dtype == "bfloat16" else values


def _width(kind: TensorSpec) -> int:
    return 2 if kind.dtype == "bfloat16" else np.dtype(kind.dtype).itemsize
