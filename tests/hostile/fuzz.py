"""Fuzzes the readers for as long as told, guided by coverage where atheris is installed.

    python -m tests.hostile.fuzz --seconds 7200
    python -m tests.hostile.fuzz --only HDF5 --seconds 60

Each kind of file gets the same share of the time, which is the processor's, in processes of its
own. Its corpus are the files that the makers give, and what atheris finds to reach new code, which
`--corpus` keeps for the next run. A file that makes trouble is kept in tests/hostile/found, and
`--file` reads it again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .attack import PATIENCE, ROOT
from .makers import MAKERS, made
from .mutations import damaged

FOUND = Path(__file__).with_name("found")
SEEDS = 60
# What an input may take: more than that is what the limits of the readers are for.
# libFuzzer measures elapsed seconds, which a busy machine makes many of one.
MEGABYTES, SECONDS_EACH = 1500, 300
LONGEST_INPUT = 1 << 18
# A busy machine gives a process that yields to others no less than one part in so many.
MOST_LOAD = 60
# Another file that is read with it, or a way through the command line, is not for a fuzzer.
KINDS = tuple(kind for kind in MAKERS if "TOML of options" not in kind)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; the exit code is 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the processor's time")
    parser.add_argument("--corpus", type=Path, help="a folder that keeps what reaches new code")
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--file", type=Path, help="read this file of the kind that --only says")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    kinds = (options.only,) if options.only else KINDS
    if options.file is not None:
        with tempfile.TemporaryDirectory() as folder:
            _read_data(kinds[0], options.file.read_bytes(), Path(folder))
        return 0
    if options.worker is not None:
        _fuzz(kinds[0], options.seconds, options.worker)
        return 0
    FOUND.mkdir(exist_ok=True)
    before = set(FOUND.iterdir())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for kind in kinds:
            kept = (options.corpus or Path(folder)).resolve() / kind.replace(" ", "_")
            kept.mkdir(parents=True, exist_ok=True)
            _in_processes(kind, options.seconds / len(kinds), kept)
    found = sorted(set(FOUND.iterdir()) - before)
    for path in found:
        print(f"found: {path}")
    print(f"{len(found)} files that make trouble")
    return int(bool(found))


def _in_processes(kind: str, seconds: float, folder: Path) -> None:
    """Fuzz one kind; a process that dies has left the file that ended it, and another follows."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    while seconds > 1:
        before = _childrens_seconds()
        command = [sys.executable, "-m", "tests.hostile.fuzz", "--worker", folder, "--only", kind,
                   "--seconds", str(seconds)]  # yapf: disable
        try:
            ended = subprocess.run(command, cwd=ROOT, env=environment, check=False,
                                   stderr=subprocess.PIPE, text=True, errors="replace",
                                   timeout=MOST_LOAD * seconds + PATIENCE)  # yapf: disable
        except subprocess.TimeoutExpired:
            print(
                f"{kind}: had not had its {seconds:.0f} seconds of the processor's time "
                f"{MOST_LOAD * seconds + PATIENCE:.0f} seconds after its start", flush=True)
            return
        seconds -= (used := _childrens_seconds() - before)
        lines = [line for line in ended.stderr.splitlines() if line.startswith("#")]
        print(f"{kind}: {used:.0f} s, {lines[-1] if lines else ended.stderr[-500:]}", flush=True)
        if ended.returncode == 0:
            return
        print(ended.stderr[-3000:], flush=True)


def _childrens_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _fuzz(kind: str, seconds: float, folder: Path) -> None:
    made_here, corpus, case = (folder / name for name in ("made", "corpus", "case"))
    for one in (made_here, corpus, case):
        one.mkdir(exist_ok=True)
    for number in range(SEEDS):
        data = made(kind, number, made_here).read_bytes()
        if len(data) <= LONGEST_INPUT:
            (corpus / str(number)).write_bytes(data)
    try:
        import atheris  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        _fuzz_blindly(kind, corpus, case, seconds)
        return
    with atheris.instrument_imports(include=["keras_torch_convert"]):
        from . import readers  # noqa: F401

    # Instrumenting takes a while, on a busy machine minutes.
    end, count = time.process_time() + seconds, 0

    def read_one(data: bytes) -> None:
        nonlocal count
        _read_data(kind, data, case)
        count += 1
        if time.process_time() > end:
            print(f"#{count} DONE", file=sys.stderr, flush=True)
            os._exit(0)  # libFuzzer takes any other end for a find

    arguments = [
        "fuzz", str(corpus), f"-max_len={LONGEST_INPUT}", f"-rss_limit_mb={MEGABYTES}",
        f"-timeout={SECONDS_EACH}", f"-report_slow_units={SECONDS_EACH}",
        f"-artifact_prefix={FOUND / kind.replace(' ', '_')}-"
    ]  # yapf: disable
    atheris.Setup(arguments, read_one)
    atheris.Fuzz()


def _fuzz_blindly(kind: str, corpus: Path, folder: Path, seconds: float) -> None:
    rng = random.Random(time.time_ns())
    seeds = [path.read_bytes() for path in sorted(corpus.iterdir())]
    end, count = time.process_time() + seconds, 0
    while time.process_time() < end:
        data = damaged(rng, rng.choice(seeds))
        kept = FOUND / f"{kind.replace(' ', '_')}-{os.getpid()}"
        # It stays when the process dies at it.
        kept.write_bytes(data)
        _read_data(kind, data, folder)
        kept.unlink()
        count += 1
    print(f"#{count} DONE", file=sys.stderr)


_NAMES: dict[str, str] = {}


def _read_data(kind: str, data: bytes, folder: Path) -> None:
    """Read a file with this content; what the package refuses is as it should be."""
    from keras_torch_convert.errors import ConversionError

    from .readers import read

    if kind not in _NAMES:
        with tempfile.TemporaryDirectory() as name:
            _NAMES[kind] = made(kind, 0, Path(name)).name
    path = folder / _NAMES[kind]
    # A file that is written again is flushed by ext4, which takes longer than reading it.
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    with contextlib.suppress(ConversionError):
        read(kind, path)


if __name__ == "__main__":
    sys.exit(main())
