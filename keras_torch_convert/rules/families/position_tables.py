"""Tables of positions: attention biases by relative position, and tables of another image size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isqrt, prod
from typing import Any, Union, get_args

from ...errors import TransferError
from ...plan.derived_tensors import derive
from ...plan.expressions import Expression, Resampled, Reshape, Tensor
from ...plan.expressions.resampled import Mode
from ...spec.layer_groups import TorchLayer, last_part
from ...spec.roles import is_position_table
from ...spec.source import SourceTensor
from ...spec.target import Target, TargetLayer, TargetVariable
from ..rule import AxisPattern, Rule

Resize = Union[Mode, None]
_MOST_TOKENS = 16
# Axes in PyTorch by the tensor's name: only tables that all models know by one name with one
# meaning. Where an offset is two-dimensional its rows vary slowest in all of these.
_BIAS_TABLES = {
    "relative_position_bias_table": "offset head", "attention_biases": "head offset",
    "rpb": "head row column", "height_rel": "offset head", "width_rel": "offset head"
}
_RELATIVE = Rule(
    "relative position table", (),
    "PyTorch: relative_position_bias_table (offsets, heads) of Swin and BEiT, attention_biases "
    "(heads, offsets) of LeViT, rpb (heads, rows, columns) of NAT, height_rel and width_rel "
    "(offsets, width of a head) of HaloNet and BoTNet. The Keras variable may have the axes in "
    "another order, or the offsets as rows and columns, if the sizes leave only one way")
_RESIZED = Rule(
    "position table at another resolution", (),
    "As timm.layers.resample_abs_pos_embed: the rows after the class and register tokens are a "
    "grid (row by row), resized by torch.nn.functional.interpolate(antialias=True) in float32",
    lossless=False, back="none: the table before resizing is lost")
CONDITIONAL_RULES = (_RELATIVE, _RESIZED)


def bias_table(tensor: SourceTensor, variable: TargetVariable) -> tuple[Expression, str] | None:
    """Move a table of attention biases.

    Returns:
        The expression, and the rule in words; None when it is no such table, or the sizes leave
        more than one layout, or none.
    """
    torch = _BIAS_TABLES.get(last_part(tensor.name))
    if torch is None:
        return None
    heads_and_offsets = (*tensor.shape[:1], prod(tensor.shape[1:]))
    if torch == "head row column" and len(
            tensor.shape) == 3 and variable.shape == heads_and_offsets:
        expression = Reshape(Tensor(tensor.name), variable.shape)
        return expression, f"{_RELATIVE.name}: {torch} -> head (row column)"
    fits = [
        axes for axes in _axis_patterns(torch, len(variable.shape))
        if axes.torch_shape(variable.shape) == tensor.shape
    ]
    if len(fits) != 1:
        return None
    return fits[0].expression(Tensor(tensor.name), variable.shape), f"{_RELATIVE.name}: {fits[0]}"


def _axis_patterns(torch: str, ndim: int) -> Iterator[AxisPattern]:
    """Yield all layouts in `ndim` axes: heads anywhere, offsets as one axis or rows and columns."""
    if "offset" in torch and ndim == 3:
        split = torch.replace("offset", "(row column)")
        yield AxisPattern(split, "head row column")
        yield AxisPattern(split, "row column head")
    elif ndim == len(torch.split()):
        others = torch.replace("head", "").split()
        for position in range(ndim):
            yield AxisPattern(torch, " ".join((*others[:position], "head", *others[position:])))


def check_resize(resize: Any) -> None:
    """Raise TransferError for an unknown mode of resizing."""
    if resize is not None and resize not in get_args(Mode):
        raise TransferError(f"resize must be None, 'bicubic' or 'bilinear', got {resize!r:.100}")


def with_resized_tables(torch_layer: TorchLayer, layer: TargetLayer, target: Target,
                        resize: Resize) -> TorchLayer:
    """Resize every position table that has another number of rows than its variable.

    Nothing is resized unless `resize` says how. A table whose rows are no grid behind at most 16
    tokens is left as it is.
    """
    if resize is None:
        return torch_layer
    tensors = (
        _resized(tensor, torch_layer, layer, target, resize) for tensor in torch_layer.tensors)
    return replace(torch_layer, tensors=tuple(tensors))


def _resized(tensor: SourceTensor, torch_layer: TorchLayer, layer: TargetLayer, target: Target,
             resize: Mode) -> SourceTensor:
    if not is_position_table(tensor.name):
        return tensor
    sizes = {
        variable.shape[-2] for variable in layer.variables if len(variable.shape) > 1
        and variable.shape[-1] == tensor.shape[-1] and prod(variable.shape[:-2]) == 1
    }
    if len(tensor.shape) < 2 or prod(tensor.shape[:-2]) != 1 or tensor.shape[-2] in sizes:
        return tensor
    # Class tokens and the like have few rows; the table is the longest.
    rows, new_rows = tensor.shape[-2], max(sizes, default=0)
    for prefix in _prefixes(torch_layer):
        grid = _old_grid(torch_layer, rows - prefix)
        new_grid = _grid(new_rows - prefix, _picture(target))
        if grid is not None and new_grid is not None:
            break
    else:
        return tensor
    words = (f"resize='{resize}': a grid of {grid[0]} x {grid[1]} positions to {new_grid[0]} x "
             f"{new_grid[1]}")
    rule = f"{words}, {prefix} tokens before it kept" if prefix else words
    return derive(f"{tensor.name}[{new_grid[0]}x{new_grid[1]}]",
                  Resampled(Tensor(tensor.name), prefix, grid, new_grid, resize), (tensor,), rule,
                  note=f"'{tensor.name}': {rule}")


def _prefixes(torch_layer: TorchLayer) -> Iterator[int]:
    """Yield how many tokens may precede the grid: what a live module says, else few first."""
    counts = [getattr(module, "num_prefix_tokens", None) for module in torch_layer.modules.values()]
    yield from (count for count in counts if isinstance(count, int))
    yield from range(_MOST_TOKENS + 1)


def _old_grid(torch_layer: TorchLayer, cells: int) -> tuple[int, int] | None:
    """Return the grid that a live module tells, else a square."""
    for module in torch_layer.modules.values():
        grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
        if isinstance(grid, Sequence) and len(grid) == 2 and prod(grid) == cells:
            return int(grid[0]), int(grid[1])
    return _grid(cells, None)


def _grid(cells: int, picture: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return rows and columns of a grid shaped as the picture (or square), None for no grid."""
    if cells < 1:
        return None
    height, width = picture or (1, 1)
    rows = isqrt(cells * height // width)
    if rows and cells % rows == 0 and rows * width == cells // rows * height:
        return rows, cells // rows
    return None


def _picture(target: Target) -> tuple[int, int] | None:
    """Return the height and width of the Keras model's input, None when they are not known."""
    shape = getattr(target.model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or any(
            extent is None for extent in shape[1:]):
        return None
    height, width = shape[2:] if shape[1] <= 4 < shape[3] else shape[1:3]
    return int(height), int(width)
