"""Files behind an address (https://, hf://, s3://, gs://), read in ranges through fsspec: what was
asked for is kept in memory for a while, nothing on disk.

Tensors are fetched in the order in which a Plan uses them, some ahead of their use, neighbors with
one request. What came in is given out once the file is known to be the one that was opened.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..errors import SourceError

Result = TypeVar("Result")
Span = tuple[int, int]

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# In bytes: of one request; between two tensors that one request fetches; fetched before their use;
# kept in memory; and the least that is asked for while a header is read.
_PART, _GAP, _AHEAD, _KEPT, _LEAST = 4 << 20, 1 << 20, 32 << 20, 1 << 30, 1 << 16
_REQUESTS_AT_ONCE = 8
# In a row, with twice the pause each time up to a limit: 35 seconds in all.
_TRIES, _FIRST_PAUSE, _LONGEST_PAUSE = 22, 0.1, 2.0
_WORTH_A_TRY = (408, 425, 429)
# What file systems call the version of a file; the size is compared everywhere.
_VERSIONS = ("ETag", "etag", "Content-MD5", "Last-Modified", "LastModified", "last_modified",
             "generation", "blob_id", "mtime")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


def is_address(text: str) -> bool:
    """Return whether a text is an address and not the path of a file."""
    return _ADDRESS.match(text) is not None


@dataclass(slots=True, eq=False)
class _Block:
    """Consecutive bytes of a file that are being fetched, or were."""

    file: RemoteBytes
    first: int
    end: int
    buffer: bytearray
    parts: list[Future[None]]
    unchanged: bool = False


@dataclass(eq=False)
class _Connection:
    """A file system, and what all files read through it share. `kept` has the blocks in memory,
    those used last at the end.
    """

    system: Any
    scheme: str
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_REQUESTS_AT_ONCE))
    kept: OrderedDict[_Block, None] = field(default_factory=OrderedDict)
    lock: Lock = field(default_factory=Lock)

    def tried(self, where: str, request: Callable[[], Result]) -> Result:
        """Return what a request gives, repeated with growing pauses while it may help.

        Raises FileNotFoundError; for all else SourceError, without the text of the error, which may
        hold a signature or a password.
        """
        for number in range(_TRIES):
            try:
                return request()
            except Exception as error:
                if isinstance(error, FileNotFoundError) or _status(error) == 404:
                    raise FileNotFoundError(where) from None
                fault = _fault(error)
                if number == _TRIES - 1 or _is_final(error):
                    break
            time.sleep(min(_FIRST_PAUSE * 2**number, _LONGEST_PAUSE))
        raise SourceError(f"{where}: {fault}") from None

    def keep(self, block: _Block) -> None:
        """Remember a block, and forget those that were not used for the longest time."""
        self.kept[block] = None
        self.kept.move_to_end(block)
        total = sum(one.end - one.first for one in self.kept)
        while total > _KEPT and len(self.kept) > 1:
            old, _ = self.kept.popitem(last=False)
            total -= old.end - old.first


def _is_final(error: Exception) -> bool:
    status = _status(error)
    return isinstance(error, (PermissionError, ValueError,
                              ImportError)) or (400 <= status < 500 and status not in _WORTH_A_TRY)


def _status(error: Exception) -> int:
    """Return the status of HTTP that an error stands for, 0 where there is none."""
    found = getattr(error, "status", None)
    if found is None:
        found = getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else 0


def _fault(error: Exception) -> str:
    status = _status(error)
    if status in (401, 403) or isinstance(error, PermissionError):
        return ("the server refuses access; credentials are those of fsspec's configuration, or of "
                "the package behind it (huggingface-cli login, aws configure)")
    if isinstance(error, ValueError) and "range" in str(error):
        return "the server does not send parts of files; download the file and give its path"
    if isinstance(error, EOFError):
        return "the server sends fewer bytes than it announced; is the file whole there?"
    what = f"status {status}" if status else type(error).__name__
    return f"cannot be read: {what}; try again later, or download it and give its path"


@dataclass(frozen=True, eq=False)
class RemotePath:
    """A file or folder behind an address. It has the methods of pathlib.Path that readers use.

    As text it is without user, password and query, which may be secrets.
    """

    connection: _Connection = field(repr=False)
    inner: str = field(repr=False)
    query: str = field(repr=False)
    shown: str

    @classmethod
    def of(cls, address: str) -> RemotePath:
        """Take an address apart; nothing is asked for yet. Raises SourceError."""
        found = _ADDRESS.match(address)
        assert found is not None
        scheme = found[1].lower()
        parts = urlsplit(address)
        # The @ of hf:// begins a revision.
        host = parts.netloc if scheme == "hf" else parts.netloc.rpartition("@")[2]
        shown = f"{scheme}://{host}{parts.path}".rstrip("/")
        try:
            from fsspec.core import url_to_fs

            system, inner = url_to_fs(address)
        except ImportError:
            package = _PACKAGES.get(scheme, "")
            raise SourceError(f"{shown} needs fsspec{package and ' and ' + package}: pip install "
                              f"'keras-torch-convert[remote]'{package and ' ' + package}") from None
        except Exception as error:
            raise SourceError(f"{shown}: fsspec cannot open it ({type(error).__name__}); expected "
                              "an address such as https://, hf://, s3:// or gs://") from None
        inner, mark, query = inner.partition("?")
        return cls(_Connection(system, scheme), inner.rstrip("/"), mark + query, shown)

    def __str__(self) -> str:
        return self.shown

    @property
    def address(self) -> str:
        """How the file system knows it; may hold secrets."""
        return self.inner + self.query

    @property
    def name(self) -> str:
        """The last part."""
        return self.shown.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot on."""
        return "".join(self.name.rpartition(".")[1:]) if "." in self.name else ""

    @property
    def parent(self) -> RemotePath:
        """The folder around it."""
        return RemotePath(self.connection,
                          self.inner.rpartition("/")[0], self.query,
                          self.shown.rpartition("/")[0])

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.connection, f"{self.inner}/{name}", self.query,
                          f"{self.shown}/{name}")

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return self.look()

    @cached_property
    def _type(self) -> str:
        return str(self._facts.get("type", ""))

    def look(self) -> dict[str, Any]:
        """Return what the server says of it now, {} when it is not there. Raises SourceError."""
        system = self.connection.system
        # Else without the version of the file.
        of_hub = {"expand_info": True, "refresh": True}
        options = of_hub if self.connection.scheme == "hf" else {}

        def ask() -> dict[str, Any]:
            if not options:
                system.invalidate_cache()
            return dict(system.info(self.address, **options))

        try:
            return self.connection.tried(self.shown, ask)
        except FileNotFoundError:
            return {}

    def stamp(self) -> list[str]:
        """Return what changes with the file. Raises FileNotFoundError."""
        if not self._facts:
            raise FileNotFoundError(f"{self}: there is no such file")
        return [str(self), *_version(self._facts)]

    def is_dir(self) -> bool:
        """Return whether it is a folder, which no address on the web is."""
        return self._type == "directory"

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return self._type == "file"

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what lies in a folder."""
        for entry in self.connection.tried(
                self.shown, lambda: self.connection.system.ls(self.address, detail=True)):
            found = self / entry["name"].rstrip("/").rpartition("/")[2]
            found.__dict__["_type"] = entry["type"]
            yield found

    def open(self) -> RemoteBytes:
        """Return the contents, of which nothing is fetched yet. Raises SourceError."""
        facts = self._facts
        if not facts:
            raise SourceError(f"{self}: there is no such file")
        if self.is_dir():
            raise SourceError(f"{self} is a folder; give the address of the file inside it")
        size = facts.get("size")
        if size is None or facts.get("partial") is False:
            raise SourceError(f"{self}: the server does not say how long the file is, or does not "
                              "send parts of it; download it and give its path")
        return RemoteBytes(self, int(size), _version(facts))


def _version(facts: dict[str, Any]) -> list[str]:
    return [str(facts.get(key)) for key in ("size", *_VERSIONS)]


class RemoteBytes:
    """The bytes of a file behind an address, fetched when they are asked for."""
    def __init__(self, path: RemotePath, size: int, version: list[str]) -> None:
        self._path, self._size, self._version = path, size, version
        # What will be read, in this order: not yet asked for, and asked for.
        self._waiting: dict[Span, None] = {}
        self._coming: dict[Span, None] = {}
        self._known_unchanged: set[_Block] = set()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice) -> bytes:
        """Return some bytes that describe the file."""
        first, end, _ = key.indices(self._size)
        if first >= end:
            return b""
        block = self._block(first, end, max(end, min(first + _LEAST, self._size)))
        return bytes(memoryview(block.buffer)[first - block.first:end - block.first])

    def expect(self, first: int, end: int) -> None:
        """Note that these bytes will be asked for, after those that were noted before."""
        if first < end:
            self._waiting[first, end] = None

    def window(self, first: int, end: int) -> tuple[bytearray, int]:
        """Return memory with these bytes in it, and where they begin there.

        Raises SourceError when they cannot be had, or the file is no longer the one it was.
        """
        block = self._block(first, end, end)
        if not block.unchanged:
            come_in = [
                one for one in (*self._path.connection.kept, block)
                if one.file is self and all(part.done() for part in one.parts)
            ]
            if _version(self._path.look()) != self._version:
                raise SourceError(f"{self._path}: the file was changed while it was read; read it "
                                  "again from the beginning")
            for one in come_in:
                one.unchanged = True
        return block.buffer, first - block.first

    def whole(self) -> bytes:
        """Return all bytes."""
        buffer, start = self.window(0, self._size)
        return bytes(memoryview(buffer)[start:start + self._size])

    def _block(self, first: int, end: int, rounded: int) -> _Block:
        """Return a block with these bytes; a new one reaches to `rounded`."""
        connection, span = self._path.connection, (first, end)
        with connection.lock:
            if span in self._waiting:
                spans = list(self._waiting)
                self._fetch_ahead(spans[spans.index(span):])
            self._coming.pop(span, None)
            # While this one is used the next ones come, without a pause and not one by one.
            if self._bytes_coming() <= _AHEAD // 2:
                self._fetch_ahead(list(self._waiting))
            block = self._kept(first, end) or self._fetch(first, rounded)
            connection.keep(block)
        try:
            for part in block.parts:
                part.result()
        except BaseException as error:
            with connection.lock:
                connection.kept.pop(block, None)
            if isinstance(error, FileNotFoundError):
                raise SourceError(f"{self._path}: the file is no longer there") from None
            raise
        return block

    def _bytes_coming(self) -> int:
        return sum(end - first for first, end in self._coming)

    def _kept(self, first: int, end: int) -> _Block | None:
        return next((one for one in self._path.connection.kept
                     if one.file is self and one.first <= first and end <= one.end), None)

    def _fetch_ahead(self, spans: list[Span]) -> None:
        """Ask for the first of these spans, neighbors together."""
        runs: list[Span] = []
        total = self._bytes_coming()
        for span in spans:
            if total >= _AHEAD:
                break
            del self._waiting[span]
            if self._kept(*span) is None:
                total += span[1] - span[0]
                self._coming[span] = None
                runs.append(span)
        for first, end in _joined(runs):
            self._path.connection.keep(self._fetch(first, end))

    def _fetch(self, first: int, end: int) -> _Block:
        """Begin to fetch bytes, in parts at the same time."""
        block = _Block(self, first, end, bytearray(end - first), [])
        submit = self._path.connection.pool.submit
        block.parts += [
            submit(self._fill, block, start, min(start + _PART, end))
            for start in range(first, end, _PART)
        ]
        return block

    def _fill(self, block: _Block, first: int, end: int) -> None:
        """Fetch one part; where a request breaks off, less is asked for, as long as it comes."""
        path, step = self._path, end - first

        def request() -> bytes:
            nonlocal step
            length = min(step, end - first)
            step = max(step // 2, _LEAST)
            with path.connection.system.open(path.address, "rb", cache_type="none",
                                             size=self._size) as file:
                file.seek(first)
                found: bytes = file.read(length)
            if not 0 < len(found) <= length:
                raise EOFError
            return found

        while first < end:
            found = path.connection.tried(str(path), request)
            start = first - block.first
            block.buffer[start:start + len(found)] = found
            first, step = first + len(found), len(found)


def _joined(spans: list[Span]) -> list[Span]:
    """Return spans in the order of the file, neighbors as one."""
    joined: list[Span] = []
    for first, end in sorted(spans):
        if joined and first - joined[-1][1] <= _GAP:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((first, end))
    return joined
