"""Writes .safetensors files: a header of names, types, shapes and offsets, then the tensors, one
after the other.

Format: https://github.com/huggingface/safetensors#format. The same tensors give the same bytes:
wider types first, then by name, as the reference does.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SaveError
from ..spec.tensor_spec import TensorSpec
from ..util.atomic_file import AtomicFile
from ..util.hash_workers import Digests, HashWorkers
from ..util.values_at_offsets import Streamed, ValueStream, reserve, same_bits
from .mapped_file import MappedFile
from .safetensors import open_safetensors

Values = Callable[[], Streamed]
# Name in the file and bytes of an element, by PyTorch's name of the type.
_TYPES = {
    "bool": ("BOOL", 1), "uint8": ("U8", 1), "int8": ("I8", 1), "int16": ("I16", 2),
    "uint16": ("U16", 2), "float16": ("F16", 2), "bfloat16": ("BF16", 2), "int32": ("I32", 4),
    "uint32": ("U32", 4), "float32": ("F32", 4), "int64": ("I64", 8), "uint64": ("U64", 8),
    "float64": ("F64", 8)
}
_ALIGNMENT = 8


def write_safetensors(path: str | PathLike[str], specs: Mapping[str, TensorSpec],
                      values: Mapping[str, Values], *, verify: bool = True) -> dict[str, str]:
    """Write a .safetensors file; each tensor is computed when its turn comes.

    Args:
        path: The file to make or to replace; an existing one stays as it is on any error.
        specs: Shape and dtype of each tensor, by name.
        values: For each name a function that gives the values in C order, bfloat16 as its bits.
        verify: Read the file again and compare it with the values, bit for bit, before it takes
            its name.

    Returns:
        The file's digests in hexadecimal, "md5" and "sha256".

    Raises:
        SaveError: The format has no name for a dtype, the file cannot be written, or what was
            written reads back different.
    """
    unknown = sorted({spec.dtype for spec in specs.values()} - set(_TYPES))
    if unknown:
        raise SaveError(
            f"a .safetensors file has no name for {', '.join(unknown)}; give the torch side "
            "another type")
    order = sorted(specs, key=lambda name: (-_TYPES[specs[name].dtype][1], specs[name].dtype, name))
    ends = dict(zip(order, accumulate(_byte_size(specs[name]) for name in order), strict=True))
    header = _header(specs, ends)
    size = len(header) + (ends[order[-1]] if order else 0)
    digests = Digests(("md5", "sha256"))
    with AtomicFile(Path(path)) as new:
        with new.open() as file:
            reserve(file.fileno(), size)
            stream = ValueStream(file.fileno())
            with HashWorkers(new.temporary, 0, size, digests.updates) as workers:
                stream.write_bytes(header, 0)
                for name in order:
                    array = values[name]()
                    if array.nbytes != _byte_size(specs[name]):
                        raise SaveError(
                            f"'{name}': {specs[name].dtype} {specs[name].shape} takes "
                            f"{_byte_size(specs[name])} bytes, the values have {array.nbytes}")
                    stream.write(array, len(header) + ends[name] - array.nbytes)
                    workers.advance(len(header) + ends[name])
        if verify:
            _compare(new.temporary, specs, values)
        new.commit()
    return digests.hexdigests()


def _compare(path: Path, specs: Mapping[str, TensorSpec], values: Mapping[str, Values]) -> None:
    found = open_safetensors(MappedFile.open(path))
    for name, spec in specs.items():
        tensor = found.get(name)
        if tensor is None or (tensor.shape, tensor.dtype) != (spec.shape, spec.dtype):
            raise SaveError(
                f"'{name}' {spec.shape} {spec.dtype} reads back from the saved file as {tensor}")
        if not same_bits(tensor.read(), np.asarray(values[name]()).reshape(spec.shape)):
            raise SaveError(
                f"'{name}' reads back from the saved file with other values than the plan gives")


def _header(specs: Mapping[str, TensorSpec], ends: Mapping[str, int]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, end in ends.items():
        spec = specs[name]
        entries[name] = {
            "dtype": _TYPES[spec.dtype][0], "shape": list(spec.shape),
            "data_offsets": [end - _byte_size(spec), end]
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _byte_size(spec: TensorSpec) -> int:
    return math.prod(spec.shape) * _TYPES[spec.dtype][1]
