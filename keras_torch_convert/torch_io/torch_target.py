"""The other direction: a torch module as what is filled, a Keras model as what is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..spec.layer_groups import last_part
from ..spec.target import Target, TargetLayer, TargetVariable
from ..spec.tensor_spec import TensorSpec
from .module import read_module


def read_torch_target(module: Any) -> Target:
    """The tensors of `module.state_dict()` as variables, a layer for each submodule that owns some.

    The place of a variable is its name in the state dict. Tied tensors are one variable, under
    their first name. Raises SourceError for tensors that hold no plain values (meta, quantized,
    sparse, not initialized).
    """
    source = read_module(module)
    state = module.state_dict()
    first = {name: group[0] for group in source.tied for name in group}
    variables = [
        TargetVariable(name, name, last_part(name), tensor.shape, tensor.dtype,
                       tensor.kind == "parameter", state[source.prefix + name])
        for name, tensor in source.tensors.items() if first.get(name, name) == name
    ]
    kinds = {
        name: tuple(kind.__name__ for kind in type(submodule).__mro__[:-1])
        for name, submodule in module.named_modules(remove_duplicate=False)
    }
    aliases = {name: canonical for name, canonical in first.items() if name != canonical}
    return Target(module,
                  type(module).__name__, "torch", "torch", _layers(variables, kinds, source.prefix),
                  aliases)


def torch_target_of(arrays: Mapping[str, TensorSpec]) -> Target:
    """A state dict that does not exist yet, by names, shapes and types."""
    variables = [
        TargetVariable(name, name, last_part(name), kind.shape, kind.dtype, True, None)
        for name, kind in arrays.items()
    ]
    return Target(None, "state dict", "torch", "torch", _layers(variables, {}, ""))


def _layers(variables: Sequence[TargetVariable], kinds: Mapping[str, tuple[str, ...]],
            prefix: str) -> tuple[TargetLayer, ...]:
    by_layer: dict[str, list[TargetVariable]] = {}
    for variable in variables:
        by_layer.setdefault(variable.key[:-len(variable.name) - 1], []).append(variable)
    return tuple(
        TargetLayer(name, name, kinds.get(prefix + name, ("Module",)), tuple(own), (), 0, {}, None)
        for name, own in by_layer.items())
