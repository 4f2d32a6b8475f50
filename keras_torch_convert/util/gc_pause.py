"""Python's search for cycles of objects, put off while many are made that are part of none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Without the search while inside: it would look through all objects again and again as their
    number grows.
    """
    searches = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searches:
            gc.enable()


@contextmanager
def cycle_search_for_new_objects() -> Iterator[None]:
    """The search leaves out what exists already (the models) while inside; what running them leaves
    in cycles is still freed.

    Where the caller has frozen objects nothing changes: they could not be told from ours afterward.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
