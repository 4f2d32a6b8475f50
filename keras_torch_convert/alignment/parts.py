"""Fused and split layers, said by hand: some rows of a torch layer for a Keras layer, or several
torch layers for one.

A part stands in a mapping wherever a torch layer may stand. Its tensors are derived tensors: slices
or concatenations of the source's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Union

from ..errors import AlignmentError
from ..plan.derived_tensors import DerivedTensor, derive
from ..plan.expressions import Concat, Expression, Reshape, Slice, Tensor
from ..spec.layer_groups import last_part
from ..spec.source import SourceTensor


@dataclass(frozen=True, slots=True)
class SplitLayer:
    """Part of a torch layer that was fused from several; made by `split`."""

    name: str
    part: int
    of: int
    groups: int = 1

    def __str__(self) -> str:
        """As it stands in messages and in the report."""
        grouped = f" in {self.groups} groups" if self.groups != 1 else ""
        return f"{self.name}[{self.part} of {self.of}{grouped}]"


@dataclass(frozen=True, slots=True)
class ConcatLayers:
    """Several torch layers that Keras holds fused; made by `concat`."""

    names: tuple[str, ...]
    groups: int = 1

    def __str__(self) -> str:
        """As it stands in messages and in the report."""
        grouped = f" in {self.groups} groups" if self.groups != 1 else ""
        return f"({' + '.join(self.names)}{grouped})"


@dataclass(frozen=True, slots=True)
class StackedLayers:
    """Torch layers of one shape that Keras holds as one bank, such as experts; made by `stack`."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        """As it stands in messages and in the report."""
        return f"(stack of {', '.join(self.names)})"


LayerSelection = Union[str, SplitLayer, ConcatLayers, StackedLayers]
# The tensors of a torch layer by its name, or the one tensor of that name.
Find = Callable[[str], Sequence[SourceTensor]]


def split(name: str, part: int, of: int, *, groups: int = 1) -> SplitLayer:
    """Name one of several layers that torch holds fused, for the `mapping` of `align`.

    The parts lie one after the other along the first axis (outputs) of every tensor. Parts of
    unequal size are written as text: "attn.qkv[0:64]".

    Args:
        name: The torch layer, or tensor.
        part: Which part, from 0.
        of: How many parts of equal size there are.
        groups: Groups of rows that hold all parts each. `groups=heads` is the layout
            (head, q k v, width) of GPT-NeoX and BLOOM.

    Returns:
        A value for `mapping`.

    Raises:
        AlignmentError: The numbers make no sense.

    Example:
        >>> names = ["query", "key", "value"]
        >>> {name: ktc.split("attn.qkv", part, 3) for part, name in enumerate(names)}["key"]
        SplitLayer(name='attn.qkv', part=1, of=3, groups=1)
    """
    if of < 1 or groups < 1 or not 0 <= part < of:
        raise AlignmentError(
            f"split({name!r}, part={part}, of={of}, groups={groups}): part counts from 0 to of - "
            "1, groups from 1")
    return SplitLayer(name, part, of, groups)


def concat(*names: str, groups: int = 1) -> ConcatLayers:
    """Name several torch layers that Keras holds fused, for the `mapping` of `align`.

    Args:
        *names: Torch layers, or tensors. They lie one after the other along the first axis
            (outputs).
        groups: The rows of each are cut into so many groups, and every group has some rows of all,
            as in `split`.

    Returns:
        A value for `mapping`.

    Raises:
        AlignmentError: There are fewer than two names.

    Example:
        >>> {"qkv": ktc.concat("attn.q", "attn.k", "attn.v")}
        {'qkv': ConcatLayers(names=('attn.q', 'attn.k', 'attn.v'), groups=1)}
    """
    if len(names) < 2 or groups < 1:
        raise AlignmentError(
            f"concat{names!r}, groups={groups}: expected at least two torch layers and one group")
    return ConcatLayers(tuple(names), groups)


def stack(*names: str) -> StackedLayers:
    """Name torch layers of one shape that Keras holds as one bank, for the `mapping` of `align`.

    The bank has a new first axis that counts the layers, such as the experts of a mixture. The
    reverse is written as text: "experts.up_proj[3]" is entry 3 of each tensor, without the first
    axis.

    Args:
        *names: Torch layers, or tensors.

    Returns:
        A value for `mapping`.

    Raises:
        AlignmentError: There is no name.

    Example:
        >>> {"moe/experts": ktc.stack("experts.0.up_proj", "experts.1.up_proj")}
        {'moe/experts': StackedLayers(names=('experts.0.up_proj', 'experts.1.up_proj'))}
    """
    if not names:
        raise AlignmentError("stack(): expected at least one torch layer")
    return StackedLayers(tuple(names))


def tensors_of_selection(layer: LayerSelection, find: Find) -> list[SourceTensor]:
    """Return the tensors of a layer or of a part.

    Raises AlignmentError when there is no such layer or it cannot be cut or joined so.
    """
    if isinstance(layer, (ConcatLayers, StackedLayers)):
        return [_joined(tensors, layer) for tensors in _side_by_side(layer, find)]
    if isinstance(layer, SplitLayer):
        return [_rows(tensor, layer) for tensor in find(layer.name)]
    found = re.fullmatch(r"(.+)\[(\d+)(?::(\d+))?\]", layer)
    try:
        return list(find(layer))
    except AlignmentError:
        if found is None:
            raise
    start, stop = int(found[2]), int(found[3] or found[2]) + (found[3] is None)
    return [
        _sliced(tensor, start, stop, layer, whole=found[3] is not None) for tensor in find(found[1])
    ]


def _sliced(tensor: SourceTensor, start: int, stop: int, text: str, *,
            whole: bool) -> DerivedTensor:
    """Return entries `start` to `stop` of the first axis; the one entry without the axis when not
    `whole`.
    """
    count = tensor.shape[0] if tensor.shape else 0
    if not start < stop <= count:
        raise AlignmentError(
            f"'{text}': '{tensor.name}' {tensor.shape} has {count} rows along its first axis")
    expression: Expression = Slice(Tensor(tensor.name), 0, start, stop)
    if not whole:
        expression = Reshape(expression, tensor.shape[1:])
    return _derived([tensor], expression, f"[{start}:{stop}]" if whole else f"[{start}]")


def _rows(tensor: SourceTensor, part: SplitLayer) -> DerivedTensor:
    count = tensor.shape[0] if tensor.shape else 0
    if not count or count % (part.of * part.groups):
        raise AlignmentError(
            f"'{part}': the {count} rows of '{tensor.name}' {tensor.shape} cannot be cut "
            f"into {part.of * part.groups} equal parts; "
            "name the tensor itself when the layer holds others besides")
    size = count // part.of // part.groups
    if part.groups == 1:
        expression: Expression = Slice(Tensor(tensor.name), 0, part.part * size,
                                       (part.part + 1) * size)
    else:
        grouped = Reshape(Tensor(tensor.name), (part.groups, part.of, size, *tensor.shape[1:]))
        expression = Reshape(Slice(grouped, 1, part.part, part.part + 1),
                             (part.groups * size, *tensor.shape[1:]))
    return _derived([tensor], expression, str(part)[len(part.name):])


def _side_by_side(layer: ConcatLayers | StackedLayers,
                  find: Find) -> list[tuple[SourceTensor, ...]]:
    """Return the first tensors of all layers, the second ones, ..."""
    columns = [list(find(name)) for name in layer.names]
    names = [[last_part(tensor.name) for tensor in column] for column in columns]
    if (any(
            len(column) > 1 and own != names[0] for column, own in zip(columns, names, strict=True))
            or len({len(column) for column in columns}) != 1):
        raise AlignmentError(f"'{layer}': the layers hold different tensors, "
                             f"{', '.join(str(own) for own in names)}")
    return list(zip(*columns, strict=True))


def _joined(tensors: Sequence[SourceTensor], layer: ConcatLayers | StackedLayers) -> DerivedTensor:
    shapes = ", ".join(f"'{tensor.name}' {tensor.shape}" for tensor in tensors)
    if isinstance(layer, StackedLayers):
        if len({tensor.shape for tensor in tensors}) > 1:
            raise AlignmentError(f"'{layer}': {shapes} are not of one shape")
        entries = tuple(Reshape(Tensor(tensor.name), (1, *tensor.shape)) for tensor in tensors)
        return _derived(tensors,
                        Concat(entries, 0) if len(entries) > 1 else entries[0], f" {layer}")
    rest = tensors[0].shape[1:]
    if any(not tensor.shape or tensor.shape[1:] != rest or tensor.shape[0] % layer.groups
           for tensor in tensors):
        raise AlignmentError(
            f"'{layer}': {shapes} cannot be joined along the first axis in {layer.groups} "
            "groups")
    operands: tuple[Expression, ...] = tuple(Tensor(tensor.name) for tensor in tensors)
    if layer.groups == 1:
        return _derived(tensors, Concat(operands, 0), f" {layer}")
    grouped = tuple(
        Reshape(operand, (layer.groups, tensor.shape[0] // layer.groups, *rest))
        for operand, tensor in zip(operands, tensors, strict=True))
    count = sum(tensor.shape[0] for tensor in tensors)
    return _derived(tensors, Reshape(Concat(grouped, 1), (count, *rest)), f" {layer}")


def _derived(tensors: Sequence[SourceTensor], expression: Expression, how: str) -> DerivedTensor:
    """Return the tensor under a name with the last part of the first one, which tells its role."""
    name = tensors[0].name
    last = last_part(name)
    return derive(f"{name[: -len(last)].rstrip('.')}{how}.{last}", expression, tensors)
