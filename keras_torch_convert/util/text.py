"""Wording that messages share: names in a line, counts, suggestions, shortened text."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MOST_NAMES = 6
MOST_LINES = 12
_MOST_SUGGESTIONS = 3
_LONGEST_NAME = 300
# Half of the letters: "s3" may be meant for "s1".
_LEAST_ALIKE = 0.5


def join_names(names: Iterable[object], most: int | None = MOST_NAMES, *, quoted: bool = False,
               separator: str = ", ", empty: str = "none") -> str:
    """Join names in one line; count those that do not fit, cut the middle of endless ones.

    Args:
        names: The names, or anything else with a short text.
        most: How many are shown; None shows all.
        quoted: Put each name in quotes.
        separator: What stands between two names.
        empty: The text for no names at all.

    Returns:
        Such as "a, b and 3 more".

    >>> join_names(["a", "b", "c"], 2, quoted=True)
    "'a', 'b' and 1 more"
    """
    texts = [
        shorten_middle(repr(str(name)) if quoted else str(name), _LONGEST_NAME) for name in names
    ]
    shown = separator.join(texts[:most]) or empty
    rest = len(texts) - len(texts[:most])
    return f"{shown} and {rest} more" if rest else shown


def bullets(lines: Iterable[str], most: int = MOST_LINES, rest: str = "") -> str:
    """Return the lines one below the other, each after a dash; count those beyond `most`.

    The text begins with a line break. `rest` follows the count of what is not shown.
    """
    lines = list(lines)
    shown = "".join(f"\n  - {line}" for line in lines[:most])
    return f"{shown}\n  and {len(lines) - most} more{rest}" if len(lines) > most else shown


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Return a count with its noun: "1 layer", "2 layers"; `nouns` is an irregular plural."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest existing names for one that does not exist, as the end of a message.

    Args:
        name: The name that was given.
        known: The names that exist.

    Returns:
        Such as "; did you mean 'a' or 'b'?", the most alike first; "" when none is alike.

    >>> did_you_mean("hed", ["head", "stem"])
    "; did you mean 'head'?"
    """
    alike = get_close_matches(name, list(dict.fromkeys(known)), _MOST_SUGGESTIONS, _LEAST_ALIKE)
    return f"; did you mean {' or '.join(map(repr, alike))}?" if alike else ""


def shorten(text: str, width: int) -> str:
    """Cut the end of a text that is longer than `width`, and mark the cut by three dots."""
    return text if len(text) <= width else f"{text[:width - 3]}..."


def shorten_middle(text: str, width: int) -> str:
    """Cut the middle of a text that is too long: names of layers differ at both ends."""
    if len(text) <= width:
        return text
    kept = width - 3
    return f"{text[:(kept + 1) // 2]}...{text[len(text) - kept // 2:]}"


def percent(value: float) -> str:
    """Return a fraction in percent: "97 %"."""
    return f"{100 * value:.0f} %"
