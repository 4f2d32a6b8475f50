"""A server of files on this machine that sends parts of them, and misbehaves as it is told."""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(eq=False)
class RangeServer:
    """What is served, how, and what was asked for."""

    files: dict[str, bytes]
    url: str = ""
    # How often a connection is cut in the middle of an answer.
    cuts: int = 0
    refusals: int = 0
    seconds_a_request: float = 0.0
    bytes_a_second: float = 0.0
    ignores_ranges: bool = False
    # Added to the length that is announced for a whole file.
    lie: int = 0
    requests: list[str] = field(default_factory=list)
    sent: int = 0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    free_at: float = 0.0

    def take_turn(self, name: str) -> bool:
        """Return whether this is one of so many answers that go wrong."""
        with self.lock:
            left = getattr(self, name)
            setattr(self, name, max(left - 1, 0))
        return bool(left)

    def wait_for(self, count: int) -> None:
        """Wait until so many bytes may be sent: all connections share the rate."""
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.seconds_a_request)
        if self.bytes_a_second:
            with self.lock:
                self.free_at = max(self.free_at, time.monotonic()) + count / self.bytes_a_second
                free_at = self.free_at
            time.sleep(max(0.0, free_at - time.monotonic()))
        with self.lock:
            self.at_once -= 1


def _handler(server: RangeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _found(self) -> bytes | None:
            path = self.path.partition("?")[0]
            found = server.files.get(path.lstrip("/"))
            with server.lock:
                server.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}")
            if found is None:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
            return found

        def do_HEAD(self) -> None:
            content = self._found()
            if content is not None:
                self.send_response(200)
                self._send_facts(content, len(content) + server.lie)

        def _send_facts(self, content: bytes, length: int) -> None:
            self.send_header("Content-Length", str(length))
            self.send_header("ETag", f'"{zlib.crc32(content):x}"')
            self.end_headers()

        def do_GET(self) -> None:
            content = self._found()
            if content is None:
                return
            if server.take_turn("refusals"):
                self.send_response(503)
                self._send_facts(content, 0)
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            part = content
            if asked and not server.ignores_ranges:
                first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
                part = content[first:last + 1]
                self.send_response(206 if part else 416)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            else:
                self.send_response(200)
            self._send_facts(content, len(part))
            server.wait_for(len(part))
            if len(part) > 1 and server.take_turn("cuts"):
                part = part[:len(part) // 2]
                self.close_connection = True
            with server.lock:
                server.sent += len(part)
            self.wfile.write(part)

    return Handler


@contextmanager
def serving(files: dict[str, bytes], **behavior: Any) -> Iterator[RangeServer]:
    """Serve files, by their names, on a free port."""
    server = RangeServer(files, **behavior)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as listening:
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
