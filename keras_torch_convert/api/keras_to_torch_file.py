"""A Keras file back into a torch checkpoint, as an inverted Plan says: neither Keras nor a model is
needed.
"""

from __future__ import annotations

import time
from os import PathLike
from pathlib import Path

from ..errors import SaveError
from ..keras_io.keras_source import read_keras_file
from ..plan.executor import Strict
from ..plan.plan import Plan
from ..report.report import Report
from ..torch_io.safetensors_writer import write_safetensors
from .state_dicts import prepare_state_dict, reverse_of


def keras_file_to_safetensors(plan: Plan, keras_file: str | PathLike[str],
                              path: str | PathLike[str], *, strict: Strict = True,
                              verify: bool = True) -> Report:
    """Write the weights of a Keras file (.h5, .weights.h5, .keras, or the index of shards) into a
    .safetensors file, bit for bit where the Plan is lossless.

    `plan` leads from torch to Keras (and is inverted) or from Keras to torch. One tensor is in
    memory at a time, and the same input gives the same bytes. With `verify` the file is read again
    and compared. Tensors that the Plan leaves out (BatchNorm's counters) are not in the file.
    Raises PlanError, SourceError, TransferError or SaveError, with an existing file as it was.
    """
    start = time.perf_counter()
    path = Path(path)
    if path.suffix != ".safetensors":
        raise SaveError(f"expected a path that ends in .safetensors, got {path.name}")
    reverse = reverse_of(plan)
    prepared = prepare_state_dict(reverse, read_keras_file(keras_file, reverse), strict)
    values = prepared.by_key()
    kinds = {place: reverse.targets[place] for place in values}
    digests = write_safetensors(path, kinds, values, verify=verify)
    return Report(source=str(keras_file), target=path.name, ledger=prepared.ledger, plan=reverse,
                  path=path, md5=digests["md5"], sha256=digests["sha256"],
                  seconds={"apply": time.perf_counter() - start},
                  warnings=(*prepared.warnings, *plan.losses()))
