"""Check sums computed behind the writer: a second thread reads what is written, in the order of offsets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

BLOCK = 2**20


class Follower:
    """Reads bytes `start` to `end` of a file that grows, and gives each block to every function of `updates`.

    A context manager: leaving it normally waits for the last byte, leaving it by an exception stops the thread.
    `advance(position)` says that every byte before `position` is final.
    """

    def __init__(self, path: Path, start: int, end: int, updates: Sequence[Callable[[memoryview], object]]) -> None:
        self.path, self.start, self.end, self.updates = path, start, end, updates
        self.ready = start
        self.stopped = False
        self.failure: BaseException | None = None
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, name="ktc check sums", daemon=True)

    def advance(self, position: int) -> None:
        """Every byte before `position` is final."""
        with self.changed:
            self.ready = max(self.ready, min(position, self.end))
            self.changed.notify()

    def __enter__(self) -> Follower:
        if self.updates:
            self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.updates:
            return
        with self.changed:
            self.stopped = error is not None
            self.ready = self.end
            self.changed.notify()
        self.thread.join()
        if error is None and self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # raised again by the thread that waits
            self.failure = error

    def _follow(self) -> None:
        buffer = memoryview(bytearray(BLOCK))
        position = self.start
        with self.path.open("rb", buffering=0) as file:
            file.seek(position)
            while position < self.end:
                with self.changed:
                    self.changed.wait_for(lambda position=position: self.stopped or self.ready > position)  # type: ignore[misc]
                    ready = self.ready
                if self.stopped:
                    return
                while position < ready and not self.stopped:
                    count = file.readinto(buffer[: min(BLOCK, ready - position)])
                    if not count:
                        raise OSError(f"{self.path}: cut short at byte {position} while it was written")
                    for update in self.updates:
                        update(buffer[:count])
                    position += count
