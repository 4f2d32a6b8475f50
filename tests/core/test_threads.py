"""Kernels let other threads run, and several threads may use the core at once."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_torch_convert import _core
from keras_torch_convert.plan.callbacks import apply_callbacks

LARGE = np.random.default_rng(0).random((3000, 2501), np.float32)
assert LARGE.nbytes > _core.GIL_RELEASE_BYTES


def runs_beside(work: Callable[[], object]) -> bool:
    """True when another thread gets to run in the middle of `work`, seen at least once in many
    tries.
    """
    ticks = 0
    stop = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        for _ in range(200):
            before = ticks
            work()
            # The interpreter hands over by itself only every five milliseconds: more ticks than
            # that need a released GIL.
            if ticks > before + 50:
                return True
    finally:
        stop.set()
        thread.join()
    return False


@pytest.mark.alone
@pytest.mark.parametrize("work", [
    lambda: _core.copy_strided(LARGE.T, np.empty(LARGE.T.shape, np.float32)),
    lambda: _core.cast(LARGE, "float32", "float16"), lambda: _core.compare(LARGE, LARGE)
], ids=["copy_strided", "cast", "compare"])
def test_other_threads_run_during_large_kernels(work: Callable[[], object]) -> None:
    assert runs_beside(work)


def test_many_threads_give_the_same_answers_as_one() -> None:
    kernel = np.random.default_rng(0).random((90, 40, 3, 3)).astype(np.float32)
    expected = kernel.transpose(2, 3, 1, 0).astype(np.float16)

    def work(number: int) -> bool:
        target = np.zeros((3, 3, 40, 90), np.float32)
        _core.copy_strided(kernel.transpose(2, 3, 1, 0), target)
        moved = apply_callbacks("conv", [target], [("conv", lambda arrays: [arrays[0] + number])])
        halves, _, _ = _core.cast(moved[0] - number, "float32", "float16")
        back, _, _ = _core.cast(halves, "float16", "float32")
        difference, _, unlike = _core.compare(back, expected.astype(np.float32))
        return difference < 0.01 and unlike == 0

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(200)))


def test_several_threads_may_read_one_source() -> None:
    def work(_: int) -> np.ndarray:
        target = np.empty(LARGE.T.shape, np.float32)
        _core.copy_strided(LARGE.T, target)
        return target

    with ThreadPoolExecutor(4) as threads:
        for target in threads.map(work, range(8)):
            assert target.tobytes() == LARGE.T.tobytes()


def test_many_threads_write_and_compare_files_from_one_source() -> None:
    halves = LARGE[:400].astype(np.float16)

    def work(_: int) -> bool:
        buffer = np.empty(9 << 20, np.uint8)
        with tempfile.TemporaryFile() as file:
            file.truncate(4 * halves.size)
            at = (file.fileno(), 0)
            _core.write_values(LARGE[:400].T, None, at, buffer, None, None, False)
            same = _core.holds_values(LARGE[:400].T, None, at, buffer, None, None)
            _core.write_values(halves.T, None, at, buffer, None, "float16", False)
            return same and _core.holds_values(halves.T, None, at, buffer, None, "float16")

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(16)))


def test_several_threads_decode_one_matrix_each_with_a_second_one_of_its_own() -> None:
    codes = np.random.default_rng(0).integers(0, 120, (1024, 1100), np.uint8)
    scales = np.ones((1, 1), np.float32)
    half = _core.decode_floats(codes[:512], "float8_e5m2", scales, 1100, 512, 1100, "float32")

    def work(_: int) -> bool:
        target = np.zeros((1100, 1024), np.float32).T
        _core.decode_floats(codes, "float8_e5m2", scales, 1100, 1024, 1100, "float32", target)
        return np.array_equal(target[:512], half)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(8)))
