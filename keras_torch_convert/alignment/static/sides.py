"""What is to be paired: Keras layers that own variables, torch layers (or single tensors), and
which of them fit together by their rules.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...errors import AlignmentError, TransferError
from ...plan.expressions import tensors_of
from ...plan.recipe import Assignment
from ...rules.families.position_tables import Resize, with_resized_tables
from ...rules.layer import assign_layer
from ...spec.layer_groups import TorchLayer, last_part
from ...spec.roles import is_position_table, role_of
from ...spec.source import Source, SourceTensor
from ...spec.target import Target, TargetLayer
from ..hints import Hints, belongs, check_hints, names_for_hints
from .fused import in_parts, put_together

Signature = tuple[object, ...]


@dataclass(slots=True)
class Fits:
    """Whether torch layers fit Keras layers, asked once for each pair of kinds: the rules look at
    shapes and last parts of names only.
    """

    target: Target
    resize: Resize
    known: dict[tuple[Signature, Signature], bool] = field(default_factory=dict)

    def fit(self, torch_layer: TorchLayer, layer: TargetLayer) -> bool:
        """True when the rules of the transfer can fill the layer from the stack."""
        key = signature_of_stack(torch_layer), signature_of_layer(layer)
        if key not in self.known:
            self.known[key] = _fits(
                with_resized_tables(torch_layer, layer, self.target, self.resize), layer)
        return self.known[key]


def _fits(torch_layer: TorchLayer, layer: TargetLayer) -> bool:
    largest = max(variable.size for variable in layer.variables)
    if all(tensor.size != largest for tensor in torch_layer.tensors):
        return False
    try:
        assignments = assign_layer(torch_layer, layer)
    except TransferError:
        return False
    return len(torch_layer.tensors) == 1 or not _by_order_alone(assignments, layer)


def _by_order_alone(assignments: Sequence[Assignment], layer: TargetLayer) -> bool:
    """True when a vector with a known role (a norm's beta, a bias) would get a tensor whose name
    says nothing of it: two raw vectors are no norm.
    """
    variables = {variable.key: variable for variable in layer.variables}
    return any(
        len(variable.shape) == 1 and role_of(variable.name) is not None and not all(
            _tells_role(name) for name in tensors_of(assignment.expression))
        for assignment in assignments if (variable := variables[assignment.key]))


def _tells_role(name: str) -> bool:
    return role_of(name) is not None or last_part(name).endswith(("_weight", "_bias"))


def signature_of_stack(torch_layer: TorchLayer) -> Signature:
    """What the rules look at in a torch layer."""
    return tuple(
        (last_part(tensor.name), tensor.shape, tensor.dtype, is_position_table(tensor.name))
        for tensor in torch_layer.tensors)


def signature_of_layer(layer: TargetLayer) -> Signature:
    """What the rules look at in a Keras layer."""
    variables = tuple((variable.name, variable.shape) for variable in layer.variables)
    return layer.class_names, variables, repr(sorted(layer.settings.items(), key=str))


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides in their own order. Keras layer i may be filled from the torch layers
    `groups[group_of[i]]`, which are places in `stacks`, rising.
    """

    layers: tuple[TargetLayer, ...]
    torch_layers: tuple[TorchLayer, ...]
    group_of: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]


def sides_of(target: Target, torch_layers: Sequence[TorchLayer], resize: Resize = None) -> Sides:
    """The Keras layers to fill, each variable once, and the torch layers that fit them.

    A torch layer that fits none is cut into query, key and value where these fit, or taken apart
    into its tensors.
    """
    layers = layers_to_fill(target)
    by_signature = {signature_of_layer(layer): layer for layer in layers}
    kinds = list(by_signature.values())
    fits = Fits(target, resize)
    by_name = {torch_layer.name: torch_layer for torch_layer in torch_layers}
    units: list[TorchLayer] = []

    def find(name: str) -> Sequence[SourceTensor]:
        return by_name[name].tensors

    for torch_layer in put_together(torch_layers, kinds, find, fits.fit):
        if any(fits.fit(torch_layer, layer) for layer in kinds):
            units.append(torch_layer)
        else:
            units += in_parts(torch_layer, kinds, find, fits.fit) or taken_apart(torch_layer)
    alike: dict[Signature, list[int]] = defaultdict(list)
    for place, unit in enumerate(units):
        alike[signature_of_stack(unit)].append(place)
    groups: dict[tuple[int, ...], int] = {}
    group_of: dict[Signature, int] = {}
    for signature, layer in by_signature.items():
        fitting = sorted(place for places in alike.values() if fits.fit(units[places[0]], layer)
                         for place in places)
        group_of[signature] = groups.setdefault(tuple(fitting), len(groups))
    numbers = tuple(group_of[signature_of_layer(layer)] for layer in layers)
    return Sides(tuple(layers), tuple(units), numbers, tuple(groups))


def with_hints(sides: Sides, hints: Hints) -> Sides:
    """Cut the candidates of each hinted Keras layer down to what the hint means.

    Raises:
        AlignmentError: A name does not exist, or no rule fits a pair together.
    """
    torch_names = [[torch_layer.name, *(tensor.name for tensor in torch_layer.tensors)]
                   for torch_layer in sides.torch_layers]
    check_hints(hints, sides.layers, [name for names in torch_names for name in names])
    groups = list(sides.groups)
    group_of = list(sides.group_of)
    for key, value in hints.items():
        meant = {
            position for position, names in enumerate(torch_names) if any(
                belongs(name, value) for name in names)
        }
        for row, layer in enumerate(sides.layers):
            if key not in names_for_hints(layer):
                continue
            fitting = tuple(one for one in sides.groups[sides.group_of[row]] if one in meant)
            if not fitting:
                shapes = [variable.shape for variable in layer.variables]
                raise AlignmentError(
                    f"hints: '{value}' does not fit '{layer.display_name}' ({layer.class_name}), "
                    f"whose variables have the shapes {shapes}")
            group_of[row] = len(groups)
            groups.append(fitting)
    return replace(sides, groups=tuple(groups), group_of=tuple(group_of))


def taken_apart(torch_layer: TorchLayer) -> list[TorchLayer]:
    """Each tensor of a stack as a stack of its own."""
    return [
        TorchLayer(tensor.name, (tensor,), torch_layer.modules) for tensor in torch_layer.tensors
    ]


def layers_to_fill(target: Target) -> list[TargetLayer]:
    """The layers that own variables, without those whose variables all belong to an earlier one and
    those of Keras's own preprocessing.
    """
    layers: list[TargetLayer] = []
    seen: set[str] = set()
    for leaf in target.leaves():
        places = {variable.key for variable in leaf.variables}
        if not places <= seen and "Normalization" not in leaf.class_names:
            layers.append(leaf)
        seen |= places
    return layers


def names_of(sides: Sides) -> tuple[list[str], list[str]]:
    """What both sides are called: labels of Keras layers without the numbers that Keras itself
    gave, torch layers, and single tensors by their whole names.
    """
    keras = [_without_automatic_number(layer) for layer in sides.layers]
    torch = [
        torch_layer.tensors[0].name if _is_raw(torch_layer) else torch_layer.name
        for torch_layer in sides.torch_layers
    ]
    return keras, torch


def _without_automatic_number(layer: TargetLayer) -> str:
    """ "block/conv2d" for the layer "block/conv2d_17" of class Conv2D."""
    automatic = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_",
                       layer.class_name).lower()
    outer, separator, own = layer.display_name.rpartition("/")
    return outer + separator + automatic if re.fullmatch(rf"{automatic}_\d+",
                                                         own) else layer.display_name


def _is_raw(torch_layer: TorchLayer) -> bool:
    """True for a tensor that stands on its own: nothing that a torch layer would call its weight.
    """
    return len(torch_layer.tensors) == 1 and last_part(torch_layer.tensors[0].name) != "weight"


def spans(sides: Sides) -> list[tuple[int, int]]:
    """For each torch layer the first and last place at which order lets expect it.

    That is its own place; a tensor that its module owns directly stands before all layers inside of
    the module, wherever it is used, so that any place among these is as good.
    """
    found = []
    for place, torch_layer in enumerate(sides.torch_layers):
        inside = torch_layer.tensors[0].name.rpartition(".")[0] + "."
        last = place
        if _is_raw(torch_layer):
            while last + 1 < len(sides.torch_layers) and sides.torch_layers[
                    last + 1].tensors[0].name.startswith(inside):
                last += 1
        found.append((place, last))
    return found


def distinct_stacks(source: Source, torch_layers: Sequence[TorchLayer]) -> list[TorchLayer]:
    """The stacks without tensors that are another name of an earlier one."""
    again = {name for names in source.tied for name in names[1:]}
    kept = [
        TorchLayer(torch_layer.name,
                   tuple(tensor for tensor in torch_layer.tensors if tensor.name not in again),
                   torch_layer.modules) for torch_layer in torch_layers
    ]
    return [torch_layer for torch_layer in kept if torch_layer.tensors]
