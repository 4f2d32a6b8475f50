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

    def fit(self, stack: TorchLayer, layer: TargetLayer) -> bool:
        """True when the rules of the transfer can fill the layer from the stack."""
        key = signature_of_stack(stack), signature_of_layer(layer)
        if key not in self.known:
            self.known[key] = _fits(with_resized_tables(stack, layer, self.target, self.resize),
                                    layer)
        return self.known[key]


def _fits(stack: TorchLayer, layer: TargetLayer) -> bool:
    largest = max(variable.size for variable in layer.variables)
    if all(tensor.size != largest for tensor in stack.tensors):
        return False
    try:
        assignments = assign_layer(stack, layer)
    except TransferError:
        return False
    return len(stack.tensors) == 1 or not _by_order_alone(assignments, layer)


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


def signature_of_stack(stack: TorchLayer) -> Signature:
    """What the rules look at in a torch layer."""
    return tuple(
        (last_part(tensor.name), tensor.shape, tensor.dtype, is_position_table(tensor.name))
        for tensor in stack.tensors)


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
    stacks: tuple[TorchLayer, ...]
    group_of: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]


def sides_of(target: Target, stacks: Sequence[TorchLayer], resize: Resize = None) -> Sides:
    """The Keras layers to fill, each variable once, and the torch layers that fit them.

    A torch layer that fits none is cut into query, key and value where these fit, or taken apart
    into its tensors.
    """
    layers = layers_to_fill(target)
    by_signature = {signature_of_layer(layer): layer for layer in layers}
    kinds = list(by_signature.values())
    fits = Fits(target, resize)
    by_name = {stack.layer: stack for stack in stacks}
    units: list[TorchLayer] = []

    def find(name: str) -> Sequence[SourceTensor]:
        return by_name[name].tensors

    for stack in put_together(stacks, kinds, find, fits.fit):
        if any(fits.fit(stack, layer) for layer in kinds):
            units.append(stack)
        else:
            units += in_parts(stack, kinds, find, fits.fit) or taken_apart(stack)
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
    torch_names = [[torch_layer.layer, *(tensor.name for tensor in torch_layer.tensors)]
                   for torch_layer in sides.stacks]
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


def taken_apart(stack: TorchLayer) -> list[TorchLayer]:
    """Each tensor of a stack as a stack of its own."""
    return [TorchLayer(tensor.name, (tensor,), stack.modules) for tensor in stack.tensors]


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
    torch = [stack.tensors[0].name if _is_raw(stack) else stack.layer for stack in sides.stacks]
    return keras, torch


def _without_automatic_number(layer: TargetLayer) -> str:
    """ "block/conv2d" for the layer "block/conv2d_17" of class Conv2D."""
    automatic = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_",
                       layer.class_name).lower()
    outer, separator, own = layer.display_name.rpartition("/")
    return outer + separator + automatic if re.fullmatch(rf"{automatic}_\d+",
                                                         own) else layer.display_name


def _is_raw(stack: TorchLayer) -> bool:
    """True for a tensor that stands on its own: nothing that a torch layer would call its weight.
    """
    return len(stack.tensors) == 1 and last_part(stack.tensors[0].name) != "weight"


def spans(sides: Sides) -> list[tuple[int, int]]:
    """For each torch layer the first and last place at which order lets expect it.

    That is its own place; a tensor that its module owns directly stands before all layers inside of
    the module, wherever it is used, so that any place among these is as good.
    """
    found = []
    for place, stack in enumerate(sides.stacks):
        inside = stack.tensors[0].name.rpartition(".")[0] + "."
        last = place
        if _is_raw(stack):
            while last + 1 < len(
                    sides.stacks) and sides.stacks[last + 1].tensors[0].name.startswith(inside):
                last += 1
        found.append((place, last))
    return found


def distinct_stacks(source: Source, stacks: Sequence[TorchLayer]) -> list[TorchLayer]:
    """The stacks without tensors that are another name of an earlier one."""
    again = {name for names in source.tied for name in names[1:]}
    kept = [
        TorchLayer(stack.layer, tuple(tensor for tensor in stack.tensors
                                      if tensor.name not in again), stack.modules)
        for stack in stacks
    ]
    return [stack for stack in kept if stack.tensors]
