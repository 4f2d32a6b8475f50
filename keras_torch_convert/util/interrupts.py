"""Ctrl-C held back while something is done that must not be left half done.

Only the main thread receives interrupts, so in any other thread nothing here has an effect.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_sigint(let_through: int = 0) -> Iterator[None]:
    """Defer a Ctrl-C that arrives inside the block to its end.

    Args:
        let_through: How many interrupt the block at once. With 1, whoever cleans up after the first
            one is not interrupted again.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    arrived: list[tuple[int, FrameType | None]] = []

    def handle(number: int, frame: FrameType | None) -> None:
        arrived.append((number, frame))
        if len(arrived) <= let_through:
            handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        deferred = arrived[let_through:]
    if deferred:
        handler(*deferred[0])
