"""What the pickle reader builds instead of live objects: plain data that nothing runs on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..util.text import shorten

# A placeholder is searched for tensors this far; beyond, it is taken to hold some.
_MOST_SEARCHED = 100_000
# NumPy 1 stops at 32 axes; no layer of a net comes near.
MOST_AXES = 32
# Of the largest type, 16 bytes each, within 63 bits.
_MOST_ELEMENTS = 2**59
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the pickle names: kept as text, never imported. `path` is "module.name"."""

    path: str


@dataclass(slots=True, eq=False)
class Placeholder:
    """An object of a foreign class, or what a foreign function would return: what it was given.

    `called` is True when the pickle calls the name with arguments (functions, but some classes
    too), False when it makes an object of a class and fills it.
    """

    name: str
    contents: list[Any] = field(repr=False)
    called: bool


@dataclass(slots=True, eq=False)
class InertKey:
    """A key that is no plain text or number, hashed by identity: deep tuples can take for ever."""

    value: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class TorchType:
    """A torch.dtype."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageType:
    """A torch storage class with the type of its elements, None for the untyped one."""

    dtype: str | None


@dataclass(slots=True, eq=False)
class Storage:
    """A storage: `count` elements of `dtype` (bytes when None) under `key`.

    `root` and `offset` (in elements) are set for a view on another storage, which only old files
    have.
    """

    key: str
    dtype: str | None
    count: int
    location: str
    root: Storage | None = None
    offset: int = 0


@dataclass(slots=True, eq=False)
class PickledTensor:
    """A tensor as the pickle describes it, not yet checked against its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    conjugate: bool = False
    negative: bool = False
    kind: Literal["parameter", "buffer", "unknown"] = "unknown"


@dataclass(frozen=True, slots=True)
class UnreadableTensor:
    """A tensor whose values cannot be had; `reason` completes "tensor ... "."""

    reason: str


@dataclass(slots=True)
class EncodedText:
    """Bytes written as text by old protocols, encoded when needed: no file can multiply them."""

    text: str


@dataclass(slots=True, eq=False)
class NumpyType:
    """A numpy.dtype: its code ("f4"), and the byte order once its state is known."""

    code: str
    byte_order: str = "="

    def dtype(self) -> np.dtype[Any] | None:
        """Return the plain numeric type, None for any other (objects, texts, records)."""
        code = self.code.lstrip("<>=|")
        plain = code in ("?", "b1") or (code[:1] in "iufc"
                                        and code[1:] in ("1", "2", "4", "8", "16"))
        if not plain or self.byte_order not in ("<", ">", "=", "|"):
            return None
        order = self.code[0] if self.code[0] in "<>" else self.byte_order
        return np.dtype(code).newbyteorder("=" if order == "|" else order)  # type: ignore[arg-type]


@dataclass(slots=True, eq=False)
class NumpyArray:
    """A NumPy array or scalar as the pickle describes it; `array()` checks and builds it."""

    dtype: Any = None
    shape: Any = None
    values: Any = field(default=None, repr=False)
    fortran: bool = False
    scalar: bool = False

    def array(self, where: str) -> npt.NDArray[Any]:
        """Return the values, without a copy of the bytes."""
        dtype = self.dtype.dtype() if isinstance(self.dtype, NumpyType) else None
        values = self.values.text.encode("latin-1") if isinstance(self.values,
                                                                  EncodedText) else self.values
        if isinstance(values, str):
            values = values.encode("latin-1")
        if dtype is None or not isinstance(values, (bytes, bytearray)) or not is_shape(self.shape):
            raise SourceError(f"{where} is a NumPy array of something other than plain numbers")
        if math.prod(self.shape) * dtype.itemsize != len(values):
            raise SourceError(f"{where}: shape {self.shape} of {dtype} needs "
                              f"{math.prod(self.shape) * dtype.itemsize} bytes, "
                              f"got {len(values)}; the file is damaged")
        return np.frombuffer(values, dtype).reshape(self.shape, order="F" if self.fortran else "C")


def are_sizes(value: Any) -> bool:
    """Return whether a value is a tuple of non-negative integers."""
    return isinstance(value, tuple) and all(type(extent) is int and extent >= 0 for extent in value)


def is_shape(value: Any) -> bool:
    """Return whether a value is a shape that NumPy can hold."""
    # NumPy multiplies the extents other than 0 even where one is 0.
    return (are_sizes(value) and len(value) <= MOST_AXES
            and math.prod(max(extent, 1) for extent in value) < _MOST_ELEMENTS)


def short(value: Any) -> str:
    """Return a value from a file as a short text, however large it is."""
    # A file can hold a tuple that is doubled again and again, and integers whose digits take
    # quadratic time.
    if isinstance(value, (str, float)) or (isinstance(value, int) and abs(value) < 10**18):
        return shorten(repr(value[:_SHOWN] if isinstance(value, str) else value), _SHOWN)
    return f"{type(value).__name__}"


def holds_tensors(value: Any, searched: set[int]) -> bool:
    """Return whether a tensor is reachable from a value that the pickle reader built.

    `searched` remembers, by identity, what is known to hold none.
    """
    waiting = [value]
    seen: set[int] = set()
    while waiting:
        item = waiting.pop()
        if isinstance(item,
                      (PickledTensor, UnreadableTensor, Storage)) or (isinstance(item, NumpyArray)
                                                                      and not item.scalar):
            return True
        if id(item) in seen or id(item) in searched or not isinstance(
                item, (Placeholder, InertKey, dict, list, tuple)):
            continue
        seen.add(id(item))
        if len(seen) > _MOST_SEARCHED:
            return True
        if isinstance(item, Placeholder):
            waiting.extend(item.contents)
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, InertKey):
            waiting.append(item.value)
        else:
            waiting.extend(item)
    searched |= seen
    return False
