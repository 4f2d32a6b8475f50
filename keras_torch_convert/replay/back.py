"""A Keras file back into a torch checkpoint, as an inverted Plan says: neither Keras nor a model is needed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import PlanError, SaveError
from ..plan import Plan
from ..read.keras_weights import read_keras_file
from ..read.torch_target import torch_target_of
from ..report import Report
from ..save.safetensors_file import write_safetensors
from ..transfer.executor import Prepared, Strict, prepare


def keras_file_to_safetensors(
    plan: Plan, keras_file: str | PathLike[str], path: str | PathLike[str], *, strict: Strict = True
) -> Report:
    """Write the weights of a .h5, .weights.h5 or .keras file into a .safetensors file, bit for bit where the Plan is lossless.

    `plan` leads from torch to Keras (and is inverted) or from Keras to torch. One tensor is in memory at a time, and the same input gives the same bytes. Tensors that the
    Plan leaves out (BatchNorm's counters) are not in the file. Raises PlanError, SourceError, TransferError or SaveError, with an existing file as it was.
    """
    start = time.perf_counter()
    path = Path(path)
    if path.suffix != ".safetensors":
        raise SaveError(f"expected a path that ends in .safetensors, got {path.name}")
    reverse, prepared = _prepared(plan, keras_file, strict)
    values = prepared.by_place()
    kinds = {place: reverse.targets[place] for place in values}
    write_safetensors(path, kinds, values)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return Report(
        source=str(keras_file),
        target=path.name,
        ledger=prepared.ledger,
        plan=reverse,
        path=path,
        sha256=digest.hexdigest(),
        seconds={"apply": time.perf_counter() - start},
        warnings=(*prepared.warnings, *plan.losses()),
    )


def keras_file_to_state_dict(
    plan: Plan, keras_file: str | PathLike[str], *, strict: Strict = True
) -> Mapping[str, Any]:
    """The same as new torch tensors by name; this needs PyTorch."""
    from ..save.values import torch_tensor

    _, prepared = _prepared(plan, keras_file, strict)
    return {variable.place: torch_tensor(array) for variable, array in prepared.arrays()}


def _prepared(plan: Plan, keras_file: str | PathLike[str], strict: Strict) -> tuple[Plan, Prepared]:
    """The Plan from Keras to torch, checked against the file."""
    reverse = plan if plan.reversed else plan.invert()
    assigned = {one.place for one in reverse.assignments}
    missing = assigned - set(reverse.targets)
    if missing:
        raise PlanError(
            f"the plan does not know shape and type of '{min(missing)}'; make it anew, with a conversion of live models"
        )
    source = read_keras_file(keras_file, reverse)
    target = torch_target_of({name: kind for name, kind in reverse.targets.items() if name in assigned})
    return reverse, prepare(replace(reverse, kept={}), source, target, strict=strict)
