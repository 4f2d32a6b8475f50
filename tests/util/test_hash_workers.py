"""Checksums computed behind a writer; every wait ends, whatever interrupts it."""

from __future__ import annotations

import _thread
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from keras_torch_convert.util.hash_workers import BLOCK, HashWorkers, digests_of


def count_threads() -> int:
    """Threads of this process, those of C included."""
    return len(os.listdir("/proc/self/task"))


def steady_count() -> int:
    """Threads of this process when those of earlier tests have ended."""
    count, same = count_threads(), 0
    end = time.monotonic() + 10
    while same < 10 and time.monotonic() < end:
        time.sleep(0.02)
        same, count = (same + 1 if count_threads() == count else 0), count_threads()
    return count


def wait_until_gone(count: int) -> bool:
    end = time.monotonic() + 10
    while count_threads() > count and time.monotonic() < end:
        time.sleep(0.01)
    return count_threads() <= count


def test_digests_of_a_file(tmp_path: Path) -> None:
    data = os.urandom(2 * BLOCK + 1)
    (tmp_path / "a").write_bytes(data)
    assert digests_of(tmp_path / "a", ("md5", "sha256")) == {
        "md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()
    }


def test_a_file_is_read_as_it_grows_and_only_what_is_final(tmp_path: Path) -> None:
    data = os.urandom(3 * BLOCK)
    path = tmp_path / "a"
    seen: list[bytes] = []
    with path.open("wb", buffering=0) as file:
        file.truncate(len(data))
        with HashWorkers(path, 0, len(data), [lambda block: seen.append(bytes(block))]) as workers:
            for start in range(0, len(data), BLOCK // 2):
                file.write(data[start:start + BLOCK // 2])
                workers.advance(start + BLOCK // 2)
    assert b"".join(seen) == data


def test_a_file_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    with pytest.raises(OSError,
                       match="cut short at byte 4"), HashWorkers(tmp_path / "a", 0, 10,
                                                                 [lambda block: None]):
        pass


def test_what_a_function_raises_is_raised_by_the_writer(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")

    def fail(block: memoryview) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), HashWorkers(tmp_path / "a", 0, 4, [fail]):
        pass


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_of_the_writer_stops_the_threads(tmp_path: Path,
                                                      error: type[BaseException]) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    before = steady_count()

    def write() -> None:
        with HashWorkers(tmp_path / "a", 0, 100, [lambda block: None] * 3):
            assert count_threads() == before + 3
            raise error

    with pytest.raises(error):
        write()
    assert wait_until_gone(before)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads")
def test_threads_of_a_writer_that_was_left_without_a_word_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    before = steady_count()
    workers = HashWorkers(tmp_path / "a", 0, 100, [lambda block: None] * 2)
    workers.__enter__()
    workers.advance(50)
    assert count_threads() == before + 2
    del workers
    assert wait_until_gone(before)


def test_an_interrupt_ends_the_wait_for_the_last_byte(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(4))
    release = threading.Event()

    def slow(block: memoryview) -> None:
        _thread.interrupt_main()
        release.wait(20)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), HashWorkers(tmp_path / "a", 0, 4, [slow]):
        threading.Timer(0.5, release.set).start()
    assert time.monotonic() - started < 15


INTERRUPTED = """
import random, signal, sys, threading, time
from pathlib import Path
from keras_torch_convert.util.hash_workers import BLOCK, HashWorkers
path = Path(sys.argv[1])
random.seed(int(sys.argv[2]))
size = 8 * BLOCK
path.write_bytes(bytes(size))

def work():
    with HashWorkers(path, 0, size, [lambda block: sum(block[:2000])] * 2) as workers:
        for position in range(0, size, BLOCK):
            workers.advance(position)

durations = []
for _ in range(20):
    started = time.perf_counter()
    work()
    durations.append(time.perf_counter() - started)
usual = sorted(durations)[10]
ended = rounds = 0
signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
end = time.monotonic() + 60
while (rounds < 100 or ended < 20) and time.monotonic() < end:
    rounds += 1
    try:
        try:
            # Strikes while the threads start, while they work, or while they are waited for.
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, usual))
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        ended += 1
print(ended)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that strikes")
@pytest.mark.parametrize("seed", range(2))
def test_an_interrupt_at_any_moment_ends_the_work_and_never_waits_for_ever(
        tmp_path: Path, seed: int) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "a"), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20
