"""Which part of the torch module belongs to which Keras layer: told by a Plan, or by the values
that both hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..keras_io.values import read_values
from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..running.fingerprint import Fingerprint, FingerprintIndex, distance, fingerprint
from ..running.outputs import as_array
from ..running.torch_steps import ModuleCall, Step, TorchRun, Value
from ..spec.roles import role_of
from ..spec.source import Source
from ..spec.target import Target, TargetLayer

# Values that were only carried over differ by nothing but the order in which they are added up.
SAME_VALUES = 1e-6
# A layer takes no more operations than this for each of its weights: padding by parts takes twenty.
MOST_STEPS = 30


@dataclass(frozen=True, slots=True, eq=False)
class TorchPlace:
    """Where in one run of the torch module a Keras layer's work is done.

    `names` are the weights, `path` the module that owns them (or the nearest above), `steps` the
    operations that use them, `inputs` and `outputs` what went in and came out.
    """

    names: tuple[str, ...]
    path: str
    module: Any
    steps: tuple[Step, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


def names_by_layer(plan: Plan | None, source: Source, target: Target) -> dict[str, tuple[str, ...]]:
    """Layer label to the torch tensors that it holds: as `plan` says, else those of equal values.
    """
    leaves = list(target.leaves())
    if plan is None:
        return names_by_values(source, leaves, target)
    found: dict[str, dict[str, None]] = {}
    leaf_of = {variable.key: leaf.display_name for leaf in leaves for variable in leaf.variables}
    for assignment in plan.assignments:
        if assignment.key in leaf_of:
            names = tensors_of(assignment.expression)
            found.setdefault(leaf_of[assignment.key], {}).update(dict.fromkeys(names))
    return {label: tuple(names) for label, names in found.items()}


def names_by_values(source: Source, leaves: Iterable[TargetLayer],
                    target: Target) -> dict[str, tuple[str, ...]]:
    """Layers whose variables hold the values of just one torch layer's tensors, in whatever layout.

    Constant tensors say nothing. A layer is paired when one torch layer holds values of at least
    half of its telling variables.
    """
    entries = [(fingerprint(np.asarray(as_array(value))), name)
               for name, value in source.module.state_dict().items()
               if value.is_floating_point() and value.numel() and name in source]
    index = FingerprintIndex(entries)
    found: dict[str, tuple[str, ...]] = {}
    for leaf in leaves:
        votes: dict[str, list[str]] = {}
        telling = 0
        for variable in leaf.variables:
            array = np.asarray(as_array(read_values(target, variable.variable)))
            if array.dtype.kind != "f" or not array.size or np.ptp(array) == 0:
                continue
            telling += 1
            for _, name in index.find(fingerprint(array), SAME_VALUES):
                agree = role_of(name) is None or role_of(variable.name) in (None, role_of(name))
                if agree and source[name].size == variable.size:
                    votes.setdefault(name.rpartition(".")[0], []).append(name)
        best = sorted(votes.items(), key=lambda item: -len(item[1]))
        if best and 2 * len(best[0][1]) >= telling and (len(best) == 1
                                                        or len(best[0][1]) > len(best[1][1])):
            path = best[0][0]
            found[leaf.display_name] = tuple(
                name for name in source if name.rpartition(".")[0] == path)
    return found


def common_path(names: Iterable[str]) -> str:
    """The module that owns all of some tensors."""
    split = [name.split(".")[:-1] for name in names]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def place_of(names: tuple[str, ...], near: Sequence[Fingerprint], run: TorchRun,
             modules: Mapping[str, Any]) -> TorchPlace | None:
    """The use of some weights whose input is nearest to one of the statistics `near`; None when
    they were not used.
    """
    wanted = set(names)
    steps = tuple(step for step in run.steps if wanted & set(step.weights))
    if not steps:
        return None
    path = common_path(names)
    calls = [call for call in run.modules if call.path == path and call.inputs and call.outputs]
    owns = all(name.rpartition(".")[0] == path for name in names)
    if calls and owns:
        call = min(calls, key=lambda call: _gap(call.inputs, near))
        inside = tuple(step for step in steps if call.first <= step.order <= call.last)
        if inside and _is_layer(call, inside):
            return TorchPlace(names, path, modules.get(path), inside, call.inputs, call.outputs)
    first = min(steps, key=lambda step: _gap(step.inputs, near))
    inside = tuple(
        step for step in steps if step.path == first.path and abs(step.order - first.order) < 24)
    last = inside[-1]
    owner = first.path or path
    return TorchPlace(names, owner, modules.get(owner), inside, inside[0].inputs, last.outputs)


def _is_layer(call: ModuleCall, steps: tuple[Step, ...]) -> bool:
    """Whether the module is one layer and not a whole block with some weights of its own."""
    weights = {weight for step in steps for weight in step.weights}
    return call.last - call.first <= MOST_STEPS * max(1, len(weights))


def _gap(values: tuple[Value, ...], near: Sequence[Fingerprint]) -> float:
    return min((distance(value.key, key) for value in values for key in near), default=float("inf"))
