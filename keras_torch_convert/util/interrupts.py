"""Ctrl-C held back while something is done that must not be left half done.

Only the main thread receives interrupts, so in any other thread nothing here has an effect.
"""

from __future__ import annotations

import contextlib
import enum
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# With what `signal.signal` itself calls.
_OF_CONTEXT_MANAGERS = (contextlib.__file__, signal.__file__, enum.__file__, __file__)


@contextlib.contextmanager
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
    raised, held = 0, list[tuple[int, FrameType | None]]()

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if raised < let_through and not _is_between(frame):
            raised += 1
            handler(number, frame)
        else:
            held.append((number, frame))

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if held:
        handler(*held[0])


def _is_between(frame: FrameType | None) -> bool:
    """Return whether a context manager is just being entered or left: an exception that is raised
    there passes by its `finally`.
    """
    above = frame.f_back if frame is not None else None
    return any(one is not None and one.f_code.co_filename in _OF_CONTEXT_MANAGERS
               for one in (frame, above))
