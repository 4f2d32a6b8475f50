"""write_values puts every element where numpy's tobytes would, whatever the strides, the buffer and
the place; holds_values sees any flipped bit.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_torch_convert import _core
from keras_torch_convert.torch_io.mapped_file import MappedFile
from keras_torch_convert.util.mapped_memory import MappedMemory, mapping_of

MEMORY = np.random.default_rng(0).integers(0, 256, 2**21, dtype=np.uint8)


@dataclass(frozen=True)
class View:
    """A strided view on MEMORY or on a file of the same bytes: strides and start in bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int

    def of(self, memory: object) -> np.ndarray:
        return np.ndarray(self.shape, self.dtype, memory, self.start,
                          self.strides)  # type: ignore[call-overload]


@st.composite
def views(draw: st.DrawFn, dtypes: tuple[str, ...] = ("u1", "f2", "f4", "f8", "V3")) -> View:
    """Axes in any order, with gaps of all sizes, backwards, or repeated (stride 0)."""
    dtype = draw(st.sampled_from(dtypes))
    lengths = draw(st.lists(st.sampled_from([1, 2, 3, 5, 9, 17, 33, 64, 100]), max_size=4))
    step, strides = np.dtype(dtype).itemsize, []
    for length in lengths:
        step += draw(st.sampled_from([0, 0, 0, 4, 100, 5000])) if step * length < 2**19 else 0
        strides.append(step)
        if step * length > 2**20:
            return View(dtype, (), (), 0)
        step *= length
    signs = [draw(st.sampled_from([1, 1, 1, -1, 0])) for _ in lengths]
    start = sum((length - 1) * stride
                for length, stride, sign in zip(lengths, strides, signs, strict=True) if sign < 0)
    order = draw(st.permutations(range(len(lengths))))
    start += draw(st.integers(0, 1000))
    return View(dtype, tuple(lengths[axis] for axis in order),
                tuple(strides[axis] * signs[axis] for axis in order), start)


def summed_slowly(content: bytes, position: int) -> int:
    """The checksum, word by word: each times an odd number of its place."""
    content = bytes(position % 4) + content
    words = np.frombuffer(content + bytes(-len(content) % 4), "u4").astype(object)
    numbers = ((np.arange(len(words)) + position // 4) * 0x9E3779B1 % 2**32).astype(object)
    return int(sum(words * (numbers | 1))) % 2**64


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(scope="module")
def mapping(tmp_path_factory: pytest.TempPathFactory) -> MappedMemory:
    path = tmp_path_factory.mktemp("stream") / "source"
    path.write_bytes(MEMORY.tobytes())
    return MappedFile.open(path).data


@pytest.mark.parametrize("instruction_set", _core.instruction_sets())
@pytest.mark.parametrize("from_file", [False, True])
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(view=views(), position=st.integers(0, 5000),
       size=st.sampled_from([320, 1000, 4096, 2**16, 3 * 2**20]), data=st.data())
def test_any_view_is_written_in_c_order_and_found_again(from_file: bool, instruction_set: str,
                                                        view: View, position: int, size: int,
                                                        data: st.DataObject, mapping: MappedMemory,
                                                        target: int) -> None:
    expected = view.of(MEMORY).tobytes()
    values = view.of(mapping if from_file else MEMORY)
    origin = (mapping.descriptor, mapping.address) if from_file else None
    buffer = np.empty(size, np.uint8)
    os.ftruncate(target, 0)
    os.pwrite(target, b"\xff" * (position + len(expected) + 9), 0)
    steps: list[int] = []
    before = _core.instruction_set()
    _core.use_instruction_set(instruction_set)
    try:
        summed = _core.write_values(values, origin, (target, position), buffer, steps.append, None,
                                    True)
    finally:
        _core.use_instruction_set(before)
    assert os.pread(target, position + len(expected) + 10,
                    0) == b"\xff" * position + expected + b"\xff" * 9
    assert sum(steps) == len(expected)
    assert summed == summed_slowly(expected, position)
    assert summed == _core.checksum_of_file((target, position), len(expected), buffer)
    assert _core.holds_values(values, origin, (target, position), buffer, None, None)
    place = position + data.draw(st.integers(0, len(expected) - 1))
    os.pwrite(target, bytes([os.pread(target, 1, place)[0] ^ 1]), place)
    assert not _core.holds_values(values, origin, (target, position), buffer, None, None)
    assert summed != _core.checksum_of_file((target, position), len(expected), buffer)


# Both sides of 1 MiB, from which on arrays are read straight from their mapping, and parts of all
# sizes.
@pytest.mark.parametrize(("shape", "perm"), [((512, 511), (1, 0)), ((512, 512), (1, 0)),
                                             ((1500, 1501), (1, 0)), ((9, 300_000), (1, 0)),
                                             ((300_000, 9), (1, 0)),
                                             ((300, 301, 5, 5), (2, 3, 1, 0))])
@pytest.mark.parametrize("instruction_set", _core.instruction_sets())
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_large_mapped_kernel_is_written_in_parts(shape: tuple[int, ...], perm: tuple[int, ...],
                                                   dtype: str, instruction_set: str, target: int,
                                                   tmp_path: Path) -> None:
    widened = None if dtype == "float32" else dtype
    item = np.dtype("u2" if widened else "f4")
    bits = np.random.default_rng(1).integers(0, 256, (*shape, item.itemsize), np.uint8)
    kernel = bits.view(item)[..., 0]
    (tmp_path / "kernel").write_bytes(b"ab" + kernel.tobytes())
    mapping = MappedFile.open(tmp_path / "kernel").data
    view = np.ndarray(shape, item, mapping, 2).transpose(perm)
    origin, buffer = (mapping.descriptor, mapping.address), np.empty(9 * 2**20, np.uint8)
    steps: list[int] = []
    before = _core.instruction_set()
    _core.use_instruction_set(instruction_set)
    try:
        summed = _core.write_values(view, origin, (target, 3), buffer, steps.append, widened, True)
        assert summed == _core.checksum_of_file((target, 3), sum(steps), buffer)
        assert _core.holds_values(view, origin, (target, 3), buffer, None, widened)
    finally:
        _core.use_instruction_set(before)
    expected = widen_slowly(kernel.transpose(perm), dtype)
    assert sum(steps) == expected.nbytes
    assert os.pread(target, expected.nbytes, 3) == expected.tobytes()


def widen_slowly(bits: np.ndarray, dtype: str) -> np.ndarray:
    """The bits of float32 by NumPy's own means, NaN with the payload that they had."""
    if dtype == "float32":
        return bits
    wide = bits.astype(np.uint32) << 16
    if dtype == "float16":
        wide = np.where(
            bits & 0x7FFF > 0x7C00,
            (wide & 0x80000000) | 0x7F800000 | (bits & 0x3FF).astype(np.uint32) << 13,
            np.ascontiguousarray(bits).view(np.float16).astype(np.float32).view(np.uint32))
    return wide.astype(np.uint32)


@pytest.mark.parametrize("instruction_set", _core.instruction_sets())
@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(view=views(dtypes=("u2",)), position=st.integers(0, 5000),
       size=st.sampled_from([320, 1000, 4096, 2**16, 3 * 2**20]))
def test_any_view_of_half_precision_is_widened(from_file: bool, instruction_set: str, dtype: str,
                                               view: View, position: int, size: int,
                                               mapping: MappedMemory, target: int) -> None:
    expected = widen_slowly(view.of(MEMORY), dtype).tobytes()
    values = view.of(mapping if from_file else MEMORY)
    origin = (mapping.descriptor, mapping.address) if from_file else None
    buffer = np.empty(size, np.uint8)
    before = _core.instruction_set()
    _core.use_instruction_set(instruction_set)
    try:
        _core.write_values(values, origin, (target, position), buffer, None, dtype, False)
        assert os.pread(target, len(expected), position) == expected
        assert _core.holds_values(values, origin, (target, position), buffer, None, dtype)
    finally:
        _core.use_instruction_set(before)


def test_an_empty_array_writes_nothing(target: int) -> None:
    _core.write_values(np.empty((3, 0)), None, (target, 0), np.empty(1024, np.uint8), None, None,
                       False)
    assert os.fstat(target).st_size == 0


def test_what_the_system_refuses_is_an_os_error(target: int, tmp_path: Path) -> None:
    buffer, values = np.empty(4096, np.uint8), np.zeros((64, 64))
    closed = os.dup(target)
    os.close(closed)
    with pytest.raises(OSError, match="descriptor"):
        _core.write_values(values, None, (closed, 0), buffer, None, None, False)
    (tmp_path / "short").write_bytes(b"too short")
    with (tmp_path / "short").open("rb") as short, pytest.raises(OSError, match="cut short"):
        _core.write_values(values, (short.fileno(), values.ctypes.data), (target, 0), buffer, None,
                           None, False)
    with pytest.raises(OSError, match="cut short"):
        _core.holds_values(values, None, (target, 2**20), buffer, None, None)


def test_what_step_raises_ends_the_writing(target: int) -> None:
    steps: list[int] = []

    def step(count: int) -> None:
        steps.append(count)
        raise LookupError

    with pytest.raises(LookupError):
        _core.write_values(np.zeros((100, 100)), None, (target, 0), np.empty(1024, np.uint8), step,
                           None, False)
    assert len(steps) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full device is Linux's")
@pytest.mark.parametrize("perm", [(0, 1), (1, 0)])
def test_a_full_disk_ends_the_writing_of_both_threads(perm: tuple[int, ...],
                                                      mapping: MappedMemory) -> None:
    values = np.ndarray((1024, 512), "f4", mapping).transpose(perm)
    origin, steps = (mapping.descriptor, mapping.address), list[int]()
    with open("/dev/full", "r+b",
              buffering=0) as full, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        _core.write_values(values, origin, (full.fileno(), 0), np.empty(9 * 2**20, np.uint8),
                           steps.append, None, False)
    assert steps == []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux lists the threads")
def test_a_second_thread_ends_before_anybody_is_told(target: int, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(80 * 2**20))
    mapping = MappedFile.open(tmp_path / "large").data
    values = np.ndarray((4096, 5120), "f4", mapping).T
    threads: list[int] = []

    def step(count: int) -> None:
        threads.append(len(os.listdir("/proc/self/task")))
        if len(threads) == 2:
            raise LookupError

    before = len(os.listdir("/proc/self/task"))
    with pytest.raises(LookupError):
        _core.write_values(values, (mapping.descriptor, mapping.address), (target, 0),
                           np.empty(9 * 2**20, np.uint8), step, None, False)
    assert threads == [before, before]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to threads are POSIX")
def test_an_interrupt_ends_the_writing(target: int) -> None:
    main = threading.get_ident()
    with pytest.raises(KeyboardInterrupt):
        _core.write_values(np.zeros((1000, 100)), None, (target, 0), np.empty(1024, np.uint8),
                           lambda count: signal.pthread_kill(main, signal.SIGINT), None, False)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(([1], None, (1, 0), np.empty(1024, np.uint8), None, None), TypeError),
     ((np.array([object()]), None, (1, 0), np.empty(1024, np.uint8), None, None), TypeError),
     ((np.zeros(3), 7, (1, 0), np.empty(1024, np.uint8), None, None), TypeError),
     ((np.zeros(3), None, (1,), np.empty(1024, np.uint8), None, None), TypeError),
     ((np.zeros(3), None, (1, 0), np.empty(1024, np.int8), None, None), TypeError),
     ((np.zeros(3), None, (1, 0), np.empty(8, np.uint8), None, None), MemoryError),
     ((np.zeros(3), None, (1, 0), np.empty(1024, np.uint8), 7, None), TypeError),
     ((np.zeros(3),), TypeError)])
def test_wrong_arguments_are_refused(arguments: tuple[object, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        _core.write_values(*arguments, False)  # type: ignore[arg-type]


def test_a_view_knows_the_file_that_it_is_mapped_from(mapping: MappedMemory) -> None:
    view = _core.strided_view(np.ndarray((8, 8), "f4", mapping, 64), 4, (3, 2), (4, 32))
    assert mapping_of(view.T) is mapping
    assert mapping_of(MEMORY) is None


def test_a_strided_view_lies_within_its_array() -> None:
    array = np.arange(24.0).reshape(4, 6)
    view = _core.strided_view(array, 8, (2, 3), (96, 8))
    np.testing.assert_array_equal(view, array[::2, 1:4])
    view[0, 0] = -1
    assert array[0, 1] == -1
    assert _core.strided_view(array, 10**6, (0, 3), (8, 8)).size == 0
    backwards = array[::-1]
    np.testing.assert_array_equal(_core.strided_view(backwards, 0, (4,), (-48,)), backwards[:, 0])
    array.flags.writeable = False
    assert not _core.strided_view(array, 0, (2,), (8,)).flags.writeable
    for start, shape, strides in [(8, (4, 6), (48, 8)), (-8, (1,), (8,)), (0, (2,), (-8,)),
                                  (0, (2**62, 2), (8, 2**61)), (2**63 - 9, (1,), (8,))]:
        with pytest.raises((ValueError, OverflowError)):
            _core.strided_view(array, start, shape, strides)
    with pytest.raises(ValueError, match="axes"):
        _core.strided_view(array, 0, (1, 1), (8,))


def test_the_checksum_of_a_large_file_that_two_threads_read(target: int) -> None:
    content = np.random.default_rng(2).integers(0, 256, 5 * 2**20 + 3, np.uint8).tobytes()
    os.pwrite(target, content, 5)
    assert _core.checksum_of_file((target, 5), len(content),
                                  bytearray(2**20)) == summed_slowly(content, 5)
    exchanged = content[:4000] + content[8000:8004] + content[4004:8000] + content[
        4000:4004] + content[8004:]
    assert summed_slowly(exchanged, 5) != summed_slowly(content, 5)


def test_a_file_that_has_no_such_bytes_has_no_checksum(target: int) -> None:
    os.pwrite(target, bytes(100), 0)
    for start, size in ((0, 101), (101, 1), (50, 10 * 2**20)):
        with pytest.raises(OSError, match="cut short"):
            _core.checksum_of_file((target, start), size, bytearray(4096))
    for start, size in ((-1, 5), (0, -5), (2**63 - 1, 5)):
        with pytest.raises(ValueError, match="no such bytes"):
            _core.checksum_of_file((target, start), size, bytearray(4096))
    with pytest.raises(OSError, match="Bad file descriptor"):
        _core.checksum_of_file((-1, 0), 5, bytearray(4096))
    with pytest.raises(MemoryError):
        _core.checksum_of_file((target, 0), 5, bytearray(1))


def test_a_flush_that_begins_changes_nothing_and_never_fails(target: int) -> None:
    os.pwrite(target, b"abc", 0)
    for descriptor, start, size in ((target, 0, 3), (target, 1, 10**9), (target, -1, -1), (-1, 0,
                                                                                           1)):
        _core.begin_flush((descriptor, start), size)
    assert os.pread(target, 4, 0) == b"abc"
