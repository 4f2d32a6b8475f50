"""Files that appear whole or not at all: written under a temporary name, then renamed in one step.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import SaveError
from .interrupts import deferred_sigint
from .leftovers import remove_leftovers, temporary_path


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
    existing file is as it was. An OSError that leaves the block becomes a SaveError. What killed
    writers left in the folder is removed first.

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
        self.destination = path.resolve()
        self.temporary = temporary_path(self.destination)
        self._prepared = False

    def __enter__(self) -> AtomicFile:
        """Return the file itself."""
        remove_leftovers(self.temporary.parent)
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Remove what was not committed."""
        self.temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, SaveError):
            raise SaveError(f"cannot save to {self.path}: {error}") from error

    def open(self) -> IO[bytes]:
        """Open the temporary file, which must not exist yet, for writing and reading."""
        return self.temporary.open("x+b")

    def prepare(self) -> None:
        """Flush what was written to the disk, which takes long, before `commit` is called."""
        if self.durable:
            with self.temporary.open("rb+") as file:
                os.fsync(file.fileno())
        self._prepared = True

    def commit(self, name: str = "") -> None:
        """Give the file its name in one step; an existing one is replaced and leaves its mode.

        The rename is the last thing that can fail. An interrupt that arrives meanwhile waits until
        it is done.

        Args:
            name: Another name in the same folder than that of `path`.
        """
        if not self._prepared:
            self.prepare()
        destination = self.destination.with_name(name) if name else self.destination
        if destination.exists():
            shutil.copymode(destination, self.temporary)
        # Windows cannot open a folder; there the rename is as durable as it gets.
        flush = self.durable and os.name == "posix"
        folder = os.open(destination.parent, os.O_RDONLY) if flush else None
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
