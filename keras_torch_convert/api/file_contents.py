"""The contents of a Keras file: its layout, a checked Plan, and for every array of the file the
function that gives its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import PlanError, SaveError, TransferError
from ..keras_io.hdf5_header import byte_size
from ..keras_io.lazy_layout import REMEDY
from ..keras_io.template import read_template
from ..keras_io.verify_written import Values
from ..keras_io.weights_file import INDEX_SUFFIX, suffix_of
from ..keras_io.write_from_layout import WrittenFile, file_layout
from ..plan.difference import LEFT_OUT, Difference, difference, expected_of
from ..plan.executor import CheckedPlan, Strict, check_plan
from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..plan.plan_cache import PlanCache
from ..report.report import Report
from ..spec.file_layout import FileLayout, StoredArray, TargetLayout, recorded
from ..spec.source import Source
from ..spec.target import Target, TargetLayer, TargetVariable
from ..torch_io.renaming import fit_to_plan, offered
from ..util.atomic_file import check_writable
from ..util.text import plural
from .reporting import report_of_file


@dataclass(frozen=True, slots=True)
class FileContents:
    """A file that can be written: `values` has an entry for every key of `file`, the HDF5 file of
    `layout` that is wanted.
    """

    plan: Plan
    source: Source
    layout: TargetLayout
    file: FileLayout
    values: Mapping[str, Values]
    checked: CheckedPlan
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(map(byte_size, self.file.arrays))

    def report(self, saved: WrittenFile, start: float) -> Report:
        """Return the Report once the file is there; `start` is when the work on it began."""
        target = f"{saved.path.name} ({self.layout.framework} {self.layout.version})"
        return report_of_file(self.source.origin, target, self.plan, self.checked, saved, start,
                              (self.warnings, self.source.notes))


def contents_for(plan: Plan, source: Source, path: Path, template: Path | None, strict: Strict,
                 cache: PlanCache) -> FileContents:
    """Check everything that can be checked before a byte is written. Errors as in `apply`."""
    if plan.reversed:
        raise PlanError(
            "the plan leads from Keras to torch: give a path that ends in .safetensors, or "
            "plan.invert()")
    check_writable(path)
    if not path.name.endswith(INDEX_SUFFIX):
        suffix_of(path)
    layout, values = _layout(plan, template, path)
    file = file_layout(layout, path)
    plan, source = fit_to_plan(plan, source)
    checked = cache.find(plan, source, strict)
    if checked is None:
        _check_difference(plan, source)
        checked = check_plan(plan, source, _file_target(plan, layout, path), strict=strict)
        cache.keep(plan, source, strict, checked)
    values = {**values, **checked.by_key()}
    own = [array for array in file.arrays if array.values and array.key]
    values |= {array.key: partial(_own_values, array) for array in own}
    values |= _zeros(plan, file, values)
    unset = sorted({array.key for array in file.arrays if array.key} - values.keys())
    if unset:
        display_name = plan.targets[unset[0]].display_name if unset[0] in plan.targets else unset[0]
        raise SaveError(
            "neither the plan nor the checkpoint has values for "
            f"{plural(len(unset), 'variable')} that the file must hold, '{display_name}' among "
            "them: give template= a Keras file of the model that has them")
    return FileContents(plan, source, layout, file, values, checked, _warnings(plan, template))


def _check_difference(plan: Plan, source: Source) -> None:
    found = difference(plan, source)
    if not found.fits:
        lines = tuple(found.lines())
        shapes = {name: spec.shape for name, spec in expected_of(plan, source).items()}
        advice = "".join(f"\n{text}" for text in (offered(source, shapes),) if text)
        listed = "".join(f"\n  - {line}" for line in lines)
        raise TransferError(
            (f"{source.origin} does not fit the plan, {len(lines)} differences, nothing was "
             f"written:{listed}{advice}{_on_other_shapes(plan, found)}"), lines)


def _on_other_shapes(plan: Plan, found: Difference) -> str:
    """Say what to try when all that differs is the shapes of one layer, as for a head of another
    class count.
    """
    other = {name for name, _, _ in found.shapes}
    layers = {
        plan.targets[one.key].display_name.rpartition("/")[0] for one in plan.assignments
        if one.key in plan.targets and other & set(tensors_of(one.expression))
    }
    if len(layers) != 1 or found.missing or found.renamed:
        return ""
    return ("\na head for another number of classes is left out by name with "
            f"without={sorted(layers)}; it keeps the values of template=, "
            "without one zeros")


def _layout(plan: Plan, template: Path | None,
            path: Path) -> tuple[TargetLayout, dict[str, Values]]:
    if template is not None:
        known = None if plan.layout is None else recorded(plan.layout)
        pattern = read_template(template, plan, known)
        return pattern.layout, dict(pattern.values)
    layout = recorded(plan.layout)
    if layout is None:
        raise SaveError(f"how {path.name} must look is not known to the plan: {REMEDY}")
    if path.name.endswith(INDEX_SUFFIX) and layout.framework != "keras":
        raise SaveError(f"{layout.framework} has no sharded weights: write a .weights.h5 file")
    return layout, {}


def _own_values(array: StoredArray) -> npt.NDArray[Any]:
    """Return the values that a variable had in the model that the Plan was made with."""
    return np.frombuffer(array.values, np.uint8)


def _left_out(plan: Plan) -> dict[str, str]:
    return {key: rule for key, rule in plan.kept.items() if rule.startswith(LEFT_OUT)}


def _zeros(plan: Plan, file: FileLayout, values: Mapping[str, Values]) -> dict[str, Values]:
    """Return zeros for layers that were left out by name, where neither layout nor template has
    values.
    """
    left_out = _left_out(plan)
    return {
        array.key: partial(_zeros_like, array)
        for array in file.arrays if array.key in left_out and array.key not in values
    }


def _zeros_like(array: StoredArray) -> npt.NDArray[Any]:
    return np.zeros(prod(array.shape), np.dtype(array.dtype))


def _warnings(plan: Plan, template: Path | None) -> tuple[str, ...]:
    where = f"the values of {template}"
    if template is None:
        where = "zeros: give template= a file with other values"
    return tuple(f"'{plan.targets[key].display_name if key in plan.targets else key}' is {rule}; "
                 f"the file holds {where}" for key, rule in _left_out(plan).items())


def _file_target(plan: Plan, layout: TargetLayout, path: Path) -> Target:
    """Return the variables of a file that does not exist yet: those that the Plan sets, and those
    that it keeps.
    """
    variables = tuple(
        TargetVariable(key, spec.display_name,
                       spec.display_name.rsplit("/", 1)[-1], spec.shape, spec.dtype, True, None)
        for key, spec in plan.targets.items())
    framework: Literal["keras",
                       "tf_keras"] = "tf_keras" if layout.framework == "tf_keras" else "keras"
    layer = TargetLayer(path.name, path.name, ("File",), variables, (), 0, {}, None)
    return Target(None, path.name, framework, "none", (layer,))
