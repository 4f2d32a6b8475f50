"""Flattened maps: PyTorch counts the channels first, Keras last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from ...keras_io.flattened import torch_order
from ...plan.expressions import Concat, Expression, Permute, Reshape, Slice
from ...plan.recipe import Assignment
from ...spec.layer_groups import TorchLayer
from ...spec.target import TargetLayer, TargetVariable
from ...spec.tensor_spec import Shape
from ..rule import Rule

Run = tuple[tuple[str, int], ...]

CONDITIONAL_RULES = (
    Rule(
        "dense behind a flattened map", ("Dense", "BatchNormalization", "LayerNormalization",
                                         "RMSNormalization", "PReLU", "LSTM", "GRU", "SimpleRNN"),
        "torch.nn.Flatten counts a map by channel, height, width; keras.layers.Flatten by height, "
        "width, channel. The rows are reordered by the sizes in the Keras graph"),
    Rule(
        "dense before a map", ("Dense", "BatchNormalization", "PReLU"),
        "torch.Tensor.view makes a map that counts channel, height, width; keras.layers.Reshape "
        "one that counts height, width, channel. The outputs are reordered where the Keras graph "
        "reshapes them into a map of two or more spatial axes. Only running both models proves "
        "that PyTorch's module does so too"))

# Variables whose first axis counts the layer's inputs, by kind.
_KERNELS = ("Dense", "RNN", "LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell",
            "Bidirectional")
_NORMS = ("BatchNormalization", "LayerNormalization", "RMSNormalization", "PReLU", "Normalization")
_VECTORS = ("gamma", "beta", "moving_mean", "moving_variance", "scale", "alpha", "mean", "variance")
HIDDEN = "which the Keras graph does not show"
_MOVES = {"flattened", "patches", "gives_map", "hidden_by"}
_ROWS = {"kernel": _KERNELS, **dict.fromkeys(_VECTORS, _NORMS)}


def in_keras_order(assignments: Sequence[Assignment], layer: TargetLayer,
                   torch_layer: TorchLayer) -> tuple[Assignment, ...]:
    """Reorder the rows where the layer's input is a flattened map, and note it.

    The weight of a convolution keeps the axes of a patch apart, the matrix of a linear layer does
    not: the order of patches is known for the first and doubtful for the second.
    """
    if not any(_MOVES & leaf.settings.keys() for leaf in layer.children or (layer,)):
        return tuple(assignments)
    by_convolution = any(len(tensor.shape) > 2 for tensor in torch_layer.tensors)
    leaves = {
        variable.key: (leaf, variable) for leaf in layer.children or (layer,)
        for variable in leaf.variables
    }
    result = []
    for assignment in assignments:
        leaf, variable = leaves[assignment.key]
        runs = _runs(leaf, variable)
        moved, doubt = assignment, ""
        if (made := _made(leaf, variable)) is not None:
            moved = _columns_reordered(assignment, leaf, variable, made)
        elif runs is not None and "patches" in leaf.settings and not by_convolution:
            doubt = _patch_doubt(variable, runs[0])
        elif runs is not None:
            moved = _reordered(assignment, variable, runs)
        elif "hidden_by" in leaf.settings and counts_inputs(leaf, variable):
            doubt = hidden_doubt(variable, leaf.settings["hidden_by"])
        result.append(replace(moved, doubt="; ".join(filter(None, (moved.doubt, doubt)))))
    return tuple(result)


def counts_inputs(leaf: TargetLayer, variable: TargetVariable) -> bool:
    """Return True for a variable whose first axis counts the layer's inputs."""
    classes = _ROWS.get(variable.name, ())
    return bool(set(classes) & set(leaf.class_names)) and variable.shape != ()


def hidden_doubt(variable: TargetVariable, hidden_by: str) -> str:
    """Say that a map may be flattened before a layer where the Keras graph does not show it."""
    return (f"the rows of '{variable.display_name}' are moved as they stand: {hidden_by} may "
            f"flatten a map before it, {HIDDEN}, so only equal outputs can prove their order")


def _runs(leaf: TargetLayer, variable: TargetVariable) -> tuple[Run, ...] | None:
    """Return the parts of a variable's first axis, None when both sides count it alike."""
    if not counts_inputs(leaf, variable):
        return None
    patches = leaf.settings.get("patches")
    runs: tuple[Run, ...] | None = (patches,) if patches else leaf.settings.get("flattened")
    if runs is None or sum(prod(size for _, size in run) for run in runs) != variable.shape[0]:
        return None
    return runs


def _made(leaf: TargetLayer, variable: TargetVariable) -> Run | None:
    """Return the axes of the map that the outputs become, None when they become none."""
    made: Run | None = leaf.settings.get("gives_map")
    if made is None or variable.shape[-1:] != (prod(size for _, size in made),):
        return None
    return made


def _columns_reordered(assignment: Assignment, leaf: TargetLayer, variable: TargetVariable,
                       made: Run) -> Assignment:
    extents = tuple(size for name, size in made if name != "channel")
    channels = dict(made)["channel"]
    doubt = (
        f"the outputs of '{leaf.display_name}' become {_map_text(extents, channels)} in Keras and "
        "were taken to be counted channels first in PyTorch: only equal outputs can prove it")
    return replace(
        assignment, rule=rule_of_outputs(assignment.rule, extents, channels), doubt=assignment.doubt
        or doubt, expression=outputs_channels_last(assignment.expression, variable.shape, extents,
                                                   channels))


def _map_text(extents: Shape, channels: int) -> str:
    return f"a map of {' x '.join(map(str, (*extents, channels)))}"


def rule_of_outputs(rule: str, extents: Shape, channels: int) -> str:
    """Return the rule of an array that `outputs_channels_last` has put in order."""
    return f"{rule}; outputs of {_map_text(extents, channels)}, channels last"


def outputs_channels_last(expression: Expression, shape: Shape, extents: Shape,
                          channels: int) -> Expression:
    """Reorder the last axis of an array, which counts a map channels first, to channels last."""
    leading = len(shape) - 1
    by_channel = Reshape(expression, (*shape[:-1], channels, *extents))
    behind = range(leading + 1, leading + 1 + len(extents))
    return Reshape(Permute(by_channel, (*range(leading), *behind, leading)), shape)


def _reordered(assignment: Assignment, variable: TargetVariable, runs: tuple[Run,
                                                                             ...]) -> Assignment:
    parts: list[Expression] = []
    start = 0
    for run in runs:
        stop = start + prod(size for _, size in run)
        part = assignment.expression
        if len(runs) > 1:
            part = Slice(part, 0, start, stop)
        parts.append(_channels_last(part, run, variable.shape[1:]))
        start = stop
    moved = parts[0] if len(parts) == 1 else Concat(tuple(parts), 0)
    words = _describe_moves(runs)
    return replace(
        assignment, expression=moved, rule=f"{assignment.rule}; rows of a flattened map, {words}",
        note=f"'{variable.display_name}': the layer's input is a flattened map, so its rows were "
        f"moved {words}")


def _channels_last(rows: Expression, run: Run, rest: Shape) -> Expression:
    """Reorder rows numbered (channel, height, width) as in `run`."""
    order, ndim = torch_order(run), len(run)
    if order == tuple(range(ndim)):
        return rows
    perm = (*(order.index(axis) for axis in range(ndim)), *range(ndim, ndim + len(rest)))
    apart = Reshape(rows, (*(run[axis][1] for axis in order), *rest))
    return Reshape(Permute(apart, perm), (prod(size for _, size in run), *rest))


def _describe_moves(runs: Sequence[Run]) -> str:
    texts = []
    for run in runs:
        torch = tuple(run[axis] for axis in torch_order(run))
        if torch != tuple(run):
            sizes = tuple(size for _, size in torch)
            texts.append(f"from ({_axis_names(torch)}) = {sizes} to ({_axis_names(run)})")
    return " and ".join(dict.fromkeys(texts))


def _axis_names(run: Run) -> str:
    return ", ".join(name for name, _ in run)


def _patch_doubt(variable: TargetVariable, run: Run) -> str:
    return (f"the rows of '{variable.display_name}' are patches ({_axis_names(run)}) in Keras and "
            "are moved as they stand: nothing says in which order the PyTorch model unfolds its "
            "patches, so only equal outputs can prove it")
