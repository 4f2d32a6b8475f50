"""Tensors in memory: PyTorch's, NumPy's, TensorFlow's and Keras's variables, Python numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..spec.dtypes import NUMPY_TYPES, native, read_only, stored_as_bits, torch_name
from ..spec.source import SourceTensor
from .named_source import check_name
from .pickle_values import short

_INT64 = np.iinfo(np.int64)
Kind = Literal["parameter", "buffer", "unknown"]


def is_torch_tensor(value: Any) -> bool:
    """Return whether a value is a torch.Tensor; whoever has one has imported PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_torch_module(value: Any) -> bool:
    """Return whether a value is a torch.nn.Module."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def is_live_array(value: Any) -> bool:
    """Return whether a value is an array of any framework, and no scalar of Python or NumPy."""
    if is_torch_tensor(value) or isinstance(value, np.ndarray):
        return True
    has_values = hasattr(value, "numpy") or hasattr(value, "__array__")
    return (has_values and hasattr(value, "dtype") and hasattr(value, "shape")
            and not isinstance(value, (np.generic, type)))


def is_number(value: Any) -> bool:
    """Return whether a value is a Python or NumPy scalar."""
    return isinstance(value, (bool, int, float, complex, np.number, np.bool_))


def live_tensor(name: str, value: Any, where: str, kind: Kind = "unknown") -> SourceTensor | None:
    """Return the value under its name, None when it is no tensor or number.

    `kind` is what a torch tensor is in its module. Raises SourceError when the values cannot be
    read.
    """
    where = f"{where}: tensor {short(name)}"
    if is_torch_tensor(value):
        return _torch_tensor(name, value, where, kind)
    if is_number(value):
        return _numpy_tensor(name, _scalar(value, where), where)
    if isinstance(value, np.ndarray):
        return replace(_numpy_tensor(name, value, where), from_array=True)
    return _foreign_tensor(name, value, where) if is_live_array(value) else None


def live_tensors(mapping: Mapping[Any, Any], where: str,
                 kinds: Mapping[str, Kind] | None = None) -> tuple[list[SourceTensor], list[str]]:
    """Return the tensors of a mapping, and the names of everything else in it.

    `kinds` says what the torch tensors are in their module. Raises SourceError as `live_tensor`
    does, and for a key that is no name.
    """
    tensors, others = [], []
    for name, value in mapping.items():
        check_name(name, where)
        tensor = live_tensor(name, value, where, (kinds or {}).get(name, "unknown"))
        if tensor is None:
            others.append(name)
        else:
            tensors.append(tensor)
    return tensors, others


def _scalar(value: Any, where: str) -> npt.NDArray[Any]:
    if isinstance(value,
                  int) and not isinstance(value, bool) and not _INT64.min <= value <= _INT64.max:
        raise SourceError(f"{where}: the number does not fit in 64 bits")
    # Python's int is 32 bits wide on Windows under NumPy 1; its type is not left to the machine.
    return np.asarray(value, np.int64) if type(value) is int else np.asarray(value)


def _numpy_tensor(name: str, array: npt.NDArray[Any], where: str) -> SourceTensor:
    dtype = torch_name(array.dtype)
    if dtype is None or isinstance(array, np.ma.MaskedArray):
        kind = "a masked array" if isinstance(array, np.ma.MaskedArray) else f"type {array.dtype}"
        raise SourceError(
            f"{where}: {kind} cannot be read; convert it to plain numbers (float32, int64, ...)")
    strides = tuple(stride if extent > 1 else 0
                    for extent, stride in zip(array.shape, array.strides, strict=True))
    storage = ("memory", array.__array_interface__["data"][0], strides,
               dtype) if dtype in NUMPY_TYPES else None
    return SourceTensor(name, array.shape, dtype, partial(_numpy_values, array, dtype), storage)


def _numpy_values(array: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    plain = np.asarray(array)
    return read_only(plain.view(NUMPY_TYPES[dtype]) if stored_as_bits(dtype) else native(plain))


def _torch_tensor(name: str, tensor: Any, where: str, kind: Kind) -> SourceTensor:
    import torch

    fault = None
    if torch.nn.parameter.is_lazy(tensor):
        fault = "is not initialized yet; run the module once on an input of the right shape"
    elif tensor.is_meta:
        fault = "is a meta tensor, which has no values; load the weights first"
    elif tensor.is_quantized:
        fault = "is quantized; call dequantize() on it"
    elif tensor.layout != torch.strided:
        fault = "is sparse; call to_dense() on it"
    elif tensor.is_neg() and not tensor.dtype.is_signed:
        fault = f"of type {tensor.dtype} has a negative bit, which says nothing there"
    elif tensor.is_nested:
        fault = "is a nested tensor of unequal rows; pass its rows one by one"
    dtype = str(tensor.dtype).removeprefix("torch.")
    if fault is None and dtype not in NUMPY_TYPES:
        fault = f"of type {dtype} cannot be read; convert it to float32"
    if fault:
        raise SourceError(f"{where} {fault}")
    shape = tuple(int(extent) for extent in tensor.shape)
    strides = tuple(
        step if extent > 1 else 0 for extent, step in zip(shape, tensor.stride(), strict=True))
    storage = (str(tensor.device), tensor.data_ptr(), strides, dtype, tensor.is_conj(),
               tensor.is_neg())
    return SourceTensor(name, shape, dtype, partial(_torch_values, tensor), storage, kind)


def _torch_values(tensor: Any) -> npt.NDArray[Any]:
    import torch

    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.dtype == torch.bfloat16:
        return read_only(plain.view(torch.int16).numpy().view(np.uint16))
    if stored_as_bits(str(plain.dtype).removeprefix("torch.")):
        return read_only(plain.view(torch.uint8).numpy())
    return read_only(plain.numpy())


def _foreign_tensor(name: str, value: Any, where: str) -> SourceTensor:
    dtype = str(getattr(value.dtype, "name", value.dtype))
    try:
        shape = tuple(int(extent) for extent in value.shape)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{where}: shape {value.shape} is not known in full") from error
    if dtype not in NUMPY_TYPES:
        raise SourceError(f"{where}: type {dtype} cannot be read; convert it to float32")
    return SourceTensor(name, shape, dtype, partial(_foreign_values, value, dtype),
                        ("object", id(value)))


def _foreign_values(value: Any, dtype: str) -> npt.NDArray[Any]:
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    return _numpy_values(array, dtype)
