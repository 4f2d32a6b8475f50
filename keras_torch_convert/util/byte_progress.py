"""A bar that counts bytes, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .progress import SECONDS_BEFORE_SHOWN


@contextmanager
def bytes_bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """The function that is told of bytes written; the bar is there only when `shown`, and only for
    what takes a while.
    """
    if not shown:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc="apply", unit="B", unit_scale=True, leave=False, dynamic_ncols=True,
              delay=SECONDS_BEFORE_SHOWN) as bar:

        def written(count: int) -> None:
            bar.update(count)

        yield written
