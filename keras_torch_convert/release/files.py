"""A file to release: its checksums, the model in it, and the name that a zoo will look for."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

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


def model_name(path: Path) -> str | None:
    """Return the name of the model in an .h5 or .keras file, None when the file has none."""
    config: Any = None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if "config.json" in archive.namelist():
                config = json.loads(archive.read("config.json"))
    elif h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            config = json.loads(text) if text is not None else None
    name = config.get("config", {}).get("name") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None


def expected_names(model: str, tag: str, resolution: int | None,
                   files: Sequence[Path]) -> list[str]:
    """Return the names that keras_cv_attention_models asks for: "name_224_imagenet.h5".

    Parts have .1, .2, ... before the suffix.
    """
    stem = f"{model}_{tag}" if resolution is None else f"{model}_{resolution}_{tag}"
    if len(files) == 1:
        return [f"{stem}{files[0].suffix}"]
    return [f"{stem}.{number}{path.suffix}" for number, path in enumerate(files, start=1)]
