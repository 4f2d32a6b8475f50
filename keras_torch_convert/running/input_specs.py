"""Inputs for both models: read off the Keras model's input specs, or given by the caller, in the
layout of either side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from ..spec.target import Target

Inputs = Union[Any, list[Any], dict[str, Any]]

# Extent given to an axis that the model leaves open and that is not the height or width of a
# picture (time steps, tokens).
OPEN_EXTENT = 16
SEED = 0
# One or two ids for each input (of a user, of an item) look up too few rows of a table to tell
# anything: then the batch is as large as this.
FEWEST_IDS = 4


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a Keras model: `shape` with the batch axis, None where open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def floating(self) -> bool:
        """True for floating-point inputs, whole numbers (ids, masks) otherwise."""
        return "float" in self.dtype

    @property
    def masks(self) -> bool:
        """True for masks: all ones leave nothing out."""
        return self.dtype == "bool" or "mask" in self.name

    @property
    def holds_ids(self) -> bool:
        """True for whole numbers that pick rows of a vocabulary; not for masks and for the number
        of a segment.
        """
        return not (self.floating or self.masks or "type" in self.name or "segment" in self.name)


def input_specs(model: Any) -> tuple[InputSpec, ...]:
    """Return the inputs of a Keras model in their order, () when it does not say.

    A functional model knows its input tensors; a subclassed one, once built, the shape that it was
    built for.
    """
    tensors = getattr(model, "inputs", None)
    if tensors:
        names = input_names(model, tensors)
        return tuple(
            InputSpec(name, as_shape(tensor.shape), dtype_name(tensor.dtype))
            for name, tensor in zip(names, tensors, strict=True))
    config = model.get_build_config() if hasattr(model, "get_build_config") else None
    shape = config.get("input_shape") if isinstance(config, Mapping) else None
    if (isinstance(shape, (list, tuple)) and shape
            and all(extent is None or isinstance(extent, int) for extent in shape)):
        return (InputSpec("input", tuple(shape), "float32"),)
    return ()


def input_names(model: Any, tensors: Sequence[Any]) -> list[str]:
    """Return the names by which a functional model takes its inputs: the keys of a dict, else the
    names of the input tensors.
    """
    structure = getattr(model, "input", None)
    if isinstance(structure, Mapping):
        by_identity = {id(tensor): key for key, tensor in structure.items()}
        if all(id(tensor) in by_identity for tensor in tensors):
            return [by_identity[id(tensor)] for tensor in tensors]
    return [str(tensor.name).split(":", maxsplit=1)[0] for tensor in tensors]


def as_shape(shape: Any) -> tuple[int | None, ...]:
    """Return a shape of either Keras as a plain tuple."""
    return tuple(None if extent is None else int(extent) for extent in shape)


def dtype_name(dtype: Any) -> str:
    """Return a type's name: Keras 3 gives a string, Keras 2 a TensorFlow type."""
    return str(getattr(dtype, "name", dtype))


def channels_first(spec: InputSpec, target: Target) -> bool:
    """Return whether a picture-like input has its channels right behind the batch axis.

    Three channels at one end only decide; otherwise the layers' own `data_format`.
    """
    first, last = spec.shape[1], spec.shape[-1]
    if len(spec.shape) == 4 and (first == 3) != (last == 3):
        return first == 3
    for layer in target.leaves():
        if "data_format" in layer.settings:
            return bool(layer.settings["data_format"] == "channels_first")
    return False


def takes_one_picture(specs: Sequence[InputSpec], target: Target) -> bool:
    """Return whether there is a single floating-point input of height, width and three channels."""
    if len(specs) != 1 or len(specs[0].shape) != 4 or not specs[0].floating:
        return False
    spec = specs[0]
    return (spec.shape[1] if channels_first(spec, target) else spec.shape[-1]) in (3, None)


def ordered(model: Any) -> bool:
    """Return whether a model takes its inputs in an order that its author chose; those of a dict
    are sorted by name.
    """
    return not isinstance(getattr(model, "input", None), Mapping)


def has_several_tables(specs: Sequence[InputSpec], module: Any | None, target: Target) -> bool:
    """Return whether ids of a single input may be meant for tables of several sizes (a vocabulary
    and positions, or columns of categories).
    """
    return sum(spec.holds_ids for spec in specs) == 1 and len(set(_tables(module, target))) > 1


def _tables(module: Any | None, target: Target) -> list[int]:
    """Return the number of rows of every Embedding table of the Keras model, or of the torch module
    where Keras reads tables in layers of another class.
    """
    found = [
        layer.variables[0].shape[0]
        for layer in target.leaves() if "Embedding" in layer.class_names and layer.variables
    ]
    return found or [
        inner.num_embeddings for inner in (module.modules() if module is not None else ())
        if hasattr(inner, "num_embeddings")
    ]


def padding_ids(module: Any | None, target: Target) -> set[int]:
    """Return the ids that one of the models takes for padding, wherever they stand."""
    found = {getattr(inner, "padding_idx", None) for inner in module.modules()} if module else set()
    found |= {0} if any(leaf.settings.get("mask_zero") for leaf in target.leaves()) else set()
    return {index for index in found if isinstance(index, int)}


def random_inputs(
    specs: Sequence[InputSpec], module: Any | None, target: Target, input_shape: tuple[int, int], *,
    in_every_table: bool = False, padding: Collection[int] = ()) -> list[npt.NDArray[Any]]:
    """Return one random array for each spec, always the same ones.

    They are normal values, or ids that the largest Embedding table holds, `in_every_table` all of
    them, but none of those that stand for `padding`. The batch is 1 where it is open, FEWEST_IDS
    where an input of ids has fewer than that.
    """
    generator = np.random.default_rng(SEED)
    # A single row of ids goes into the vocabulary, which is the largest table; of several any may
    # go into the smallest.
    pick = max if sum(spec.holds_ids for spec in specs) == 1 and not in_every_table else min
    rows = np.arange(max(pick(_tables(module, target), default=2), 1))
    real = rows[~np.isin(rows, list(padding))]
    ids = real if len(real) else rows
    arrays: list[npt.NDArray[Any]] = []
    shapes = [concrete_shape(spec, target, input_shape) for spec in specs]
    if any(spec.holds_ids and prod(shape) < FEWEST_IDS
           for spec, shape in zip(specs, shapes, strict=True)):
        shapes = [(FEWEST_IDS, *shape[1:]) if spec.shape[0] is None else shape
                  for spec, shape in zip(specs, shapes, strict=True)]
    for spec, shape in zip(specs, shapes, strict=True):
        if spec.masks:
            arrays.append(np.ones(shape, spec.dtype))
        elif spec.floating:
            arrays.append(generator.standard_normal(shape).astype(np.float32))
        elif spec.holds_ids:
            arrays.append(ids[generator.integers(0, len(ids), shape)].astype(spec.dtype))
        else:
            arrays.append(np.zeros(shape, spec.dtype))
    return arrays


def concrete_shape(spec: InputSpec, target: Target, input_shape: tuple[int,
                                                                       int]) -> tuple[int, ...]:
    """Return a spec's shape with every open axis filled: batch 1, height and width from
    `input_shape`, others OPEN_EXTENT.
    """
    shape = list(spec.shape)
    if shape and shape[0] is None:
        shape[0] = 1
    if len(shape) == 4:
        first = channels_first(spec, target)
        for axis, extent in zip((2, 3) if first else (1, 2), input_shape, strict=True):
            shape[axis] = extent if shape[axis] is None else shape[axis]
        channels = 1 if first else 3
        shape[channels] = 3 if shape[channels] is None else shape[channels]
    return tuple(OPEN_EXTENT if extent is None else extent for extent in shape)


def to_torch_layout(array: npt.NDArray[Any], spec: InputSpec | None,
                    target: Target) -> npt.NDArray[Any]:
    """Return an array in the Keras layout as PyTorch wants it: channels behind the batch axis.

    Inputs of four axes and more are taken as pictures and volumes, or as a sequence of them where
    the model begins with a layer for each step; those of three axes only when the model convolves
    along them first, since sequences have their features last in PyTorch too.
    """
    ndim = array.ndim
    if ndim < 3 or array.dtype.kind != "f":
        return array
    spec = spec or InputSpec("input", array.shape, "float32")
    if channels_first(spec, target):
        return array
    if ndim == 3:
        first = next(iter(target.leaves()), None)
        if first is None or not any(
                name.endswith("Conv1D") or name == "Conv1DTranspose" for name in first.class_names):
            return array
    begins = next(iter(target.layers)).class_names if target.layers else ()
    is_sequence = any(name in ("TimeDistributed", "ConvLSTM") for name in begins)
    return np.ascontiguousarray(np.moveaxis(array, -1, 2 if is_sequence else 1))
