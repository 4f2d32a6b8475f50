"""Python's garbage collector kept from walking over the models again and again while many small objects are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def models_not_walked() -> Iterator[None]:
    """What exists already is left out of collections inside the `with` block. Nothing is done where the caller froze objects, which stay so."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
