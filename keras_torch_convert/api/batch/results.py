"""What `apply_many` did: a row for each output, and the file of results by which a second run knows
what is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal

SearchState = Literal["written", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Row:
    """One output: "written", "skipped" (it was there, with the right hash), or "failed" with the
    reason.

    `size` in bytes and the digests are those of the file (of the index and, for `size`, of all its
    shards), `seconds` those of the worker that wrote it; `warnings` are the report's.
    """

    source: str
    output: str
    state: SearchState
    seconds: float = 0.0
    size: int = 0
    md5: str = ""
    sha256: str = ""
    error: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """One row for each entry of the manifest, in its order. Printed it is a table; True when
    nothing failed.
    """

    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """True when no output failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows of what could not be written."""
        return tuple(row for row in self.rows if row.state == "failed")

    def __bool__(self) -> bool:
        return self.ok

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """The rows as JSON text, also written to `path` when one is given."""
        text = json.dumps([asdict(row) for row in self.rows], indent=2, ensure_ascii=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def __str__(self) -> str:
        """A line for each output, and one that counts them."""
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The lines of the table."""
        width = max((len(row.output) for row in self.rows), default=0)
        for row in self.rows:
            told = row.error.splitlines(
            )[0] if row.error else f"{row.size:>14,} bytes  {row.seconds:6.2f} s  {row.md5}"
            yield f"{row.state:<8}{row.output:<{width}}  {told}".rstrip()
        states = [row.state for row in self.rows]
        yield ", ".join(
            f"{states.count(state)} {state}" for state in ("written", "skipped", "failed"))


@dataclass(frozen=True, slots=True)
class Finished:
    """A line of the file of results: an output (or "index#number" for a shard of one) that was
    written from inputs with this fingerprint.

    For a shard `name` is that of its file and `groups` are what the index must tell of it.
    """

    output: str
    inputs: str
    sha256: str
    md5: str = ""
    size: int = 0
    name: str = ""
    groups: tuple[str, ...] = ()


class Ledger:
    """The finished files of earlier runs, and a file to which this one appends; without a path it
    remembers nothing.

    Only the process that runs `apply_many` writes it, a line at a time. A line that was cut when
    that process was killed is passed over.
    """
    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.finished: dict[str, Finished] = {}
        self._file: IO[str] | None = None
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                one = _finished(line)
                if one is not None:
                    self.finished[one.output] = one

    def find(self, output: str, inputs: str) -> Finished | None:
        """What is known to be finished for the same output from the same inputs."""
        one = self.finished.get(output)
        return one if one is not None and one.inputs == inputs else None

    def add(self, one: Finished) -> None:
        """Remember a finished file, in the file at once."""
        self.finished[one.output] = one
        if self.path is None:
            return
        if self._file is None:
            # A cut line must not swallow the first new one.
            old = self.path.read_bytes() if self.path.exists() else b""
            self._file = self.path.open("a", encoding="utf-8")
            if old and not old.endswith(b"\n"):
                self._file.write("\n")
        self._file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _finished(line: str) -> Finished | None:
    try:
        entry: dict[str, Any] = json.loads(line)
        entry["groups"] = tuple(entry.get("groups", ()))
        return Finished(
            **entry) if set(entry) <= {field.name for field in fields(Finished)} else None
    except (ValueError, TypeError, AttributeError):
        return None


def table_of(rows: Sequence[Row]) -> Results:
    """The rows as results."""
    return Results(tuple(rows))
