"""Which part of the torch module's run belongs to which Keras layer: told by a Plan, or by the
values that both hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
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
MAX_STEPS = 30
# Operations of one layer without a module of its own are no further apart than this.
MAX_DISTANCE = 24


@dataclass(frozen=True, slots=True, eq=False)
class TorchScope:
    """The part of one run of the torch module in which a Keras layer's weights are used.

    `names` are the weights, `path` the module that owns them (or the nearest above), `steps` the
    operations that use them, `inputs` and `outputs` what went in and came out.
    """

    names: tuple[str, ...]
    path: str
    module: Any
    steps: tuple[Step, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    @property
    def first_order(self) -> int:
        """The time of the first operation."""
        return min(step.order for step in self.steps)


def names_by_layer(plan: Plan | None, source: Source, target: Target) -> dict[str, tuple[str, ...]]:
    """Return for each layer's display name the torch tensors that it holds, and those beside them
    in torch that no layer has: those of the plan, else those of equal values.
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
    taken = {name for own in found.values() for name in own}
    beside: dict[str, dict[str, None]] = {}
    for name in source:
        if name not in taken and source[name].kind == "parameter":
            beside.setdefault(name.rpartition(".")[0], {})[name] = None
    for own in found.values():
        for layer in {name.rpartition(".")[0] for name in own}:
            own.update(beside.get(layer, {}))
    return {layer: tuple(names) for layer, names in found.items()}


def names_by_values(source: Source, leaves: Iterable[TargetLayer],
                    target: Target) -> dict[str, tuple[str, ...]]:
    """Pair layers whose variables hold the values of just one torch layer's tensors, in whatever
    layout.

    Constant tensors say nothing. A layer is paired when one torch layer holds values of at least
    half of its other variables.
    """
    index = FingerprintIndex((fingerprint(np.asarray(as_array(value))), name)
                             for name, value in source.module.state_dict().items()
                             if value.is_floating_point() and value.numel() and name in source)
    found: dict[str, tuple[str, ...]] = {}
    for leaf in leaves:
        votes: dict[str, int] = {}
        voters = 0
        for variable in leaf.variables:
            array = np.asarray(as_array(read_values(target, variable.variable)))
            if array.dtype.kind != "f" or not array.size or np.ptp(array) == 0:
                continue
            voters += 1
            for _, name in index.find(fingerprint(array), SAME_VALUES):
                same_role = role_of(name) is None or role_of(variable.name) in (None, role_of(name))
                if same_role and source[name].size == variable.size:
                    path = name.rpartition(".")[0]
                    votes[path] = votes.get(path, 0) + 1
        best = sorted(votes, key=lambda path: -votes[path])
        is_unique = len(best) == 1 or (len(best) > 1 and votes[best[0]] > votes[best[1]])
        if is_unique and 2 * votes[best[0]] >= voters:
            found[leaf.display_name] = tuple(
                name for name in source if name.rpartition(".")[0] == best[0])
    return found


def scope_of(names: tuple[str, ...], near: Sequence[Fingerprint], run: TorchRun,
             modules: Mapping[str, Any], turn: tuple[int, int] = (0, 1)) -> TorchScope | None:
    """Return the use of some weights whose input is nearest to one of the statistics `near`, None
    when they were not used.

    `turn` is (which, of how many) use it is in Keras: as many in torch are in the same order.
    """
    wanted = set(names)
    steps = tuple(step for step in run.steps if wanted & set(step.weights))
    if not steps:
        return None
    path = _common_path(names)
    calls = [call for call in run.modules if call.path == path and call.inputs and call.outputs]
    owns = all(name.rpartition(".")[0] == path for name in names)
    if calls and owns:
        call = (calls[turn[0]] if len(calls) == turn[1] else min(
            calls, key=lambda call: _distance(call.inputs, near)))
        inside = tuple(step for step in steps if call.first <= step.order <= call.last)
        module = modules.get(path)
        is_whole = module is not None and not any(
            True for _ in module.children()) and wanted.issuperset(
                f"{path}.{name}" for name, _ in module.named_parameters())
        if inside and (is_whole or _is_layer(call, inside)):
            return TorchScope(names, path, module, inside, call.inputs, call.outputs)
    first = min(steps, key=lambda step: _distance(step.inputs, near))
    inside = tuple(step for step in steps
                   if step.path == first.path and abs(step.order - first.order) < MAX_DISTANCE)
    owner = first.path or path
    return TorchScope(names, owner, modules.get(owner), inside, inside[0].inputs,
                      inside[-1].outputs)


def _common_path(names: Iterable[str]) -> str:
    """Return the module that owns all of some tensors."""
    common = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def _is_layer(call: ModuleCall, steps: tuple[Step, ...]) -> bool:
    """Whether the module is one layer and not a whole block with some weights of its own."""
    weights = {weight for step in steps for weight in step.weights}
    return call.last - call.first <= MAX_STEPS * max(1, len(weights))


def _distance(values: tuple[Value, ...], near: Sequence[Fingerprint]) -> float:
    return min((distance(value.key, key) for value in values for key in near), default=inf)
