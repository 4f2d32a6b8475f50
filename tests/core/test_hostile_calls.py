"""No call crashes the core: a hundred by hand, and as many made by a seeded generator as
KTC_HOSTILE_CALLS says (2,000 otherwise; tests/sanitize.sh passes it on).

A crash ends the whole run; the generator's number of the call is then in the file that
KTC_HOSTILE_LOG names, and `made(number)` makes the same call again.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import itertools
import mmap
import os
import random
import sys
import tempfile
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_torch_convert import _core

COUNT = int(os.environ.get("KTC_HOSTILE_CALLS", "2000"))
LOG = os.environ.get("KTC_HOSTILE_LOG")
AT_ONCE = 100

OPENED = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the tests run
atexit.register(OPENED.close)
FILE = OPENED.fileno()
NO_FILE = 10**6

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Evil:
    """Does something to an array when it is asked for a number, then gives one."""
    def __init__(self, deed: Callable[[], object], number: float = 0) -> None:
        self.deed, self.number = deed, number

    def __index__(self) -> int:
        self.deed()
        return int(self.number)

    def __float__(self) -> float:
        self.deed()
        return float(self.number)


class Text(str):
    """A str that is not exactly one."""


def fail(*arguments: object) -> None:
    raise ZeroDivisionError


def shrink(values: np.ndarray) -> Callable[..., object]:
    """Take an array its memory, checks or not."""
    return lambda *_: values.resize(1, refcheck=False)


def forget(values: np.ndarray) -> Callable[..., object]:
    """Let an array be another one, with another memory."""
    return lambda *_: values.__setstate__((1, (1,), np.dtype("u1"), False, b"x"))


def grid() -> np.ndarray:
    return np.arange(24.0).reshape(4, 6)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float64)


def repeated(shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(np.arange(64.0), shape, strides)


def read_only() -> np.ndarray:
    values = grid()
    values.flags.writeable = False
    return values


def unaligned(dtype: str = "f8") -> np.ndarray:
    return np.zeros(8 * np.dtype(dtype).itemsize + 1, "u1")[1:].view(dtype)


CODES = np.zeros((4, 8), np.uint8)
MANY = np.broadcast_to(CODES[:1], (2**58, 8))
FACTORS = np.ones((4, 1), np.float32)
WORDS = np.zeros((1, 8), np.uint32)
ONES = np.ones((2, 8), np.float32)
GROUPS = np.array([0, 1] * 4, np.int32)
OBJECTS = np.array([object() for _ in range(8)], object)
RECORDS = np.zeros(4, [("a", "f4"), ("b", "O")])
MOST = 2**63 - 1
LEAST = -2**63

REFUSED = (TypeError, ValueError, OverflowError, MemoryError, IndexError, OSError, _core.NamesError)

# What the generator's calls may raise: the refusals, and what its own functions raise.
ALLOWED = (*REFUSED, BufferError, RuntimeError, ZeroDivisionError)

# One call a line; KEYS and STREAM stand for two functions each.
BY_HAND = r"""
strided_view(OBJECTS, 4, (2,), (8,))
strided_view(OBJECTS, 0, (2,), (8,))
strided_view(RECORDS, 1, (2,), (12,))
strided_view(np.zeros(4, "S2"), 1, (9,), (1,))
strided_view(grid(), LEAST, (1,), (8,))
strided_view(grid(), MOST, (1,), (8,))
strided_view(grid(), 2**70, (1,), (8,))
strided_view(grid(), 1, (24,), (8,))
strided_view(grid(), 8, (2, 2), (LEAST, 8))
strided_view(grid(), 8, (2, 2), (MOST, 8))
strided_view(grid(), 0, (2**62, 4), (0, 2**61))
strided_view(grid(), 0, (-1,), (8,))
strided_view(grid(), 0, (2**63,), (8,))
strided_view(grid(), 0, (2,) * 65, (0,) * 65)
strided_view(grid(), 0, (2, 2), (8,))
strided_view(grid(), 0.5, (2,), (8,))
strided_view(grid(), None, (2,), (8,))
strided_view(grid(), 0, "ab", (8,))
strided_view(grid(), 0, (2,), None)
strided_view([1, 2], 0, (2,), (8,))
strided_view(grid(), Evil(fail), (2,), (8,))
strided_view(grid(), 0, (Evil(fail),), (8,))
strided_view(grid(), 0, [Evil(len, 2**40)], (8,))
strided_view()
copy_strided(grid(), read_only())
copy_strided(grid(), grid()[:3])
copy_strided(grid(), grid().astype("f4"))
copy_strided(grid(), grid().astype(">f8"))
copy_strided(OBJECTS, OBJECTS.copy())
copy_strided(RECORDS, RECORDS.copy())
copy_strided(np.zeros(3, complex), np.zeros(3, complex))
copy_strided(np.zeros(3), repeated((3,), (0,)))
copy_strided(np.zeros((2, 3)), repeated((2, 3), (8, 8)))
copy_strided(np.broadcast_to(0.0, (2**40,)), repeated((2**40,), (0,)))
copy_strided(np.zeros(3), memoryview(b"abc"))
copy_strided(np.array(["a"]), np.array(["b"]))
copy_strided(np.zeros(3, "M8[s]"), np.zeros(3, "M8[s]"))
copy_strided(None, None)
copy_strided(grid())
copy_strided_all((grid(), grid()), (grid() * 0, read_only()))
copy_strided_all((grid(),), (grid()[:3],))
copy_strided_all((grid(),), ())
copy_strided_all((OBJECTS,), (OBJECTS.copy(),))
copy_strided_all((None,), (None,))
copy_strided_all([grid()], [grid()])
copy_strided_all((np.zeros(3),), (repeated((3,), (0,)),))
copy_strided_all(None, 1)
copy_strided_all()
cast(grid(), "float64", "complex64")
cast(grid(), "float32", "float64")
cast(grid(), "float64\0", "float32")
cast(grid(), "float64", "\ud800")
cast(grid(), "float64", 4)
cast(grid(), "float64", "bfloat17")
cast(OBJECTS, "int64", "int8")
cast(np.broadcast_to(np.float32(1), (2**60,)), "float32", "float64")
cast(np.broadcast_to(np.int8(1), (2**62,)), "int8", "int16")
cast("no array", "int8", "int16")
compare(grid(), grid().T)
compare(grid(), grid().astype("f4"))
compare(OBJECTS, OBJECTS)
compare(np.broadcast_to(1.0, (2**59,)), np.broadcast_to(1.0, (2**59,)))
compare(np.zeros(3, "f2"), np.zeros(3, "f2"))
compare(3, grid())
fingerprint(OBJECTS)
fingerprint(np.broadcast_to(1.0, (2**59,)))
fingerprint(np.zeros(3, complex))
fingerprint(np.ma.masked_array(np.zeros(2, "i4")))
fingerprint(None)
KEYS(np.zeros((3, 5)), (0.0,) * 4, 1.0)
KEYS(np.zeros((3, 5)), [0.0] * 5, 1.0)
KEYS(np.zeros((3, 4)), (0.0,) * 5, 1.0)
KEYS(np.zeros(15), (0.0,) * 5, 1.0)
KEYS(np.zeros((3, 5), "f4"), (0.0,) * 5, 1.0)
KEYS(np.zeros((5, 3)).T, (0.0,) * 5, 1.0)
KEYS(np.zeros((3, 5)), (Evil(fail),) * 5, 1.0)
KEYS(np.zeros((3, 5)), (0.0,) * 5, "1")
KEYS(np.zeros((3, 5)), (10**400,) + (0.0,) * 4, 1.0)
assign(ints(0, 1), ints(5), floats(1), floats(1), 1, 1.0)
assign(ints(0, 1), ints(-1), floats(1), floats(1), 1, 1.0)
assign(ints(0, MOST), ints(0), floats(1), floats(1), 1, 1.0)
assign(ints(LEAST, 1), ints(0), floats(1), floats(1), 1, 1.0)
assign(ints(0, 2, 1), ints(0), floats(1), floats(1, 1), 1, 1.0)
assign(ints(), ints(), floats(), floats(), 0, 1.0)
assign(ints(0, 1), ints(0), floats(float("nan")), floats(1), 1, 1.0)
assign(ints(0, 1), ints(0), floats(1), floats(float("inf")), 1, 1.0)
assign(ints(0, 1), ints(0), floats(1), floats(1), -1, 1.0)
assign(ints(0, 1), ints(0), floats(1), floats(1), MOST, 1.0)
assign(ints(0, 1), ints(0), floats(1), floats(1), 2**60, 1.0)
assign(ints(1, 0)[::-1], ints(0), floats(1), floats(1), 1, 1.0)
assign(ints(0, 1).astype(">i8"), ints(0), floats(1), floats(1), 1, 1.0)
assign(ints(0, 1), ints(0), floats(1), floats(1), "1", Evil(fail))
assign(ints(0, 1), ints(0), floats(1), floats(1), 1, Evil(fail))
name_similarities(ints(0, 1), ints(3), ints(0, 1), ints(0), floats(1), ints(0), ints(0))
name_similarities(ints(0, 1), ints(-1), ints(0, 1), ints(0), floats(1), ints(0), ints(0))
name_similarities(ints(0, 1), ints(0), ints(0, 1), ints(0), floats(1), ints(1), ints(0))
name_similarities(ints(0, 1), ints(0), ints(0, 1), ints(0), floats(1), ints(0), ints(MOST))
name_similarities(ints(1, 1), ints(0), ints(0, 1), ints(0), floats(1), ints(0), ints(0))
name_patterns(ints(0, 1), ints(2**40), ints(0, 1), ints(0), ints(0), ints(0), ints(0))
name_patterns(ints(0, 33), ints(*range(33)), ints(0, 1), ints(0), ints(0), ints(0), ints(0))
name_patterns(ints(0, 1), ints(0), ints(0, 1), ints(0), ints(1), ints(0), ints(0))
name_patterns(ints(0, 1), ints(0), ints(0, 1), ints(0), ints(LEAST), ints(0), ints(0))
name_patterns(ints(0, 1), ints(0), ints(0, 1), ints(0), ints(0, 0), ints(0), ints(0))
name_patterns(ints(0, 1, 2), ints(0, 1), ints(0, 1), ints(0), ints(0, 0), ints(0), ints(0))
name_patterns(ints(0, 1), ints(0), ints(0, 1), ints(0), ints(0), ints(-1), ints(0))
STREAM(OBJECTS, None, (FILE, 0), bytearray(4096), None, None)
STREAM(RECORDS, None, (FILE, 0), bytearray(4096), None, None)
STREAM(grid(), None, (FILE, 0), OBJECTS.copy(), None, None)
STREAM(grid(), None, (FILE, 0), bytes(4096), None, None)
STREAM(grid(), None, (FILE, 0), bytearray(63), None, None)
STREAM(grid(), None, (FILE, 0), np.zeros(8192, "u1")[::2], None, None)
STREAM(grid(), None, (FILE, -1), bytearray(4096), None, None)
STREAM(grid(), None, (FILE, MOST), bytearray(4096), None, None)
STREAM(grid(), None, (FILE, 2**64), bytearray(4096), None, None)
STREAM(grid(), None, (2**40, 0), bytearray(4096), None, None)
STREAM(grid(), None, (NO_FILE, 0), bytearray(4096), None, None)
STREAM(grid(), None, (-1, 0), bytearray(4096), None, None)
STREAM(grid(), (FILE, MOST), (FILE, 0), bytearray(4096), None, None)
STREAM(grid(), (FILE, LEAST), (FILE, 0), bytearray(4096), None, None)
STREAM(grid(), (NO_FILE, 0), (FILE, 0), bytearray(4096), None, None)
STREAM(grid(), (FILE,), (FILE, 0), bytearray(4096), None, None)
STREAM(grid(), None, (Evil(fail), 0), bytearray(4096), None, None)
STREAM(grid(), None, (FILE, 0), bytearray(4096), 3, None)
STREAM(grid(), None, (FILE, 0), bytearray(4096), fail, None)
STREAM(grid(), None, (FILE, 0), bytearray(4096), None, "float16")
STREAM(grid(), None, (FILE, 0), bytearray(4096), None, "half")
STREAM(grid(), None, (FILE, 0), bytearray(4096), None, 16)
STREAM(np.zeros(9, "u2"), None, (FILE, 0), bytearray(4096), None, "uint16")
STREAM(np.zeros(9, "u2"), None, (FILE, MOST - 18), bytearray(4096), None, "bfloat16")
STREAM([1.0], None, (FILE, 0), bytearray(4096), None, None)
STREAM(np.zeros(2, "V100000"), None, (FILE, 0), bytearray(4096), None, None)
decode_floats(CODES, "float8_e4m3fn", grid().astype("f4"), 8, 1, 8, "float32")
decode_floats(CODES, "float8_e4m3fn", FACTORS, 9, 1, 9, "float32")
decode_floats(CODES, "float4_e2m1fn", FACTORS, 17, 1, 17, "float32")
decode_floats(CODES, "float8_e4m3fn", FACTORS, -1, 1, 8, "float32")
decode_floats(CODES, "float8_e4m3fn", FACTORS, 8, 0, 8, "float32")
decode_floats(CODES, "float8_e4m3fn", FACTORS, 8, 1, -8, "float32")
decode_floats(CODES, "float8_e4m3fn", FACTORS, 8, MOST, 8, "float32")
decode_floats(CODES, "float8_e4m3fn", FACTORS, 2**64, 1, 8, "float32")
decode_floats(CODES, "float8_e4m3", FACTORS, 8, 1, 8, "float32")
decode_floats(CODES, "float8_e4m3fn", FACTORS, 8, 1, 8, "float64")
decode_floats(CODES[:, ::2], "float8_e4m3fn", FACTORS, 4, 1, 4, "float32")
decode_floats(CODES.view("i1").astype("i4"), "float8_e4m3fn", FACTORS, 8, 1, 8, "float32")
decode_floats(CODES[0], "float8_e4m3fn", FACTORS, 8, 1, 8, "float32")
decode_floats(MANY, "float8_e5m2", FACTORS[:1], 8, MOST, 8, "float32")
decode_floats(CODES, "float8_e4m3fn", FACTORS, Evil(fail), 1, 8, "float32")
decode_floats(None, "float8_e4m3fn", FACTORS, 8, 1, 8, "float32")
decode_floats(CODES, "float8_e4m3fn", FACTORS, 8, 1, 8, "float16", CODES)
decode_floats(CODES, "float8_e4m3fn", FACTORS, 8, 1, 8, "float32", FACTORS)
decode_floats(CODES, "float8_e4m3fn", FACTORS, 8, 1, 8, "float32", Evil(fail))
decode_floats()
decode_whole(WORDS, ONES, ONES, GROUPS, 5, True, "float32")
decode_whole(WORDS, ONES[:, :4], ONES, GROUPS, 4, True, "float32")
decode_whole(WORDS, ONES, ONES[:1], GROUPS, 4, True, "float32")
decode_whole(WORDS, ONES, ONES, GROUPS[:-1], 4, True, "float32")
decode_whole(WORDS, ONES, ONES, GROUPS + 2, 4, True, "float32")
decode_whole(WORDS, ONES, ONES, GROUPS - 1, 4, True, "float32")
decode_whole(WORDS, ONES, ONES, GROUPS, 4, False, "float32")
decode_whole(WORDS, ONES, ONES, GROUPS, 4, True, "int8")
decode_whole(WORDS.astype("i8"), ONES, ONES, GROUPS, 4, True, "float32")
decode_whole(unaligned("u4").reshape(1, 8), ONES, ONES, GROUPS, 4, True, "float32")
decode_whole(WORDS, np.ones((0, 8), "f4"), np.ones((0, 8), "f4"), GROUPS, 4, True, "float32")
decode_whole(WORDS, ONES, ONES, GROUPS, 4, Evil(fail), "float32", 1)
decode_whole(WORDS, ONES, ONES, GROUPS, 4, True, "float32", WORDS)
decode_whole(WORDS, ONES, ONES, GROUPS, 4, True, "float32", np.zeros((8, 8), "f4")[:, ::0])
stack_by_layer(["a"], [], [], [])
stack_by_layer([Text("a")], [1], [], [])
stack_by_layer(["\ud800"], [1], [], [])
stack_by_layer(["a.b", "a.b"], [1, 2], [], ["b"])
stack_by_layer("ab", [1, 2], [], [])
stack_by_layer(["a"], [1], [None], [])
stack_by_layer({}, {}, {}, {})
move_stage(["a"], {}, {"a": 1}, 2)
move_stage(["a"], {}, {"a": 10**30}, 2)
move_stage(["a"], {}, {"a": None}, 2)
move_stage(["a"], {}, {"a": "b"}, LEAST)
move_stage(["a"], {"a": OrderedDict()}, {}, 2)
move_stage(["a"], {"a": {"a": {}}}, {"a": {}}, 2)
move_stage(["a"], {Text("a"): 1}, {}, 2)
move_stage(["a"], OrderedDict(), {}, 2)
move_stage(["a"], {"a": "\ud800"}, {}, 2)
move_stage(["a"], {}, {}, 2.0)
move_stage([b"a"], {}, {}, 2)
move_stage(iter("a"), {}, {}, 2)
are_exactly([1], int)
are_exactly(1, (int,))
use_instruction_set("avx1024")
use_instruction_set("portable\0")
use_instruction_set(None)
instruction_sets(1)
"""
LINES = [
    line.replace("KEYS", keys).replace("STREAM", stream) for line in BY_HAND.strip().splitlines()
    for keys, stream in [("nearest_fingerprint",
                          "write_values"), ("near_fingerprints", "holds_values")]
    if keys == "nearest_fingerprint" or "KEYS" in line or "STREAM" in line
]


@pytest.mark.parametrize("line", LINES)
def test_a_hostile_call_is_refused(line: str) -> None:
    with pytest.raises((*REFUSED, ZeroDivisionError)):
        eval(line, {**globals(), **vars(_core)})


def test_there_are_a_hundred_calls_by_hand() -> None:
    assert len(LINES) >= 100


# What is done to an argument while the call uses it.


@pytest.mark.parametrize("deed", [shrink, forget])
def test_numbers_that_change_the_keys_are_read_before_these(deed: Any) -> None:
    for function in (_core.nearest_fingerprint, _core.near_fingerprints):
        keys = np.zeros((1000, 5))
        with pytest.raises(TypeError, match="columns"):
            function(keys, (Evil(deed(keys)), 0.0, 0.0, 0.0, 0.0), 1.0)
    starts, columns = ints(0, 1), ints(0)
    chosen, _ = _core.assign(starts, columns, floats(1), floats(2), 1, Evil(deed(columns), 9))
    assert chosen.tolist() == [0]
    values = np.zeros(100)
    with pytest.raises(ValueError, match="beyond"):
        _core.strided_view(values, Evil(deed(values)), (100,), (8,))


def test_a_view_of_memory_that_its_base_has_lost_is_refused() -> None:
    base = np.zeros((1000, 5))
    view = base[:]
    with pytest.raises(ValueError, match="beyond the memory of its base"):
        _core.nearest_fingerprint(view, (Evil(forget(base)), 0.0, 0.0, 0.0, 0.0), 1.0)
    with pytest.raises(ValueError, match="beyond the memory of its base"):
        _core.compare(view, np.zeros((1000, 5)))


@pytest.mark.parametrize("function", [_core.write_values, _core.holds_values])
@pytest.mark.parametrize("deed", [shrink, forget])
@pytest.mark.parametrize("which", ["values", "base", "buffer", "base of the buffer"])
def test_a_step_cannot_take_away_the_memory(function: Any, deed: Any, which: str) -> None:
    values, buffer = np.zeros((1000, 100)), np.zeros(5000, "u1")
    os.ftruncate(FILE, 0)
    os.ftruncate(FILE, values.nbytes)
    owner = values if which in ("values", "base") else buffer
    given = values.T if which == "base" else values
    room = memoryview(buffer)[8:] if which == "base of the buffer" else buffer
    more = (False,) if function is _core.write_values else ()
    with pytest.raises((ValueError, RuntimeError), match=r"resize|lost its memory"):
        function(given, None, (FILE, 0), room, deed(owner), None, *more)


@pytest.mark.parametrize(
    "room", [bytearray(5000), mmap.mmap(-1, 5000),
             array.array("B", [0] * 5000)], ids=lambda room: type(room).__name__)
def test_a_buffer_is_held_while_it_is_used(room: Any) -> None:
    values = np.arange(100_000.0).reshape(1000, 100)

    def close(count: int) -> None:
        with pytest.raises((BufferError, ValueError)):
            room.resize(10) if isinstance(room, mmap.mmap) else room.__delitem__(slice(10))

    _core.write_values(values.T, None, (FILE, 0), room, close, None, False)
    assert _core.holds_values(values.T, None, (FILE, 0), room, None, None)


def test_a_step_may_give_the_values_another_shape() -> None:
    values, expected = np.arange(100_000.0).reshape(1000, 100), np.arange(100_000.0)

    def reshape(count: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values.shape = (100_000,) if values.ndim == 2 else (10,) * 5

    _core.write_values(values, None, (FILE, 0), bytearray(5000), reshape, None, False)
    assert _core.holds_values(expected, None, (FILE, 0), bytearray(5000), None, None)


def test_values_and_buffer_may_not_share_memory() -> None:
    both = np.zeros(10_000, "u1")
    with pytest.raises(ValueError, match="share memory"):
        _core.write_values(both[5000:], None, (FILE, 0), both[:5008], None, None, False)


def test_vectors_may_change_while_they_are_used() -> None:
    count = 3000
    starts, columns = np.arange(0, 8 * count + 1, 8), np.tile(np.arange(count), 8)
    costs, alone = np.random.default_rng(1).random(8 * count), np.full(count, 9.0)
    words, pairs, weights = columns % 50, np.arange(count), np.ones(50)
    stop = threading.Event()

    def spoil() -> None:
        for value in itertools.cycle((MOST, -7, 0, 3)):
            if stop.is_set():
                return
            starts[1:-1] = value
            columns[:] = value
            words[:] = value

    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        for _ in range(30):
            for call in (
                    lambda: _core.assign(starts, columns, costs, alone, count, 9.0), lambda: _core.
                    name_similarities(starts, words, starts, words, weights, pairs, pairs),
                    lambda: _core.name_patterns(starts, words, starts, words, pairs, pairs, pairs)):
                with contextlib.suppress(ValueError, IndexError):
                    call()
    finally:
        stop.set()
        thread.join()


# Calls that a generator makes.


class Maker:
    """Arguments of one call, by seed: mostly of the right kind, sometimes anything."""
    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.arrays: list[np.ndarray] = []
        self.count = 0

    def of(self, kind: str) -> Any:
        if self.random.random() < 0.04:
            kind = self.random.choice(
                ["array", "int", "float", "text", "names", "rules", "pair", "buffer", "junk"])
        return getattr(self, f"a_{kind}")()

    def a_array(self) -> Any:
        choose = self.random.choice
        dtype = choose(["f4"] * 12 + ["f8"] * 12
                       + ["f2", "u2", "i8", "?", "i1", ">f4", "c8", "O", "S3", "M8[s]"])
        shape = tuple(
            choose([0, 1, 1, 2, 3, 5, 8, 17, 33]) for _ in range(choose([0, 1, 2, 2, 3, 4, 6])))
        while np.prod(shape, dtype=float) > 20_000:
            shape = shape[1:]
        values = np.zeros(shape, dtype)
        if dtype not in ("O", "S3"):
            values = self.filled(values)
        values = self.bent(values)
        self.arrays.append(values)
        return values

    def filled(self, values: np.ndarray) -> np.ndarray:
        noise = np.frombuffer(self.random.randbytes(values.nbytes), "u1")
        flat = noise.view(values.dtype) if noise.size else values.ravel()
        return (flat != 0 if values.dtype == bool else flat).reshape(values.shape).copy()

    def bent(self, values: np.ndarray) -> np.ndarray:
        choose = self.random.choice
        for _ in range(choose([0, 0, 1, 2])):
            match choose(["turn", "back", "skip", "wide", "lock", "off", "sub"]):
                case "turn":
                    axes = list(range(values.ndim))
                    self.random.shuffle(axes)
                    values = values.transpose(axes)
                case "back":
                    values = values[::-1] if values.ndim else values
                case "skip":
                    values = values[..., ::2] if values.ndim else values
                case "wide":
                    values = np.broadcast_to(values, (choose([1, 2, 7]), *values.shape))
                case "lock":
                    values = values[...]
                    values.flags.writeable = False
                case "off":
                    if values.dtype != object and values.size:
                        room = np.zeros(values.nbytes + 1, "u1")
                        moved = room[1:].view(values.dtype).reshape(values.shape)
                        moved[...] = values
                        values = moved
                case "sub":
                    values = values.view(np.memmap) if values.dtype != object else values
        return values

    def a_like(self) -> Any:
        """An array of the shape and type of the last one."""
        if not self.arrays or self.random.random() < 0.1:
            return self.a_array()
        last = self.arrays[-1]
        values = np.zeros(last.shape[::-1], last.dtype).T
        return self.bent(values) if self.random.random() < 0.2 else values

    def a_arrays(self) -> Any:
        return self.random.choice([tuple, tuple, tuple, list])([self.a_array()])

    def a_likes(self) -> Any:
        return tuple(self.a_like() for _ in range(self.random.choice([1, 1, 1, 0, 2])))

    def a_int(self) -> Any:
        return self.random.choice([
            0, 0, 1, 2, 3, 4, 8, -1, -8, 24, 48, 2**31, -2**31, 2**62, MOST, LEAST, 2**63, 2**64,
            Evil(lambda: None, 8),
            Evil(fail), True,
            np.int8(3)
        ])

    def a_float(self) -> Any:
        if self.random.random() < 0.03:
            return Evil(forget(self.arrays[-1]) if self.arrays else fail)
        return self.random.choice(
            [0.0, 0.5, 1.0, -1.0, 1e-9,
             float("nan"),
             float("inf"), -float("inf"), 1e308, 3])

    def a_text(self) -> Any:
        return self.random.choice([
            "float32", "float64", "float16", "bfloat16", "bool", "int64", "uint8", "int8", "", "x",
            "float32\0", "\ud800", "größe",
            Text("float32"), "avx2", "portable"
        ])

    def a_name(self) -> Any:
        words = ["a", "b", "s1", "conv", "weight", "", "größe", "a:0", "\0"]
        joint = self.random.choice(["_", ".", "/", ""])
        name = joint.join(self.random.choices(words, k=self.random.choice([0, 1, 2, 3])))
        if self.random.random() < 0.005:
            return self.random.choice([Text(name), name.encode(), "\ud800", None])
        return name

    def a_names(self) -> Any:
        self.count = self.random.choice([0, 1, 2, 5, 5, 30])
        names = [self.a_name() for _ in range(self.count)]
        return self.random.choice([list, list, list, list, tuple, tuple, tuple, iter])(names)

    def a_items(self) -> Any:
        return list(range(self.count + self.random.choice([0] * 9 + [1])))

    def a_rules(self) -> Any:
        choose = self.random.choice

        def value(deep: bool) -> Any:
            nested = {self.a_name(): value(False) for _ in range(2)} if deep else {}
            return choose([
                0, 0, -1, -1, 1, -2, 5, MOST, 10**30, None, 1.5, True, "a", "s1_a", nested, nested,
                OrderedDict()
            ])

        rules = {self.a_name(): value(True) for _ in range(choose([0, 1, 2, 6]))}
        return choose([dict] * 20 + [OrderedDict, list])(rules)

    def a_numbers(self) -> Any:
        numbers = [self.of("int") for _ in range(self.random.choice([0, 1, 1, 2, 2, 3, 65]))]
        return self.random.choice([tuple, list])(numbers)

    def a_start(self) -> Any:
        return 0 if self.random.random() < 0.7 else self.a_int()

    def a_shape(self) -> Any:
        if not self.arrays or self.random.random() < 0.3:
            return self.a_numbers()
        return [self.random.randint(0, length) for length in self.arrays[-1].shape]

    def a_strides(self) -> Any:
        if not self.arrays or self.random.random() < 0.3:
            return self.a_numbers()
        return self.arrays[-1].strides

    def a_type(self) -> Any:
        if not self.arrays or self.random.random() < 0.2:
            return self.a_text()
        return self.arrays[-1].dtype.name

    def a_flag(self) -> Any:
        return self.random.choice([True, False])

    def a_pair(self) -> Any:
        place = self.random.choice([0, 0, 0, 0, 1, 1, 64, 64, 4096, 4096, 2**20, -1, MOST, LEAST])
        return self.random.choice([(FILE, place)] * 12
                                  + [(NO_FILE, place), (-1,
                                                        place), (FILE,), [FILE, place], (2**40, 0)])

    def a_origin(self) -> Any:
        return self.random.choice([None, None, None, self.a_pair()])

    def a_buffer(self) -> Any:
        size = self.random.choice([0, 1, 127, 192, 300, 1024, 1024, 5000, 5000, 70_000])
        if self.random.random() < 0.1:
            return self.random.choice(
                [bytes(size), np.zeros(size, "i1"),
                 np.zeros(size, "u1")[::2]])
        return self.random.choice([
            bytearray(size),
            np.zeros(size, "u1"),
            np.zeros(size, "u1")[3:],
            memoryview(bytearray(size)),
            memoryview(np.zeros(size, "u1"))
        ])

    def a_step(self) -> Any:
        last = self.arrays[-1] if self.arrays else grid()
        return self.random.choice(
            [None, None, len, fail, print, lambda count: None,
             shrink(last),
             forget(last), 7])

    def a_widened(self) -> Any:
        if not self.arrays or self.arrays[-1].dtype.itemsize != 2:
            return None if self.random.random() < 0.9 else self.a_text()
        return self.random.choice([None, "float16", "bfloat16", "bfloat16", self.a_text()])

    def a_words(self) -> Any:
        words = [0, 1, 2, 3, 4]
        if self.random.random() < 0.1:
            words += [-1, 99, MOST]
        dtype = self.random.choice(["i8"] * 20 + ["u8", ">i8"])
        return np.array(self.random.choices(words, k=12)).astype(dtype)

    def a_starts(self) -> Any:
        cuts = sorted(self.random.choices(range(13), k=3))
        if self.random.random() < 0.1:
            cuts[1] = self.random.choice([-1, 99, MOST, LEAST])
        return np.array([0, *cuts, 12], np.int64)

    def a_weights(self) -> Any:
        worst = self.random.choice([1.0] * 10 + [-1.0, float("nan"), float("inf"), 1e308])
        return np.array([worst, *(self.random.random() for _ in range(11))])

    def a_alone(self) -> Any:
        return self.a_weights()[:4]

    def a_matched(self) -> Any:
        matched = [0, 1, 2, -1]
        self.random.shuffle(matched)
        return np.array(matched if self.random.random() < 0.9 else [0, 0, 9, LEAST])

    def a_ones(self) -> Any:
        return np.array(
            self.random.choices([0, 1, 2, 3] if self.random.random() < 0.9 else [0, 4, -1, MOST],
                                k=4))

    def a_count(self) -> Any:
        return self.random.choice([5, 5, 5, 5, 100, 0, -1, 2**62, MOST, 5.0])

    def a_keys(self) -> Any:
        rows = self.random.choice([0, 1, 7, 50])
        keys = np.array([self.random.random() for _ in range(5 * rows)]).reshape(rows, 5)
        self.arrays.append(keys)
        return self.bent(keys) if self.random.random() < 0.2 else keys

    def a_wanted(self) -> Any:
        return tuple(self.of("float") for _ in range(self.random.choice([5] * 9 + [4])))

    def a_codes(self) -> Any:
        codes = np.zeros(self.random.choice([(4, 8), (1, 3), (0, 2), (5, 40)]), np.uint8)
        return self.bent(codes) if self.random.random() < 0.3 else codes

    def a_words32(self) -> Any:
        words = np.zeros(self.random.choice([(1, 8), (2, 8), (0, 8)]), np.uint32)
        return self.bent(words) if self.random.random() < 0.3 else words

    def a_factors(self) -> Any:
        factors = np.ones(self.random.choice([(4, 1), (2, 8), (1, 1), (1, 8)]), np.float32)
        return self.bent(factors) if self.random.random() < 0.3 else factors

    def a_groups(self) -> Any:
        return np.array(self.random.choices([0, 0, 0, 0, 0, 1, 2, -1], k=8), np.int32)

    def a_bits(self) -> Any:
        return self.random.choice([4, 4, 8, 0, 32])

    def a_size(self) -> Any:
        return self.random.choice([1, 1, 4, 8, 8, 40, self.a_int()])

    def a_format(self) -> Any:
        return self.random.choice(["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", self.a_text()])

    def a_target(self) -> Any:
        return self.random.choice(["float32", "float16", "bfloat16", self.a_text()])

    def a_objects(self) -> Any:
        return self.random.choice([self.a_names, lambda: [1, "a"], lambda: (1.0,), self.a_junk])()

    def a_types(self) -> Any:
        return self.random.choice([(str,), (int, str), (), (1, None), str, [str]])

    def a_junk(self) -> Any:
        return self.random.choice([
            None, 0, 1.5, "a", b"a", [], (), {},
            object(), OBJECTS, RECORDS,
            grid(), len, type,
            np.float32(1),
            memoryview(b"ab"),
            range(3),
            Evil(fail), 10**400
        ])


KINDS: dict[str, str] = {
    "strided_view": "array start shape strides", "copy_strided": "array like", "copy_strided_all":
        "arrays likes", "cast": "array type text", "compare": "array like", "fingerprint": "array",
    "nearest_fingerprint": "keys wanted float", "near_fingerprints": "keys wanted float",
    "write_values": "array origin pair buffer step widened flag", "holds_values":
        "array origin pair buffer step widened", "checksum_of_file": "pair size buffer",
    "begin_flush": "pair size", "assign": "starts words weights alone count float",
    "name_similarities": "starts words starts words weights ones ones", "name_patterns":
        "starts words starts words matched ones ones", "stack_by_layer": "names items names names",
    "decode_floats": "codes format factors size size size target", "decode_whole":
        "words32 factors factors groups bits int target", "move_stage": "names rules rules int",
    "are_exactly": "objects types", "use_instruction_set": "text", "instruction_set":
        "", "instruction_sets": "",
}
FREQUENT = [name for name in KINDS if "instruction" not in name]


def made(number: int) -> Call:
    """The call of this number: the same each time."""
    maker = Maker(number)
    name = maker.random.choice(FREQUENT if number % 50 else list(KINDS))
    kinds = KINDS[name].split()
    if maker.random.random() < 0.02:
        kinds = [*kinds, "junk"] if maker.random.random() < 0.5 else kinds[1:]
    return getattr(_core, name), tuple(maker.of(kind) for kind in kinds)


def test_every_function_is_called() -> None:
    assert set(KINDS) == {name for name, value in vars(_core).items() if type(value) is type(len)}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the calls of 3.10 would be others")
@pytest.mark.parametrize("first", range(0, COUNT, AT_ONCE))
def test_no_call_does_more_than_raise(first: int) -> None:
    before, worked = _core.instruction_set(), 0
    try:
        for number in range(first, min(first + AT_ONCE, COUNT)):
            function, arguments = made(number)
            if LOG:
                with open(LOG, "w") as log:
                    log.write(f"{number}\n")
            os.ftruncate(FILE, 0)
            os.ftruncate(FILE, 4096)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    function(*arguments)
                    worked += 1
                except ALLOWED:
                    pass
    finally:
        _core.use_instruction_set(before)
    assert worked > AT_ONCE // 6
    values = grid()
    assert _core.compare(values, values) == (0.0, 23.0, 0)
