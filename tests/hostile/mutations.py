"""Changes to bytes and to plain values, each chosen by a seeded generator."""

from __future__ import annotations

import random
import struct
import warnings
import zipfile
from typing import Any

EXTREMES = (0, 1, -1, 2, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31,
            2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -2**31, -2**63, 10**30)
TEXTS = ("", "a", "a" * 3000, "\0", "..", "../../etc/passwd", "/etc/passwd", "a/b", "\N{SNOWMAN}",
         "con", "name\n2", "\x1b[31m", "%s%n{0}", "NaN")


def deep(levels: int, of: type = list) -> Any:
    """A list in a list in a list, or the like with dictionaries."""
    value: Any = of()
    for _ in range(levels):
        value = [value] if of is list else {"a": value}
    return value


def odd_value(rng: random.Random) -> Any:
    """A value that hardly anything expects; JSON knows it."""
    choice = rng.randrange(10)
    if choice < 4:
        return rng.choice(EXTREMES)
    if choice < 6:
        return rng.choice(TEXTS)
    return rng.choice([
        None, True, False, 1.5, -0.0, 1e308, [], {}, [[]], [1] * 100, ["a", "a"], {"a": 1},
        list(range(70)), deep(50), deep(50, dict), [2**31, 2**31, 2**31], [0, 2**62], [-1]
    ])  # yapf: disable


def altered(rng: random.Random, value: Any, times: int = 1, odd: Any = odd_value) -> Any:
    """A copy of lists, tuples and dictionaries in which some parts are replaced, lost or doubled.
    """
    for _ in range(times):
        value = _altered_once(rng, value, odd)
    return value


def _altered_once(rng: random.Random, value: Any, odd: Any) -> Any:
    if not isinstance(value, (list, tuple, dict)) or not value or rng.random() < 0.1:
        return odd(rng)
    entries: list[Any] = list(value.items() if isinstance(value, dict) else enumerate(value))
    at = rng.randrange(len(entries))
    key, inner = entries[at]
    choice = rng.random()
    if choice < 0.08:
        del entries[at]
    elif choice < 0.12:
        entries.insert(at, (f"{key}_" if isinstance(value, dict) else key, inner))
    elif choice < 0.16 and isinstance(value, dict):
        entries[at] = (rng.choice(TEXTS), inner)
    elif choice < 0.2:
        rng.shuffle(entries)
    else:
        entries[at] = (key, _altered_once(rng, inner, odd))
    if isinstance(value, dict):
        return dict(entries)
    return type(value)([inner for _, inner in entries])


def damaged(rng: random.Random, data: bytes, times: int = 0, within: int = 0) -> bytes:
    """A copy of bytes with some changed; `within` is how far from the start, 0 for anywhere."""
    for _ in range(times or rng.choice((1, 1, 2, 4, 8))):
        if not data:
            return data
        start = rng.randrange(min(within or len(data), len(data)))
        end = min(len(data), start + rng.choice((1, 2, 8, 40, 300)))
        choice = rng.randrange(9)
        if choice < 3:
            data = data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1:]
        elif choice < 6:
            form = rng.choice(("<B", "<H", "<I", "<Q", ">I", ">Q"))
            number = rng.choice(EXTREMES) % 256**struct.calcsize(form)
            if rng.random() < 0.3:
                number = rng.randrange(len(data)) % 256**struct.calcsize(form)
            packed = struct.pack(form, number)
            data = data[:start] + packed + data[start + len(packed):]
        elif choice == 6:
            data = data[:start] if rng.random() < 0.3 else data[:start] + data[end:]
        elif choice == 7:
            data = data[:start] + data[start:end] * rng.choice((2, 2, 50)) + data[end:]
        else:
            other = rng.randrange(len(data))
            data = data[:start] + data[other:other + end - start] + data[end:]
    return data


def add(archive: zipfile.ZipFile, name: str, data: bytes | str, method: int | None = None) -> None:
    """Add a member to an archive, without the time."""
    member = zipfile.ZipInfo(name)
    member.compress_type = archive.compression if method is None else method
    with warnings.catch_warnings():
        # The same name twice is what an attack does.
        warnings.simplefilter("ignore")
        archive.writestr(member, data)
