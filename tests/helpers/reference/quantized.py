"""Quantized weights decoded by the published formats, value by value: the slow twin of the kernels.

All is computed in float64 of float32 factors, where the product of a code and a factor is exact,
and then rounded to float32 and to the wanted type, as the formats' own packages do it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
AWQ_ORDER = {4: (0, 2, 4, 6, 1, 3, 5, 7), 8: (0, 2, 1, 3)}
FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def small_float(code: int, exponent_bits: int, fraction_bits: int) -> float:
    """The number of a code of FP8: sign, exponent and fraction."""
    sign = -1.0 if code >> (exponent_bits + fraction_bits) else 1.0
    exponent = code >> fraction_bits & ((1 << exponent_bits) - 1)
    fraction = code & ((1 << fraction_bits) - 1)
    bias = (1 << (exponent_bits - 1)) - 1
    if fraction_bits == 2 and exponent == 31:
        return sign * float("inf") if fraction == 0 else float("nan")
    if fraction_bits == 3 and exponent == 15 and fraction == 7:
        return float("nan")
    if exponent == 0:
        return sign * fraction * 2.0**(1 - bias - fraction_bits)
    return sign * (1 + fraction / (1 << fraction_bits)) * 2.0**(exponent - bias)


def float8(codes: Array, scheme: str, scales: Array, block: tuple[int, int]) -> Array:
    """Return the float32 numbers of a matrix of FP8 codes."""
    result = np.empty(codes.shape, np.float32)
    bits = (4, 3) if scheme == "float8_e4m3fn" else (5, 2)
    for row, column in np.ndindex(codes.shape):
        scale = scales[row // block[0], column // block[1]]
        with np.errstate(all="ignore"):
            result[row, column] = np.float64(small_float(int(codes[row, column]), *bits)) * scale
    return result


def mxfp4(blocks: Array, scales: Array) -> Array:
    """Return the float32 numbers (rows, 32 * groups) of blocks (rows, groups, 16)."""
    result = np.empty((*scales.shape, 32), np.float32)
    for row, group, place in np.ndindex(result.shape):
        code = int(blocks[row, group, place // 2]) >> (4 * (place % 2)) & 15
        sign = -1.0 if code & 8 else 1.0
        power = np.float64(2.0)**(int(scales[row, group]) - 127)
        with np.errstate(all="ignore"):
            result[row, group, place] = sign * FP4_VALUES[code & 7] * np.float32(power)
    return result.reshape(len(blocks), -1)


def code_at(words: Array, bits: int, row: int, column: int, packs_rows: bool) -> int:
    """Return one code of packed words, rows or columns together."""
    packed = 32 // bits
    if packs_rows:
        word, place = int(words[row // packed, column]), row % packed
    else:
        word = int(words[row, column // packed])
        place = AWQ_ORDER[bits].index(column % packed)
    return word >> (bits * place) & ((1 << bits) - 1)


def gptq(words: Array, zeros: Array, scales: Array, groups: Array, bits: int,
         stored_less_one: bool) -> Array:
    """Return the float32 numbers (inputs, outputs)."""
    result = np.empty((len(groups), scales.shape[1]), np.float32)
    for row, column in np.ndindex(result.shape):
        group = int(groups[row])
        # Zeros lie in words along the outputs, in plain order.
        zero = code_at(zeros.T, bits, column, group, True) + stored_less_one
        code = code_at(words, bits, row, column, True)
        result[row, column] = np.float64(code - zero) * scales[group, column]
    return result


def awq(words: Array, zeros: Array, scales: Array, group_size: int, bits: int) -> Array:
    """Return the float32 numbers (inputs, outputs)."""
    result = np.empty((len(words), scales.shape[1]), np.float32)
    for row, column in np.ndindex(result.shape):
        group = row // group_size
        zero = code_at(zeros, bits, group, column, False)
        code = code_at(words, bits, row, column, False)
        result[row, column] = np.float64(code - zero) * scales[group, column]
    return result
