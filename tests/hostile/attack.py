"""Runs the cases in processes of their own, and counts what became of them.

    python -m tests.hostile.attack --cases 5000 --with-torch --write docs/security.md
    python -m tests.hostile.attack --only "HDF5 1234"

A file is "read" (with the values that its format's own library finds in it) or "refused" (by an
exception of the package that names the file). Everything else is a fault: any other exception, a
signal, code that was run, a file outside the folder that was opened, more than 20 seconds or 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS, MOST_BYTES = 20.0, 1 << 30
# Beside the time of the processor: a machine may have much else to do.
PATIENCE = 120.0
LONGEST_MESSAGE = 2000
_HARMLESS = ("/proc/", "/etc/machine-id", "/dev/null", "/sys/", "/etc/localtime",
             os.path.expanduser("~/.keras/keras.json"))
_PATHS = ("open", "os.mkdir", "os.remove", "os.rename", "os.listdir")
_CALLS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect",
          "shutil.rmtree", "webbrowser.open")


@dataclass(frozen=True)
class Result:
    """What became of a case; `text` is the message, or what is wrong."""

    kind: str
    number: int
    outcome: str
    seconds: float = 0.0
    memory: int = 0
    text: str = ""

    @property
    def case(self) -> str:
        return f"{self.kind} {self.number}"


def cases(count: int, first: int = 0) -> list[tuple[str, int]]:
    """Return kinds and numbers, all kinds alike."""
    from .makers import MAKERS

    kinds = list(MAKERS)
    return [(kinds[number % len(kinds)], number // len(kinds))
            for number in range(first, first + count)]


def run(wanted: Sequence[tuple[str, int]], *, with_torch: bool = False) -> Iterator[Result]:
    """Run the cases in processes; one that dies or hangs is a fault of the case it was at."""
    left = list(wanted)
    while left:
        done = 0
        for result in _run_until_it_ends(left, with_torch):
            done += 1
            yield result
        left = left[done:]


def _run_until_it_ends(wanted: Sequence[tuple[str, int]], with_torch: bool) -> Iterator[Result]:
    # One thread of each library: their stacks would count as memory.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
                   "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                   "PYTHONFAULTHANDLER": "1"}  # yapf: disable
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.attack", "--worker",
             *(["--with-torch"] if with_torch else [])],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            text=True)  # yapf: disable
        assert process.stdin is not None
        assert process.stdout is not None
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True).start()
        threading.Thread(target=_feed, args=(process.stdin, json.dumps(wanted)),
                         daemon=True).start()
        ended = ""
        for kind, number in wanted:
            try:
                line = lines.get(timeout=PATIENCE)
            except queue.Empty:
                line, ended = "", f"did not end within {PATIENCE:.0f} seconds"
            if not line:
                process.kill()
                code = process.wait()
                errors.seek(0)
                tail = errors.read().decode("utf-8", "replace")[-3000:]
                yield Result(kind, number, "fault", text=ended or f"ended with {code}: {tail}")
                return
            yield Result(kind, number, **json.loads(line))
        process.wait(PATIENCE)


def _forward(stream: Any, lines: queue.SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _feed(stream: Any, text: str) -> None:
    stream.write(text)
    stream.close()


class _Watch:
    """Notes what a case opens outside its folder, and what it starts."""
    def __init__(self) -> None:
        self.folder: Path | None = None
        # What the file of the case names, where it is the user's own.
        self.named = ""
        self.seen: list[str] = []
        self.allowed = (*_HARMLESS, sys.prefix, sys.base_prefix, str(ROOT),
                        *(path for path in sys.path if path))
        sys.addaudithook(self._notice)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in _PATHS:
            path = arguments[0]
            if isinstance(path, (str, bytes, os.PathLike)):
                name = os.path.realpath(os.fsdecode(path))
                temporary = tempfile.gettempdir()
                mine = name.startswith(
                    (f"{temporary}/.keras_torch_convert.ktc-", f"{temporary}/checkpoints-",
                     str(self.folder)))
                # What killed writers left there is looked for.
                mine = mine or (event, name) == ("os.listdir", temporary)
                if not mine and name not in self.named and not (event in ("open", "os.listdir")
                                                                and name.startswith(self.allowed)):
                    self.seen.append(f"{event} {name}")
        elif event in _CALLS:
            self.seen.append(f"{event} {arguments!r:.200}")


def work(wanted: Sequence[tuple[str, int]], *, with_torch: bool = False) -> Iterator[Result]:
    """Run cases in this process."""
    from .makers import MARKER, made
    from .readers import read

    watch = _Watch()
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        secret = Path(name).resolve() / "secret"
        secret.write_bytes(b"\x2a" * 400)
        for kind, number in wanted:
            folder = Path(tempfile.mkdtemp(dir=name)).resolve()
            path = made(kind, number, folder)
            _forget_most_memory()
            start, before = time.process_time(), _most_memory()
            watch.folder, watch.seen = folder, []
            watch.named = path.read_text("utf-8", "replace") if kind == "TOML of options" else ""
            outcome, text = "read", ""
            try:
                read(kind, path, with_torch=with_torch)
            except BaseException as error:
                outcome, text = _judged(error, path)
            watch.folder = None
            seconds, memory = time.process_time() - start, _most_memory() - before
            faults = [
                f"took {seconds:.1f} seconds" if seconds > MOST_SECONDS else "",
                f"took {memory >> 20} MiB" if memory > MOST_BYTES else "",
                "ran code in the file" if (folder / MARKER).exists() else "", *watch.seen
            ]  # yapf: disable
            if any(faults):
                outcome, text = "fault", "; ".join(filter(None, [*faults[:6], text]))
            yield Result(kind, number, outcome, round(seconds, 3), memory, text)
            _remove(folder)


def _judged(error: BaseException, path: Path) -> tuple[str, str]:
    from keras_torch_convert.errors import ConversionError

    text = f"{type(error).__name__}: {error}"
    if not isinstance(error, ConversionError):
        import traceback

        return "fault", "".join(traceback.format_exception(error))[-3000:]
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "fault", f"a message that is no text: {text!r:.300}"
    if len(text) > LONGEST_MESSAGE or "MemoryError" in text:
        return "fault", f"a message of {len(text)} characters: {text[:600]}"
    # A shard is named in place of its index; what is wrong with a plan's contents when it is
    # applied names the tensor or the variable.
    if str(path.parent) not in text and path.name not in text and path.suffixes[0] != ".plan":
        return "fault", f"a message without the file: {text}"
    return "refused", text.replace(str(path.parent), "FOLDER")


def _forget_most_memory() -> None:
    """Count the most memory anew, where the system lets a process do that: what ran before in this
    process may have taken more.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _most_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _limit_memory() -> None:
    """End an allocation that would take the machine's memory with a MemoryError."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * MOST_BYTES,) * 2)


def table(results: Sequence[Result]) -> str:
    """Return a table in Markdown, one row for each kind."""
    by_kind: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_kind[result.kind].append(result)
    lines = ["| kind of file | cases | read | refused | faults | longest | most memory |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # yapf: disable
    for kind, rows in by_kind.items():
        count = Counter(row.outcome for row in rows)
        lines.append(f"| {kind} | {len(rows)} | {count['read']} | {count['refused']} | "
                     f"{count['fault']} | {max(row.seconds for row in rows):.1f} s | "
                     f"{max(row.memory for row in rows) >> 20} MiB |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases that are asked for; the exit code is 1 when there are faults."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", help="one case, such as 'HDF5 1234'")
    parser.add_argument("--with-torch", action="store_true", help="torch.load as second opinion")
    parser.add_argument("--write", type=Path, help="a page between whose marks the table goes")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        answer = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        wanted = json.load(sys.stdin)
        if options.with_torch:
            import torch  # noqa: F401  # before the memory is limited
        _limit_memory()
        for one in work(wanted, with_torch=options.with_torch):
            data = {name: getattr(one, name) for name in ("outcome", "seconds", "memory", "text")}
            print(json.dumps(data), file=answer, flush=True)
        return 0
    wanted = cases(options.cases, options.first)
    if options.only:
        kind, _, number = options.only.rpartition(" ")
        wanted = [(kind, int(number))]
    start, results = time.monotonic(), []
    for result in run(wanted, with_torch=options.with_torch):
        results.append(result)
        if result.outcome == "fault" or options.only:
            print(f"{result.case}: {result.outcome}: {result.text}\n", flush=True)
    print(table(results))
    faults = sum(result.outcome == "fault" for result in results)
    print(f"\n{len(results)} cases, {faults} faults, {time.monotonic() - start:.0f} seconds")
    if options.write:
        before, mark, rest = options.write.read_text("utf-8").partition(
            "<!-- made by the suite -->\n")
        _, end, after = rest.partition("<!-- end -->\n")
        options.write.write_text(f"{before}{mark}{table(results)}\n{end}{after}", "utf-8")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
