"""A file to release: its checksums, the model in it, and the name that a zoo will look for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..keras_io.weights_file import model_config
from ..util.hash_workers import digests_of


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file with its size in bytes and its checksums as hexadecimal text."""

    path: Path
    size: int
    md5: str
    sha256: str


def read_release_file(path: Path) -> ReleaseFile:
    """Return the file; it is read once."""
    digests = digests_of(path, ("md5", "sha256"))
    return ReleaseFile(path, path.stat().st_size, digests["md5"], digests["sha256"])


def read_model_facts(path: Path) -> tuple[str | None, int | None]:
    """Return the name and the input height of the model in an .h5 or .keras file, None for what the
    file does not say.
    """
    try:
        config, _ = model_config(path)
        model = config["config"]
        first = (model.get("layers") or [{}])[0].get("config", {})
        shape: Any = first.get("batch_shape") or first.get("batch_input_shape") or []
        name, height = model.get("name"), shape[1] if len(shape) == 4 else None
    except (SourceError, LookupError, TypeError, AttributeError):
        return None, None
    return (name if isinstance(name, str) else None, height if isinstance(height, int) else None)


def name_parts(path: Path, model: str) -> tuple[int | None, str | None]:
    """Return the resolution and the tag in a name such as "resnet50_224_imagenet.h5".

    None stands for what the name does not say, as that of another model does not.
    """
    found = re.fullmatch(r"(?:_(\d{2,4}))?(?:_([^.]+))?(?:\.\d+)?(?:\.weights)?\.\w+",
                         path.name[len(model):])
    if found is None or not path.name.startswith(model):
        return None, None
    resolution, tag = found.groups()
    return (int(resolution) if resolution else None, tag)


def expected_names(model: str, tag: str, resolution: int | None,
                   files: Sequence[Path]) -> list[str]:
    """Return the names that keras_cv_attention_models asks for: "name_224_imagenet.h5".

    Parts have .1, .2, ... before the suffix.
    """
    stem = f"{model}_{tag}" if resolution is None else f"{model}_{resolution}_{tag}"
    if len(files) == 1:
        return [f"{stem}{files[0].suffix}"]
    return [f"{stem}.{number}{path.suffix}" for number, path in enumerate(files, start=1)]
