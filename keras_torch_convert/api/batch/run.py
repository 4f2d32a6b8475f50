"""Hundreds of checkpoints, or one big model in shards, on Dask distributed: one task writes one
file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConversionError, ManifestError
from ...plan.plan import Plan
from ...util.progress import progress_bar
from .manifest import Job, read_manifest
from .results import Finished, Results, ResultsFile, Row
from .tasks import (WorkerPlan, clean_up, count_shards, describe, failed, run_index, run_job,
                    run_shard)

if TYPE_CHECKING:
    from distributed import Client, Future

RESULTS_SUFFIX = ".results.jsonl"
# A cluster in a process of its own, until its standard input ends. New processes import the main
# module of the one that starts them: here that is this text, never the caller's script, which may
# do anything. One task at a time in each process is what bounds its memory.
_CLUSTER = """
import logging, os, sys, threading
from distributed import LocalCluster
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
def started(attempts):
    try:
        return LocalCluster(n_workers=int(sys.argv[1]), memory_limit=sys.argv[2],
                            threads_per_worker=1, processes=True, dashboard_address=None,
                            silence_logs=logging.ERROR)
    except RuntimeError:  # a worker was killed before it could work
        if attempts == 1:
            raise
        return started(attempts - 1)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
with started(3) as cluster:
    print(cluster.scheduler_address, file=answer, flush=True)
    # A worker that is killed while it starts again is given up: this starts another one.
    while not ended.wait(1):
        cluster.scale(int(sys.argv[1]))
"""


def apply_many(manifest: str | PathLike[str] | Sequence[Mapping[str, Any]], *,
               scheduler: str | None = None, workers: int = 2,
               memory_per_worker: str | int = "2GiB", results: str | PathLike[str] | None = None,
               progress: bool = False) -> Results:
    """Apply Plans to many checkpoints, each written by one task on a Dask cluster.

    Needs `pip install 'keras-torch-convert[many]'`. A task whose worker dies is given to another
    one, three times. One failure never stops the rest: it is a row of the result. On Ctrl-C
    finished files stay, and nothing of others is left.

    Args:
        manifest: A TOML file with a table [[file]] for each output, or a list of such entries:
            "plan" (a path or, in Python, a Plan), "source" and "output", and as in `apply`
            "template", "without", "max_shard_size", "strict" and "verify"; "wrapper" is that of
            `read`. What stands above the first table counts for all entries. Paths are relative to
            the manifest. An output with "max_shard_size" is one task for each shard.
        scheduler: The address of a Dask scheduler whose workers see the same files; None starts
            processes on this machine.
        workers: How many processes of one thread each run on this machine.
        memory_per_worker: A process that takes more than this is ended and begun anew.
        results: A file that remembers finished outputs with the hash of all they were made from;
            what is there and has the right sha256 is skipped. None is
            "<manifest>.results.jsonl" beside a TOML file, and no file for a list.
        progress: Show a bar, by files.

    Returns:
        A row for each output.

    Raises:
        ManifestError: The manifest is not sound, Dask is not installed, or no cluster can be had;
            nothing was begun.

    Example:
        >>> results = ktc.apply_many("many.toml", workers=4)  # doctest: +SKIP
        >>> results.ok  # doctest: +SKIP
        True
    """
    jobs = read_manifest(manifest)
    finished = ResultsFile(_results_path(manifest, results))
    rows: dict[int, Row] = {}
    try:
        with _client(scheduler, workers, memory_per_worker) as client:
            run = _Run(client, finished)
            for number, job in enumerate(jobs):
                run.submit(number, job)
            for number, row in progress_bar(run.rows(), total=len(jobs), title="apply",
                                            shown=progress):
                rows[number] = row
    finally:
        finished.close()
        for number, job in enumerate(jobs):
            if number not in rows or rows[number].state == "failed":
                # Shards that the file of results knows are not written again by the next run.
                clean_up(job, finished_shards=finished.path is None)
    return Results(tuple(rows[number] for number in range(len(jobs))))


def _results_path(manifest: str | PathLike[str] | Sequence[Mapping[str, Any]],
                  results: str | PathLike[str] | None) -> Path | None:
    if results is not None:
        return Path(results)
    if isinstance(manifest, (str, PathLike)):
        return Path(manifest).with_suffix(RESULTS_SUFFIX)
    return None


class _Run:
    """The tasks of one call: submitted at once, taken in as they end."""
    def __init__(self, client: Client, finished: ResultsFile) -> None:
        self.client = client
        self.finished = finished
        self.done: list[tuple[int, Row]] = []
        self.plans: dict[Path, Future] = {}
        # What is to be done with a task's result.
        self.waiting: dict[Future, Callable[[Future], None]] = {}

    def submit(self, number: int, job: Job) -> None:
        """Submit the tasks of one job; what already fails here is a row like any other failure."""
        try:
            inputs = job.fingerprint()
            plan = self._plan(job)
            shards = 0
            if job.max_shard_size is not None:
                loaded = job.plan if isinstance(job.plan, Plan) else Plan.load(job.plan)
                shards = count_shards(job, loaded)
        except (ConversionError, OSError) as error:
            self.done.append((number, failed(job, error)))
            return
        known = self.finished.find(str(job.output), inputs)
        # A worker gets the plan once, not with every job.
        job = replace(job, plan=Path())
        if not shards:
            self._last(number, job, inputs, self._task(run_job, job, plan, known))
            return
        parts = [
            self._task(run_shard, job, plan, part,
                       self.finished.find(_shard_key(job, part), inputs)) for part in range(shards)
        ]
        for part, future in enumerate(parts):
            self.waiting[future] = self._shard(job, part, inputs)
        self._last(number, job, inputs, self._task(run_index, job, parts, known))

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield each job's number and row, in the order in which they end."""
        from distributed import as_completed

        yield from self.done
        self.done.clear()
        for future in as_completed(list(self.waiting)):
            self.waiting.pop(future)(future)
            yield from self.done
            self.done.clear()
            future.release()

    def _plan(self, job: Job) -> Future | WorkerPlan:
        """Return a job's plan; that of a file is a task, which Dask repeats when it is lost."""
        if isinstance(job.plan, Plan):
            return WorkerPlan(job.plan)
        if job.plan not in self.plans:
            self.plans[job.plan] = self._task(WorkerPlan.load, job.plan)
        return self.plans[job.plan]

    def _task(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self.client.submit(function, *arguments, pure=False)

    def _shard(self, job: Job, part: int, inputs: str) -> Callable[[Future], None]:
        def take(future: Future) -> None:
            result = _result(future)
            shard = None if isinstance(result, Exception) else result.shard
            if shard is not None:
                self.finished.add(
                    Finished(_shard_key(job, part), inputs, shard.sha256, "", shard.size,
                             shard.name, shard.groups))

        return take

    def _last(self, number: int, job: Job, inputs: str, future: Future) -> None:
        def take(future: Future) -> None:
            result = _result(future)
            row = _lost(job, result) if isinstance(result, Exception) else result
            if row.state == "written":
                self.finished.add(Finished(row.output, inputs, row.sha256, row.md5, row.size))
            self.done.append((number, row))

        self.waiting[future] = take


def _shard_key(job: Job, part: int) -> str:
    return f"{job.output}#{part}"


def _result(future: Future) -> Any:
    """Return what a task gave, or the exception that it ended with.

    The status of a future tells nothing: a worker that dies takes finished results with it, and
    their tasks run again. Asking for the result waits for that.
    """
    try:
        return future.result()
    except Exception as error:
        return error


def _lost(job: Job, error: Exception) -> Row:
    """Return the row of a task that no worker lived to end, or whose plan cannot be read."""
    text = describe(error)
    if type(error).__name__ == "KilledWorker":
        text = ("every worker that tried it died: killed from outside, or by memory; give "
                "memory_per_worker= more")
    return Row(str(job.source), str(job.output), "failed", error=text)


@contextmanager
def _client(scheduler: str | None, workers: int, memory: str | int) -> Iterator[Client]:
    """Give a client of the scheduler at an address, or of processes on this machine."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ManifestError(
            "many files at once need Dask: pip install 'keras-torch-convert[many]'") from error

    with ExitStack() as stack:
        address = scheduler or stack.enter_context(_local_cluster(workers, memory))
        try:
            client = Client(address)
        except (OSError, ValueError) as error:
            raise ManifestError(f"no Dask scheduler answers at {address}: {error}") from error
        yield stack.enter_context(client)


@contextmanager
def _local_cluster(workers: int, memory: str | int) -> Iterator[str]:
    """Give the address of a cluster of processes on this machine that ends with the block."""
    # As if started from here; in a session of its own Ctrl-C does not end it before the block.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER, str(workers),
         str(memory)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise ManifestError("the Dask cluster did not start, three times: the messages "
                                    "above say why; start one, and give its scheduler=")
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
