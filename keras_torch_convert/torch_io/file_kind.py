"""What kind of file it is, by its content; a wrong file gets an error that says what it looks like
and what to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..errors import SourceError
from .mapped_file import MappedFile
from .safetensors import looks_like_safetensors

FileKind = Literal["zip", "safetensors", "index", "pickle"]
_TAR_MARK = (257, b"ustar")
_WRONG_BEGINNINGS = (
    (b"version https://git-lfs",
     "is a Git LFS pointer, not the weights; fetch the file with git lfs pull"),
    (b"\x89HDF", "is an HDF5 file, as Keras writes; expected PyTorch weights"),
    (b"\x1f\x8b",
     "is compressed with gzip; unpack it first"), (b"\xfd7zXZ",
                                                   "is compressed with xz; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"), (b"7z\xbc\xaf",
                                                            "is a 7z archive; unpack it first"),
    (b"GGUF", "is a GGUF file; expected PyTorch weights"),
    (b"\x93NUMPY", "is a single NumPy array without a name; save a .npz with the tensors' names"),
    (b"PK\x05\x06", "is an empty zip archive; download it again"))
_ZIP_START = b"PK\x03\x04"
# Anything that begins like this is a pickle: protocol 2 to 5, or an opening of the text protocols.
_PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(", b"c", b"}", b"]", b"L",
                  b"I")


def file_kind(file: MappedFile) -> FileKind:
    """The format of a file, whatever its suffix. SourceError for files that hold no PyTorch
    weights.
    """
    if looks_like_safetensors(file):
        return "safetensors"
    start = bytes(file.data[:512])
    for beginning, fault in _WRONG_BEGINNINGS:
        if start.startswith(beginning):
            raise SourceError(f"{file.path}: {fault}")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"<":
        raise SourceError(
            f"{file.path}: is an HTML or XML page, not weights; the download gave an error page: "
            "download it again")
    if start.startswith(_ZIP_START):
        return "zip"
    if file.path.suffix == ".safetensors":
        return "safetensors"
    if text[:1] == b"{":
        return "index"
    if start[_TAR_MARK[0]:].startswith(_TAR_MARK[1]):
        raise SourceError(_tar_message(file.path, start))
    if start.startswith(_PICKLE_STARTS):
        return "pickle"
    raise SourceError(
        f"{file.path}: is no file that PyTorch, safetensors or NumPy wrote (begins with "
        f"{start[:8]!r}); download it again, or "
        "name the checkpoint itself")


def _tar_message(path: Path, start: bytes) -> str:
    first_name = start[:100].rstrip(b"\0")
    if first_name in (b"storages", b"tensors", b"pickle"):
        return (f"{path}: is in the tar format of PyTorch before 0.2; load it with torch.load and "
                "save it again")
    return f"{path}: is a tar archive; unpack it and name the checkpoint inside"
