"""NumPy's .npz files: a zip archive of .npy arrays, mapped when stored, unpacked when compressed.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..spec.dtypes import native, read_only, torch_name
from ..spec.source import SourceTensor
from ..spec.tensor_spec import Shape
from ..util.file_limits import most_unpacked
from .mapped_file import StoredTensor, contiguous_strides
from .pickle_values import is_shape, short
from .zip_archive import DEFLATED, ZipArchive, inflated

# NumPy itself refuses a .npy header of more than 10,000 characters.
_LONGEST_HEADER = 1 << 14
# The header is a Python literal, and always written like this. (Python 2 wrote an L after large
# integers.) A comma between two extents, else digits could be cut into extents in endless ways.
_HEADER = re.compile(
    r"\{'descr': (?P<type>'[^']*'|\[.*\]), 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:\d{1,19}L?(?:, ?\d{1,19}L?)*,?)?)\),? ?\}\s*")
_PLAIN_TYPE = re.compile(r"'[<>|=]?(?:[iufc](?:1|2|4|8|16)|b1|\?)'")


def is_npz(archive: ZipArchive) -> bool:
    """Return whether every member is a .npy array."""
    return bool(archive.members) and all(name.endswith(".npy") for name in archive.members)


def open_npz(archive: ZipArchive) -> dict[str, SourceTensor]:
    """Return the arrays in the order of the archive. Arrays of Python objects are refused."""
    return {name.removesuffix(".npy"): _open_member(archive, name) for name in archive.members}


def _open_member(archive: ZipArchive, member_name: str) -> SourceTensor:
    path, member = archive.file.path, archive.members[member_name]
    name = member_name.removesuffix(".npy")
    where = f"{path}: array {short(name)}"
    first, end = archive.packed_span(member_name)
    archive.check_method(member_name)
    compressed = member.method == DEFLATED
    if compressed and member.size > most_unpacked(member.packed_size):
        raise SourceError(
            f"{where}: {member.packed_size} bytes would unpack to {member.size}; save "
            "the file with numpy.savez, without compression")
    packed = archive.file.data[first:min(end, first + _LONGEST_HEADER)]
    shape, fortran, dtype, header_length = _read_header(
        inflated(packed, _LONGEST_HEADER, where) if compressed else packed, where)
    torch_type = torch_name(dtype)
    if torch_type is None:
        raise SourceError(
            f"{where}: type {dtype} cannot be read; save plain numbers (float32, int64, ...)")
    size = header_length + math.prod(shape) * dtype.itemsize
    if size != member.size:
        raise SourceError(
            f"{where}: {member.size} bytes, expected {size} for shape {shape} of {dtype}; the "
            "file is damaged")
    if compressed:
        read = partial(_read_compressed, archive, member_name, header_length, dtype, shape, fortran)
        return SourceTensor(name, shape, torch_type, read)
    strides = contiguous_strides(shape[::-1])[::-1] if fortran else contiguous_strides(shape)
    big_endian = dtype.newbyteorder("<") != dtype
    stored = StoredTensor(archive.file, torch_type, shape, strides, first + header_length, first,
                          end, big_endian)
    return stored.source_tensor(name)


def _read_header(data: bytes, where: str) -> tuple[Shape, bool, np.dtype[Any], int]:
    """Return shape, whether in Fortran order, dtype of plain numbers, and length of the header."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12 or data[6] not in (1, 2, 3):
        raise SourceError(f"{where}: not a NumPy array; the file is damaged")
    width = 2 if data[6] == 1 else 4
    start = 8 + width
    end = start + int.from_bytes(data[8:start], "little")
    header = data[start:end].decode("latin-1")
    found = _HEADER.fullmatch(header)
    if end > len(data) or found is None:
        raise SourceError(
            f"{where}: its header makes no sense ({header[:60]!r}); the file is damaged")
    if not _PLAIN_TYPE.fullmatch(found["type"]):
        raise SourceError(
            f"{where}: type {found['type'][:60]} cannot be read; save plain numbers (float32, "
            "int64, ...)")
    shape = tuple(
        int(extent.rstrip("L")) for extent in found["shape"].replace(" ", "").split(",") if extent)
    if not is_shape(shape):
        raise SourceError(f"{where}: impossible shape; the file is damaged")
    return shape, found["fortran"] == "True", np.dtype(found["type"].strip("'")), end


def _read_compressed(archive: ZipArchive, member_name: str, header_length: int,
                     dtype: np.dtype[Any], shape: Shape, fortran: bool) -> npt.NDArray[Any]:
    data = archive.read(member_name, archive.members[member_name].size)
    array = np.frombuffer(data, dtype, offset=header_length).reshape(shape,
                                                                     order="F" if fortran else "C")
    return read_only(native(array))
