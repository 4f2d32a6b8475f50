"""Hundreds of checkpoints, or one big model in shards, on Dask distributed: one task writes one
file.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConversionError, ManifestError
from ...util.progress import progress_bar
from .manifest import Job, read_manifest
from .results import Finished, Ledger, Results, Row, table_of
from .tasks import clean_up, count_shards, described, failed, run_index, run_job, run_shard

if TYPE_CHECKING:
    from distributed import Client, Future

RESULTS_SUFFIX = ".results.jsonl"


def apply_many(manifest: str | PathLike[str] | Sequence[Mapping[str, Any]], *,
               scheduler: str | None = None, workers: int = 2,
               memory_per_worker: str | int = "2GiB", results: str | PathLike[str] | None = None,
               progress: bool = False) -> Results:
    """Apply Plans to many checkpoints, each written by one task on a Dask cluster.

    `manifest` is a TOML file with a table [[file]] for each output, or a list of such entries:
    "plan" (a path or, in Python, a Plan), "source" and "output", and as in `apply` "template",
    "without", "max_shard_size", "strict" and "verify"; "wrapper" is that of `read`. What stands
    above the first table counts for all entries. Paths are relative to the manifest. An output with
    "max_shard_size" is one task for each shard.

    By default `workers` processes of one thread each run on this machine, each ended and begun anew
    when it takes more than `memory_per_worker`; `scheduler` is the address of a Dask scheduler
    whose workers see the same files. A task whose worker dies is given to another one, three times.
    One failure never stops the rest: it is a row of the result. `results` is a file that remembers
    finished outputs with the hash of all they were made from, by default "<manifest>.results.jsonl"
    beside a TOML file: what is there and has the right sha256 is skipped. On Ctrl-C finished files
    stay, and nothing of others is left. `progress` shows a bar, by files.

    Needs `pip install 'keras-torch-convert[many]'`. Raises ManifestError before any work for a
    manifest that is not sound.
    """
    jobs = read_manifest(manifest)
    ledger = Ledger(_results_path(manifest, results))
    rows: dict[int, Row] = {}
    try:
        with _client(scheduler, workers, memory_per_worker) as client:
            run = _Run(client, ledger)
            for number, job in enumerate(jobs):
                run.submit(number, job)
            for number, row in progress_bar(run.rows(), total=len(jobs), title="apply",
                                            shown=progress):
                rows[number] = row
    finally:
        ledger.close()
        for number, job in enumerate(jobs):
            if number not in rows or rows[number].state == "failed":
                # Shards that the ledger knows are not written again by the next run.
                clean_up(job, finished_shards=ledger.path is None)
    return table_of([rows[number] for number in range(len(jobs))])


def _results_path(manifest: str | PathLike[str] | Sequence[Mapping[str, Any]],
                  results: str | PathLike[str] | None) -> Path | None:
    if results is not None:
        return Path(results)
    return Path(manifest).with_suffix(RESULTS_SUFFIX) if isinstance(manifest,
                                                                    (str, PathLike)) else None


class _Run:
    """The tasks of one call: submitted at once, taken in as they end."""
    def __init__(self, client: Client, ledger: Ledger) -> None:
        self.client = client
        self.ledger = ledger
        self.done: list[tuple[int, Row]] = []
        # What is to be done with a task's result.
        self.waiting: dict[Future, Callable[[Future], None]] = {}

    def submit(self, number: int, job: Job) -> None:
        """Submit the tasks of one job. What already fails here is a row like any other failure."""
        try:
            inputs = job.fingerprint()
            shards = 0 if job.max_shard_size is None else count_shards(job)
        except (ConversionError, OSError) as error:
            self.done.append((number, failed(job, error)))
            return
        known = self.ledger.find(str(job.output), inputs)
        if not shards:
            self._last(number, job, inputs, self._task(run_job, job, known))
            return
        parts = [
            self._task(run_shard, job, part, self.ledger.find(_shard_key(job, part), inputs))
            for part in range(shards)
        ]
        for part, future in enumerate(parts):
            self.waiting[future] = self._shard(job, part, inputs)
        self._last(number, job, inputs, self._task(run_index, job, parts, known))

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Each job's number and row, in the order in which they end."""
        from distributed import as_completed

        yield from self.done
        self.done.clear()
        for future in as_completed(list(self.waiting)):
            self.waiting.pop(future)(future)
            yield from self.done
            self.done.clear()
            future.release()

    def _task(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self.client.submit(function, *arguments, pure=False)

    def _shard(self, job: Job, part: int, inputs: str) -> Callable[[Future], None]:
        def take(future: Future) -> None:
            shard = future.result().shard if future.status == "finished" else None
            if shard is not None:
                key = _shard_key(job, part)
                self.ledger.add(
                    Finished(key, inputs, shard.sha256, "", shard.size, shard.name, shard.groups))

        return take

    def _last(self, number: int, job: Job, inputs: str, future: Future) -> None:
        def take(future: Future) -> None:
            row = future.result() if future.status == "finished" else _lost(job, future)
            if row.state == "written":
                self.ledger.add(Finished(row.output, inputs, row.sha256, row.md5, row.size))
            self.done.append((number, row))

        self.waiting[future] = take


def _shard_key(job: Job, part: int) -> str:
    return f"{job.output}#{part}"


def _lost(job: Job, future: Future) -> Row:
    """The row of a task that no worker lived to end."""
    error = future.exception()
    if type(error).__name__ == "KilledWorker":
        text = ("every worker that tried it died: killed from outside, or by memory; give "
                "memory_per_worker= more")
        return Row(str(job.source), str(job.output), "failed", error=text)
    return Row(str(job.source), str(job.output), "failed",
               error=described(error) if error else future.status)


@contextmanager
def _client(scheduler: str | None, workers: int, memory: str | int) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a cluster of processes on this machine that
    ends with the block.
    """
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise ManifestError(
            "many files at once need Dask: pip install 'keras-torch-convert[many]'") from error

    with ExitStack() as stack:
        address: Any = scheduler
        if scheduler is None:
            stack.enter_context(_script_hidden())
            # One task at a time in each process: that is what bounds its memory.
            address = stack.enter_context(
                LocalCluster(n_workers=workers, threads_per_worker=1, processes=True,
                             memory_limit=memory, dashboard_address=None,
                             silence_logs=logging.ERROR))
        yield stack.enter_context(Client(address))


@contextmanager
def _script_hidden() -> Iterator[None]:
    """New processes do not run the caller's script as if to import it: they need nothing of it, and
    it may import both frameworks.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    try:
        main.__spec__ = None
        if "__file__" in hidden:
            del main.__file__
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
