"""Tables of attention biases by relative position, whose axes stand in another order or are split
in some Keras models.

Only tables that PyTorch models know by one name with one meaning: nothing about any other parameter
follows from its shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from ..plan.expressions import Expression, Reshape, Tensor
from ..spec.layer_groups import last_part
from ..spec.source import SourceTensor
from ..spec.target import TargetVariable
from .rule import AxisPattern, Rule

# Layout in PyTorch by the tensor's name. Where an offset is two-dimensional its rows vary slowest
# in all of these.
TABLES = {
    "relative_position_bias_table": "offset head", "attention_biases": "head offset",
    "rpb": "head row column"
}

RULES = (Rule(
    "relative position table", (),
    "relative_position_bias_table (offsets, heads) of Swin and BEiT, attention_biases "
    "(heads, offsets) of LeViT, rpb (heads, rows, columns) of NAT; "
    "a Keras variable of the same axes in another order, or with offsets as rows and "
    "columns, where sizes leave one way only"),)


def table(tensor: SourceTensor, variable: TargetVariable) -> tuple[Expression, str] | None:
    """The tensor in the variable's layout and the layouts in words, None when it is no such table
    or sizes leave no way or several.
    """
    torch = TABLES.get(last_part(tensor.name))
    if torch is None:
        return None
    if torch == "head row column" and len(tensor.shape) == 3 and variable.shape == _with_one_offset(
            tensor.shape):
        return Reshape(Tensor(tensor.name),
                       variable.shape), f"{RULES[0].name}: {torch} -> head (row column)"
    fits = [
        movement for movement in _movements(torch, len(variable.shape))
        if _fits(movement, tensor.shape, variable.shape)
    ]
    if len(fits) != 1:
        return None
    return fits[0].expression(
        tensor.name, variable.shape), f"{RULES[0].name}: {fits[0].torch} -> {fits[0].keras}"


def _movements(torch: str, rank: int) -> Iterator[AxisPattern]:
    """All ways to lay out the table in `rank` axes: heads first or last, offsets as one axis or as
    rows and columns.
    """
    if "offset" in torch and rank == 3:
        split = torch.replace("offset", "(row column)")
        yield AxisPattern(split, "head row column")
        yield AxisPattern(split, "row column head")
    elif rank == len(torch.split()):
        rest = torch.replace("head", "").split()
        for keras in dict.fromkeys(permutations(("head", *rest))):
            if [axis for axis in keras if axis != "head"] == rest:
                yield AxisPattern(torch, " ".join(keras))


def _with_one_offset(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], shape[1] * shape[2]


def _fits(movement: AxisPattern, torch_shape: tuple[int, ...], keras_shape: tuple[int,
                                                                                  ...]) -> bool:
    return movement.torch_shape(keras_shape) == torch_shape
