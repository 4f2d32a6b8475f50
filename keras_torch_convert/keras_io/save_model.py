"""A converted model into a file: .weights.h5, .keras or the legacy .h5, told by the suffix.

The file is written under a temporary name in the same folder, the legacy .h5 by our own writer as
Keras lists it, the newer formats by Keras. It is read back with plain h5py, compared value by value
with the model, hashed, and only then takes its name, so that a reader never sees a half-written or
a wrong file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..errors import SaveError
from ..spec.target import Target
from ..util.atomic_file import temporary_path
from ..util.hash_workers import digests_meanwhile
from .keras_save import check_path, is_subclassed, write_with_keras
from .layout_from_save import NotListedError, listed_by_keras
from .values import read_values
from .verify_written import compare_archive, compare_legacy_file, compare_weights_file
from .weight_order import saved_as_built
from .weights_file import suffix_of
from .write_from_layout import AtomicFile, WritingOptions, written_aside


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that was written, read back and found equal to the model; `size` in bytes, `notes` for
    the report.
    """

    path: Path
    md5: str
    sha256: str
    size: int
    notes: tuple[str, ...] = ()


def save_model(target: Target, path: str | os.PathLike[str]) -> SavedFile:
    """Save a model: `.weights.h5` holds its weights, `.keras` and the legacy `.h5` or `.hdf5` the
    whole model.

    An existing file is replaced in one step, once the new one has been read back and found equal.
    On any error, an interrupt included, the temporary file is removed and the old one is as it was.

    Raises SaveError as `check_path` does, when Keras cannot save the model so, or when what was
    written reads back different.
    """
    check_path(path, target)
    suffix = suffix_of(Path(path).resolve())
    if suffix in {".h5", ".hdf5"}:
        try:
            return _saved_as_listed(target, Path(path), suffix)
        except NotListedError as reason:
            saved = _saved_by_keras(target, Path(path), suffix)
            return replace(
                saved, notes=(*saved.notes, f"Keras itself wrote the file of this model: {reason}"))
    return _saved_by_keras(target, Path(path), suffix)


def _saved_as_listed(target: Target, path: Path, suffix: str) -> SavedFile:
    """A legacy file through our own writer. Raises NotListedError, with nothing written, when that
    is for Keras to do.
    """
    notes: list[str] = []
    with saved_as_built(target) as changes:
        notes += changes
        layout = listed_by_keras(target)
    values = {
        place: partial(read_values, target, variable.variable)
        for place, variable in target.variables.items()
    }

    def compare(temporary: Path) -> None:
        notes.extend(_compare(target, temporary, suffix))

    with written_aside(layout, None, values, path, WritingOptions(), compare) as aside:
        written = aside.commit(path)
    return SavedFile(path, written.digests["md5"], written.digests["sha256"], written.size,
                     tuple(notes))


def _saved_by_keras(target: Target, path: Path, suffix: str) -> SavedFile:
    temporary = temporary_path(path)
    try:
        notes = write_with_keras(target, temporary, suffix)
        _flush_file(temporary)
        with digests_meanwhile(temporary, ("md5", "sha256")) as digests:
            notes = (*notes, *_compare(target, temporary, suffix))
        written = AtomicFile(temporary, digests, durable=True).commit(path)
    except OSError as error:
        raise SaveError(f"cannot save to {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return SavedFile(path, digests["md5"], digests["sha256"], written.size, notes)


def _compare(target: Target, temporary: Path, suffix: str) -> tuple[str, ...]:
    if suffix == ".weights.h5":
        return compare_weights_file(target, temporary)
    if suffix == ".keras":
        return compare_archive(target, temporary)
    if is_subclassed(target.model):
        only = (f"a subclassed model in a {suffix} file is for load_weights only: "
                "keras.models.load_model wants .keras")
        return (only, *compare_legacy_file(target, temporary))
    return compare_legacy_file(target, temporary)


def _flush_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
