"""Collection: the tensors of a source, stacked by the layer that their names say.

The rules are those of `state_dict_stack_by_layer` in keras_cv_attention_models 1.4.3; cutting and
grouping the names is done in C.
"""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .. import _core
from ..errors import AlignmentError, SourceError
from .source import Source, SourceTensor

# What torch.nn.utils.parametrize puts between the name of a layer and that of its weight.
PARAMETRIZED = ".parametrizations."
DEFAULT_SKIP_WEIGHTS = ("num_batches_tracked",)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class TorchLayer:
    """One PyTorch layer: its name ("" for tensors whose name has one part) and its tensors in the
    order of the source.

    `modules` are the live modules by layer name, one for each layer that was joined into the stack,
    empty when only a checkpoint is at hand.
    """

    name: str
    tensors: tuple[SourceTensor, ...]
    modules: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def display_name(self) -> str:
        """The name for people: those of its tensors where the layer has none."""
        return self.name or ", ".join(tensor.name for tensor in self.tensors)


@dataclass(frozen=True, slots=True, eq=False)
class LayerGroups:
    """All layers in order of first appearance, and for every tensor that was skipped the rule that
    did it.
    """

    layers: tuple[TorchLayer, ...]
    skipped: Mapping[str, str]


def group_by_layer(
    source: Source, skip_weights: Names[str] = DEFAULT_SKIP_WEIGHTS,
    unstack_weights: Names[str] = ()) -> LayerGroups:
    """Stack the tensors of `source` by layer.

    A tensor belongs to the layer named by all but the last part of its name. `skip_weights` are
    last parts to leave out, `unstack_weights` last parts whose tensors become layers of their own,
    under their full names. Raises AlignmentError when an unstacked tensor would replace others,
    SourceError for an empty tensor name.
    """
    tensors = list(source.tensors.values())
    layers, skipped = stack_by_names([tensor.name for tensor in tensors], tensors, skip_weights,
                                     unstack_weights)
    torch_layers = [
        TorchLayer(layer, tuple(members), _modules(source,
                                                   owner_of_parametrized(layer)[0]))
        for layer, members in layers.items()
    ]
    return LayerGroups(
        joined(torch_layers),
        {tensor.name: f"skip_weights {last_part(tensor.name)!r}" for tensor in skipped})


def _modules(source: Source, layer: str) -> dict[str, Any]:
    """The live module of a layer by its name, of a tensor with a layer of its own the module that
    holds it; {} when there is none.
    """
    module = source.module
    owner = layer.rpartition(".")[0] if layer in source else layer
    for part in owner.split("."):
        # Those of a scripted module are no dict.
        children = getattr(module, "_modules", {}) if part else {"": module}
        module = children[part] if part in children else None  # noqa: SIM401
    return {} if module is None else {owner: module}


def owner_of_parametrized(name: str) -> tuple[str, str]:
    """The layer of "conv.parametrizations.weight.original" and the rest ("weight.original"); for
    other names the name and "".
    """
    owner, inside, rest = f".{name}".partition(PARAMETRIZED)
    return (owner[1:], rest) if inside else (name, "")


def joined(torch_layers: Sequence[TorchLayer]) -> tuple[TorchLayer, ...]:
    """The stacks with those of parametrized weights ("conv.parametrizations.weight" and below) in
    the stack of their layer ("conv").
    """
    tensors: dict[str, list[SourceTensor]] = {}
    modules: dict[str, dict[str, Any]] = {}
    for torch_layer in torch_layers:
        layer = owner_of_parametrized(torch_layer.name)[0]
        tensors.setdefault(layer, []).extend(torch_layer.tensors)
        modules.setdefault(layer, {}).update(torch_layer.modules)
    return tuple(
        TorchLayer(layer, tuple(found), modules[layer]) for layer, found in tensors.items())


def stack_by_names(names: Names[str], items: Names[Item], skip_weights: Names[str],
                   unstack_weights: Names[str]) -> tuple[dict[str, list[Item]], list[Item]]:
    """Items, one for each name, by layer in order of first appearance, and those that were skipped.
    """
    plain_names = as_plain_strings(names, "names of tensors", SourceError)
    skip = last_parts(skip_weights, "skip_weights")
    unstack = last_parts(unstack_weights, "unstack_weights")
    try:
        layers, skipped = _core.stack_by_layer(plain_names, tuple(items), skip, unstack)
    except _core.NamesError as refused:
        first, second = (plain_names[index] for index in refused.args)
        raise AlignmentError(
            f"unstacked tensor {second!r} would replace tensor {first!r}, which is already "
            "collected under the same layer name; leave one of them out through skip_weights, or "
            "rename it in the state dict") from None
    # Only a layer without a name can hold a tensor without one.
    if ("" in skip or "" in layers) and "" in plain_names:
        raise SourceError(
            f"tensor number {plain_names.index('')} has an empty name; give every tensor a name")
    return layers, skipped


def last_parts(parts: Names[str], parameter: str) -> tuple[str, ...]:
    """The entries of `skip_weights` or `unstack_weights` as plain strings.

    A lone string is refused: the classic functions would look for names inside of it.
    """
    if isinstance(parts, str) or not isinstance(parts, Names):
        raise AlignmentError(
            f"{parameter} must be a list of the last parts of tensor names, got {parts!r:.100}; "
            f"write {parameter}=[...]")
    return as_plain_strings(parts, f"entries of {parameter}", AlignmentError)


def as_plain_strings(names: Names[Any], what: str,
                     error: type[AlignmentError | SourceError]) -> tuple[str, ...]:
    """The names as a tuple of exactly `str`, as the C core wants them; subclasses such as
    numpy.str_ are turned into it.
    """
    listed = tuple(names)
    if _core.are_exactly(listed, (str,)):
        return listed
    for name in listed:
        if not isinstance(name, str):
            raise error(f"{what} must be str, got {name!r:.100} of type {type(name).__name__}")
    return tuple(map(str.__str__, listed))


def last_part(name: str) -> str:
    """The part of a tensor's name that `skip_weights` looks at."""
    if name[-2:-1] == ":":
        name = name[:-2]
    return name.rpartition("/" if "/" in name else ".")[2]
