"""A live PyTorch module, as what is read and as what is filled; nothing about it is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SourceError
from ..spec.layer_groups import last_part
from ..spec.source import Source
from ..spec.target import Target, TargetLayer, TargetVariable
from ..spec.tensor_spec import TensorSpec
from .live_tensor import Kind, live_tensors
from .named_source import others_note
from .wrappers import inner_module


def read_module(module: Any) -> Source:
    """Return the tensors of `module.state_dict()`, each marked as parameter or buffer.

    Of DataParallel, torch.compile and the like the module inside is taken, which is what `module`
    of the Source is then.
    """
    origin = f"module {type(module).__name__}"
    prefix, module = inner_module(module)
    kinds: dict[str, Kind] = {
        name: "parameter" for name, _ in module.named_parameters(remove_duplicate=False)
    }
    kinds |= {name: "buffer" for name, _ in module.named_buffers(remove_duplicate=False)}
    tensors, others = live_tensors(module.state_dict(), origin, kinds)
    if not tensors:
        raise SourceError(f"{origin} has no weights")
    notes = [f"prefix {prefix!r} removed from all names"] if prefix else []
    if others:
        notes.append(others_note(others))
    return Source({tensor.name: tensor for tensor in tensors}, origin, prefix=prefix, module=module,
                  notes=tuple(notes))


def read_torch_target(module: Any) -> Target:
    """Return the tensors of `module.state_dict()` as variables, with a layer for each submodule.

    The key of a variable is its name in the state dict. Tied tensors are one variable, under their
    first name. Raises SourceError for tensors that hold no plain values (meta, quantized, sparse,
    not initialized).
    """
    source = read_module(module)
    state = source.module.state_dict()
    first = {name: group[0] for group in source.tied for name in group}
    variables = [
        TargetVariable(name, name, last_part(name), tensor.shape, tensor.dtype,
                       tensor.kind == "parameter", state[name])
        for name, tensor in source.tensors.items() if first.get(name, name) == name
    ]
    class_names = {
        name: tuple(base.__name__ for base in type(submodule).__mro__[:-1])
        for name, submodule in source.module.named_modules(remove_duplicate=False)
    }
    aliases = {name: canonical for name, canonical in first.items() if name != canonical}
    layers = _layers(variables, class_names)
    return Target(module, type(module).__name__, "torch", "torch", layers, aliases)


def torch_target_of(specs: Mapping[str, TensorSpec]) -> Target:
    """Return a state dict that does not exist yet as a target."""
    variables = [
        TargetVariable(name, name, last_part(name), spec.shape, spec.dtype, True, None)
        for name, spec in specs.items()
    ]
    return Target(None, "state dict", "torch", "torch", _layers(variables, {}))


def _layers(variables: Sequence[TargetVariable],
            class_names: Mapping[str, tuple[str, ...]]) -> tuple[TargetLayer, ...]:
    by_layer: dict[str, list[TargetVariable]] = {}
    for variable in variables:
        by_layer.setdefault(variable.key[:-len(variable.name) - 1], []).append(variable)
    return tuple(
        TargetLayer(name, name, class_names.get(name, ("Module",)), tuple(own), (), 0, {}, None)
        for name, own in by_layer.items())
