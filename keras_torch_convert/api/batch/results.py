"""What `apply_many` did: a row for each output, and the file by which a second run knows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal

from ...errors import ManifestError
from ...util.atomic_file import write_atomically
from ...util.file_limits import read_bytes

State = Literal["written", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Row:
    """One output of `apply_many`.

    Attributes:
        source, output: The paths.
        state: "written", "skipped" (it was there, unchanged) or "failed".
        seconds: Wall-clock time of the worker that wrote it; of all together for shards.
        size: Bytes of the file, of a sharded output those of all shards.
        md5, sha256: Digests of the file, of a sharded output those of its index.
        error: Why it failed.
        warnings: Those of the report.
    """

    source: str
    output: str
    state: State
    seconds: float = 0.0
    size: int = 0
    md5: str = ""
    sha256: str = ""
    error: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """One row for each entry of the manifest, in its order; true when nothing failed.

    Printed it is a table.
    """

    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """True when no output failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows of outputs that could not be written."""
        return tuple(row for row in self.rows if row.state == "failed")

    def __bool__(self) -> bool:
        return self.ok

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """Turn the rows into JSON, and write that to a file if one is given.

        Args:
            path: The file to write, None (the default) for none; an old one is replaced.

        Returns:
            The JSON text, a list with an object for each row.
        """
        text = json.dumps([asdict(row) for row in self.rows], indent=2, ensure_ascii=False)
        if path is not None:
            write_atomically(Path(path), f"{text}\n".encode())
        return text

    def __str__(self) -> str:
        """Return a line for each output, and one that counts them."""
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table."""
        width = max((len(row.output) for row in self.rows), default=0)
        for row in self.rows:
            done = f"{row.size:>14,} bytes  {row.seconds:6.2f} s  {row.md5}"
            text = row.error.splitlines()[0] if row.error else done
            yield f"{row.state:<8}{row.output:<{width}}  {text}".rstrip()
        states = [row.state for row in self.rows]
        yield ", ".join(
            f"{states.count(state)} {state}" for state in ("written", "skipped", "failed"))


@dataclass(frozen=True, slots=True)
class Finished:
    """A line of the file of results: an output that was written from inputs of this fingerprint.

    A shard of an output is called "index#number" and known by our checksum in place of the digests;
    `name` is then its file, and `groups` are those that the index lists for it.
    """

    output: str
    inputs: str
    sha256: str = ""
    md5: str = ""
    size: int = 0
    name: str = ""
    groups: tuple[str, ...] = ()
    checksum: str = ""


class ResultsFile:
    """The finished outputs of earlier runs, and a file to which this one appends.

    Without a path nothing is remembered. Only the process that runs `apply_many` writes the file, a
    line at a time. A line that was cut when that process was killed is passed over.
    """
    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.finished: dict[str, Finished] = {}
        self._file: IO[str] | None = None
        if path is not None and path.exists():
            data = read_bytes(path, ManifestError, "a file of results")
            for line in data.decode("utf-8", "replace").splitlines():
                one = _finished(line)
                if one is not None:
                    self.finished[one.output] = one

    def find(self, output: str, inputs: str) -> Finished | None:
        """Return what is known to be finished for the same output from the same inputs."""
        one = self.finished.get(output)
        return one if one is not None and one.inputs == inputs else None

    def add(self, one: Finished) -> None:
        """Remember a finished output, at once also in the file."""
        self.finished[one.output] = one
        if self.path is None:
            return
        if self._file is None:
            # A cut line must not swallow the first new one.
            old = b""
            if self.path.exists():
                old = read_bytes(self.path, ManifestError, "a file of results")
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
        return Finished(**entry | {"groups": tuple(entry.get("groups", ()))})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
