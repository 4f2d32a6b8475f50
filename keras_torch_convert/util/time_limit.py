"""A limit of time for work whose length nobody knows beforehand."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

# Seconds.
DEFAULT_TIME_LIMIT = 300.0


class OutOfTime(BaseException):
    """The time is up. Not an Exception, which Keras 2 would swallow inside a layer's call."""


class TimeLimit:
    """The seconds that some work may take, counted from now; None is no limit."""
    def __init__(self, seconds: float | None = None,
                 done: Callable[[int], None] | None = None) -> None:
        """Start counting.

        Args:
            seconds: How long the work may take.
            done: Is told how much of the work was done by then whenever that has grown.
        """
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"time_limit must not be negative, got {seconds}")
        self.seconds, self._done, self._most = seconds, done, 0
        self.end = None if seconds is None else monotonic() + seconds

    def share(self, part: float) -> TimeLimit:
        """Return a limit that ends earlier, so that this one has time left then.

        Args:
            part: How much of all seconds it has, 0 to 1.
        """
        earlier = TimeLimit(None, self._done)
        earlier.seconds = self.seconds
        if self.end is not None and self.seconds is not None:
            earlier.end = self.end - (1 - part) * self.seconds
        return earlier

    @property
    def is_over(self) -> bool:
        """True when the time is up."""
        return self.end is not None and monotonic() >= self.end

    def check(self, done: int) -> None:
        """Say how much is done; raise OutOfTime when the time is up."""
        if self._done is not None and done > self._most:
            self._done(done - self._most)
            self._most = done
        if self.is_over:
            raise OutOfTime
