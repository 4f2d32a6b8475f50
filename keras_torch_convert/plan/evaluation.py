"""What an expression gives: its shape without reading a value, and its values in the wanted dtype.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import SourceError
from ..spec.dtypes import NUMPY_TYPES, native
from ..spec.source import Source, SourceTensor
from ..spec.tensor_spec import Shape
from ..util.mapped_memory import cuts_noticed
from ..util.values_at_offsets import HALVES, Pieces, Streamed, Widened
from .casting import CASTABLE, Losses, cast, is_exact
from .copy_program import CopyProgram, CopyRegion, move, split
from .expressions import (CallbackOutput, Computation, Dequantize, Expression, Fill, LayerCallback,
                          Tensor, compile_program, substituted, tensors_of)

Array = npt.NDArray[Any]
# Pairs of source and target.
Copies = list[tuple[Array, Array]]
# float32 does not hold all of their values.
_WIDE = frozenset({"float64", "int32", "int64", "uint32", "uint64"})
# Quantized weights are decoded in boxes of so many elements: into new arrays, and in place, where
# larger ones take no memory.
_BOX_SIZE = 2**20
_BOX_SIZE_IN_PLACE = 2**22


@dataclass(slots=True)
class Evaluation:
    """Expressions over the tensors of one source and over what a user's callbacks returned."""

    source: Source
    results: dict[LayerCallback, list[Array] | None] = field(default_factory=dict)
    # By identity: to hash a tree of expressions takes longer than all else that is done with most
    # of them.
    programs: dict[int, tuple[Expression, CopyProgram]] = field(default_factory=dict)
    # How often values were asked for.
    reads: int = 0

    def shape(self, expression: Expression) -> Shape:
        """Return the shape, from shapes alone. Raises ValueError when a step does not fit."""
        match expression:
            case Tensor():
                return self.source[expression.name].shape
            case CallbackOutput():
                return self._result(expression).shape
            case _:
                return self.program(expression).shape

    def program(self, expression: Expression) -> CopyProgram:
        """Return the copies from the bases: tensors, constants, callbacks' outputs, computations.

        Raises ValueError when a step does not fit.
        """
        found = self.programs.get(id(expression))
        if found is None:
            # The expression is kept too, so that no other one can get its identity.
            found = self.programs[id(expression)] = expression, compile_program(
                expression, self._base_shape)
        return found[1]

    def regions_read(self, expressions: Iterable[Expression]) -> Iterator[tuple[str, CopyRegion]]:
        """Yield the name of each tensor with a part that is read, also for a computation."""
        pending = list(expressions)
        while pending:
            program = self.program(pending.pop())
            pending += [operand for base in program.bases for operand in base.children()]
            for region in program.regions:
                base = program.bases[region.base]
                if isinstance(base, Tensor):
                    yield base.name, region

    def is_exact(self, expression: Expression, dtype: str) -> bool:
        """Return whether values are only moved, from dtypes of which `dtype` holds every value."""
        return all(
            isinstance(base, Tensor) and is_exact(self._dtype(base), dtype)
            for base in self.program(expression).bases)

    def check_dtypes(self, expression: Expression, dtype: str) -> None:
        """Raise ValueError when the dtype of some tensor cannot become `dtype`."""
        for base in self.program(expression).bases:
            if isinstance(base, Computation):
                for operand in base.children():
                    self.check_dtypes(operand, "float64")
            else:
                if isinstance(base, Dequantize):
                    base.check_types([self._dtype(part) for part in self._parts(base)])
                check_castable(self._dtype(base), dtype)

    def values(self, expression: Expression, dtype: str, display_name: str,
               losses: Losses | None = None, into: Array | None = None) -> Array:
        """Return the values in another dtype (bfloat16 as its bits), a new array in C order.

        Each base is cast, region by region, before it is put in place, so that tensors of several
        dtypes may be joined.

        Args:
            expression: The expression.
            dtype: The dtype that is wanted.
            display_name: What they are, for `losses`.
            losses: Where rounded values are counted.
            into: An array of this shape and dtype that takes the values; without one, or where the
                values lie in its own memory, a new one is made.

        Raises:
            ValueError: Finite values do not fit the dtype, or finite numbers make an infinite or
                undefined one.
        """
        if (decoded := self._decoded(expression)) is not None:
            return decoded[0].values(decoded[1], dtype, display_name, losses, into)
        program = self.program(expression)
        if any(isinstance(base, Dequantize) for base in program.bases):
            return self._decoded_values(program, dtype, display_name, losses, into)
        bases = [self._base(base) for base in program.bases]
        dtypes = [self._dtype(base) for base in program.bases]
        if into is not None and any(np.may_share_memory(base, into) for base in bases):
            into = None
        with cuts_noticed(*bases):
            if all(one == dtype for one in dtypes) and bases:
                return move(program, bases, into)
            result = np.empty(program.shape,
                              NUMPY_TYPES[dtype].newbyteorder("=")) if into is None else into
            for region in program.regions:
                part = cast(region.base_view(bases[region.base]), dtypes[region.base], dtype,
                            display_name, losses)
                _core.copy_strided(part, region.view(result))
        return result

    def copies(self, expression: Expression, dtype: str, into: Array) -> Copies | None:
        """Return what is to be copied where for `into` to hold the values, which cannot fail.

        None where that takes more than copies, a tensor does not lie in memory, or lies in that of
        `into`.
        """
        program = self.program(expression)
        bases = []
        for base in program.bases:
            tensor = self.source[base.name] if isinstance(base, Tensor) else None
            if tensor is None or tensor.dtype != dtype or tensor.storage is None:
                return None
            bases.append(self.read(tensor))
            # Elsewhere reading makes a copy, and all of them would be held at once.
            if bases[-1].__array_interface__["data"][
                    0] not in tensor.storage or np.may_share_memory(bases[-1], into):
                return None
        return [
            (region.base_view(bases[region.base]), region.view(into)) for region in program.regions
        ]

    def stored_view(self, expression: Expression, dtype: str) -> Streamed | None:
        """Return the values in C order as a view on the source, without a copy, or in pieces that
        are decoded; None when they must be computed, put together, or cast in another way than from
        half precision to float32.

        The view has an axis for each loop of the copy.
        """
        if (decoded := self._decoded(expression)) is not None:
            return decoded[0].stored_view(decoded[1], dtype)
        program = self.program(expression)
        base = program.bases[0] if len(program.bases) == 1 else None
        if not isinstance(base, (Tensor, Dequantize)) or not program.is_one_view():
            return None
        stored = self._dtype(base)
        if isinstance(base, Dequantize):
            if not is_exact(stored, dtype):
                return None
            itemsize = NUMPY_TYPES[dtype].itemsize
            return Pieces(
                prod(program.shape) * itemsize,
                lambda: self._decoded_parts(base, program.regions[0], dtype, "", None))
        if stored != dtype and (stored not in HALVES or dtype != "float32"):
            return None
        view = program.regions[0].base_view(self.read(self.source[base.name]))
        return view if stored == dtype else Widened(view, stored)

    def read(self, tensor: SourceTensor) -> Array:
        """Return the values of a source tensor as they are stored, for kernels alone to touch."""
        self.reads += 1
        values = native(tensor.view())
        if values.shape != tensor.shape:
            raise SourceError(
                f"tensor '{tensor.name}' was announced with shape {tensor.shape} and read with "
                f"{values.shape}")
        return values

    def _decoded(self, expression: Expression) -> tuple[Evaluation, Expression] | None:
        """Return an expression over one decoded tensor as one over what it is decoded from, and
        what evaluates that.
        """
        names = tensors_of(expression)
        view = self.source[names[0]].view if len(names) == 1 else None
        if not isinstance(view, Decoded):
            return None
        self.reads += 1
        return view.evaluation, substituted(expression, {names[0]: view.expression})

    def _decoded_values(self, program: CopyProgram, dtype: str, display_name: str,
                        losses: Losses | None, into: Array | None) -> Array:
        """Return the values of a program with bases that are decoded, box by box."""
        result = np.empty(program.shape,
                          NUMPY_TYPES[dtype].newbyteorder("=")) if into is None else into
        for region in program.regions:
            base = program.bases[region.base]
            if isinstance(base, Dequantize):
                for _ in self._decoded_parts(base, region, dtype, display_name, losses, result):
                    pass
            else:
                array = region.base_view(self._base(base))
                _core.copy_strided(cast(array, self._dtype(base), dtype, display_name, losses),
                                   region.view(result))
        return result

    def _decoded_parts(self, base: Dequantize, region: CopyRegion, dtype: str, display_name: str,
                       losses: Losses | None, into: Array | None = None) -> Iterator[Array]:
        """Decode a region part by part, and yield each with an axis for each loop: in its place of
        `into`, without which it is a new array.
        """
        operands = self._parts(base)
        stored = [self.read(self.source[one.name]) for one in operands]
        shape = self._base_shape(base)
        grain = base.grain(shape)
        with cuts_noticed(*stored):
            prepared = base.prepared(stored, [self._dtype(one) for one in operands])
            for part in split(region, _BOX_SIZE if into is None else _BOX_SIZE_IN_PLACE):
                target = np.empty([loop.count for loop in part.loops],
                                  NUMPY_TYPES[dtype]) if into is None else part.view(into)
                box, moved = part.in_box(shape, grain)
                extents = tuple(stop - start for start, stop in box)
                whole = moved.as_base(target, extents) if dtype in (base.dtype, "float32") else None
                if whole is not None:
                    base.decode(prepared, shape, box, whole)
                else:
                    found = np.empty(extents, NUMPY_TYPES[base.dtype])
                    base.decode(prepared, shape, box, found)
                    _core.copy_strided(
                        cast(moved.base_view(found), base.dtype, dtype, display_name, losses),
                        target)
                yield target

    def _parts(self, base: Dequantize) -> list[Tensor]:
        operands = [one for one in base.parts if isinstance(one, Tensor)]
        if len(operands) < len(base.parts):
            raise ValueError("only tensors of the source are decoded, as they are stored")
        return operands

    def _base_shape(self, base: Expression) -> Shape:
        if isinstance(base, (Tensor, CallbackOutput)):
            return self.shape(base)
        return base.result_shape([self.shape(child) for child in base.children()])

    def _dtype(self, base: Expression) -> str:
        match base:
            case Tensor():
                return self.source[base.name].dtype
            case CallbackOutput():
                return self._result(base).dtype.name
            case Fill():
                return "float64"
            case Dequantize():
                return base.dtype
            case _:
                return "float64" if any(
                    self._is_wide(operand) for operand in base.children()) else "float32"

    def _is_wide(self, expression: Expression) -> bool:
        bases = self.program(expression).bases
        return any(not isinstance(base, Fill) and self._dtype(base) in _WIDE for base in bases)

    def _base(self, base: Expression) -> Array:
        match base:
            case Tensor():
                return self.read(self.source[base.name])
            case CallbackOutput():
                return self._result(base)
            case Fill():
                return np.broadcast_to(np.float64(base.value), base.shape)
            case Computation():
                return self._computed(base)
            case _:
                raise AssertionError(f"{type(base).__name__} is no base")

    def _computed(self, base: Computation) -> Array:
        dtype = self._dtype(base)
        operation = type(base).__name__
        operands = [self.values(operand, dtype, operation) for operand in base.children()]
        result = np.ascontiguousarray(base.evaluate(operands)).reshape(self._base_shape(base))
        bad = result.size - int(np.isfinite(result).sum())
        if bad and all(np.isfinite(operand).all() for operand in operands):
            raise ValueError(
                f"{operation} of finite numbers gives {bad} of {result.size} infinite or "
                "undefined ones")
        return result

    def _result(self, output: CallbackOutput) -> Array:
        results = self.results[output.callback]
        assert results is not None
        return results[output.index]


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Reads a source tensor that is decoded from others: its `SourceTensor.view`.

    Attributes:
        evaluation: Over the tensors that it is decoded from.
        expression: How.
        dtype: The type of the tensor.
        name: What it is called in messages.
    """

    evaluation: Evaluation
    expression: Expression
    dtype: str
    name: str

    def __call__(self) -> Array:
        """Return all values, a new array."""
        return self.evaluation.values(self.expression, self.dtype, self.name)


def check_castable(source_type: str, target_type: str) -> None:
    """Raise ValueError for dtypes that have no values in common, such as complex numbers."""
    if not {source_type, target_type} <= CASTABLE:
        raise ValueError(f"{source_type} values cannot become {target_type}")


def shape_of(expression: Expression, shapes: Mapping[str, Shape]) -> Shape:
    """Return the shape of an expression over tensors with these shapes.

    Raises ValueError when a step does not fit, and for what a callback returns.
    """
    if isinstance(expression, Tensor):
        return shapes[expression.name]
    if isinstance(expression, CallbackOutput):
        return expression.result_shape(())
    return expression.result_shape([shape_of(one, shapes) for one in expression.children()])
