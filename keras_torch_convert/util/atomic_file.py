"""Where a file can be written, temporary names beside it, and what a killed writer left under them.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import SaveError

_TOKEN_BYTES = 6


def check_place(path: Path) -> None:
    """Refuse a path where no file can be written: a missing or read-only folder, a folder in the
    file's place. Raises SaveError.
    """
    folder = path.resolve().parent
    if path.is_dir():
        raise SaveError(f"cannot save to {path}: it is a folder")
    if not folder.is_dir():
        raise SaveError(f"cannot save to {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SaveError(f"cannot save to {path}: no permission to write in folder {folder}")
    if path.exists() and not path.is_file():
        raise SaveError(f"cannot save to {path}: it is not a regular file")


def temporary_path(path: Path) -> Path:
    """A hidden name in the folder of `path`, of the same suffixes, that nobody else uses."""
    destination = path.resolve()
    stem, dot, suffix = destination.name.partition(".")
    return destination.with_name(f".{stem}.{secrets.token_hex(_TOKEN_BYTES)}{dot}{suffix}")


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the name `path` when the block ends, in one step and flushed; on
    any error an existing one is as it was.

    Raises SaveError as `check_place` does.
    """
    check_place(path)
    destination = path.resolve()
    temporary = temporary_path(destination)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if destination.exists():
            shutil.copymode(destination, temporary)
        os.replace(temporary, destination)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` that were killed have left behind. For callers who know that
    nobody writes it now.
    """
    destination = path.resolve()
    stem, dot, suffix = destination.name.partition(".")
    name = re.compile(
        rf"\.{re.escape(stem)}\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}{re.escape(dot + suffix)}")
    for found in destination.parent.iterdir():
        if name.fullmatch(found.name):
            found.unlink(missing_ok=True)
