"""Files that appear whole or not at all: written under a temporary name, then renamed in one step.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import SaveError
from .interrupts import deferred_sigint

_TOKEN_BYTES = 6


def check_writable(path: Path) -> None:
    """Refuse a path where no file can be written, before any work.

    Raises:
        SaveError: The folder is missing or read-only, or something that is no regular file has
            this name.
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


class AtomicFile:
    """A new file under a temporary name, which `commit` renames to its own.

    Use it as a context manager: what was not committed is removed at the end of the block, and an
    existing file is as it was. An OSError that leaves the block becomes a SaveError.

    Args:
        path: The file to make or to replace. Behind a symbolic link the file is replaced and the
            link stays.
        durable: Flush the file, and afterward its name, to the disk when it is committed.

    Raises:
        SaveError: As `check_writable` does.

    Attributes:
        temporary: Where to write, a hidden name with the same suffixes in the same folder.
    """
    def __init__(self, path: Path, *, durable: bool = True) -> None:
        check_writable(path)
        self.path, self.durable = path, durable
        destination = path.resolve()
        stem, dot, suffix = destination.name.partition(".")
        self.temporary = destination.with_name(
            f".{stem}.{secrets.token_hex(_TOKEN_BYTES)}{dot}{suffix}")

    def __enter__(self) -> AtomicFile:
        """Return the file itself."""
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Remove what was not committed."""
        self.temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, SaveError):
            raise SaveError(f"cannot save to {self.path}: {error}") from error

    def open(self) -> IO[bytes]:
        """Open the temporary file for writing; it must not exist yet."""
        return self.temporary.open("xb")

    def commit(self, name: str = "") -> None:
        """Give the file its name in one step; an existing one is replaced and leaves its mode.

        All that can fail comes first. An interrupt that arrives during the rename waits until it
        is done.

        Args:
            name: Another name in the same folder than that of `path`.
        """
        destination = self.path.with_name(name or self.path.name).resolve()
        if destination.exists():
            shutil.copymode(destination, self.temporary)
        folder = None
        if self.durable:
            with self.temporary.open("rb+") as file:
                os.fsync(file.fileno())
            # Windows cannot open a folder; there the rename is as durable as it gets.
            folder = os.open(destination.parent, os.O_RDONLY) if os.name == "posix" else None
        try:
            with deferred_sigint():
                os.replace(self.temporary, destination)
                if folder is not None:
                    # The new file is there; it only may not survive a power failure.
                    with suppress(OSError):
                        os.fsync(folder)
        finally:
            if folder is not None:
                os.close(folder)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all. Raises SaveError."""
    with AtomicFile(path) as new:
        with new.open() as file:
            file.write(data)
        new.commit()


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left behind; only for callers who know that nobody
    writes it now.
    """
    destination = path.resolve()
    stem, dot, suffix = destination.name.partition(".")
    name = re.compile(
        rf"\.{re.escape(stem)}\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}{re.escape(dot + suffix)}")
    for found in destination.parent.iterdir():
        if name.fullmatch(found.name):
            found.unlink(missing_ok=True)
