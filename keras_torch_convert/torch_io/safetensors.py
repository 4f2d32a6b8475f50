"""The safetensors format, read by ourselves: a length, a JSON header, then the values, all of them
mapped.

Format: eight bytes (header length N, little-endian), N bytes of JSON {name: {dtype, shape,
data_offsets}}, values. As the format demands, the values must follow each other without gaps or
overlaps up to the end of the file.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from typing import Any

from ..errors import SourceError
from ..spec.dtypes import NUMPY_TYPES
from ..spec.source import SourceTensor
from ..util.text import shorten
from .mapped_file import MappedFile, StoredTensor, contiguous_strides
from .pickle_values import are_sizes, is_shape, short

_LENGTH = struct.Struct("<Q")
# The limit of the reference implementation.
_LONGEST_HEADER = 100_000_000
_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32",
    "U32": "uint32", "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16",
    "F32": "float32", "F64": "float64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu"
}


def looks_like_safetensors(file: MappedFile) -> bool:
    """True when a plausible header length is followed by the beginning of a JSON object."""
    start = file.data[:_LENGTH.size + 1]
    return start[_LENGTH.size:] == b"{" and _LENGTH.unpack_from(start)[0] <= _LONGEST_HEADER


def open_safetensors(file: MappedFile) -> dict[str, SourceTensor]:
    """The tensors in the order in which they lie in the file. SourceError says what is wrong with
    it.
    """
    header, start = _read_header(file)
    entries = sorted((_checked_entry(file, name, entry) for name, entry in header.items()),
                     key=lambda entry: entry[3:])
    tensors: dict[str, SourceTensor] = {}
    position = 0
    for name, dtype, shape, begin, end in entries:
        if begin != position:
            fault = "overlaps another" if begin < position else "leaves a gap before it"
            raise file.damaged(
                f"tensor {short(name)} {fault} (begins at {begin}, expected {position})")
        position = end
        if start + end > file.size:
            raise SourceError(
                f"{file.path}: cut short: tensor {short(name)} ends at byte {start + end} of "
                f"{file.size}; download it again")
        stored = StoredTensor(file, dtype, shape, contiguous_strides(shape), start + begin,
                              start + begin, start + end)
        tensors[name] = stored.source_tensor(name)
    if start + position != file.size:
        raise file.damaged(f"{file.size - start - position} bytes belong to no tensor")
    return tensors


def _read_header(file: MappedFile) -> tuple[dict[str, Any], int]:
    """The header without its metadata, and where the values begin."""
    if file.size < _LENGTH.size:
        raise SourceError(
            f"{file.path}: cut short: {file.size} bytes are no safetensors file; download it again")
    (length,) = _LENGTH.unpack(file.data[:_LENGTH.size])
    start = _LENGTH.size + length
    if length > _LONGEST_HEADER:
        raise SourceError(
            f"{file.path}: a header of {length} bytes, expected at most {_LONGEST_HEADER}; not a "
            "safetensors file?")
    if start > file.size:
        raise SourceError(
            f"{file.path}: cut short in its header ({start} bytes, the file has {file.size}); "
            "download it again")
    try:
        header = json.loads(file.data[_LENGTH.size:start].decode("utf-8"),
                            object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise file.damaged(f"the header is not valid JSON ({shorten(str(error), 200)})") from error
    if not isinstance(header, dict):
        raise file.damaged("the header is no JSON object")
    header.pop("__metadata__", None)
    return header, start


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{short(twice)} is there twice")
    return result


def _checked_entry(file: MappedFile, name: str,
                   entry: Any) -> tuple[str, str, tuple[int, ...], int, int]:
    """Name, PyTorch type, shape, first byte and end of one tensor, offsets counted from the first
    value.
    """
    where = f"{file.path}: tensor {short(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise SourceError(
            f"{where}: expected dtype, shape and data_offsets in the header; the file is damaged")
    dtype = _TYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise SourceError(
            f"{where}: type {str(entry['dtype'])[:40]} cannot be read; convert the tensor to "
            "float32 with PyTorch")
    shape = tuple(entry["shape"]) if isinstance(entry["shape"], list) else None
    offsets = tuple(entry["data_offsets"]) if isinstance(entry["data_offsets"], list) else ()
    if shape is None or not is_shape(shape) or not are_sizes(offsets) or len(offsets) != 2 or max(
            offsets) >= 2**63:
        raise SourceError(
            f"{where}: impossible shape or offsets in the header; the file is damaged")
    begin, end = offsets
    expected = math.prod(shape) * NUMPY_TYPES[dtype].itemsize
    if end - begin != expected:
        raise SourceError(
            f"{where}: {end - begin} bytes, expected {expected} for shape {shape} of {dtype}; "
            "the file is damaged")
    return name, dtype, shape, begin, end
