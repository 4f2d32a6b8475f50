"""Tables over a grid at another resolution, as torch.nn.functional.interpolate(antialias=True)
computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...spec.tensor_spec import Shape
from .computation import Computation
from .node import Expression, OperandValues, Shapes

Array = npt.NDArray[Any]
Mode = Literal["bicubic", "bilinear"]
# Half the width of each filter, in cells of the finer grid.
_SUPPORT = {"bicubic": 2.0, "bilinear": 1.0}


@dataclass(frozen=True, slots=True)
class Resampled(Computation):
    """A table (..., prefix + rows * columns of `grid`, channels) for `new_grid`: the rows after
    `prefix` resized "bicubic" or "bilinear".
    """

    NAME = "resampled"
    LOSS = "the table was resized: the one before cannot be had back"
    operand: Expression
    prefix: int
    grid: tuple[int, int]
    new_grid: tuple[int, int]
    mode: Mode

    def result_shape(self, shapes: Shapes) -> Shape:
        """Return the shape with other rows."""
        (shape,) = shapes
        if len(shape) < 2 or shape[-2] != self.prefix + prod(self.grid):
            raise ValueError(f"a table of shape {shape} does not hold {self.prefix} tokens and a "
                             f"grid of {self.grid}")
        return (*shape[:-2], self.prefix + prod(self.new_grid), shape[-1])

    def evaluate(self, operands: Sequence[Array]) -> Array:
        """Resize in float64 and round."""
        return resampled_grid(operands[0], self.prefix, self.grid, self.new_grid, self.mode)

    def invert(self, value: Expression, shapes: Shapes) -> OperandValues:
        """Raise ValueError: there is no way back."""
        raise ValueError(
            f"the table was resized from {self.grid} to {self.new_grid} positions, which cannot be "
            "undone; build the Keras model for the picture size of the torch model, or let the "
            "table keep its values")


def resampled_grid(table: Array, prefix: int, grid: tuple[int, int], new_grid: tuple[int, int],
                   mode: Mode) -> Array:
    """Return (..., prefix + cells of `grid`, channels) as (..., prefix + cells of `new_grid`,
    channels); the first `prefix` rows stay as they are.
    """
    *leading, rows, channels = table.shape
    flat = table.reshape(prod(leading), rows, channels)
    cells = flat[:, prefix:].reshape(-1, *grid, channels).astype(np.float64)
    along_height = np.einsum("ih,nhwc->niwc", resampling_matrix(grid[0], new_grid[0], mode), cells)
    resampled = np.einsum("jw,niwc->nijc", resampling_matrix(grid[1], new_grid[1], mode),
                          along_height)
    resampled = resampled.reshape(len(flat), prod(new_grid), channels).astype(table.dtype)
    return np.concatenate([flat[:, :prefix], resampled], axis=1).reshape(*leading, -1, channels)


def resampling_matrix(size: int, new_size: int, mode: Mode) -> Array:
    """Return how much of each old cell a new one takes, (new_size, size).

    Pixel centers are half-way, the filter widens when cells are merged.
    """
    scale = size / new_size
    widening = max(scale, 1.0)
    support = _SUPPORT[mode] * widening
    weight = _cubic if mode == "bicubic" else _triangle
    matrix = np.zeros((new_size, size))
    for row in range(new_size):
        center = scale * (row + 0.5)
        first, last = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), size)
        matrix[row, first:last] = weight((np.arange(first, last) - center + 0.5) / widening)
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def _triangle(distance: Array) -> Array:
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def _cubic(distance: Array) -> Array:
    """Keys's cubic with a = -1/2, which PyTorch takes with antialias=True (and -3/4 without)."""
    x = np.abs(distance)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))
