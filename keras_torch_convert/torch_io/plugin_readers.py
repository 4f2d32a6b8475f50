"""Files that other packages read: their entry points in `keras_torch_convert.readers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import PluginError, SourceError
from ..util.plugins import READERS, plugins


def read_by_plugin(path: Path, start: bytes) -> Mapping[str, Any] | None:
    """Return the tensors of a file that no format of ours fits, None when no package knows it.

    A reader is a function of the path and the first 512 bytes: it returns None for a file that it
    does not know, else names to NumPy arrays or torch tensors, in order. Raises SourceError for a
    file that a reader knows and cannot read.
    """
    for name, package, reader in plugins(READERS):
        if not callable(reader):
            raise PluginError(
                f"{package} registers {name!r} in {READERS}: expected a function, got "
                f"{reader!r}")
        try:
            found = reader(path, start)
        except Exception as error:
            raise SourceError(f"{path}: the reader {name!r} of {package} raised "
                              f"{type(error).__name__}: {error}") from error
        if found is not None:
            if not isinstance(found, Mapping):
                raise PluginError(f"{path}: the reader {name!r} of {package} gave a "
                                  f"{type(found).__name__}, expected names to arrays, or None")
            return found
    return None
