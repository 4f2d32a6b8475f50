"""Recurrent layers: gate orders, two biases against one, and one torch module that holds the cells
of several Keras layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

from ...plan.expressions import Add, Concat, Expression, Fill, Permute, Reshape, Slice, Tensor
from ...plan.recipe import Assignment, Constant
from ...spec.layer_groups import TorchLayer, last_part
from ...spec.source import SourceTensor
from ...spec.target import TargetLayer, TargetVariable
from ...util.text import join_names, plural
from .. import remedies
from ..rule import Rule

_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_VARIABLES = ("kernel", "recurrent_kernel", "bias")
_NAME = re.compile(
    r"(?P<part>(?:weight|bias)_(?:ih|hh|hr))(?:_l(?P<number>\d+)(?P<reverse>_reverse)?)?")


@dataclass(frozen=True, slots=True)
class Gates:
    """How one kind of cell orders the blocks of rows of its matrices.

    `order` has for each Keras gate the number of its torch block. `layer` is the name of the Keras
    layer of such cells.
    """

    rule: str
    layer: str
    torch: str
    keras: str
    order: tuple[int, ...]
    activation: str = "tanh"
    has_two_biases: bool = False


_GATES = {
    "LSTMCell": Gates("lstm", "LSTM", "i f g o", "i f c o", (0, 1, 2, 3)),
    "GRUCell": Gates("gru", "GRU", "r z n", "z r h", (1, 0, 2), has_two_biases=True),
    "SimpleRNNCell": Gates("simple rnn", "SimpleRNN", "h", "h", (0,), activation="")
}
_LAYER_OF_COUNT = {len(gates.order): gates.layer for gates in _GATES.values()}


@dataclass(frozen=True, slots=True)
class Cell:
    """The tensors of one direction of one layer of a torch module.

    `number` is None for a torch.nn.LSTMCell and the like.
    """

    module: str
    number: int | None
    reverse: bool
    tensors: Mapping[str, SourceTensor]

    @property
    def name(self) -> str:
        """The name for people: "rnn.l0_reverse"."""
        if self.number is None:
            return self.module
        return f"{self.module}.l{self.number}" + ("_reverse" if self.reverse else "")


def cells_of(torch_layer: TorchLayer) -> tuple[Cell, ...]:
    """Return the cells by the names of the tensors, () when one is not of a recurrent layer.

    Modules stand in their order, layers are counted upwards, forward comes before reverse.
    """
    found: dict[tuple[str, int | None, bool], dict[str, SourceTensor]] = {}
    for tensor in torch_layer.tensors:
        last = last_part(tensor.name)
        match = _NAME.fullmatch(last)
        if match is None:
            return ()
        number = None if match["number"] is None else int(match["number"])
        cell = found.setdefault((tensor.name[:-len(last) - 1], number, bool(match["reverse"])), {})
        cell[match["part"]] = tensor
    modules = list(dict.fromkeys(module for module, _, _ in found))
    keys = sorted(found, key=lambda key: (modules.index(key[0]), key[1] or 0, key[2]))
    return tuple(Cell(*key, found[key]) for key in keys)


def keras_cells(layer: TargetLayer) -> tuple[TargetLayer, ...]:
    """Return the cells of a Keras layer in the order of its weights, () when it has others too."""
    leaves = layer.children or (layer,)
    known = all(
        gates_of(leaf) is not None and tuple(
            variable.name for variable in leaf.variables) in (_VARIABLES, _VARIABLES[:2])
        for leaf in leaves)
    return leaves if known else ()


def gates_of(cell: TargetLayer) -> Gates | None:
    """Return the gate order of a Keras cell, None for a class that is not known."""
    return next((_GATES[name] for name in cell.class_names if name in _GATES), None)


RESETS_BEFORE = ("its reset gate stands before the matrix product, in PyTorch it stands after it",
                 "build the Keras layer with reset_after=True")

PROJECTS = ("which no Keras layer has",
            "build it without, or write a Keras cell with the projection and set its arrays")


def resets_before(leaf: TargetLayer) -> bool:
    """Return whether a Keras GRU computes what no GRU of PyTorch does."""
    gates = gates_of(leaf)
    biases = [one for one in leaf.variables if one.name == "bias"]
    return gates is not None and (leaf.settings.get("reset_after") is False or
                                  (gates.has_two_biases
                                   and any(len(bias.shape) == 1 for bias in biases)))


def assign_recurrent(torch_layer: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """Assign a recurrent layer, a wrapper of such, or a single cell from torch's cells."""
    leaves = keras_cells(layer)
    if not leaves:
        names = join_names(dict.fromkeys(leaf.class_name for leaf in layer.children or (layer,)))
        raise remedies.refusal(
            torch_layer, layer, f"there is no rule for the gates of {names}", "give the arrays "
            f"that set_weights of this layer takes with {remedies.own_transfer(layer)}")
    cells = cells_of(torch_layer) or _cells_by_position(torch_layer, layer, len(leaves))
    _check_cells(torch_layer, layer, cells, leaves)
    _check_directions(torch_layer, layer, cells)
    assignments: dict[str, Assignment] = {}
    for cell, leaf in zip(cells, leaves, strict=True):
        found = _assign_cell(torch_layer, layer, cell, leaf)
        assignments |= {assignment.key: assignment for assignment in found}
    return tuple(assignments[variable.key] for variable in layer.variables)


def _cells_by_position(torch_layer: TorchLayer, layer: TargetLayer, count: int) -> tuple[Cell, ...]:
    """Return the cells of tensors without names: two matrices, then two biases for each."""
    tensors = torch_layer.tensors
    size, rest = divmod(len(tensors), count)
    ndims = tuple(len(tensor.shape) for tensor in tensors)
    if rest or size not in (2, 4) or ndims != (2, 2, 1, 1)[:size] * count:
        each = f" for each of {count} cells" if count > 1 else ""
        raise remedies.refusal(
            torch_layer, layer,
            f"expected weight_ih and weight_hh (and bias_ih, bias_hh){each}, got "
            f"{plural(len(tensors), 'tensor')} with ranks {ndims}",
            "give the torch module or its state dict, whose names tell the cells apart, and one "
            "torch layer for each Keras layer")
    return tuple(
        Cell(torch_layer.name, None, False,
             dict(zip(_PARTS[:size], tensors[start:start + size], strict=True)))
        for start in range(0, size * count, size))


def _check_cells(torch_layer: TorchLayer, layer: TargetLayer, cells: Sequence[Cell],
                 leaves: Sequence[TargetLayer]) -> None:
    projected = [cell.name for cell in cells if "weight_hr" in cell.tensors]
    if projected:
        raise remedies.refusal(torch_layer, layer,
                               f"'{projected[0]}' was built with proj_size, {PROJECTS[0]}",
                               PROJECTS[1])
    if len(cells) != len(leaves):
        names = join_names([cell.name for cell in cells], quoted=True)
        raise remedies.refusal(
            torch_layer, layer, f"{len(cells)} torch cells ({names}) for {len(leaves)} Keras cells",
            "a torch module of several layers is 'name.l0', 'name.l1', ... and goes into as many "
            "Keras layers, one with both directions into a Bidirectional; a single direction is "
            "'name.l0_forward' or 'name.l0_reverse'")
    for cell in cells:
        if not set(_PARTS[:2]) <= cell.tensors.keys() or len(cell.tensors) % 2:
            raise remedies.refusal(
                torch_layer, layer, f"'{cell.name}' has only {sorted(cell.tensors)}",
                f"a torch cell has {', '.join(_PARTS[:2])} and both biases or none: do not leave "
                "any out by skip_weights")


def _check_directions(torch_layer: TorchLayer, layer: TargetLayer, cells: Sequence[Cell]) -> None:
    """Check that a Bidirectional gets two directions, and every other layer one.

    Only where one torch module holds them all.
    """
    bidirectional = "Bidirectional" in layer.class_names
    if bidirectional and len(cells) > 2:
        raise remedies.refusal(
            torch_layer, layer,
            "each of its directions has several layers, while torch joins both directions after "
            "every layer: another function", "build one Bidirectional for each torch layer")
    if len(cells) == 1 or len({cell.module for cell in cells}) > 1 or any(
            cell.number is None for cell in cells):
        return
    names = join_names(cell.name for cell in cells)
    directions = [cell.reverse for cell in cells]
    one_layer = len({cell.number for cell in cells}) == 1
    if bidirectional and not (one_layer and directions == [False, True]):
        raise remedies.refusal(
            torch_layer, layer,
            f"a Bidirectional takes the two directions of one layer, got {names}",
            "build the torch module with bidirectional=True, or use one Keras layer for each "
            "torch layer")
    if not bidirectional and any(directions):
        raise remedies.refusal(torch_layer, layer, f"it runs in one direction, got {names}",
                               "wrap the Keras layer: keras.layers.Bidirectional(layer)")


def _assign_cell(torch_layer: TorchLayer, layer: TargetLayer, cell: Cell,
                 leaf: TargetLayer) -> list[Assignment]:
    gates = gates_of(leaf)
    assert gates is not None
    variables = {variable.name: variable for variable in leaf.variables}
    units = variables["recurrent_kernel"].shape[0]
    bias = variables.get("bias")
    if resets_before(leaf):
        raise remedies.refusal(torch_layer, layer, *RESETS_BEFORE)
    rows = len(gates.order) * units
    matrices = (variables[name].shape[::-1] for name in _VARIABLES[:2])
    shapes = dict(zip(_PARTS, (*matrices, (rows,), (rows,)), strict=True))
    for part, tensor in cell.tensors.items():
        if tensor.shape != shapes[part]:
            raise remedies.refusal(
                torch_layer, layer,
                f"{part} must have shape {shapes[part]}, got '{tensor.name}' of shape "
                f"{tensor.shape}", _on_shape(cell, units, gates))
    rule = f"{gates.rule}: gates {gates.torch} -> {gates.keras}"
    ordered = {
        part: _in_keras_order(Tensor(tensor.name), units, gates)
        for part, tensor in cell.tensors.items()
    }
    doubt, note = _doubt(layer, cell, leaf, gates), _note(layer)
    assignments = [
        Assignment(variables[name].key, Permute(ordered[part], (1, 0)), rule, doubt, note)
        for part, name in zip(_PARTS, _VARIABLES[:2], strict=False)
    ]
    biases = [ordered[part] for part in _PARTS[2:] if part in ordered]
    if bias is not None:
        assignments.append(_assign_bias(bias, biases, rows, gates, rule))
    elif biases:
        because = (f"'{leaf.display_name}' is built with use_bias=False (use_bias=True would "
                   "hold it)")
        constants = tuple(
            Constant(Tensor(cell.tensors[part].name), 0.0, because) for part in _PARTS[2:])
        assignments[-1] = replace(assignments[-1], constants=constants)
    return assignments


def _assign_bias(variable: TargetVariable, biases: Sequence[Expression], rows: int, gates: Gates,
                 rule: str) -> Assignment:
    if not biases:
        note = (f"'{variable.display_name}' is filled with 0: the torch layer is built with "
                "bias=False")
        return Assignment(variable.key, Fill(0.0, variable.shape),
                          f"{gates.rule}: no torch bias, 0", note=note)
    if not gates.has_two_biases:
        return Assignment(variable.key, Add(tuple(biases)), f"{rule}, bias_ih + bias_hh")
    one_above_the_other = Concat(tuple(Reshape(one, (1, rows)) for one in biases), 0)
    return Assignment(variable.key, one_above_the_other, f"{rule}, bias_ih above bias_hh")


def _in_keras_order(tensor: Expression, units: int, gates: Gates) -> Expression:
    """Return the tensor with its blocks of `units` rows in Keras's order."""
    if gates.order == tuple(range(len(gates.order))):
        return tensor
    return Concat(
        tuple(Slice(tensor, 0, block * units, (block + 1) * units) for block in gates.order), 0)


def _on_shape(cell: Cell, units: int, gates: Gates) -> str:
    shape = cell.tensors["weight_hh"].shape
    rows, torch_units = prod(shape[:1]), prod(shape[-1:])
    if torch_units != units:
        return f"build the Keras layer with units={torch_units}"
    count, rest = divmod(rows, units)
    if not rest and count != len(gates.order) and count in _LAYER_OF_COUNT:
        return f"it has {count} gates: use keras.layers.{_LAYER_OF_COUNT[count]}"
    return "check that this is the pair you mean: the layers have inputs of different width"


def _doubt(layer: TargetLayer, cell: Cell, leaf: TargetLayer, gates: Gates) -> str:
    if gates.activation:
        for name, torch in (("activation", gates.activation), ("recurrent_activation", "sigmoid")):
            keras = leaf.settings.get(name)
            if keras not in (None, torch):
                return (f"'{layer.display_name}' has {name}='{keras}', torch's has {torch}: the "
                        "outputs will differ")
    backwards = layer.settings.get("go_backwards")
    if backwards is not None and cell.number is not None and bool(backwards) != cell.reverse:
        direction = "reverse" if cell.reverse else "forward"
        return (f"'{layer.display_name}' has go_backwards={backwards} and takes the {direction} "
                f"direction '{cell.name}': only equal outputs can prove it")
    return ""


def _note(layer: TargetLayer) -> str:
    mode = str(layer.settings.get("merge_mode", "concat"))
    if "Bidirectional" not in layer.class_names or mode == "concat":
        return ""
    verb = {"sum": "adds", "ave": "averages"}.get(mode)
    joins = (f"{verb} the two halves of its output"
             if verb else "joins the two halves of its output in this way")
    return (f"'{layer.display_name}' has merge_mode='{mode}' and torch concatenates the two "
            f"directions: the outputs are equal when the torch model {joins}")


_rule = partial(Rule, assign=assign_recurrent, unlike_torch="its gates and biases")
RULES = (
    _rule(
        "lstm", ("LSTM", "LSTMCell"),
        "torch.nn.LSTM: weight_ih, weight_hh (4 u, in) in blocks of rows i, f, g, o; biases "
        "bias_ih and bias_hh. keras.layers.LSTMCell: kernel, recurrent_kernel (in, 4 u) in blocks "
        "i, f, c, o; one bias, which gets the sum of the two", lossless=False,
        back="an equal function: bias_ih gets the bias, bias_hh zeros"),
    _rule(
        "gru", ("GRU", "GRUCell"),
        "torch.nn.GRU: blocks of rows r, z, n; it applies the reset gate after the matrix "
        "product. keras.layers.GRUCell with reset_after=True: blocks z, r, h; its bias (2, 3 u) "
        "has the input's bias, then the recurrent one. reset_after=False is another function"),
    _rule(
        "simple rnn", ("SimpleRNN", "SimpleRNNCell"),
        "torch.nn.RNN: weight_ih, weight_hh (u, in); biases bias_ih and bias_hh; nonlinearity. "
        "keras.layers.SimpleRNNCell: kernel, recurrent_kernel (in, u); one bias, which gets the "
        "sum of the two; activation", lossless=False,
        back="an equal function: bias_ih gets the bias, bias_hh zeros"),
    _rule(
        "recurrent wrappers", ("RNN", "Bidirectional"),
        "torch names the layers of a module _l0, _l1, ... and their second direction _reverse. "
        "keras.layers.Bidirectional holds the forward cell, then the backward one; "
        "keras.layers.RNN of a list holds the cells of a stack. torch concatenates the two "
        "directions, as merge_mode='concat' does. For a torch model that then adds the two halves "
        "build 'sum', for their mean 'ave', for their product 'mul'; the weights are the same",
        back="as for the cells inside"))
