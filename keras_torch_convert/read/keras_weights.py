"""The weights in a Keras file as a source, without Keras: found where a Plan's layout says that they lie."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import PlanError, SourceError
from ..plan import ArrayKind, Plan
from .source import Source, SourceTensor


def read_keras_file(path: str | PathLike[str], plan: Plan) -> Source:
    """The variables of a .h5, .weights.h5 or .keras file by their places, as a source for a Plan from Keras to torch.

    `plan` leads from Keras to torch and knows its layout. Each variable is read when it is asked for, from a file that is open only then.
    Raises PlanError when the Plan does not know the layout of such files, SourceError for a file that cannot be read, and for one of another
    architecture, with all data sets that are missing or of another shape.
    """
    path = Path(path)
    arrays = _arrays(plan, path)
    tensors: dict[str, SourceTensor] = {}
    problems: list[str] = []
    with _opened(path) as file:
        for place, kind in plan.sources.items():
            name = arrays.get(place)
            stored = file.get(name) if name is not None else None
            if not isinstance(stored, h5py.Dataset):
                problems.append(
                    f"'{kind.label}' {kind.shape} is missing (expected at {name or 'no place in such a file'})"
                )
            elif tuple(stored.shape) != kind.shape:
                problems.append(f"'{kind.label}' is {tuple(stored.shape)}, expected {kind.shape} (at {name})")
            elif stored.dtype.itemsize != _width(kind):
                problems.append(f"'{kind.label}' is of type {stored.dtype}, expected {kind.dtype} (at {name})")
            else:
                read = partial(_values, path, str(name), kind)
                tensors[place] = SourceTensor(place, kind.shape, kind.dtype, read, label=kind.label)
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise SourceError(f"{path} does not fit the plan, {len(problems)} differences:{listed}")
    return Source(tensors, str(path), path=path)


def _arrays(plan: Plan, path: Path) -> Mapping[str, str]:
    """Where each place lies in a file of this suffix."""
    # save builds on this package.
    from ..save.live_layout import recorded

    layout = recorded(plan.layout)
    if layout is None:
        raise PlanError(
            "the plan does not know how the Keras files look: make it anew, with a conversion of live models"
        )
    newer = path.name.endswith((".weights.h5", ".keras"))
    file = layout.weights if newer else layout.legacy
    if file is None:
        raise PlanError(f"the plan knows no files like {path.name}: its Keras cannot save this model so")
    return {array.place: array.path for array in reversed(file.arrays) if array.place}


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file, that inside a .keras archive for one. Raises SourceError when there is none to read."""
    # save builds on this package.
    from ..save.read_back import open_weights

    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_weights(path))
        except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            raise SourceError(f"{path} cannot be read as a Keras file: {error}") from error
        yield file


def _values(path: Path, name: str, kind: ArrayKind) -> npt.NDArray[Any]:
    with _opened(path) as file:
        values: npt.NDArray[Any] = np.asarray(file[name][()])
    return values.view(np.uint16) if kind.dtype == "bfloat16" else values


def _width(kind: ArrayKind) -> int:
    return 2 if kind.dtype == "bfloat16" else np.dtype(kind.dtype).itemsize
