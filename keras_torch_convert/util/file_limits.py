"""What a file from outside may take: checked before memory is."""

from __future__ import annotations

import stat
from pathlib import Path

from ..errors import ConversionError

_LARGEST_TEXT = 64 << 20
_MOST_UNPACKED = 1 << 29
_MOST_TIMES = 64


def most_unpacked(size: int) -> int:
    """Return how many bytes a file, or a part of it, of `size` bytes may unpack to.

    A small one may take as much as a small model, a large one so many times its own size: weights
    are compressed by a tenth.
    """
    return max(_MOST_UNPACKED, _MOST_TIMES * size)


def read_bytes(path: Path, error_type: type[ConversionError], expected: str,
               most: int = _LARGEST_TEXT) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        error_type: What is raised for anything else, and for a file that is too large.
        expected: What the message says that the file should be.
        most: How many bytes it may have.

    Raises:
        OSError: The file is not there, or may not be read.
    """
    # A named pipe would block in open(), so the kind is looked at first.
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise error_type(f"{path}: it is not a regular file, expected {expected}")
    if about.st_size > most:
        raise error_type(
            f"{path}: it has {about.st_size} bytes, at most {most} are read; expected {expected}")
    with path.open("rb") as file:
        return file.read(most)


def read_text(path: Path, error_type: type[ConversionError], expected: str,
              most: int = _LARGEST_TEXT) -> str:
    """Return the text of a regular file in UTF-8; arguments and errors as for `read_bytes`."""
    try:
        return read_bytes(path, error_type, expected, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise error_type(f"{path}: it is not a text file in UTF-8, expected {expected}") from error
