"""An advisory lock between processes, on one machine or on several that share a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import SaveError
from .interrupts import deferred_sigint

# What is done under a lock takes milliseconds.
_MOST_SECONDS = 120.0
_PAUSE = 0.02


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file while its folder is changed; a hidden empty file beside it stays.

    Raises SaveError when another process holds it for minutes.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)
    end = time.monotonic() + _MOST_SECONDS
    while not lock.is_locked:
        # Never interrupted inside: it takes locks of Python's.
        with deferred_sigint():
            try:
                lock.acquire(blocking=False)
            except Timeout as error:
                if time.monotonic() > end:
                    raise SaveError(f"cannot save to {path}: another process has locked it for "
                                    f"{_MOST_SECONDS:.0f} seconds ({lock.lock_file})") from error
        if not lock.is_locked:
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        with deferred_sigint():
            lock.release()
