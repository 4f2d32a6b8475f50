"""Writes .safetensors files: a header of names, types, shapes and offsets, then the tensors, one
after the other.

Format: https://github.com/huggingface/safetensors#format. The same tensors give the same bytes:
wider types first, then by name, as the reference does.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SaveError
from ..spec.tensor_spec import TensorSpec
from ..util.atomic_file import new_file
from ..util.values_at_offsets import same_bits
from .mapped_file import MappedFile
from .safetensors import open_safetensors

# Name in the file and bytes of an element, by PyTorch's name of the type.
_TYPES = {
    "bool": ("BOOL", 1), "uint8": ("U8", 1), "int8": ("I8", 1), "int16": ("I16", 2),
    "uint16": ("U16", 2), "float16": ("F16", 2), "bfloat16": ("BF16", 2), "int32": ("I32", 4),
    "uint32": ("U32", 4), "float32": ("F32", 4), "int64": ("I64", 8), "uint64": ("U64", 8),
    "float64": ("F64", 8)
}
_ALIGNMENT = 8


def write_safetensors(path: str | PathLike[str], kinds: Mapping[str, TensorSpec],
                      values: Mapping[str, Callable[[], npt.NDArray[Any]]], *,
                      verify: bool = True) -> dict[str, str]:
    """Write tensors of these names, shapes and types, each computed when its turn comes. Returns
    the file's digests, "md5" and "sha256".

    The values of a tensor are in C order, bfloat16 as its bits. With `verify` the file is read
    again and compared with the values, bit for bit, before it takes its name. An existing file
    stays as it is on any error. Raises SaveError for a type that the format has no name for, and
    for a difference.
    """
    path = Path(path)
    unknown = sorted({kind.dtype for kind in kinds.values()} - set(_TYPES))
    if unknown:
        raise SaveError(
            f"a .safetensors file has no name for {', '.join(unknown)}; give the torch side "
            "another type")
    order = sorted(kinds, key=lambda name: (-_TYPES[kinds[name].dtype][1], kinds[name].dtype, name))
    hashes = [hashlib.md5(usedforsecurity=False), hashlib.sha256()]
    with new_file(path) as file:
        for part in (lambda: _header(kinds, order),
                     *(_bits(name, kinds[name], values[name]) for name in order)):
            data = part()
            file.write(data)
            for one in hashes:
                one.update(data)
        file.flush()
        if verify:
            _compare(Path(file.name), kinds, values)
    return {one.name: one.hexdigest() for one in hashes}


def _compare(path: Path, kinds: Mapping[str, TensorSpec],
             values: Mapping[str, Callable[[], npt.NDArray[Any]]]) -> None:
    found = open_safetensors(MappedFile.open(path))
    for name, kind in kinds.items():
        tensor = found.get(name)
        if tensor is None or (tensor.shape, tensor.dtype) != (kind.shape, kind.dtype):
            raise SaveError(
                f"'{name}' {kind.shape} {kind.dtype} reads back from the saved file as {tensor}")
        if not same_bits(tensor.read(), values[name]().reshape(kind.shape)):
            raise SaveError(
                f"'{name}' reads back from the saved file with other values than the plan gives")


def _header(kinds: Mapping[str, TensorSpec], order: list[str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in order:
        end = offset + _bytes(kinds[name])
        entries[name] = {
            "dtype": _TYPES[kinds[name].dtype][0], "shape": list(kinds[name].shape),
            "data_offsets": [offset, end]
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _bytes(kind: TensorSpec) -> int:
    size = _TYPES[kind.dtype][1]
    for extent in kind.shape:
        size *= extent
    return size


def _bits(name: str, kind: TensorSpec, values: Callable[[],
                                                        npt.NDArray[Any]]) -> Callable[[], bytes]:
    def read() -> bytes:
        array = np.ascontiguousarray(values())
        if array.nbytes != _bytes(kind):
            raise SaveError(
                f"'{name}': {kind.dtype} {kind.shape} takes {_bytes(kind)} bytes, the values "
                f"have {array.nbytes}")
        return array.tobytes()

    return read
