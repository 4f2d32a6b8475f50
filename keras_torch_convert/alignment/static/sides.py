"""What is to be paired: Keras layers, torch layers or single tensors, and which of them fit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...errors import AlignmentError, TransferError
from ...plan.derived_tensors import derive
from ...plan.expressions import Fill, Permute, Reshape, Tensor, tensors_of
from ...plan.recipe import Assignment
from ...rules.families.flattened import counts_inputs, hidden_doubt
from ...rules.families.position_tables import Resize, with_resized_tables
from ...rules.layer import assign_layer
from ...spec.layer_groups import TorchLayer, last_part
from ...spec.roles import is_position_table, role_of
from ...spec.source import Source, SourceTensor
from ...spec.target import Target, TargetLayer
from ..hints import Hints, belongs, check_hints, names_for_hints
from ..names import words_of
from ..regrouping import single_cells
from .fused import Fit, in_parts, put_together

Signature = tuple[object, ...]
# So many matrices that are not square must tell that all count their inputs first.
_MATRICES_THAT_TELL = 2
# Words of the names of output layers: lm_head, embed_out, decoder.
_OUTPUTS = frozenset(("head", "output", "decoder"))


@dataclass(slots=True)
class Fits:
    """Whether torch layers fit Keras layers, asked once for each pair of signatures.

    The rules look at shapes and last parts of names only.
    """

    target: Target
    resize: Resize
    known: dict[tuple[Signature, Signature], bool] = field(default_factory=dict)

    def fit(self, torch_layer: TorchLayer, layer: TargetLayer) -> bool:
        """Return True when the rules can fill the Keras layer."""
        key = _signature_of_torch(torch_layer), _signature_of_keras(layer)
        if key not in self.known:
            resized = with_resized_tables(torch_layer, layer, self.target, self.resize)
            self.known[key] = _fits(resized, layer)
        return self.known[key]


def _fits(torch_layer: TorchLayer, layer: TargetLayer) -> bool:
    # The table of tokens may have the same shape: only the name tells them apart.
    if layer.variables[0].name == "reverse_embeddings" and not _is_output(torch_layer):
        return False
    largest = max(variable.size for variable in layer.variables)
    if all(tensor.size != largest for tensor in torch_layer.tensors):
        return False
    try:
        assignments = assign_layer(torch_layer, layer)
    except TransferError:
        return False
    return len(torch_layer.tensors) == 1 or not _by_order_alone(assignments, layer)


def _is_output(torch_layer: TorchLayer) -> bool:
    """Return whether a name says that the layer makes a model's outputs."""
    module = torch_layer.tensors[0].name.rpartition(".")[0]
    return not _OUTPUTS.isdisjoint(words_of(last_part(module)))


def _by_order_alone(assignments: Sequence[Assignment], layer: TargetLayer) -> bool:
    """Return True when a vector with a known role would get a tensor whose name says nothing.

    Two raw vectors are no norm.
    """
    variables = {variable.key: variable for variable in layer.variables}
    return any(
        len(variable.shape) == 1 and role_of(variable.name) is not None and not all(
            _tells_role(name) for name in tensors_of(assignment.expression))
        for assignment in assignments if (variable := variables[assignment.key]))


def _tells_role(name: str) -> bool:
    last = last_part(name)
    return role_of(name) is not None or last.endswith(("_weight", "_bias")) or "bias_" in last


def _signature_of_torch(torch_layer: TorchLayer) -> Signature:
    """Return what the rules look at in a torch layer."""
    tensors = ((last_part(tensor.name), tensor.shape, tensor.dtype, is_position_table(tensor.name))
               for tensor in torch_layer.tensors)
    return (_is_output(torch_layer), *tensors)


def _signature_of_keras(layer: TargetLayer) -> Signature:
    """Return what the rules look at in a Keras layer."""
    variables = tuple((variable.name, variable.shape) for variable in layer.variables)
    return layer.class_names, variables, repr(sorted(layer.settings.items(), key=str))


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides in their own order.

    Keras layer i, with the name `names[i]` for comparison, may be filled from the torch layers at
    the positions `groups[group_of[i]]`, which rise.
    """

    layers: tuple[TargetLayer, ...]
    names: tuple[str, ...]
    torch_layers: tuple[TorchLayer, ...]
    group_of: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]

    @property
    def torch_names(self) -> list[str]:
        """Names of the torch layers; single tensors have their whole names."""
        return [one.tensors[0].name if _is_raw(one) else one.name for one in self.torch_layers]


def sides_of(target: Target, torch_layers: Sequence[TorchLayer], resize: Resize = None) -> Sides:
    """Return the Keras layers to fill, each variable once, and the torch layers that fit them.

    A torch layer that fits none is cut into its recurrent cells, or into query, key and value,
    where these fit, or into its tensors. A Keras layer that none fits is cut into its variables,
    where there are torch layers for all.
    """
    layers = layers_to_fill(target)
    by_signature = {_signature_of_keras(layer): layer for layer in layers}
    distinct = list(by_signature.values())
    fits = Fits(target, resize)
    by_name = {torch_layer.name: torch_layer for torch_layer in torch_layers}

    def find(name: str) -> Sequence[SourceTensor]:
        return by_name[name].tensors

    def fits_some(torch_layer: TorchLayer) -> bool:
        return any(fits.fit(torch_layer, layer) for layer in distinct)

    units: list[TorchLayer] = []
    for torch_layer in put_together(torch_layers, distinct, find, fits.fit):
        cells = single_cells(torch_layer)
        if fits_some(torch_layer):
            units.append(torch_layer)
        elif cells and any(map(fits_some, cells)):
            units += cells
        else:
            units += in_parts(torch_layer, distinct, find, fits.fit) or _taken_apart(torch_layer)
    units = [
        table if (table := _without_batch(unit)) is not None and not fits_some(unit)
        and fits_some(table) else unit for unit in units
    ]
    layers = _variables_of_starved(layers, units, fits.fit)
    by_signature = {_signature_of_keras(layer): layer for layer in layers}
    alike: dict[Signature, list[int]] = defaultdict(list)
    for position, unit in enumerate(units):
        alike[_signature_of_torch(unit)].append(position)
    groups: dict[tuple[int, ...], int] = {}
    group_of: dict[Signature, int] = {}
    for signature, layer in by_signature.items():
        fitting = sorted(position
                         for positions in alike.values() if fits.fit(units[positions[0]], layer)
                         for position in positions)
        group_of[signature] = groups.setdefault(tuple(fitting), len(groups))
    return Sides(tuple(layers), tuple(names_without_counters(target, layers)), tuple(units),
                 tuple(group_of[_signature_of_keras(layer)] for layer in layers), tuple(groups))


def names_without_counters(target: Target, layers: Sequence[TargetLayer]) -> list[str]:
    """Return the names of Keras layers without the numbers of automatic names, which count the
    layers of a session: "lstm/lstm_cell" for "lstm_3/lstm_cell".
    """
    plain = {
        layer.display_name: layer.base_name
        for layer in (*target.leaves(), *target.inner, *target.layers)
    }

    def plain_name(display_name: str) -> str:
        outer, separator, _ = display_name.rpartition("/")
        own = plain.get(display_name, display_name).rpartition("/")[2]
        return f"{plain_name(outer)}/{own}" if separator else own

    # Variables that are filled one by one have their layer's name in common.
    count = Counter(layer.display_name for layer in layers)
    endings = (
        f"/{layer.variables[0].name}" if count[layer.display_name] > 1 else "" for layer in layers)
    return [
        plain_name(layer.display_name) + ending
        for layer, ending in zip(layers, endings, strict=True)
    ]


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


def _without_batch(torch_layer: TorchLayer) -> TorchLayer | None:
    """Return a layer of one table that torch holds as a batch of one, such as positions (1, n, d),
    as the table; None for every other layer.
    """
    table = torch_layer.tensors[0]
    if not _is_raw(torch_layer) or len(table.shape) < 3 or table.shape[0] != 1:
        return None
    single = derive(f"{table.name}.table.{last_part(table.name)}",
                    Reshape(Tensor(table.name), table.shape[1:]), [table])
    return replace(torch_layer, tensors=(single,))


def layers_that_do_nothing(layers: Sequence[TargetLayer], source: Source) -> list[Assignment]:
    """Return what makes batch normalizations do nothing, where the checkpoint has none at all."""
    if any(role_of(name) in ("mean", "variance") for name in source):
        return []
    return [
        Assignment(
            variable.key, Fill(_value_that_does_nothing(variable.name, layer), variable.shape),
            "torch has no batch normalization: filled so that it does nothing",
            f"'{layer.display_name}' has no counterpart in torch, where nothing may "
            "normalize: only equal outputs can prove it")
        for layer in layers if "BatchNormalization" in layer.class_names
        for variable in layer.variables
    ]


def _value_that_does_nothing(name: str, layer: TargetLayer) -> float:
    if name == "moving_variance":
        return 1.0 - float(layer.settings.get("epsilon") or 0.0)
    return float(name == "gamma")


def _variables_of_starved(layers: Sequence[TargetLayer], units: Sequence[TorchLayer],
                          fit: Fit) -> list[TargetLayer]:
    """Return the layers, those that no torch layer fits as their variables, when there are torch
    layers for all: an embedding with an output matrix of its own is two layers in torch. Vectors,
    which fit anywhere, stay with their layer.
    """
    parts: dict[Signature, list[list[TargetLayer]]] = defaultdict(list)
    for layer in layers:
        matrices = all(len(variable.shape) > 1 for variable in layer.variables)
        if matrices and len(layer.variables) > 1 and not any(fit(unit, layer) for unit in units):
            parts[_signature_of_keras(layer)].append(
                [replace(layer, variables=(variable,)) for variable in layer.variables])
    cut: dict[str, list[TargetLayer]] = {}
    for alike in parts.values():
        fed = [{unit.name for unit in units if fit(unit, part)} for part in alike[0]]
        if all(fed) and len(set().union(*fed)) >= len(alike) * len(fed):
            cut |= {own[0].variables[0].key: own for own in alike}
    return [part for layer in layers for part in cut.get(layer.variables[0].key, [layer])]


def _taken_apart(torch_layer: TorchLayer) -> list[TorchLayer]:
    """Return each tensor of a torch layer as one of its own."""
    return [
        TorchLayer(tensor.name, (tensor,), torch_layer.modules) for tensor in torch_layer.tensors
    ]


def layers_to_fill(target: Target) -> list[TargetLayer]:
    """Return the layers that own variables which no earlier one has, without preprocessing."""
    layers: list[TargetLayer] = []
    known: set[str] = set()
    for leaf in target.leaves():
        keys = {variable.key for variable in leaf.variables}
        if not keys <= known and "Normalization" not in leaf.class_names:
            layers.append(leaf)
        known |= keys
    return layers


def doubtful_rows(target: Target) -> dict[str, str]:
    """Return what may be flattened unseen before layers that no graph shows, as a doubt by key.

    In the code of a subclassed model a map may be flattened before a Dense layer that has several
    times as many inputs as a convolution before it has outputs, and as no other layer has.
    """
    doubts: dict[str, str] = {}
    outputs: set[int] = set()
    channels: set[int] = set()
    for leaf in target.leaves():
        main = leaf.variables[0]
        if "input_shape" not in leaf.settings and counts_inputs(leaf, main):
            inputs = main.shape[0]
            if inputs not in outputs and any(inputs % count == 0 for count in channels):
                doubts[main.key] = hidden_doubt(main, "the code of the model")
        outputs.update(variable.shape[-1] for variable in leaf.variables if variable.shape)
        if len(main.shape) > 2 and any("Conv" in name for name in leaf.class_names):
            channels.add(main.shape[-1])
    return doubts


def _is_raw(torch_layer: TorchLayer) -> bool:
    """Return True for a single tensor that no torch layer would call its weight."""
    return len(torch_layer.tensors) == 1 and last_part(torch_layer.tensors[0].name) != "weight"


def spans(sides: Sides) -> list[tuple[int, int]]:
    """Return for each torch layer the first and last position where its order lets expect it.

    That is its own position. A tensor that its module owns directly stands before all layers inside
    of the module, wherever it is used, so that any position among these is as good.
    """
    layers = sides.torch_layers
    found = []
    for position, torch_layer in enumerate(layers):
        last = position
        inside = torch_layer.tensors[0].name.rpartition(".")[0] + "."
        while _is_raw(torch_layer) and last + 1 < len(layers) and layers[
                last + 1].tensors[0].name.startswith(inside):
            last += 1
        found.append((position, last))
    return found


def distinct_layers(source: Source, torch_layers: Sequence[TorchLayer]) -> list[TorchLayer]:
    """Return the torch layers without tensors that are another name of an earlier one, matrices as
    torch.nn.Linear has them.
    """
    again = {name for names in source.tied for name in names[1:]}
    kept = (replace(one, tensors=tuple(tensor
                                       for tensor in one.tensors if tensor.name not in again))
            for one in torch_layers)
    return _outputs_first([one for one in kept if one.tensors])


def _outputs_first(torch_layers: list[TorchLayer]) -> list[TorchLayer]:
    """Return the layers with their matrices turned where they count inputs first, as GPT-2's do.

    The biases tell: they are as long as the last axis of every matrix that is not square.
    """
    matrices = {
        layer.name: (weight, bias) for layer in torch_layers for weight in layer.tensors
        for bias in layer.tensors if last_part(weight.name) == "weight"
        and last_part(bias.name) == "bias" and len(weight.shape) == 2 and len(bias.shape) == 1
    }
    inputs_first = [
        weight.shape[1] == bias.shape[0]
        for weight, bias in matrices.values() if weight.shape[0] != weight.shape[1]
    ]
    if len(inputs_first) < _MATRICES_THAT_TELL or not all(inputs_first):
        return torch_layers
    turned = {
        weight.name:
            derive(f"{name}.turned.weight", Permute(Tensor(weight.name), (1, 0)), [weight],
                   rule="a matrix that counts its inputs first")
        for name, (weight, _) in matrices.items()
    }
    return [
        replace(layer, tensors=tuple(turned.get(one.name, one) for one in layer.tensors))
        for layer in torch_layers
    ]
