"""What one worker does: one output, one shard of an output, or the index over shards.

A failure is a result, never an exception.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...keras_io.sharded import WrittenShard, remove_unlisted, shards_of, write_index, write_shard
from ...keras_io.weights_file import checksums_of_shards
from ...keras_io.write_from_layout import WritingOptions
from ...plan.difference import without_layers
from ...plan.plan import Plan
from ...plan.plan_cache import PlanCache
from ...torch_io.reader import read
from ...util.hash_workers import digests_of
from ...util.leftovers import remove_leftovers
from ...util.values_at_offsets import checksum_of
from ..file_contents import FileContents, contents_for
from ..file_conversion import apply
from .manifest import Job
from .results import Finished, Row

_DIGESTS = ("md5", "sha256")


@dataclass(frozen=True, slots=True)
class ShardResult:
    """A shard that was written now or (`written` False) before, or why it could not be."""

    shard: WrittenShard | None = None
    written: bool = True
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """A Plan on a worker, with the outcome of its last check there."""

    plan: Plan
    cache: PlanCache = field(default_factory=PlanCache)

    @classmethod
    def load(cls, path: Path) -> WorkerPlan:
        """Read the file of a Plan."""
        return cls(Plan.load(path))


def run_job(job: Job, plan: WorkerPlan, known: Finished | None) -> Row:
    """Write one output, unless it is there as `known` says."""
    start = time.perf_counter()
    if known is not None and is_intact(job.output, known.sha256):
        return _row(job, known)
    try:
        remove_leftovers(job.output.parent, job.output.name)
        back = job.output.suffix == ".safetensors"
        source = job.source if back else read(job.source, wrapper=job.wrapper, rename=job.rename)
        report = apply(plan.plan, source, job.output, template=job.template, without=job.without,
                       strict=job.strict, verify=job.verify, digests=_DIGESTS, cache=plan.cache)
    except Exception as error:
        return failed(job, error)
    assert report.md5 is not None
    assert report.sha256 is not None
    return Row(job.origin, str(job.output), "written",
               time.perf_counter() - start,
               job.output.stat().st_size, report.md5, report.sha256,
               warnings=tuple(report.warnings))


def count_shards(job: Job, plan: Plan) -> int:
    """Return how many shards an output has. Raises what `apply` raises."""
    assert job.max_shard_size is not None
    return len(shards_of(_filling(job, WorkerPlan(plan)).file, job.max_shard_size))


def run_shard(job: Job, plan: WorkerPlan, number: int, known: Finished | None) -> ShardResult:
    """Write shard `number` of an output, unless it is there as `known` says."""
    start = time.perf_counter()
    if known is not None and _is_unchanged(job.output.with_name(known.name), known.checksum):
        return ShardResult(WrittenShard(known.name, known.size, known.checksum, known.groups),
                           written=False)
    try:
        assert job.max_shard_size is not None
        mapping = _filling(job, plan)
        part = shards_of(mapping.file, job.max_shard_size)[number]
        shard = write_shard(part, number, mapping.values, job.output, WritingOptions(job.verify))
        return ShardResult(shard, seconds=time.perf_counter() - start)
    except Exception as error:
        return ShardResult(error=describe(error))


def run_index(job: Job, results: Sequence[ShardResult], known: Finished | None) -> Row:
    """Write the index once all shards are there; if one failed, the output fails and an old set
    stays.
    """
    start = time.perf_counter()
    shards = [result.shard for result in results if result.shard is not None]
    if len(shards) < len(results):
        error = next(result.error for result in results if result.shard is None)
        return Row(job.origin, str(job.output), "failed", error=error)
    unchanged = not any(result.written for result in results)
    try:
        if unchanged and known is not None and is_intact(job.output, known.sha256):
            return _row(job, known)
        remove_leftovers(job.output.parent, job.output.name)
        saved = write_index(job.output, shards, _DIGESTS)
    except Exception as error:
        return failed(job, error)
    seconds = time.perf_counter() - start + sum(result.seconds for result in results)
    return Row(job.origin, str(job.output), "written", seconds, saved.size, saved.digests["md5"],
               saved.digests["sha256"])


def clean_up(job: Job, *, finished_shards: bool) -> None:
    """Remove what killed writers of an output left behind.

    With `finished_shards` also shards that no index lists are removed.
    """
    if not job.output.parent.is_dir():
        return
    remove_leftovers(job.output.parent, job.output.name)
    if job.max_shard_size is not None and finished_shards:
        remove_unlisted(job.output)


def is_intact(path: Path, sha256: str) -> bool:
    """Return whether the file is there and has this hash, and if it is an index, its shards have
    the checksums that it states.
    """
    if not path.is_file() or digests_of(path, ["sha256"])["sha256"] != sha256:
        return False
    if not path.name.endswith(".weights.json"):
        return True
    shards = checksums_of_shards(path)
    return bool(shards) and all(
        _is_unchanged(path.with_name(name), checksum) for name, checksum in shards.items())


def _is_unchanged(path: Path, checksum: str) -> bool:
    return path.is_file() and checksum_of(path) == checksum


def failed(job: Job, error: BaseException) -> Row:
    """Return the row of a job that failed."""
    return Row(job.origin, str(job.output), "failed", error=describe(error))


def describe(error: BaseException) -> str:
    """Return type and message."""
    return f"{type(error).__name__}: {error}"


def _row(job: Job, known: Finished) -> Row:
    return Row(job.origin, str(job.output), "skipped", 0.0, known.size, known.md5, known.sha256)


def _filling(job: Job, plan: WorkerPlan) -> FileContents:
    used = without_layers(plan.plan, job.without) if job.without else plan.plan
    return contents_for(used, read(job.source, wrapper=job.wrapper, rename=job.rename), job.output,
                        job.template, job.strict, plan.cache)
