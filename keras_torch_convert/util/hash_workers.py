"""Check sums computed behind the writer: other threads read what is written, in the order of
offsets.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

BLOCK = 2**19


def digests_of(path: Path, names: Sequence[str]) -> dict[str, str]:
    """The digests of a whole file in hexadecimal, by names that hashlib knows, each in a thread of
    its own.
    """
    with digests_meanwhile(path, names) as digests:
        pass
    return digests


@contextmanager
def digests_meanwhile(path: Path, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """The same, computed while the block does something else; they are in the dict behind it."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    digests: dict[str, str] = {}
    size = path.stat().st_size
    with HashWorkers(path, 0, size, [one.update for one in hashes.values()]) as followers:
        followers.advance(size)
        yield digests
    digests.update((name, one.hexdigest()) for name, one in hashes.items())


class HashWorkers:
    """For each function of `updates` a thread that gives it bytes `start` to `end` of a file that
    grows, block by block.

    A context manager: leaving it normally waits for the last byte, leaving it by an exception stops
    the threads. An interrupt that comes during the wait stops them as well. `advance(position)`
    says that every byte before `position` is final.
    """
    def __init__(self, path: Path, start: int, end: int,
                 updates: Sequence[Callable[[memoryview], object]]) -> None:
        """`path` is opened anew by every thread; `end` is the byte behind the last one."""
        self.path, self.start, self.end = path, start, end
        self.ready = start
        self.stopped = False
        self.failures: list[BaseException] = []
        self.changed = threading.Condition()
        self.threads = [
            threading.Thread(target=self._run, args=(update,), daemon=True) for update in updates
        ]

    def advance(self, position: int) -> None:
        """Every byte before `position` is final."""
        if not self.threads:
            return
        with self.changed:
            self.ready = max(self.ready, min(position, self.end))
            self.changed.notify_all()

    def __enter__(self) -> HashWorkers:
        """Start the threads."""
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Wait for the last byte, or stop."""
        try:
            if error is None:
                self.advance(self.end)
                for thread in self.threads:
                    thread.join()
        finally:
            with self.changed:
                self.stopped = True
                self.changed.notify_all()
            for thread in self.threads:
                thread.join()
        if error is None and self.failures:
            raise self.failures[0]

    def _run(self, update: Callable[[memoryview], object]) -> None:
        try:
            self._follow(update)
        except BaseException as error:  # raised again by the thread that waits
            self.failures.append(error)

    def _follow(self, update: Callable[[memoryview], object]) -> None:
        buffer = memoryview(bytearray(BLOCK))
        position = self.start
        with self.path.open("rb", buffering=0) as file:
            file.seek(position)
            while position < self.end and not self.stopped:
                with self.changed:
                    while not self.stopped and self.ready <= position:
                        self.changed.wait()
                    ready = self.ready
                while position < ready and not self.stopped:
                    count = file.readinto(buffer[:min(BLOCK, ready - position)])
                    if not count:
                        raise OSError(
                            f"{self.path}: cut short at byte {position} while it was written")
                    update(buffer[:count])
                    position += count
