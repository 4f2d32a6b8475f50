"""Recurrent layers: gate orders, two biases against one, and one torch module that holds the cells
of several Keras layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ...plan.expressions import Add, Concat, Expression, Fill, Permute, Reshape, Slice, Tensor
from ...plan.recipe import Assignment, Constant
from ...spec.layer_groups import TorchLayer, last_part
from ...spec.source import SourceTensor
from ...spec.target import TargetLayer, TargetVariable
from ...util.text import plural
from .. import remedies
from ..rule import Rule

_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_VARIABLES = ("kernel", "recurrent_kernel", "bias")
_NAME = re.compile(
    r"(?P<part>(?:weight|bias)_(?:ih|hh|hr))(?:_l(?P<number>\d+)(?P<reverse>_reverse)?)?")


@dataclass(frozen=True, slots=True)
class Gates:
    """How one kind of cell orders the blocks of rows of its matrices: `order` has for each Keras
    gate the place of its torch block.
    """

    rule: str
    torch: str
    keras: str
    order: tuple[int, ...]
    activation: str
    stacked_biases: bool


GATES: Mapping[str, Gates] = {
    "LSTMCell": Gates("lstm", "i f g o", "i f c o", (0, 1, 2, 3), "tanh", stacked_biases=False),
    "GRUCell": Gates("gru", "r z n", "z r h", (1, 0, 2), "tanh", stacked_biases=True),
    "SimpleRNNCell": Gates("simple rnn", "h", "h", (0,), "", stacked_biases=False)
}


@dataclass(frozen=True, slots=True)
class Cell:
    """The tensors of one direction of one layer of a torch module; `number` is None for a
    torch.nn.LSTMCell and the like.
    """

    module: str
    number: int | None
    reverse: bool
    tensors: Mapping[str, SourceTensor]

    @property
    def name(self) -> str:
        """As a person would say it: "rnn.l0_reverse"."""
        if self.number is None:
            return self.module
        return f"{self.module}.l{self.number}" + ("_reverse" if self.reverse else "")


def cells_of(torch_layer: TorchLayer) -> tuple[Cell, ...]:
    """The cells of a stack by the names of its tensors: modules in order, layers counted upwards,
    forward before reverse.

    Empty when some tensor is not one of a recurrent layer.
    """
    found: dict[tuple[str, int, bool], dict[str, SourceTensor]] = {}
    modules: list[str] = []
    numbered: dict[str, bool] = {}
    for tensor in torch_layer.tensors:
        match = _NAME.fullmatch(last_part(tensor.name))
        if match is None:
            return ()
        module = tensor.name[:-len(last_part(tensor.name)) - 1]
        if module not in modules:
            modules.append(module)
        numbered[module] = match["number"] is not None
        key = module, int(match["number"] or 0), bool(match["reverse"])
        found.setdefault(key, {})[match["part"]] = tensor
    keys = sorted(found, key=lambda key: (modules.index(key[0]), key[1], key[2]))
    return tuple(
        Cell(module, number if numbered[module] else None, reverse, found[module, number, reverse])
        for module, number, reverse in keys)


def keras_cells(layer: TargetLayer) -> tuple[TargetLayer, ...]:
    """The cells of a Keras layer made of nothing but recurrent cells, in the order of its weights;
    () for any other layer.
    """
    leaves = layer.children or (layer,)
    known = all(
        gates_of(leaf) is not None and [variable.name
                                        for variable in leaf.variables] in (list(_VARIABLES),
                                                                            list(_VARIABLES[:2]))
        for leaf in leaves)
    return leaves if known else ()


def gates_of(cell: TargetLayer) -> Gates | None:
    """The gate order of a Keras cell, None when its kind is not known."""
    return next((GATES[kind] for kind in cell.class_names if kind in GATES), None)


def assign_recurrent(torch_layer: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """The variables of an LSTM, GRU, SimpleRNN, RNN or Bidirectional layer, or of a single cell,
    from the cells of a torch module.
    """
    leaves = keras_cells(layer)
    if not leaves:
        kinds = ", ".join(dict.fromkeys(leaf.class_name for leaf in layer.children or (layer,)))
        raise remedies.refusal(
            torch_layer, layer, f"there is no rule for the gates of {kinds}",
            "give the arrays that set_weights of this layer takes with "
            f"additional_transfer={{'{layer.name}': ...}}")
    cells = cells_of(torch_layer) or _cells_by_position(torch_layer, layer, len(leaves))
    _check_cells(torch_layer, layer, cells, leaves)
    _check_directions(torch_layer, layer, cells)
    assignments: dict[str, Assignment] = {}
    for cell, leaf in zip(cells, leaves, strict=True):
        for assignment in _of_cell(torch_layer, layer, cell, leaf):
            assignments[assignment.key] = assignment
    return tuple(assignments[variable.key] for variable in layer.variables)


def _cells_by_position(torch_layer: TorchLayer, layer: TargetLayer, count: int) -> tuple[Cell, ...]:
    """Cells of tensors whose own names are gone: in torch's order, two matrices and then two biases
    for each.
    """
    size, rest = divmod(len(torch_layer.tensors), count)
    ranks = tuple(len(tensor.shape) for tensor in torch_layer.tensors)
    if rest or size not in (2, 4) or ranks != (2, 2, 1, 1)[:size] * count:
        each = f" for each of {count} cells" if count > 1 else ""
        raise remedies.refusal(
            torch_layer, layer,
            f"expected weight_ih and weight_hh (and bias_ih, bias_hh){each}, got "
            f"{plural(len(torch_layer.tensors), 'tensor')} with ranks {ranks}",
            "give the torch module or its state dict, whose names tell the cells apart, and one "
            "torch layer a Keras layer")
    return tuple(
        Cell(torch_layer.layer, None, False,
             dict(zip(_PARTS[:size], torch_layer.tensors[start:start + size], strict=True)))
        for start in range(0, size * count, size))


def _check_cells(torch_layer: TorchLayer, layer: TargetLayer, cells: Sequence[Cell],
                 leaves: Sequence[TargetLayer]) -> None:
    projected = [cell.name for cell in cells if "weight_hr" in cell.tensors]
    if projected:
        raise remedies.refusal(
            torch_layer, layer,
            f"'{projected[0]}' was built with proj_size, which no Keras layer has",
            "write a Keras cell with the projection and give its arrays with additional_transfer")
    if len(cells) != len(leaves):
        names = ", ".join(f"'{cell.name}'" for cell in cells)
        raise remedies.refusal(
            torch_layer, layer, f"{len(cells)} torch cells ({names}) for {len(leaves)} Keras cells",
            "a torch module of several layers is 'name.l0', 'name.l1', ... and goes into as many "
            "Keras layers, one with both directions "
            "into a Bidirectional; a single direction is 'name.l0_forward' or 'name.l0_reverse'")
    for cell in cells:
        missing = {"weight_ih", "weight_hh"} - set(cell.tensors)
        biases = {"bias_ih", "bias_hh"} & set(cell.tensors)
        if missing or len(biases) == 1:
            raise remedies.refusal(
                torch_layer, layer, f"'{cell.name}' has only {sorted(cell.tensors)}",
                f"a torch cell has {', '.join(_PARTS[:2])} and both biases or none: do not leave "
                "any out by skip_weights")


def _check_directions(torch_layer: TorchLayer, layer: TargetLayer, cells: Sequence[Cell]) -> None:
    """Two directions for a Bidirectional, one for everything else, as far as one torch module holds
    them all.
    """
    bidirectional = "Bidirectional" in layer.class_names
    if bidirectional and len(cells) > 2:
        raise remedies.refusal(
            torch_layer, layer,
            ("each of its directions is a stack, while torch joins both directions after every "
             "layer: another function"), "build one Bidirectional for each torch layer")
    if len(cells) == 1 or len({cell.module for cell in cells}) > 1 or any(
            cell.number is None for cell in cells):
        return
    directions = [cell.reverse for cell in cells]
    one_layer = len({cell.number for cell in cells}) == 1
    if bidirectional and not (one_layer and directions == [False, True]):
        raise remedies.refusal(
            torch_layer, layer, ("a Bidirectional takes the two directions of one layer, got "
                                 f"{', '.join(cell.name for cell in cells)}"),
            "build the torch module with bidirectional=True, or use one Keras layer for each "
            "torch layer")
    if not bidirectional and any(directions):
        raise remedies.refusal(
            torch_layer, layer,
            f"it runs in one direction, got {', '.join(cell.name for cell in cells)}",
            "wrap the Keras layer: keras.layers.Bidirectional(layer)")


def _of_cell(torch_layer: TorchLayer, layer: TargetLayer, cell: Cell,
             leaf: TargetLayer) -> list[Assignment]:
    gates = gates_of(leaf)
    assert gates is not None
    variables = {variable.name: variable for variable in leaf.variables}
    units = variables["recurrent_kernel"].shape[0]
    bias = variables.get("bias")
    if leaf.settings.get("reset_after") is False or (gates.stacked_biases and bias is not None
                                                     and len(bias.shape) == 1):
        raise remedies.refusal(
            torch_layer, layer,
            "its reset gate stands before the matrix product, in PyTorch it stands after it",
            "build the Keras layer with reset_after=True")
    rule = f"{gates.rule}: gates {gates.torch} -> {gates.keras}"
    doubt = _doubt(layer, cell, leaf, gates)
    note = _note(layer)
    assignments = []
    for part, name in (("weight_ih", "kernel"), ("weight_hh", "recurrent_kernel")):
        tensor, variable = cell.tensors[part], variables[name]
        expected = variable.shape[1], variable.shape[0]
        if tensor.shape != expected:
            raise remedies.refusal(
                torch_layer, layer,
                (f"{name} {variable.shape} needs {part} of shape {expected}, got '{tensor.name}' "
                 f"of shape {tensor.shape}"), _on_shape(cell, units, gates))
        expression = Permute(_in_keras_order(Tensor(tensor.name), units, gates), (1, 0))
        assignments.append(Assignment(variable.key, expression, rule, doubt, note))
    biases = [cell.tensors[part] for part in ("bias_ih", "bias_hh") if part in cell.tensors]
    for tensor in biases:
        if tensor.shape != (len(gates.order) * units,):
            raise remedies.refusal(
                torch_layer, layer,
                f"'{tensor.name}' has shape {tensor.shape}, expected {(len(gates.order) * units,)}",
                _on_shape(cell, units, gates))
    if bias is not None:
        assignments.append(_bias(bias, biases, units, gates, rule))
    elif biases:
        because = (f"'{leaf.display_name}' is built with use_bias=False (use_bias=True would hold "
                   "it)")
        constants = tuple(Constant(Tensor(tensor.name), 0.0, because) for tensor in biases)
        assignments[-1] = replace(assignments[-1], constants=constants)
    return assignments


def _bias(variable: TargetVariable, biases: Sequence[SourceTensor], units: int, gates: Gates,
          rule: str) -> Assignment:
    if not biases:
        note = (f"'{variable.display_name}' is filled with 0: the torch layer is built with "
                "bias=False")
        return Assignment(variable.key, Fill(0.0, variable.shape),
                          f"{gates.rule}: no torch bias, 0", note=note)
    ordered = [_in_keras_order(Tensor(tensor.name), units, gates) for tensor in biases]
    if not gates.stacked_biases:
        return Assignment(variable.key, Add(tuple(ordered)), f"{rule}, bias_ih + bias_hh")
    rows = tuple(Reshape(one, (1, len(gates.order) * units)) for one in ordered)
    return Assignment(variable.key, Concat(rows, 0), f"{rule}, bias_ih above bias_hh")


def _in_keras_order(tensor: Expression, units: int, gates: Gates) -> Expression:
    """The tensor with its blocks of `units` rows in Keras's order."""
    if gates.order == tuple(range(len(gates.order))):
        return tensor
    return Concat(
        tuple(Slice(tensor, 0, block * units, (block + 1) * units) for block in gates.order), 0)


def _on_shape(cell: Cell, units: int, gates: Gates) -> str:
    torch_units = cell.tensors["weight_hh"].shape[-1]
    if torch_units != units:
        return f"build the Keras layer with units={torch_units}"
    count, rest = divmod(cell.tensors["weight_hh"].shape[0], units)
    kinds = {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}
    if not rest and count != len(gates.order) and count in kinds:
        return f"it has {count} gates: use keras.layers.{kinds[count]}"
    return "check that this is the pair you mean: the layers have inputs of different width"


def _doubt(layer: TargetLayer, cell: Cell, leaf: TargetLayer, gates: Gates) -> str:
    activation, recurrent = leaf.settings.get("activation"), leaf.settings.get(
        "recurrent_activation")
    if gates.activation and activation not in (None, gates.activation):
        return (f"'{layer.display_name}' has activation='{activation}', torch's has "
                f"{gates.activation}: the outputs will differ")
    if gates.activation and recurrent not in (None, "sigmoid"):
        return (f"'{layer.display_name}' has recurrent_activation='{recurrent}', torch's has "
                "sigmoid: the outputs will differ")
    backwards = layer.settings.get("go_backwards")
    if backwards is not None and cell.number is not None and bool(backwards) != cell.reverse:
        direction = "reverse" if cell.reverse else "forward"
        return (f"'{layer.display_name}' has go_backwards={backwards} and takes the {direction} "
                f"direction '{cell.name}': only equal outputs can prove it")
    return ""


def _note(layer: TargetLayer) -> str:
    mode = layer.settings.get("merge_mode", "concat")
    if "Bidirectional" not in layer.class_names or mode == "concat":
        return ""
    by_hand = {
        "sum": "adds the two halves of its output", "ave": "averages the two halves of its output"
    }
    return (f"'{layer.display_name}' has merge_mode={mode!r} and torch concatenates the two "
            "directions: the outputs are equal "
            "when the torch model "
            f"{by_hand.get(str(mode), 'joins the two halves of its output in this way')}")


_rule = partial(Rule, assign=assign_recurrent, unlike_torch="its gates and biases")
RULES = (
    _rule(
        "lstm", ("LSTM", "LSTMCell"),
        "torch.nn.LSTM: weight_ih, weight_hh (4 u, in), blocks of rows i, f, g, o, biases "
        "bias_ih + bias_hh; keras.layers.LSTMCell: kernel, recurrent_kernel (in, 4 u), blocks i, "
        "f, c, o, one bias, so the two are added", lossless=False,
        back="an equal function: bias_ih gets the bias, bias_hh zeros"),
    _rule(
        "gru", ("GRU", "GRUCell"),
        "torch.nn.GRU: blocks of rows r, z, n, the reset gate after the matrix product; "
        "keras.layers.GRUCell with reset_after=True: blocks z, r, h and bias (2, 3 u), the "
        "input's above the recurrent one; with reset_after=False it is another function"),
    _rule(
        "simple rnn", ("SimpleRNN", "SimpleRNNCell"),
        "torch.nn.RNN: weight_ih, weight_hh (u, in), biases bias_ih + bias_hh; "
        "keras.layers.SimpleRNNCell: kernel, recurrent_kernel (in, u), one bias, so the two are "
        "added; nonlinearity is activation", lossless=False,
        back="an equal function: bias_ih gets the bias, bias_hh zeros"),
    _rule(
        "recurrent wrappers", ("RNN", "Bidirectional"),
        "torch names the layers of a module _l0, _l1, ... and their second direction _reverse; "
        "keras.layers.Bidirectional holds the forward cell, then the backward one, "
        "keras.layers.RNN of a list the cells of a stack; torch concatenates directions as "
        "merge_mode='concat' does, a torch model that adds the two halves of that output is "
        "merge_mode='sum', one that takes their mean 'ave', their product 'mul'; the weights are "
        "the same", back="as for the cells inside"))
