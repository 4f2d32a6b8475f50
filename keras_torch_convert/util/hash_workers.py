"""Checksums computed behind the writer: other threads read what is written, in order of offsets.

An interrupt can leave Python code at any line, and a lock that was taken there stays locked for
ever. So no lock is taken here: threads and queues are those of C, whose calls are atomic, and every
wait has an end.
"""

from __future__ import annotations

import _thread
import hashlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType

BLOCK = 2**19
Update = Callable[[memoryview], object]
# Seconds after which a worker that waits looks whether it is still wanted.
_PATIENCE = 1.0
# Seconds that an interrupted writer gives its workers to close the file.
_GRACE = 10.0


class Digests:
    """Checksums by names that hashlib knows; `updates` take the bytes."""
    def __init__(self, names: Sequence[str]) -> None:
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        self.updates: list[Update] = [one.update for one in self._hashes.values()]

    def hexdigests(self) -> dict[str, str]:
        """Return the digests in hexadecimal."""
        return {name: one.hexdigest() for name, one in self._hashes.items()}


def digests_of(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the digests of a whole file in hexadecimal, each computed in a thread of its own."""
    with digests_meanwhile(path, names) as digests:
        pass
    return digests


@contextmanager
def digests_meanwhile(path: Path, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Compute the digests of a file while the block does something else; they are in the dict
    after it.
    """
    digests = Digests(names)
    found: dict[str, str] = {}
    size = path.stat().st_size
    with HashWorkers(path, 0, size, digests.updates) as workers:
        workers.advance(size)
        yield found
    found.update(digests.hexdigests())


class HashWorkers:
    """Threads that give a file that grows, block by block, to functions.

    A context manager: leaving it normally waits for the last byte, leaving it by an exception stops
    the threads, and so does an interrupt that arrives during the wait.

    Args:
        path: The file, which every thread opens for itself.
        start: The first byte.
        end: The byte after the last one.
        updates: The functions, a thread for each.
    """
    def __init__(self, path: Path, start: int, end: int, updates: Sequence[Update]) -> None:
        self._end = end
        self._workers = [_Worker(weakref.ref(self), path, start, end, one) for one in updates]

    def advance(self, position: int) -> None:
        """Tell the workers that every byte before `position` is final."""
        for worker in self._workers:
            worker.positions.put(min(position, self._end))

    def __enter__(self) -> HashWorkers:
        """Start the threads."""
        for worker in self._workers:
            _thread.start_new_thread(worker.run, ())
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Wait for the last byte, or stop."""
        try:
            if error is None:
                self.advance(self._end)
                for worker in self._workers:
                    worker.wait()
        finally:
            # Windows removes no file that is open, so also those that stop are waited for.
            for worker in self._workers:
                worker.stopped = True
                worker.positions.put(0)
            for worker in self._workers:
                worker.wait(_GRACE)
        for worker in self._workers:
            if error is None and worker.failure is not None:
                raise worker.failure


@dataclass(slots=True, eq=False)
class _Worker:
    """One thread; `positions` are those before which all bytes are final."""

    owner: weakref.ref[HashWorkers]
    path: Path
    start: int
    end: int
    update: Update
    positions: SimpleQueue[int] = field(default_factory=SimpleQueue)
    stopped: bool = False
    failure: BaseException | None = None
    finished: bool = False
    ended: SimpleQueue[None] = field(default_factory=SimpleQueue)

    def run(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # raised again by the thread that waits
            self.failure = error
        finally:
            self.finished = True
            self.ended.put(None)

    def wait(self, seconds: float | None = None) -> None:
        # An interrupt may have taken what the queue held.
        if not self.finished:
            with suppress(Empty):
                self.ended.get(timeout=seconds)

    def _follow(self) -> None:
        buffer = memoryview(bytearray(BLOCK))
        position = ready = self.start
        with self.path.open("rb", buffering=0) as file:
            file.seek(position)
            while position < self.end and not self.stopped:
                if position < ready:
                    count = file.readinto(buffer[:min(BLOCK, ready - position)])
                    if not count:
                        raise OSError(
                            f"{self.path}: cut short at byte {position} while it was written")
                    self.update(buffer[:count])
                    position += count
                    continue
                try:
                    ready = max(ready, self.positions.get(timeout=_PATIENCE))
                except Empty:
                    # An interrupt may have left the writer before it could stop its workers.
                    if self.owner() is None:
                        return
