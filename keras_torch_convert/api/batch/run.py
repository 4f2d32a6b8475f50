"""Hundreds of checkpoints, or one big model in shards, on Dask distributed: one task writes one
file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any

from ...errors import ConversionError, ManifestError
from ...plan.plan import Plan
from ...util.progress import counting_bar
from .manifest import Job, read_manifest
from .results import Finished, Results, ResultsFile, Row
from .tasks import (ShardResult, WorkerPlan, clean_up, count_shards, describe, failed, run_index,
                    run_job, run_shard)

RESULTS_SUFFIX = ".results.jsonl"
# After a lost connection what is left is submitted anew, but for so many times in a row without a
# result.
MOST_LOSSES = 3
_CONNECTION_LOST = ("FutureCancelledError", "CancelledError", "ClosedClientError",
                    "CommClosedError")  # yapf: disable
# On one machine a connection ends with a process. By default Dask also ends one whose other side
# takes in nothing for 30 seconds, as on a busy machine, and with it all that was submitted. (Its
# time to connect must stay short: so long it tries to reach a worker that was killed.)
_LOCAL_TIMEOUT = "1 hour"
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

    Needs `pip install 'keras-torch-convert[many]'`, but for `workers=0`. A task whose worker dies
    is given to another one, three times. What has no result when the connection to the scheduler is
    lost is submitted again. One failure never stops the rest: it is a row of the result. On Ctrl-C
    finished files stay, and nothing of others is left. A run that was killed is gone on with by the
    next one with the same `results`.

    Args:
        manifest: A TOML file with a table [[file]] for each output, or a list of such entries:
            "plan" (a path or, in Python, a Plan), "source" and "output", and as in `apply`
            "template", "without", "max_shard_size", "strict" and "verify"; "wrapper" is that of
            `read`. What stands above the first table counts for all entries. Paths are relative to
            the manifest. An output with "max_shard_size" is one task for each shard.
        scheduler: The address of a Dask scheduler whose workers see the same files; None starts
            processes on this machine.
        workers: How many processes of one thread each run on this machine; 0 for this one alone,
            without Dask.
        memory_per_worker: A process that takes more than this is ended and begun anew.
        results: A file that remembers finished outputs with the hash of all they were made from;
            what is there and has the right sha256, or of shards the right checksum of our own, is
            skipped. None is "<manifest>.results.jsonl" beside a TOML file, and no file for a list.
        progress: Show a bar, by files and shards.

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
    connected = partial(_tasks, scheduler, workers, memory_per_worker)
    unbroken = False
    try:
        unbroken = _write_all(jobs, rows, finished, connected, progress)
    finally:
        finished.close()
        for number, job in enumerate(jobs):
            if not unbroken or rows[number].state == "failed":
                # Shards that the file of results knows are not written again by the next run.
                clean_up(job, finished_shards=finished.path is None)
    return Results(tuple(rows[number] for number in range(len(jobs))))


def _write_all(jobs: Sequence[Job], rows: dict[int, Row], finished: ResultsFile,
               connected: Callable[[], Any], progress: bool) -> bool:
    """Fill the rows, over as many connections as it takes; return whether one was enough."""
    losses, unbroken = 0, True
    while left := {number: job for number, job in enumerate(jobs) if number not in rows}:
        try:
            with connected() as (submit, as_they_end):
                run = _Run(submit, finished)
                for number, job in left.items():
                    run.submit(number, job)
                with counting_bar(len(run.waiting), title="apply", unit="file",
                                  shown=progress) as ended:
                    for number, row in run.rows(as_they_end, ended):
                        rows[number] = row
                        losses = 0
        except (_ConnectionLostError, ManifestError) as error:
            if unbroken and isinstance(error, ManifestError):
                raise
            losses, unbroken = losses + 1, False
            if losses == MOST_LOSSES:
                rows |= {
                    number: Row(job.origin, str(job.output), "failed", error=str(error))
                    for number, job in left.items() if number not in rows
                }
    return unbroken


class _ConnectionLostError(Exception):
    """The scheduler is gone, or has dropped what was submitted."""


def _results_path(manifest: str | PathLike[str] | Sequence[Mapping[str, Any]],
                  results: str | PathLike[str] | None) -> Path | None:
    if results is not None:
        return Path(results)
    if isinstance(manifest, (str, PathLike)):
        return Path(manifest).with_suffix(RESULTS_SUFFIX)
    return None


class _Run:
    """The tasks of one call: submitted at once, taken in as they end."""
    def __init__(self, submit: Callable[..., Any], finished: ResultsFile) -> None:
        self.task = submit
        self.finished = finished
        self.done: list[tuple[int, Row]] = []
        self.plans: dict[Any, Any] = {}
        # What is to be done with a task's result.
        self.waiting: dict[Any, Callable[[Any], None]] = {}

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
            self.waiting[self.task(run_job, job, plan,
                                   known)] = partial(self._take_row, number, job, inputs)
            return
        written: list[ShardResult | None] = [None] * shards
        for part in range(shards):
            before = self.finished.find(f"{job.output}#{part}", inputs)
            self.waiting[self.task(run_shard, job, plan, part,
                                   before)] = partial(self._take_shard, number, job, inputs,
                                                      written, part)

    def rows(self, as_they_end: Callable[[list[Any]], Iterable[Any]],
             ended: Callable[[int], None]) -> Iterator[tuple[int, Row]]:
        """Yield each job's number and row, in the order in which they end; each task is told."""
        yield from self.done
        self.done.clear()
        for future in as_they_end(list(self.waiting)):
            self.waiting.pop(future)(_result(future))
            # A worker that dies later takes nothing with it.
            future.release()
            ended(1)
            yield from self.done
            self.done.clear()

    def _plan(self, job: Job) -> Any:
        """Return a job's plan: a task, which Dask repeats when it is lost."""
        key, make = (id(job.plan), WorkerPlan) if isinstance(job.plan, Plan) else (job.plan,
                                                                                   WorkerPlan.load)
        if key not in self.plans:
            self.plans[key] = self.task(make, job.plan)
        return self.plans[key]

    def _take_shard(self, number: int, job: Job, inputs: str, written: list[ShardResult | None],
                    part: int, result: Any) -> None:
        """Note a shard; with the last one comes the index."""
        if isinstance(result, Exception):
            result = ShardResult(error=_lost(result))
        if (shard := result.shard) is not None and result.written:
            self.finished.add(
                Finished(f"{job.output}#{part}", inputs, size=shard.size, name=shard.name,
                         groups=shard.groups, checksum=shard.checksum))
        written[part] = result
        found = [one for one in written if one is not None]
        if len(found) == len(written):
            known = self.finished.find(str(job.output), inputs)
            self._take_row(number, job, inputs, run_index(job, found, known))

    def _take_row(self, number: int, job: Job, inputs: str, result: Any) -> None:
        row = result
        if isinstance(result, Exception):
            row = Row(job.origin, str(job.output), "failed", error=_lost(result))
        if row.state == "written":
            self.finished.add(Finished(row.output, inputs, row.sha256, row.md5, row.size))
        self.done.append((number, row))


def _result(future: Any) -> Any:
    """Return what a task gave, or the exception that it ended with.

    The status of a future tells nothing: a worker that dies takes finished results with it, and
    their tasks run again. Asking for the result waits for that.
    """
    try:
        return future.result()
    except Exception as error:
        if type(error).__name__ in _CONNECTION_LOST:
            raise
        return error


def _lost(error: Exception) -> str:
    """Say why no worker lived to end a task, or that its plan cannot be read."""
    if type(error).__name__ == "KilledWorker":
        return ("every worker that tried it died: killed from outside, or by memory; give "
                "memory_per_worker= more")
    return describe(error)


class _Here:
    """A task that this process runs when its result is asked for."""
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._run = partial(function, *arguments)

    @cached_property
    def outcome(self) -> Any:
        given = (one.outcome if isinstance(one, _Here) else one for one in self._run.args)
        return self._run.func(*given)

    def result(self) -> Any:
        return self.outcome

    def release(self) -> None:
        """Nothing is held elsewhere."""


@contextmanager
def _tasks(scheduler: str | None, workers: int, memory: str | int
           ) -> Iterator[tuple[Callable[..., Any], Callable[..., Iterable[Any]]]]:  # yapf: disable
    """Give functions that submit a task and that iterate over tasks as they end: of this process,
    of the scheduler at an address, or of processes on this machine.
    """
    if scheduler is None and not workers:
        yield _Here, iter
        return
    try:
        from distributed import Client, as_completed
    except ModuleNotFoundError as error:
        raise ManifestError("many files at once need Dask: pip install "
                            "'keras-torch-convert[many]', or give workers=0") from error

    with ExitStack() as stack:
        address = scheduler or stack.enter_context(_local_cluster(workers, memory))
        try:
            client = Client(address)
        except (OSError, ValueError) as error:
            raise ManifestError(f"no Dask scheduler answers at {address}: {error}") from error
        try:
            yield partial(stack.enter_context(client).submit, pure=False), as_completed
        except Exception as error:
            if type(error).__name__ in _CONNECTION_LOST:
                raise _ConnectionLostError(
                    f"the connection to the Dask scheduler was lost {MOST_LOSSES} times, and "
                    f"nothing ended between: {error}") from error
            raise


@contextmanager
def _local_cluster(workers: int, memory: str | int) -> Iterator[str]:
    """Give the address of a cluster of processes on this machine that ends with the block."""
    from dask import config

    # As if started from here; in a session of its own Ctrl-C does not end it before the block.
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": _LOCAL_TIMEOUT
    }
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
            with config.set({"distributed.comm.timeouts.tcp": _LOCAL_TIMEOUT}):
                yield address
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
