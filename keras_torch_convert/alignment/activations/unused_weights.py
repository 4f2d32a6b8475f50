"""Weights that a module computes with although nothing it gives depends on the result (the last
residual branch of a WaveNet).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...running.torch_trace import tensors_in, traced_twin

# Each layer costs a run of the module; a model with more layers without a place differs in another
# way.
MOST_LAYERS = 16


def unused_weights(module: Any, values: Mapping[str, Any], call: Callable[[Any], Any],
                   names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` whose change, together with all others of their layer, leaves each output of
    `call(module)` as it is, bit for bit.

    The module is run on `values`; it keeps its own.
    """
    layers: dict[str, list[str]] = {}
    for name in names:
        if name in values:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
    if not 0 < len(layers) <= MOST_LAYERS:
        return ()
    before = _outputs(module, values, call)
    changed = {name: changed_values(values, members) for name, members in layers.items()}
    return tuple(one for name, members in layers.items()
                 if _equal(before, _outputs(module, changed[name], call)) for one in members)


def changed_values(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return values by name, those of `names` changed."""
    return {**values, **{name: 2 * values[name] + 1 for name in names}}


def _outputs(module: Any, values: Mapping[str, Any], call: Callable[[Any], Any]) -> list[Any]:
    with traced_twin(module, values) as (twin, _):
        return list(tensors_in(call(twin)))


def _equal(first: Sequence[Any], second: Sequence[Any]) -> bool:
    import torch

    return len(first) == len(second) and all(
        torch.equal(one, other) for one, other in zip(first, second, strict=True))
