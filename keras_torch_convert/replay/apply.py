"""A checkpoint into a Keras file as a Plan says, file to file: neither PyTorch nor Keras is imported, no model is built."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import SaveError
from ..plan import Plan
from ..progress import SECONDS_BEFORE_SHOWN
from ..read import read as read_source
from ..read.source import Source
from ..read.target import Target, TargetLayer, TargetVariable
from ..report import Report
from ..save.from_plan import file_layout, write_file
from ..save.layout import StoredArray, TargetLayout
from ..save.live_layout import REMEDY, recorded
from ..save.skeleton import byte_size
from ..transfer.executor import prepare


def apply(
    plan: Plan,
    source: Any,
    path: str | PathLike[str],
    *,
    verify: bool = True,
    digests: Sequence[str] = ("md5", "sha256"),
    durable: bool = True,
    progress: bool = False,
) -> Report:
    """Write the weights of a checkpoint into a Keras file (.h5, .weights.h5 or .keras) as `plan` says.

    `source` is the path of a checkpoint, or anything else that `read` takes. The Plan must know its layout (`plan.layout`). The file
    holds what the live conversion saves, value for value, and the same input gives the same bytes wherever and whenever.
    With `verify` the file is read again by h5py and compared with the source, which reads both once more. `digests` are computed
    behind the writer. `durable` flushes the file to the disk before it takes its name. `progress` shows a bar, by bytes.

    Raises SourceError for what cannot be read, TransferError when the checkpoint does not fit, with everything in
    `.problems`, and SaveError when the file cannot be written. On any error, Ctrl-C included, an existing file is as it was.
    """
    start = time.perf_counter()
    path = Path(path)
    layout = recorded(plan.layout)
    if layout is None:
        raise SaveError(f"the plan does not know how the Keras files look: {REMEDY}")
    arrays = file_layout(layout, path)
    source = source if isinstance(source, Source) else read_source(source)
    target = _file_target(plan, layout, path)
    prepared = prepare(plan, source, target)
    values = prepared.by_place()
    values |= {array.place: partial(_own_values, array) for array in arrays.arrays if array.values and array.place}
    unset = sorted({array.place for array in arrays.arrays if array.place} - values.keys())
    if unset:
        raise SaveError(
            f"the plan gives no values for {len(unset)} variables that the file must hold, '{unset[0]}' among them: "
            "apply it to a live model that has them"
        )
    total = sum(map(byte_size, arrays.arrays))
    with _bar(total, progress) as written:
        saved = write_file(layout, values, path, verify=verify, digests=digests, durable=durable, written=written)
    return Report(
        source=source.origin,
        target=f"{path.name} ({_framework(layout)})",
        ledger=prepared.ledger,
        plan=plan,
        path=saved.path,
        md5=saved.digests.get("md5"),
        sha256=saved.digests.get("sha256"),
        seconds={"apply": time.perf_counter() - start},
        warnings=prepared.warnings,
        notes=source.notes,
    )


def _own_values(array: StoredArray) -> npt.NDArray[Any]:
    """The values that a variable had in the model that the Plan was made with."""
    return np.frombuffer(array.values, np.uint8)


def _file_target(plan: Plan, layout: TargetLayout, path: Path) -> Target:
    """The variables of a file that does not exist yet: those that the Plan sets, and those that it keeps."""
    variables = tuple(
        TargetVariable(place, kind.label, kind.label.rsplit("/", 1)[-1], kind.shape, kind.dtype, True, None)
        for place, kind in plan.targets.items()
    )
    framework: Literal["keras", "tf_keras"] = "tf_keras" if layout.framework == "tf_keras" else "keras"
    layer = TargetLayer(path.name, path.name, ("File",), variables, (), 0, {}, None)
    return Target(None, path.name, framework, "none", (layer,))


def _framework(layout: TargetLayout) -> str:
    return f"{layout.framework} {layout.version}"


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    if not shown:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc="apply",
        unit="B",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        delay=SECONDS_BEFORE_SHOWN,
    ) as bar:

        def written(count: int) -> None:
            bar.update(count)

        yield written
