"""Temporary files that say who writes them, so that what killed writers left can be removed."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

# Hidden, and with the suffixes of the file itself: who writes by its suffix writes the same.
_NAME = re.compile(r"\.(?P<stem>.*)\.ktc-(?P<machine>[0-9a-f]{8})(?P<boot>[0-9a-f]{8})"
                   r"-(?P<process>\d+)-(?P<start>\d+)-[0-9a-f]{8}(?P<suffix>\..*)?")
_LONGEST_STEM = 100


def temporary_path(path: Path) -> Path:
    """Return a name in the folder of `path` that nobody else uses and that tells its writer."""
    stem, suffix = _split(path.name)
    writer = f"{_machine()}{_boot()}-{os.getpid()}-{_start_of(os.getpid()) or 0}"
    return path.with_name(f".{stem}.ktc-{writer}-{secrets.token_hex(4)}{suffix}")


def remove_leftovers(folder: Path, of: str | None = None) -> None:
    """Remove the temporary files in a folder whose writers are gone.

    Args:
        folder: The folder; what cannot be listed or removed stays.
        of: The name of a file that nobody writes now: its temporary files are removed whoever
            wrote them, on this machine or another.
    """
    with suppress(OSError):
        for name in os.listdir(folder):
            found = _NAME.fullmatch(name) if ".ktc-" in name else None
            if found is None:
                continue
            if of is None:
                remove = _is_gone(found)
            else:
                remove = (found["stem"], found["suffix"] or "") == _split(of)
            if remove:
                (folder / name).unlink(missing_ok=True)


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.partition(".")
    return stem[:_LONGEST_STEM], dot + suffix


def _is_gone(writer: re.Match[str]) -> bool:
    if writer["machine"] != _machine():
        return False
    # A machine that was started again runs nothing of before.
    return writer["boot"] != _boot() or _start_of(int(writer["process"])) != int(writer["start"])


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return what tells this machine, and this container, from others that share a folder."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text())
    with suppress(OSError):
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return _digest("\n".join(parts))


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return _digest(Path("/proc/sys/kernel/random/boot_id").read_text())
    except OSError:
        return _digest("")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _start_of(process: int) -> int | None:
    """Return when a process started, 0 where the system does not tell, None when it is gone."""
    if os.name != "posix":
        return 0
    try:
        os.kill(process, 0)
    except PermissionError:
        pass
    except OSError:
        return None
    try:
        # What follows the name of the program, which may hold anything.
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
