"""Weights out of the codes of a quantization.

Formats: FP8 (Micikevicius et al. 2022, arXiv:2209.05433) with factors for blocks, channels or the
whole; MXFP4 of the Open Compute Project (Rouhani et al. 2023, arXiv:2310.10537); GPTQ (Frantar et
al. 2022, arXiv:2210.17323) and AWQ (Lin et al. 2023, arXiv:2306.00978), packed into words of 32
bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ... import _core
from ...spec.tensor_spec import Shape
from ...util.text import join_names
from .node import Expression, OperandValues, Shapes

Array = npt.NDArray[Any]
Scheme = Literal["float8_e4m3fn", "float8_e5m2", "mxfp4", "gptq", "gptq_v2", "awq"]
# A range along each axis.
Box = Sequence[tuple[int, int]]
_FLOATS = ("float32", "float16", "bfloat16")
_POWERS = ("uint8", "float8_e8m0fnu")
_WORD = 32
_MXFP4_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Dequantize(Expression):
    """Numbers of floating point that are stored as codes, in the layout of the codes.

    Attributes:
        parts: FP8 and MXFP4: codes (..., rows, columns) and scales. GPTQ and AWQ: qweight, qzeros,
            scales and, for GPTQ, maybe g_idx; the result is (inputs, outputs).
        scheme: How they are stored.
        dtype: The type of the result.
        bits: Of a code.
        block: Rows and columns that share a scale.
    """

    NAME = "dequantize"
    parts: tuple[Expression, ...]
    scheme: Scheme
    dtype: Literal["bfloat16", "float16", "float32"]
    bits: int
    block: tuple[int, int]

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the shape of the numbers. Raises ValueError when the parts do not fit."""
        if self.is_packed:
            return self._packed_shape(shapes)
        if len(shapes) != 2:
            raise ValueError(f"{self.scheme} takes codes and scales, got {len(shapes)} tensors")
        codes, scales = shapes
        shape = codes
        if self.scheme == "mxfp4":
            if len(codes) < 3 or codes[-1] * 2 != _MXFP4_BLOCK or scales != codes[:-1]:
                raise ValueError(f"blocks of shape {codes} and scales of shape {scales} are no "
                                 f"MXFP4: expected (..., 16) and (...)")
            return (*codes[:-2], codes[-2] * _MXFP4_BLOCK)
        if len(shape) < 2:
            raise ValueError(f"codes of shape {shape} are no matrix")
        wanted = (*shape[:-2], *self._blocks(shape))
        if scales != wanted and not (prod(wanted) == prod(scales)
                                     and _without_ones(scales) == _without_ones(wanted)):
            raise ValueError(f"scales of shape {scales} do not fit codes of shape {shape} in "
                             f"blocks of {self.block}: expected {wanted}")
        return shape

    @property
    def is_packed(self) -> bool:
        """Whether codes are whole numbers in words."""
        return self.scheme in ("gptq", "gptq_v2", "awq")

    def loss(self) -> str:
        """Say why the codes cannot be had back."""
        return "a quantized weight: its decoded values are kept, the codes are not"

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Raise ValueError: nothing is quantized here."""
        raise ValueError("quantized weights are only decoded, and not made: give a Plan from the "
                         "float model")

    def check_types(self, dtypes: Sequence[str]) -> None:
        """Raise ValueError for parts of other types than the scheme has."""
        wanted: tuple[Sequence[str], ...] = (("int32",), ("int32",), _FLOATS, ("int32",))
        if self.scheme == "mxfp4":
            wanted = ("uint8",), _POWERS
        elif not self.is_packed:
            wanted = (self.scheme,), (*_FLOATS, *_POWERS)
        for number, (dtype, known) in enumerate(zip(dtypes, wanted, strict=False)):
            if dtype not in known:
                raise ValueError(f"part {number + 1} of {self.scheme} is {dtype}, expected "
                                 f"{join_names(known, separator=' or ')}")

    def grain(self, shape: Shape) -> Shape:
        """Return the steps along each axis at which a box may begin."""
        packed = _WORD // self.bits
        if self.is_packed:
            return (1, packed) if self.scheme == "awq" else (packed, 1)
        return (*(1 for _ in shape[:-2]),
                *(block if block < extent else 1
                  for block, extent in zip(self.block, shape[-2:], strict=True)))

    def prepared(self, parts: Sequence[Array], dtypes: Sequence[str]) -> list[Array]:
        """Return the parts with what is small as float32, once for all boxes."""
        if self.is_packed:
            zeros = _zeros(parts[1], self.bits, self.scheme).astype(np.float32)
            scales = _core.cast(parts[2], dtypes[2], "float32")[0]
            return [_as_rows(parts[0]).view(np.uint32), zeros, scales, *parts[3:]]
        if self.scheme == "mxfp4":
            return list(parts)
        if dtypes[1] in _POWERS:
            return [parts[0], _powers(parts[1])]
        return [parts[0], _core.cast(parts[1], dtypes[1], "float32")[0]]

    def decode(self, parts: Sequence[Array], shape: Shape, box: Box, target: Array) -> None:
        """Decode the numbers in a box of the result, bfloat16 as its bits.

        Args:
            parts: What `prepared` gives.
            shape: The shape of the whole result.
            box: The first entry and the end along each axis; it begins at steps of `grain`, and
                ends at one or at the end of the axis.
            target: What takes them: an array of the box's shape, of this type or of float32.

        Raises:
            ValueError: g_idx names a group that is not there.
        """
        if self.is_packed:
            self._decode_packed(parts, box, target)
            return
        leading = tuple(slice(*one) for one in box[:-2])
        codes = parts[0][leading]
        scales = parts[1].reshape(*shape[:-2], -1)[leading]
        for index in np.ndindex(*target.shape[:-2]):
            self._decode_matrix(codes[index], scales[index], shape[-2:], box[-2:], target[index])

    def _decode_matrix(self, codes: Array, scales: Array, shape: Shape, box: Box,
                       target: Array) -> None:
        (top, bottom), (left, right) = box
        scales = scales.reshape(self._blocks(shape))[tuple(
            slice(0, 1) if block >= extent else slice(start // block, -(-stop // block))
            for (start, stop), block, extent in zip(box, self.block, shape, strict=True))]
        if self.scheme == "mxfp4":
            codes = codes.reshape(shape[0], -1)[top:bottom, left // 2:-(-right // 2)]
            scales = _powers(scales)
        else:
            codes = codes[top:bottom, left:right]
        name = "float4_e2m1fn" if self.scheme == "mxfp4" else self.scheme
        _core.decode_floats(_as_rows(codes), name, scales, right - left, *self.block, self.dtype,
                            target)

    def _decode_packed(self, parts: Sequence[Array], box: Box, target: Array) -> None:
        (top, bottom), (left, right) = box
        words, zeros, scales = parts[:3]
        packed = _WORD // self.bits
        is_awq = self.scheme == "awq"
        groups = parts[3] if len(parts) > 3 else np.arange(bottom, dtype=np.int32) // self.block[0]
        words = words[top:bottom, left // packed:right
                      // packed] if is_awq else words[top // packed:bottom // packed, left:right]
        _core.decode_whole(words, scales[:, left:right], zeros[:, left:right],
                           groups[top:bottom].astype(np.int32), self.bits, not is_awq, self.dtype,
                           target)

    def _blocks(self, shape: Shape) -> Shape:
        return tuple(
            -(-extent // block) for extent, block in zip(shape[-2:], self.block, strict=True))

    def _packed_shape(self, shapes: Shapes) -> Shape:
        """Return (inputs, outputs) of packed whole numbers."""
        if not 3 <= len(shapes) <= (3 if self.scheme == "awq" else 4) or any(
                len(shape) != 2 for shape in shapes[:3]):
            raise ValueError(f"{self.scheme} takes qweight, qzeros and scales of two axes, got "
                             f"{list(shapes)}")
        if self.bits not in (4, 8):
            raise ValueError(f"{self.scheme} with {self.bits} bits is not known, only 4 and 8")
        words, zeros, scales = shapes[:3]
        packed = _WORD // self.bits
        rows, columns = (words[0],
                         words[1] * packed) if self.scheme == "awq" else (words[0] * packed,
                                                                          words[1])
        groups = scales[0] if len(shapes) > 3 else -(-rows // self.block[0])
        if (scales != (groups, columns) or zeros[0] != groups or zeros[1] * packed != columns
                or shapes[3:] not in ([], [(rows,)])):
            raise ValueError(
                f"qweight {words}, qzeros {zeros}, scales {scales} and g_idx {shapes[3:]} do not "
                f"fit each other with {self.bits} bits and groups of {self.block[0]}")
        return rows, columns


def _without_ones(shape: Shape) -> Shape:
    return tuple(extent for extent in shape if extent != 1)


def _as_rows(codes: Array) -> Array:
    """Return codes as the kernels read them: aligned, each row contiguous."""
    is_fit = codes.flags.aligned and codes.strides[-1] == codes.itemsize
    return codes if is_fit else codes.copy()


def _powers(exponents: Array) -> Array:
    """Return 2 ** (e - 127), as E8M0 has it, but with an infinity at the end: the exponents
    of float32, whose first one has other bits.
    """
    bits = exponents.astype(np.uint32)
    bits <<= np.uint32(23)
    return np.maximum(bits, np.uint32(1 << 22), out=bits).view(np.float32)


def _zeros(words: Array, bits: int, scheme: Scheme) -> Array:
    """Return the zeros of each group, one for each output."""
    words = np.ascontiguousarray(words).view(np.uint32)
    packed, highest = _WORD // bits, np.uint32((1 << bits) - 1)
    order = range(packed) if scheme != "awq" else (*range(0, packed, 2), *range(1, packed, 2))
    zeros = np.empty((len(words), words.shape[1], packed), np.uint32)
    for position, column in enumerate(order):
        zeros[:, :, column] = words >> np.uint32(bits * position) & highest
    if scheme == "gptq":
        # Zeros are stored less one, so that 0 would be the highest code. AutoGPTQ reads it as 0,
        # GPTQModel adds one to whole words, which changes the next zero too, others read 16 or 256.
        if (zeros == highest).any():
            raise ValueError(
                f"qzeros hold the highest code of {bits} bits, which programs read as different "
                "zeros: save the model with checkpoint_format 'gptq_v2', or dequantize it in the "
                "program that it was made with")
        zeros += np.uint32(1)
    return zeros.reshape(len(words), -1)
