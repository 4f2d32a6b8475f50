"""The files that Keras models are saved to: .weights.h5, .keras or the legacy .h5, told by the
suffix; what cannot be saved so, and Keras's own saving.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import SaveError
from ..spec.target import Target
from ..util.atomic_file import check_writable
from .keras_private import tensorflow_left_alone
from .weight_order import saved_as_built
from .weights_file import suffix_of


def check_path(path: str | os.PathLike[str], target: Target | None = None) -> None:
    """Refuse a path that cannot be written, and with `target` a format that cannot hold that model,
    before any work.

    Raises SaveError: unknown suffix, missing or read-only folder, a folder in the file's place,
    bfloat16 variables in a format that Keras cannot read them from, two weights under one path in
    .h5.
    """
    suffix = suffix_of(Path(path))
    check_writable(Path(path))
    if target is not None:
        _check_format(target, suffix)


def _check_format(target: Target, suffix: str) -> None:
    legacy = suffix in {".h5", ".hdf5"}
    if any(variable.dtype == "bfloat16" for variable in target.variables.values()):
        if target.framework == "tf_keras":
            raise SaveError(
                f"model {target.name!r} holds bfloat16 variables, which tf_keras cannot load "
                "from any of its files")
        if legacy:
            raise SaveError(
                f"model {target.name!r} holds bfloat16 variables, which Keras cannot load from a "
                f"{suffix} file: "
                "save as .weights.h5 or .keras")
    if not legacy:
        return
    for layer in target.model.layers:
        paths = Counter(str(getattr(weight, "path", weight.name)) for weight in layer.weights)
        repeated = [path for path, count in paths.items() if count > 1]
        if repeated:
            raise SaveError(
                f"layer {layer.name!r} has several weights called {repeated[0]}, which a "
                f"{suffix} file cannot hold: "
                "save as .weights.h5, or give its sublayers names of their own")


def is_subclassed(model: Any) -> bool:
    """Whether a model is neither functional nor a sequence of layers."""
    return not any(base.__name__ in {"Functional", "Sequential"} for base in type(model).__mro__)


def has_weights_alone(target: Target) -> bool:
    """Return whether the legacy .h5 file of a model holds its weights without its config: tf_keras
    has none of a subclassed model.
    """
    return target.framework == "tf_keras" and is_subclassed(target.model)


def write_with_keras(target: Target, path: Path, suffix: str) -> tuple[str, ...]:
    """Let Keras write the file; raises SaveError when it refuses the model. Returns notes."""
    if suffix not in (".weights.h5", ".keras"):
        with saved_as_built(target) as notes, failures_reported(target,
                                                                suffix), legacy_warning_silenced():
            if has_weights_alone(target):
                # The name of a temporary file does not say the format.
                target.model.save_weights(str(path), save_format="h5")
            else:
                target.model.save(str(path))
        return notes
    with failures_reported(target, suffix):
        target.model.save_weights(str(path)) if suffix == ".weights.h5" else target.model.save(
            str(path))
    return ()


@contextmanager
def failures_reported(target: Target, suffix: str) -> Iterator[None]:
    """What keeps Keras from saving becomes a SaveError with a way out; trouble with the disk passes
    as it is.
    """
    try:
        with tensorflow_left_alone():
            yield
    except OSError:
        raise
    except Exception as error:
        remedy = "" if suffix == ".weights.h5" else "; .weights.h5 holds the weights of any model"
        raise SaveError(
            f"Keras refuses model {target.name!r} ({type(target.model).__name__}) in a {suffix} "
            "file: "
            f"{type(error).__name__}: {error}{remedy}") from error


@contextmanager
def legacy_warning_silenced() -> Iterator[None]:
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
