"""A model saved as it is, without a conversion."""

from __future__ import annotations

from pathlib import Path

from keras_torch_convert.keras_io.model_writer import transaction
from keras_torch_convert.keras_io.write_from_layout import WrittenFile
from keras_torch_convert.spec.target import Target


def save_model(target: Target, path: Path) -> WrittenFile:
    """Save a model in a transaction that changes no variable."""
    with transaction(target) as writer:
        return writer.save(path)
