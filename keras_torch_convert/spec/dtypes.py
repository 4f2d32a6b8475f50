"""PyTorch's element types and the NumPy types that hold their values, or their bits where NumPy has
no such type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_PLAIN = {
    "float64": "<f8", "float32": "<f4", "float16": "<f2", "int64": "<i8", "int32": "<i4",
    "int16": "<i2", "int8": "|i1", "uint64": "<u8", "uint32": "<u4", "uint16": "<u2",
    "uint8": "|u1", "bool": "|b1", "complex64": "<c8", "complex128": "<c16"
}
_AS_BITS = {
    "bfloat16": "<u2", "float8_e4m3fn": "|u1", "float8_e4m3fnuz": "|u1", "float8_e5m2": "|u1",
    "float8_e5m2fnuz": "|u1", "float8_e8m0fnu": "|u1"
}
# Little-endian whatever the machine, as all the file formats store them.
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code) for name, code in (_PLAIN | _AS_BITS).items()
}
# Counters and index tables. Not the one-byte types, in which quantized weights come.
INDEX_TYPES = ("bool", "int16", "int32", "int64")


def stored_as_bits(name: str) -> bool:
    """Return whether NumPy lacks a PyTorch dtype, so that its values travel as unsigned integers of
    the same size.
    """
    return name in _AS_BITS


def torch_name(dtype: np.dtype[Any]) -> str | None:
    """Return PyTorch's name of a NumPy or ml_dtypes dtype, None when it has none."""
    return dtype.name if dtype.name in NUMPY_TYPES and dtype.names is None else None


def native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array in the byte order of the machine: itself, or a copy when it is swapped."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a view that cannot be written through; the array itself stays writable."""
    view = array.view()
    view.flags.writeable = False
    return view


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a Keras dtype name ("float32", "bfloat16", ...)."""
    try:
        dtype: np.dtype[Any] = np.dtype(name)
    except TypeError:
        import ml_dtypes

        dtype = np.dtype(getattr(ml_dtypes, name))
    return dtype
