"""Fused and split layers, said by hand: some rows of a torch layer for a Keras layer, or several
torch layers for one.

A part stands in a mapping wherever a torch layer may stand. Its tensors are put together on paper
only: each gets a name of its own, by which the rules of the layers use it, and in the finished Plan
that name is replaced by the slices or the concatenation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Union

import numpy.typing as npt

from ..errors import AlignmentError
from ..plan.evaluation import shape_by_kinds
from ..plan.expressions import (CallbackOutput, Concat, Expression, Reshape, Slice, Tensor,
                                with_operands)
from ..plan.plan import Plan
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


def split(name: str, part: int, of: int, *, groups: int = 1) -> SplitLayer:
    """Part number `part`, from 0, of the torch layer (or tensor) `name`, which holds `of` layers of
    equal size fused, for `ktc.align(..., mapping=...)`.

    The parts lie one after the other along the first axis (outputs) of every tensor: query, key and
    value of a fused `qkv` are `split("attn.qkv", 0, 3)`, `split("attn.qkv", 1, 3)` and
    `split("attn.qkv", 2, 3)`. With `groups` every group of rows has all the parts in it:
    `groups=heads` for the layout (head, q k v, width) of GPT-NeoX and BLOOM. Parts of unequal size
    are written as text, "attn.qkv[0:64]". Raises AlignmentError for numbers that make no sense.
    """
    if of < 1 or groups < 1 or not 0 <= part < of:
        raise AlignmentError(
            f"split({name!r}, part={part}, of={of}, groups={groups}): part counts from 0 to of - "
            "1, groups from 1")
    return SplitLayer(name, part, of, groups)


def concat(*names: str, groups: int = 1) -> ConcatLayers:
    """The torch layers (or tensors) `names` one after the other along the first axis (outputs), for
    `ktc.align(..., mapping=...)`.

    For a Keras layer that holds them fused: `{"qkv": concat("attn.q", "attn.k", "attn.v")}`. With
    `groups` the rows of each are cut into so many groups, and every group has some rows of all, as
    in `split`. Raises AlignmentError for fewer than two names.
    """
    if len(names) < 2 or groups < 1:
        raise AlignmentError(
            f"concat{names!r}, groups={groups}: expected at least two torch layers and one group")
    return ConcatLayers(tuple(names), groups)


def stack(*names: str) -> StackedLayers:
    """The torch layers (or tensors) `names`, all of one shape, as a bank with a new first axis that
    counts them, for `ktc.align(..., mapping=...)`.

    For the experts of a mixture: `{"moe/experts": stack(*(f"experts.{index}.up_proj" for index in
    range(8)))}`. The other way round a part of a bank is written as text: "experts.up_proj[3]" is
    entry 3 of each tensor, without the first axis. Raises AlignmentError for no name.
    """
    if not names:
        raise AlignmentError("stack(): expected at least one torch layer")
    return StackedLayers(tuple(names))


@dataclass(slots=True)
class Parts:
    """The tensors that exist on paper only, by name, with what they are made of."""

    find: Callable[[str], Sequence[SourceTensor]]
    made_of: dict[str, Expression] = field(default_factory=dict)
    real: dict[str, SourceTensor] = field(default_factory=dict)

    def tensors(self, layer: LayerSelection) -> list[SourceTensor]:
        """The tensors of a layer or of a part. Raises AlignmentError when there is no such layer or
        it cannot be cut or joined so.
        """
        if isinstance(layer, (ConcatLayers, StackedLayers)):
            return [self._joined_tensors(tensors, layer) for tensors in self._alike(layer)]
        if isinstance(layer, SplitLayer):
            return [self._rows(tensor, layer) for tensor in self.find(layer.name)]
        found = re.fullmatch(r"(.+)\[(\d+)(?::(\d+))?\]", layer)
        try:
            return list(self.find(layer))
        except AlignmentError:
            if found is None:
                raise
        start, stop = int(found[2]), int(found[3] or found[2]) + (found[3] is None)
        return [
            self._sliced(tensor, start, stop, layer, whole=found[3] is not None)
            for tensor in self.find(found[1])
        ]

    def finished(self, plan: Plan) -> Plan:
        """The Plan with what the tensors on paper are made of in their places."""
        if not self.made_of:
            return plan
        assignments = tuple(
            replace(
                assignment, expression=self._replaced(assignment.expression), constants=tuple(
                    replace(one, expression=self._replaced(one.expression))
                    for one in assignment.constants)) for assignment in plan.assignments)
        constants = tuple(
            replace(one, expression=self._replaced(one.expression)) for one in plan.constants)
        kinds = {name: kind for name, kind in plan.sources.items() if name not in self.made_of}
        kinds |= {name: tensor.as_kind() for name, tensor in self.real.items()}
        return replace(plan, assignments=assignments, constants=constants, sources=kinds)

    def _replaced(self, expression: Expression) -> Expression:
        if isinstance(expression, Tensor):
            return self.made_of.get(expression.name, expression)
        if isinstance(expression, CallbackOutput):
            operands = tuple(map(self._replaced, expression.callback.operands))
            return replace(expression, callback=replace(expression.callback, operands=operands))
        return with_operands(expression, self._replaced)

    def _sliced(self, tensor: SourceTensor, start: int, stop: int, text: str, *,
                whole: bool) -> SourceTensor:
        """Entries `start` to `stop` of the first axis; the one entry without the axis when not
        `whole`.
        """
        count = tensor.shape[0] if tensor.shape else 0
        if not start < stop <= count:
            raise AlignmentError(
                f"'{text}': '{tensor.name}' {tensor.shape} has {count} rows along its first axis")
        made: Expression = Slice(Tensor(tensor.name), 0, start, stop)
        if not whole:
            made = Reshape(made, tensor.shape[1:])
        return self._made([tensor], made, f"[{start}:{stop}]" if whole else f"[{start}]")

    def _rows(self, tensor: SourceTensor, part: SplitLayer) -> SourceTensor:
        count = tensor.shape[0] if tensor.shape else 0
        if not count or count % (part.of * part.groups):
            raise AlignmentError(
                f"'{part}': the {count} rows of '{tensor.name}' {tensor.shape} cannot be cut "
                f"into {part.of * part.groups} equal parts; "
                "name the tensor itself when the layer holds others besides")
        size = count // part.of // part.groups
        if part.groups == 1:
            made: Expression = Slice(Tensor(tensor.name), 0, part.part * size,
                                     (part.part + 1) * size)
        else:
            grouped = Reshape(Tensor(tensor.name), (part.groups, part.of, size, *tensor.shape[1:]))
            made = Reshape(Slice(grouped, 1, part.part, part.part + 1),
                           (part.groups * size, *tensor.shape[1:]))
        return self._made([tensor], made, str(part)[len(part.name):])

    def _alike(self, layer: ConcatLayers | StackedLayers) -> list[tuple[SourceTensor, ...]]:
        """The tensors of the layers side by side: all first ones, all second ones, ..."""
        columns = [list(self.find(name)) for name in layer.names]
        kinds = [[last_part(tensor.name) for tensor in column] for column in columns]
        if (any(
                len(column) > 1 and kind != kinds[0]
                for column, kind in zip(columns, kinds, strict=True))
                or len({len(column) for column in columns}) != 1):
            raise AlignmentError(f"'{layer}': the layers hold different tensors, "
                                 f"{', '.join(str(kind) for kind in kinds)}")
        return list(zip(*columns, strict=True))

    def _joined_tensors(self, tensors: Sequence[SourceTensor],
                        layer: ConcatLayers | StackedLayers) -> SourceTensor:
        shapes = ", ".join(f"'{tensor.name}' {tensor.shape}" for tensor in tensors)
        if isinstance(layer, StackedLayers):
            if len({tensor.shape for tensor in tensors}) > 1:
                raise AlignmentError(f"'{layer}': {shapes} are not of one shape")
            entries = tuple(Reshape(Tensor(tensor.name), (1, *tensor.shape)) for tensor in tensors)
            return self._made(tensors,
                              Concat(entries, 0) if len(entries) > 1 else entries[0], f" {layer}")
        rest = tensors[0].shape[1:]
        if any(not tensor.shape or tensor.shape[1:] != rest or tensor.shape[0] % layer.groups
               for tensor in tensors):
            raise AlignmentError(
                f"'{layer}': {shapes} cannot be joined along the first axis in {layer.groups} "
                "groups")
        operands: tuple[Expression, ...] = tuple(Tensor(tensor.name) for tensor in tensors)
        if layer.groups == 1:
            return self._made(tensors, Concat(operands, 0), f" {layer}")
        grouped = tuple(
            Reshape(operand, (layer.groups, tensor.shape[0] // layer.groups, *rest))
            for operand, tensor in zip(operands, tensors, strict=True))
        count = sum(tensor.shape[0] for tensor in tensors)
        return self._made(tensors, Reshape(Concat(grouped, 1), (count, *rest)), f" {layer}")

    def _made(self, tensors: Sequence[SourceTensor], made: Expression, how: str) -> SourceTensor:
        """A tensor on paper: its last part is that of the (first) tensor it is made of, which tells
        its role.
        """
        name = tensors[0].name
        last = last_part(name)
        paper = f"{name[: -len(last)].rstrip('.')}{how}.{last}"
        self.made_of[paper] = made
        self.real.update((tensor.name, tensor) for tensor in tensors)
        shape = shape_by_kinds(made, {tensor.name: tensor.shape for tensor in tensors})
        return replace(tensors[0], name=paper, shape=shape, read=_unreadable(paper), storage=None)


def _unreadable(name: str) -> Callable[[], npt.NDArray[Any]]:
    def read() -> npt.NDArray[Any]:
        raise AlignmentError(
            f"'{name}' exists on paper only, so its values cannot decide where it goes")

    return read
