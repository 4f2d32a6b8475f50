"""`apply`, file to file: a checkpoint into a Keras file as a Plan says, or the reverse.

Neither PyTorch nor Keras is imported, no model is built.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import SaveError
from ..keras_io.keras_source import read_keras_file
from ..keras_io.sharded import write_sharded
from ..keras_io.weights_file import INDEX_SUFFIX
from ..keras_io.write_from_layout import WritingOptions, WrittenFile, write_file
from ..plan.difference import without_layers
from ..plan.executor import Strict
from ..plan.plan import Plan, check_is_plan
from ..plan.plan_cache import PlanCache
from ..report.report import Report
from ..torch_io.reader import read as read_source
from ..torch_io.safetensors_writer import write_safetensors
from ..util.gc_pause import gc_paused
from ..util.progress import counting_bar
from .file_contents import FileContents, contents_for
from .reporting import report_of_file
from .state_dicts import prepare_state_dict, reverse_of


# The parameters are public, and most of the lines say what they mean.
def apply(plan: Plan, source: Any, path: str | PathLike[str], *,
          template: str | PathLike[str] | None = None, without: Sequence[str] = (),
          rename: Mapping[str, str] | None = None, strict: Strict = True,
          max_shard_size: float | None = None, verify: bool = True,
          digests: Sequence[str] | None = None, durable: bool = True, progress: bool = False,
          cache: PlanCache | None = None) -> Report:
    """Write the weights of a checkpoint into a Keras file as a Plan says, or the reverse.

    Neither PyTorch nor Keras is needed. The file holds what the live conversion saves, value for
    value, and the same input gives the same bytes everywhere. On any error, Ctrl-C included, an
    existing file is as it was.

    Args:
        plan: The Plan of a conversion. For a `path` that ends in .safetensors it is inverted.
        source: The path of a checkpoint, or anything else that `read` takes. For a `path` that ends
            in .safetensors, the path of a Keras file.
        path: The file to write: .h5, .weights.h5, .keras, .weights.json or .safetensors.
        template: An existing Keras file of the same format and architecture. The new file gets its
            layout, and what the Plan does not set keeps its values. It is needed if the Plan does
            not know what the files look like.
        without: Keras layers to leave out, by name ("predictions"; "*" stands for any text), such
            as a head for another number of classes. They keep the template's values. Without a
            template they are zero, and the report warns of that.
        rename: That of `read`: beginnings of the checkpoint's names, old to new. Names that differ
            from the Plan's by their beginnings alone are found without it, where that is certain.
        strict: That of `convert`.
        max_shard_size: In GB, with a path that ends in .weights.json: Keras 3's sharded weights.
        verify: Find every array with h5py and read it back: its checksum must be the one with which
            it was written.
        digests: Checksums to compute while the file is written, by names that hashlib knows; md5
            and sha256 by default. Of shards those that are given are in the index, beside a fast
            checksum of our own that guards against accidents.
        durable: Flush the file to the disk before it takes its name.
        progress: Show a bar, by bytes.
        cache: One for all calls with a Plan: checkpoints with the same tensors are checked once.

    Returns:
        The report.

    Raises:
        PlanError: `plan` is not a Plan, or does not know files like `path`.
        SourceError: The source cannot be read.
        TransferError: The checkpoint does not fit; `.problems` has everything.
        SaveError: The file cannot be written.

    Example:
        >>> plan = ktc.Plan.load("model.plan.json")
        >>> report = ktc.apply(plan, "model.pth", "model.weights.h5")
        >>> report.ok
        True
    """
    check_is_plan(plan)
    path = Path(path)
    if without:
        plan = without_layers(plan, without)
    if path.suffix == ".safetensors":
        if template is not None or max_shard_size is not None:
            raise SaveError(
                "template= and max_shard_size= are for Keras files, not for .safetensors")
        return keras_file_to_safetensors(plan, source, path, strict=strict, verify=verify)
    start = time.perf_counter()
    output = Output(path, None if template is None else Path(template), max_shard_size)
    with gc_paused():
        contents = contents_for(plan, read_source(source, rename=rename), output.path,
                                output.template, strict,
                                PlanCache() if cache is None else cache)
        with counting_bar(contents.size, title="apply", unit="B", shown=progress) as written:
            saved = output.write(
                contents,
                WritingOptions(verify, None if digests is None else tuple(digests), durable,
                               written))
    return contents.report(saved, start)


@dataclass(frozen=True, slots=True)
class Output:
    """What is to be written: the path, the template, and the size of shards in GB.

    Raises SaveError for what does not go together.
    """

    path: Path
    template: Path | None
    max_shard_size: float | None

    def __post_init__(self) -> None:
        if (self.max_shard_size is not None) != self.path.name.endswith(INDEX_SUFFIX):
            raise SaveError(
                f"max_shard_size= goes with a path that ends in {INDEX_SUFFIX}, and only with "
                f"that: got {self.path.name} and max_shard_size={self.max_shard_size}")

    def write(self, contents: FileContents, options: WritingOptions) -> WrittenFile:
        """Write one file, or the shards and their index."""
        if self.max_shard_size is not None:
            return write_sharded(contents.file, self.max_shard_size, contents.values, self.path,
                                 options)
        return write_file(contents.layout, contents.values, self.path, options)


def keras_file_to_safetensors(plan: Plan, keras_file: str | PathLike[str],
                              path: str | PathLike[str], *, strict: Strict = True,
                              verify: bool = True) -> Report:
    """Write the weights of a Keras file into a .safetensors file; neither Keras nor a model is
    needed.

    It is bit for bit what it was where the Plan is lossless, and the same input gives the same
    bytes. One tensor is in memory at a time. Tensors that the Plan leaves out (BatchNorm's
    counters) are not in the file.

    Args:
        plan: A Plan from torch to Keras, which is inverted, or from Keras to torch.
        keras_file: A .h5, .weights.h5 or .keras file, or the index of shards.
        path: The file to write, .safetensors; an existing one stays as it was on any error.
        strict: Refuse Keras variables that are left over.
        verify: Read the file again and compare it.

    Raises:
        PlanError, SourceError, TransferError, SaveError: As in `apply`.
    """
    start = time.perf_counter()
    path = Path(path)
    if path.suffix != ".safetensors":
        raise SaveError(f"expected a path that ends in .safetensors, got {path.name}")
    reverse = reverse_of(plan)
    checked = prepare_state_dict(reverse, read_keras_file(keras_file, reverse), strict)
    values = checked.by_key()
    specs = {key: reverse.targets[key] for key in values}
    digests = write_safetensors(path, specs, values, verify=verify)
    written = WrittenFile(path, path.stat().st_size, digests)
    return report_of_file(str(keras_file), path.name, reverse, checked, written, start,
                          (plan.losses(), ()))
