"""What `apply_many` is to do: one job for each output, from a TOML file or from a list."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Union

from ...errors import ManifestError, PlanError
from ...plan.file import MOST_BYTES, plan_as_text
from ...plan.plan import Plan
from ...torch_io.mapped_file import FilePath, located
from ...torch_io.remote import RemotePath, is_address
from ...util.file_limits import read_bytes, read_text
from ...util.text import did_you_mean, shorten

TABLE = "file"
# The standard library's parser is slow, and what it makes is large: 5 s and 400 MiB for this much.
_MOST_BYTES_OF_TOML = 2 << 20
# It takes the square of the number of parts that a key has; the values' dots are in these strings.
_MOST_DOTS = 10
_STRING_OR_COMMENT = re.compile(
    r'''"{3}(?:\\.|[^\\])*?"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|#[^\n]*''', re.DOTALL)
# What an entry may say: its type, and what it is when neither the entry nor the head of the
# manifest says it.
_OPTIONS: dict[str, tuple[tuple[type, ...], Any]] = {
    "template": ((str, PathLike), None), "without": ((list, tuple), ()), "max_shard_size": (
        (int, float), None), "wrapper": ((str,), None), "rename": ((dict,), None),
    "strict": ((bool, str), True), "verify": ((bool,), True)
}
_REQUIRED: dict[str, tuple[type, ...]] = {
    "plan": (str, PathLike, Plan), "source": (str, PathLike), "output": (str, PathLike)
}


@dataclass(frozen=True, slots=True)
class Job:
    """One output and what it is made of; all paths are absolute, and a source may be an address.

    The options are those of `apply` and, for `wrapper` and `rename`, of `read`.
    """

    plan: Union[Path, Plan]
    source: Path | str
    output: Path
    template: Path | None = None
    without: tuple[str, ...] = ()
    max_shard_size: float | None = None
    wrapper: str | None = None
    rename: Mapping[str, str] | None = None
    strict: Any = True
    verify: bool = True

    @property
    def origin(self) -> str:
        """The source as text that may be shown: without what may be secret in an address."""
        return str(located(self.source))

    def fingerprint(self) -> str:
        """Return a sha256 that changes with everything that the output depends on.

        That is the plan's text, the options, and path, size and time of every file that is read, or
        what a server says of its version. Raises OSError for a file that is not there.
        """
        if isinstance(self.plan, Plan):
            plan = plan_as_text(self.plan).encode()
        else:
            plan = read_bytes(self.plan, PlanError, "a plan", MOST_BYTES)
        files = [*_parts(located(self.source)), *(_parts(self.template) if self.template else ())]
        stamps = [_stamp(path) for path in files]
        options = [list(self.without), self.max_shard_size, self.wrapper, self.rename, self.strict]
        text = json.dumps([hashlib.sha256(plan).hexdigest(), stamps, options])
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _stamp(path: FilePath) -> list[Any]:
    if isinstance(path, RemotePath):
        return path.stamp()
    found = path.stat()
    return [str(path), found.st_size, found.st_mtime_ns]


def _parts(path: FilePath) -> list[FilePath]:
    """Return the file, all files of a folder, and with an index of shards those that it lists."""
    if path.is_dir():
        return sorted((inner for inner in path.iterdir() if inner.is_file()), key=str)
    if path.suffix != ".json":
        return [path]
    try:
        text = path.open().whole() if isinstance(path, RemotePath) else read_text(
            path, ManifestError, "an index of shards")
        listed = json.loads(text)["weight_map"].values()
        names = sorted(
            {name for entry in listed for name in (entry if isinstance(entry, list) else [entry])})
        return [path, *(path.parent / name for name in names)]
    except ManifestError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(
            f"{path} is not an index of shards: {shorten(str(error), 200)}") from error


def read_manifest(manifest: str | PathLike[str] | Sequence[Mapping[str, Any]]) -> tuple[Job, ...]:
    """Return the jobs of a manifest.

    Args:
        manifest: A TOML file, with paths relative to its folder, or a list of entries, with paths
            relative to the current folder.

    Returns:
        One job for each entry.

    Raises:
        ManifestError: The file is not valid TOML, an option is unknown, missing or of a wrong type,
            or an output is named twice.
    """
    if isinstance(manifest, (str, PathLike)):
        path = Path(manifest)
        head = read_toml(path)
        entries = head.pop(TABLE, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ManifestError(f"{path}: expected [[{TABLE}]] tables, each with source and output")
        where, folder = str(path), path.resolve().parent
    else:
        head, entries, where, folder = {}, list(manifest), "manifest", Path.cwd()
    if not entries:
        raise ManifestError(f"{where}: nothing to do: it has no [[{TABLE}]] table")
    _check(head, where, {*_OPTIONS, "plan"})
    jobs = tuple(
        _job({**head, **_checked(entry, f"{where}, entry {number}")}, f"{where}, entry {number}",
             folder) for number, entry in enumerate(entries, 1))
    seen: dict[Path, int] = {}
    for number, job in enumerate(jobs, 1):
        first = seen.setdefault(job.output, number)
        if first != number:
            raise ManifestError(f"{where}: entries {first} and {number} both write {job.output}")
    return jobs


def _checked(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    _check(entry, where, {*_OPTIONS, *_REQUIRED})
    return entry


def _check(entry: Mapping[str, Any], where: str, known: set[str]) -> None:
    for key, value in entry.items():
        if key not in known:
            hint = did_you_mean(key, sorted(known)) or f"; known are {', '.join(sorted(known))}"
            raise ManifestError(f"{where}: unknown option {shorten(repr(key), 100)}{hint}")
        types = _REQUIRED[key] if key in _REQUIRED else _OPTIONS[key][0]
        # True is a number to Python, but no size.
        number_meant = isinstance(value, bool) and bool not in types
        if number_meant or not (isinstance(value, types) or value is None):
            raise ManifestError(f"{where}: {key} = {shorten(repr(value), 100)} is not of type "
                                f"{' or '.join(one.__name__ for one in types)}")
        if "\0" in str(value):
            raise ManifestError(f"{where}: {key} = {shorten(repr(value), 100)} holds a null "
                                "character, which no name has")


def _job(entry: Mapping[str, Any], where: str, folder: Path) -> Job:
    missing = [key for key in _REQUIRED if entry.get(key) is None]
    if missing:
        raise ManifestError(f"{where}: {' and '.join(missing)} missing")
    options = {
        key: default if entry.get(key) is None else entry[key]
        for key, (_, default) in _OPTIONS.items()
    }
    if not all(isinstance(name, str) for name in options["without"]):
        raise ManifestError(f"{where}: without = {options['without']!r} must be a list of names")
    if options["strict"] not in (True, False, "target"):
        raise ManifestError(
            f'{where}: strict = {options["strict"]!r} must be true, false or "target"')
    options["without"] = tuple(options["without"])
    if options["template"] is not None:
        options["template"] = _absolute(options["template"], folder)
    plan = entry["plan"] if isinstance(entry["plan"], Plan) else _absolute(entry["plan"], folder)
    source = entry["source"]
    source = source if is_address(os.fspath(source)) else _absolute(source, folder)
    return Job(plan, source, _absolute(entry["output"], folder), **options)


def _absolute(path: str | PathLike[str], folder: Path) -> Path:
    # As text: a path is made once, and a manifest may have 100,000 entries.
    return Path(os.path.normpath(os.path.join(folder, os.path.expanduser(path))))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = read_bytes(path, ManifestError, "a TOML file", _MOST_BYTES_OF_TOML).decode("utf-8")
        bare = _STRING_OR_COMMENT.sub("", text)
        if any(part.count(".") > _MOST_DOTS for part in re.split(r"[=,\n\[\]{}]", bare)):
            raise ManifestError(f"{path}: a key has more than {_MOST_DOTS} dots")
        return tomllib.loads(text)
    except ManifestError:
        raise
    # Not only TOMLDecodeError: a number of thousands of digits, tables in tables in tables.
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} is not valid TOML: {shorten(str(error), 200)}") from error
