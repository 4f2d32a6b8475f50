"""A converted model into a file: .weights.h5, .keras or the legacy .h5, told by the suffix.

The file is written under a temporary name in the same folder, the legacy .h5 by our own writer as
Keras lists it, the newer formats by Keras. It is read back with plain h5py, compared value by value
with the model, hashed, and only then takes its name, so that a reader never sees a half-written or
a wrong file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from ..spec.target import Target
from ..util.atomic_file import AtomicFile
from ..util.hash_workers import digests_meanwhile
from .keras_save import is_subclassed, write_with_keras
from .layout_from_save import NoLayoutError, layout_of_save
from .values import read_values
from .verify_written import compare_archive, compare_legacy_file, compare_weights_file
from .weight_order import saved_as_built
from .weights_file import suffix_of
from .write_from_layout import WritingOptions, WrittenFile, write_arrays


def write_model(target: Target, new: AtomicFile,
                digests: tuple[str, ...] = ("md5", "sha256")) -> WrittenFile:
    """Write a model under the temporary name of a new file, and compare it with the model.

    `digests` are the checksums to compute, by names that hashlib knows.

    Raises SaveError when Keras cannot save the model so, or when what was written reads back
    different.
    """
    suffix = suffix_of(new.path.resolve())
    if suffix not in {".h5", ".hdf5"}:
        return _write_with_keras(target, new, suffix, digests)
    try:
        return _write_from_layout(target, new, suffix, digests)
    except NoLayoutError as reason:
        written = _write_with_keras(target, new, suffix, digests)
        note = f"Keras itself wrote the file of this model: {reason}"
        return replace(written, notes=(*written.notes, note))


def _write_from_layout(target: Target, new: AtomicFile, suffix: str,
                       digests: tuple[str, ...]) -> WrittenFile:
    """Write a legacy file with our own writer.

    Raises NoLayoutError, with nothing written, when that is for Keras to do.
    """
    notes: list[str] = []
    with saved_as_built(target) as changes:
        notes += changes
        layout = layout_of_save(target)
    values = {
        key: partial(read_values, target, variable.variable)
        for key, variable in target.variables.items()
    }

    def compare(temporary: Path) -> None:
        notes.extend(_compare(target, temporary, suffix))

    options = WritingOptions(verify=False, digests=digests)
    written = write_arrays(new, layout, None, values, options, compare)
    return replace(written, notes=tuple(notes))


def _write_with_keras(target: Target, new: AtomicFile, suffix: str,
                      digests: tuple[str, ...]) -> WrittenFile:
    notes = write_with_keras(target, new.temporary, suffix)
    with digests_meanwhile(new.temporary, digests) as found:
        notes = (*notes, *_compare(target, new.temporary, suffix))
    return WrittenFile(new.path, new.temporary.stat().st_size, found, notes)


def _compare(target: Target, temporary: Path, suffix: str) -> tuple[str, ...]:
    if suffix == ".weights.h5":
        return compare_weights_file(target, temporary)
    if suffix == ".keras":
        return compare_archive(target, temporary)
    if is_subclassed(target.model):
        only = (f"a subclassed model in a {suffix} file is for load_weights only, not for "
                "load_model")
        return (only, *compare_legacy_file(target, temporary))
    return compare_legacy_file(target, temporary)
