"""Progress bars for long work: on stderr, gone when done, silent when not wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

# A bar that flashes by is noise: work that is over within this time shows none.
SECONDS_BEFORE_SHOWN = 0.5


def progress_bar(items: Iterable[Item], *, title: str, total: int | None = None,
                 shown: bool = True) -> Iterator[Item]:
    """Pass the items on and show a bar while they are worked on; with `shown=False` just pass them
    on.

    `total` is the number of items when `items` cannot say it. The bar is removed when the work
    ends, also by an exception.
    """
    if not shown:
        yield from items
        return
    from tqdm import tqdm

    with tqdm(items, desc=title, total=total, unit="weight", leave=False, dynamic_ncols=True,
              delay=SECONDS_BEFORE_SHOWN) as bar:
        yield from bar


@contextmanager
def counting_bar(total: int, *, title: str, unit: str,
                 shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how much more is done; bytes ("B") are scaled.

    The bar is there only when `shown`, and only for what takes a while.
    """
    if not shown:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit=unit, unit_scale=unit == "B", leave=False,
              dynamic_ncols=True, delay=SECONDS_BEFORE_SHOWN) as bar:

        def count(more: int) -> None:
            bar.update(more)

        yield count
