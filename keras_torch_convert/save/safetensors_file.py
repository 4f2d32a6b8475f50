"""Writes .safetensors files: a header of names, types, shapes and offsets, then the tensors, one after the other.

Format: https://github.com/huggingface/safetensors#format. The same tensors give the same bytes: wider types first, then by name, as the reference does.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import SaveError
from ..plan import ArrayKind

# Name in the file and bytes of an element, by PyTorch's name of the type.
_TYPES = {
    "bool": ("BOOL", 1),
    "uint8": ("U8", 1),
    "int8": ("I8", 1),
    "int16": ("I16", 2),
    "uint16": ("U16", 2),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "int32": ("I32", 4),
    "uint32": ("U32", 4),
    "float32": ("F32", 4),
    "int64": ("I64", 8),
    "uint64": ("U64", 8),
    "float64": ("F64", 8),
}
_ALIGNMENT = 8


def write_safetensors(
    path: str | PathLike[str], kinds: Mapping[str, ArrayKind], values: Mapping[str, Callable[[], npt.NDArray[Any]]]
) -> Path:
    """Write tensors of these names, shapes and types, each computed when its turn comes. Returns the path.

    The values of a tensor are in C order, bfloat16 as its bits. An existing file is replaced when the new one is complete, and stays as it is on any
    error. Raises SaveError for a type that the format has no name for.
    """
    path = Path(path)
    unknown = sorted({kind.dtype for kind in kinds.values()} - set(_TYPES))
    if unknown:
        raise SaveError(f"a .safetensors file has no name for {', '.join(unknown)}; give the torch side another type")
    order = sorted(kinds, key=lambda name: (-_TYPES[kinds[name].dtype][1], kinds[name].dtype, name))
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_header(kinds, order))
            for name in order:
                _write_tensor(file, name, kinds[name], values[name]())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def _header(kinds: Mapping[str, ArrayKind], order: list[str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in order:
        end = offset + _bytes(kinds[name])
        entries[name] = {
            "dtype": _TYPES[kinds[name].dtype][0],
            "shape": list(kinds[name].shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _bytes(kind: ArrayKind) -> int:
    size = _TYPES[kind.dtype][1]
    for extent in kind.shape:
        size *= extent
    return size


def _write_tensor(file: IO[bytes], name: str, kind: ArrayKind, values: npt.NDArray[Any]) -> None:
    array = np.ascontiguousarray(values)
    if array.nbytes != _bytes(kind):
        raise SaveError(
            f"'{name}': {kind.dtype} {kind.shape} takes {_bytes(kind)} bytes, the values have {array.nbytes}"
        )
    file.write(array.reshape(-1).view(np.uint8).data)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
