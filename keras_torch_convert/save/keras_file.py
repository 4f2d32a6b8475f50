"""A converted model into a file: .weights.h5, .keras or the legacy .h5, told by the suffix.

Keras itself writes the file, under a temporary name in the same folder. It is read back with plain h5py, compared value
by value, hashed, and only then takes its name, so that a reader never sees a half-written or a wrong file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SaveError
from ..read.target import Target
from .following import Followers
from .legacy_order import saved_as_built
from .read_back import compare_archive, compare_legacy_file, compare_weights_file
from .temporary import temporary_path

SUFFIXES = (".weights.h5", ".keras", ".hdf5", ".h5")


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that was written, read back and found equal to the model; `size` in bytes, `notes` for the report."""

    path: Path
    md5: str
    sha256: str
    size: int
    notes: tuple[str, ...] = ()


def check_path(path: str | os.PathLike[str], target: Target | None = None) -> None:
    """Refuse a path that cannot be written, and with `target` a format that cannot hold that model, before any work.

    Raises SaveError: unknown suffix, missing or read-only folder, a folder in the file's place, a subclassed tf_keras
    model as whole .h5, bfloat16 variables in a format that Keras cannot read them from, two weights under one path in .h5.
    """
    suffix = suffix_of(Path(path))
    check_place(Path(path))
    if target is not None:
        _check_format(target, suffix)


def check_place(path: Path) -> None:
    """Refuse a path where no file can be written: a missing or read-only folder, a folder in the file's place. Raises SaveError."""
    folder = path.resolve().parent
    if path.is_dir():
        raise SaveError(f"cannot save to {path}: it is a folder")
    if not folder.is_dir():
        raise SaveError(f"cannot save to {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SaveError(f"cannot save to {path}: no permission to write in folder {folder}")
    if path.exists() and not path.is_file():
        raise SaveError(f"cannot save to {path}: it is not a regular file")


def save_model(target: Target, path: str | os.PathLike[str]) -> SavedFile:
    """Save a model: `.weights.h5` holds its weights, `.keras` and the legacy `.h5` or `.hdf5` the whole model.

    An existing file is replaced in one step, once the new one has been read back and found equal. On any error, an
    interrupt included, the temporary file is removed and the old one is as it was.

    Raises SaveError as `check_path` does, when Keras cannot save the model so, or when what was written reads back different.
    """
    check_path(path, target)
    # A symbolic link keeps pointing where it did: the file behind it is the one replaced.
    destination = Path(path).resolve()
    suffix = suffix_of(destination)
    temporary = temporary_path(destination)
    try:
        notes = write_with_keras(target, temporary, suffix)
        _flush_file(temporary)
        size = temporary.stat().st_size
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        # The check sums are computed while the file is read back.
        with Followers(temporary, 0, size, [md5.update, sha256.update]) as followers:
            followers.advance(size)
            notes = (*notes, *_compare(target, temporary, suffix))
        if destination.exists():
            shutil.copymode(destination, temporary)
        os.replace(temporary, destination)
    except OSError as error:
        raise SaveError(f"cannot save to {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    flush_folder(destination.parent)
    return SavedFile(Path(path), md5.hexdigest(), sha256.hexdigest(), size, notes)


def suffix_of(path: Path) -> str:
    """The format's suffix, or SaveError."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return suffix
    raise SaveError(f"cannot save to {path}: expected a name ending in .h5, .weights.h5 or .keras")


def _check_format(target: Target, suffix: str) -> None:
    legacy = suffix in {".h5", ".hdf5"}
    if any(variable.dtype == "bfloat16" for variable in target.variables.values()):
        if target.framework == "tf_keras":
            raise SaveError(
                f"model {target.name!r} holds bfloat16 variables, which tf_keras cannot load from any of its files"
            )
        if legacy:
            raise SaveError(
                f"model {target.name!r} holds bfloat16 variables, which Keras cannot load from a {suffix} file: "
                "save as .weights.h5 or .keras"
            )
    if not legacy:
        return
    if target.framework == "tf_keras" and _is_subclassed(target.model):
        raise SaveError(
            f"a subclassed model such as {target.name!r} cannot be saved whole as {suffix}: save as .weights.h5"
        )
    for layer in target.model.layers:
        paths = Counter(str(getattr(weight, "path", weight.name)) for weight in layer.weights)
        repeated = [path for path, count in paths.items() if count > 1]
        if repeated:
            raise SaveError(
                f"layer {layer.name!r} has several weights called {repeated[0]}, which a {suffix} file cannot hold: "
                "save as .weights.h5, or give its sublayers names of their own"
            )


def _is_subclassed(model: Any) -> bool:
    return not any(base.__name__ in {"Functional", "Sequential"} for base in type(model).__mro__)


def write_with_keras(target: Target, path: Path, suffix: str) -> tuple[str, ...]:
    """Let Keras write the file; raises SaveError when it refuses the model. Returns notes."""
    if suffix not in (".weights.h5", ".keras"):
        with saved_as_built(target) as notes, _failures_told(target, suffix), _legacy_warning_silenced():
            target.model.save(str(path))
        return notes
    with _failures_told(target, suffix):
        target.model.save_weights(str(path)) if suffix == ".weights.h5" else target.model.save(str(path))
    return ()


def _compare(target: Target, temporary: Path, suffix: str) -> tuple[str, ...]:
    if suffix == ".weights.h5":
        return compare_weights_file(target, temporary)
    if suffix == ".keras":
        return compare_archive(target, temporary)
    if _is_subclassed(target.model):
        only = f"a subclassed model in a {suffix} file is for load_weights only: keras.models.load_model wants .keras"
        return (only, *compare_legacy_file(target, temporary))
    return compare_legacy_file(target, temporary)


@contextmanager
def _failures_told(target: Target, suffix: str) -> Iterator[None]:
    """What keeps Keras from saving becomes a SaveError with a way out; trouble with the disk passes as it is."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        remedy = "" if suffix == ".weights.h5" else "; .weights.h5 holds the weights of any model"
        raise SaveError(
            f"Keras refuses model {target.name!r} ({type(target.model).__name__}) in a {suffix} file: "
            f"{type(error).__name__}: {error}{remedy}"
        ) from error


@contextmanager
def _legacy_warning_silenced() -> Iterator[None]:
    """Keras calls .h5 legacy each time; who asks for that suffix knows. All other messages pass."""

    def is_other(record: logging.LogRecord) -> bool:
        return "as an HDF5 file" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(is_other)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
            yield
    finally:
        logger.removeFilter(is_other)


def _flush_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk."""
    # Windows cannot open a folder; there the rename is as durable as it gets.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
