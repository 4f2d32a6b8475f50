"""No function of the core leaks: every one is called many times, well and badly, and nothing may be
left behind.

What is counted: blocks of Python's own allocator (all small objects), the bytes that tracemalloc
sees (array data included), and the references to a few objects that every call shares. C memory
outside both is valgrind's and the sanitizers' business.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from types import BuiltinFunctionType

import numpy as np
import pytest

from keras_torch_convert import _core

SQUARE = np.arange(10000, dtype=np.float32).reshape(100, 100)
TARGET = np.zeros((100, 100), np.float32)
HALVES = np.arange(1000, dtype=np.uint16)
BUFFER = np.zeros(5000, np.uint8)
CODES, FACTORS = np.zeros((100, 100), np.uint8), np.ones((100, 1), np.float32)
WORDS, GROUPS = np.zeros((25, 100), np.uint32), np.arange(100, dtype=np.int32)
OPENED = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the tests run
atexit.register(OPENED.close)
SCRATCH_FILE = OPENED.fileno()
NAMES = [f"block{number}.conv.{kind}" for number in range(50) for kind in ("weight", "bias")]
LAYERS = [f"stack{number}_block{block}_conv" for number in range(5) for block in range(10)]
# Two lists of two and three numbers, for the functions that take lists one after the other.
STARTS, NUMBERS, WEIGHTS = np.array([0, 2, 5]), np.arange(5), np.linspace(1, 2, 5)

KEYS = np.linspace(0, 1, 50).reshape(10, 5)


def failing(arrays: object) -> object:
    raise ZeroDivisionError


def kept_alive() -> list[object]:
    """Objects that many calls share, None and dtypes among them."""
    return [
        SQUARE, TARGET, HALVES, NAMES, NAMES[0], LAYERS, failing, SQUARE.dtype,
        np.dtype("uint16"), np.ndarray
    ]


# For each function calls that succeed and calls that fail, in every way that takes a path of its
# own through the C code.
CALLS: dict[str, list[Callable[[], object]]] = {
    "copy_strided": [
        lambda: _core.copy_strided(SQUARE.T, TARGET),
        lambda: _core.copy_strided(SQUARE.T, TARGET[:50]),
        lambda: _core.copy_strided(SQUARE, np.zeros((100, 100))),
        lambda: _core.copy_strided(SQUARE, SQUARE),
        lambda: _core.copy_strided(SQUARE,
                                   np.lib.stride_tricks.as_strided(TARGET, (100, 100), (4, 4))),
        lambda: _core.copy_strided(SQUARE)  # type: ignore[call-arg]
    ],
    "copy_strided_all": [
        lambda: _core.copy_strided_all((SQUARE.T, SQUARE), (TARGET, np.zeros_like(TARGET))),
        lambda: _core.copy_strided_all((SQUARE, SQUARE), (TARGET, TARGET[:50])),
        lambda: _core.copy_strided_all(
            (SQUARE,), (np.lib.stride_tricks.as_strided(TARGET, (100, 100), (4, 4)),)),
        lambda: _core.copy_strided_all((SQUARE,), ()),
        lambda: _core.copy_strided_all((SQUARE, None), (TARGET, TARGET)),  # type: ignore[arg-type]
    ],
    "strided_view": [
        lambda: _core.strided_view(SQUARE, 4, (3, 5), (400, 8)),
        lambda: _core.strided_view(SQUARE, 4, (300, 500), (400, 8)),
        lambda: _core.strided_view(SQUARE, 4, (3, 5), (400,)),
        lambda: _core.strided_view(SQUARE, 4, (3, object()), (400, 8))  # type: ignore[arg-type]
    ],
    "write_values": [
        lambda: _core.write_values(SQUARE.T, None, (SCRATCH_FILE, 0), BUFFER, None, None, False),
        lambda: _core.write_values(HALVES[::2], None,
                                   (SCRATCH_FILE, 0), BUFFER, None, "bfloat16", False),
        lambda: _core.write_values(SQUARE.T, (SCRATCH_FILE, SQUARE.ctypes.data),
                                   (SCRATCH_FILE, 0), BUFFER, failing, None, False),
        lambda: _core.write_values(SQUARE, None, (-1, 0), BUFFER, None, None, False),
        lambda: _core.write_values(SQUARE, None, (SCRATCH_FILE, 0), BUFFER, None, "float16", False),
        lambda: _core.write_values(SQUARE, None, (SCRATCH_FILE, 0), BUFFER, 1, None, False
                                  )  # type: ignore[arg-type]
    ],
    "checksum_of_file": [
        lambda: _core.checksum_of_file((SCRATCH_FILE, 0), 8, BUFFER),
        lambda: _core.checksum_of_file(
            (SCRATCH_FILE, 0), 10**9, BUFFER), lambda: _core.checksum_of_file(
                (-1, 0), 8, BUFFER), lambda: _core.checksum_of_file((SCRATCH_FILE, -1), 8, BUFFER)
    ],
    "begin_flush": [
        lambda: _core.begin_flush((SCRATCH_FILE, 0), 8), lambda: _core.begin_flush((-1, 0), -8)
    ],
    "holds_values": [
        lambda: _core.holds_values(SQUARE.T, None,
                                   (SCRATCH_FILE, 0), BUFFER, lambda count: None, None),
        lambda: _core.holds_values(SQUARE, None, (SCRATCH_FILE, 4), BUFFER, None, None),
        lambda: _core.holds_values(SQUARE, None, (SCRATCH_FILE, 10**6), BUFFER, None, None)
    ],
    "cast": [
        lambda: _core.cast(SQUARE, "float32", "float16"),
        lambda: _core.cast(SQUARE.T, "float32", "float64"),
        lambda: _core.cast(SQUARE.astype(">f4"), "float32", "int8"),
        lambda: _core.cast(HALVES, "bfloat16", "float32"),
        lambda: _core.cast(HALVES, "float32", "float32"),
        lambda: _core.cast(HALVES, "uint16", "quaternion")
    ],
    "compare": [
        lambda: _core.compare(SQUARE, TARGET), lambda: _core.compare(SQUARE.T, TARGET[::-1]),
        lambda: _core.compare(SQUARE, TARGET[:3]), lambda: _core.compare(SQUARE, HALVES)
    ],
    "fingerprint": [
        lambda: _core.fingerprint(SQUARE),
        lambda: _core.fingerprint(SQUARE[::-1, ::2]),
        lambda: _core.fingerprint("no array")  # type: ignore[arg-type]
    ],
    "nearest_fingerprint": [
        lambda: _core.nearest_fingerprint(KEYS, (0.5,) * 5, 1.0),
        lambda: _core.nearest_fingerprint(KEYS, (0.5,) * 4, 1.0),
        lambda: _core.nearest_fingerprint(KEYS, ("0.5",) * 5, 1.0),  # type: ignore[arg-type]
        lambda: _core.nearest_fingerprint(HALVES, (0.5,) * 5, 1.0)
    ],
    "near_fingerprints": [
        lambda: _core.near_fingerprints(KEYS, (0.5,) * 5, 9.0),
        lambda: _core.near_fingerprints(KEYS, (0.5,) * 5, "far")  # type: ignore[arg-type]
    ],
    "assign": [
        lambda: _core.assign(STARTS, NUMBERS, WEIGHTS, np.full(2, 9.0), 5, 1.0),
        lambda: _core.assign(STARTS, NUMBERS, -WEIGHTS, np.full(2, 9.0), 5, 1.0),
        lambda: _core.assign(STARTS, NUMBERS, WEIGHTS, np.full(3, 9.0), 5, 1.0),
        lambda: _core.assign(STARTS, NUMBERS, WEIGHTS, np.full(2, 9.0), "five", 1.0
                            ),  # type: ignore[arg-type]
        lambda: _core.assign(None, NUMBERS, WEIGHTS, np.full(2, 9.0), 5, 1.0
                            )  # type: ignore[arg-type]
    ],
    "name_similarities": [
        lambda: _core.name_similarities(STARTS, NUMBERS, STARTS, NUMBERS, np.ones(
            5), NUMBERS[:2], NUMBERS[:2]), lambda: _core.name_similarities(
                STARTS, NUMBERS, STARTS, NUMBERS, np.ones(5), NUMBERS, NUMBERS),
        lambda: _core.name_similarities(STARTS, NUMBERS, STARTS, NUMBERS, np.ones(
            2), NUMBERS, NUMBERS), lambda: _core.name_similarities(STARTS, WEIGHTS, STARTS, NUMBERS,
                                                                   np.ones(5), NUMBERS, NUMBERS)
    ],
    "name_patterns": [
        lambda: _core.name_patterns(STARTS, NUMBERS, STARTS, NUMBERS, NUMBERS[:2], NUMBERS[:2],
                                    NUMBERS[:2]),
        lambda: _core.name_patterns(STARTS, NUMBERS, STARTS, NUMBERS, NUMBERS[
            1:3], NUMBERS[:2], NUMBERS[:2]), lambda: _core.name_patterns(
                STARTS, NUMBERS, STARTS, NUMBERS, NUMBERS, NUMBERS[:2], NUMBERS[:2]), lambda: _core.
        name_patterns(STARTS, NUMBERS, STARTS, WEIGHTS, NUMBERS[:2], NUMBERS[:2], NUMBERS[:2])
    ],
    "instruction_set": [_core.instruction_set],
    "instruction_sets": [_core.instruction_sets],
    "use_instruction_set": [
        lambda: _core.use_instruction_set(_core.instruction_set()),
        lambda: _core.use_instruction_set("abacus"),
        lambda: _core.use_instruction_set(None)  # type: ignore[arg-type]
    ],
    "are_exactly": [
        lambda: _core.are_exactly(NAMES, (int, str)),
        lambda: _core.are_exactly([*NAMES, SQUARE], (str,)),
        lambda: _core.are_exactly(NAMES, str)  # type: ignore[arg-type]
    ],
    "stack_by_layer": [
        lambda: _core.stack_by_layer(NAMES, NAMES, ["bias"], []),
        lambda: _core.stack_by_layer([*NAMES, "lonely.table"], [*NAMES, SQUARE], [], ["table"]),
        lambda: _core.stack_by_layer(["a.table", "a_table.weight", "a.x", "a.table"], [0, 1, 2, 3],
                                     [], ["table"]),
        lambda: _core.stack_by_layer([None], [0], [], []),  # type: ignore[list-item]
        lambda: _core.stack_by_layer(NAMES, NAMES, (), []),  # type: ignore[arg-type]
        lambda: _core.stack_by_layer(NAMES, [], [], []),
        lambda: _core.stack_by_layer(NAMES, (), [], [])  # type: ignore[arg-type]
    ],
    "decode_floats": [
        lambda: _core.decode_floats(CODES, "float8_e5m2", FACTORS, 100, 1, 100, "bfloat16"),
        lambda: _core.decode_floats(CODES, "float8_e5m2", FACTORS[:9], 100, 1, 100, "bfloat16"),
        lambda: _core.decode_floats(CODES, "float8_e5m2", FACTORS, 100, 1, 100, "int8"),
        lambda: _core.decode_floats(CODES, "float8", FACTORS, 100, 1, 100, "bfloat16"),
        lambda: _core.decode_floats(CODES, "float8_e5m2", FACTORS, "1", 1, 100, "bfloat16"
                                   )  # type: ignore[arg-type]
    ],
    "decode_whole": [
        lambda: _core.decode_whole(WORDS, SQUARE, SQUARE, GROUPS, 8, True, "float16"),
        lambda: _core.decode_whole(WORDS, SQUARE, SQUARE, GROUPS + 100, 8, True, "float16"),
        lambda: _core.decode_whole(WORDS, SQUARE, SQUARE, GROUPS[1:], 8, True, "float16"),
        lambda: _core.decode_whole(WORDS, SQUARE, TARGET[1:], GROUPS, 8, True, "float16"),
        lambda: _core.decode_whole(WORDS, SQUARE, SQUARE, GROUPS, 8, True, "text")
    ],
    "move_stage": [
        lambda: _core.move_stage(LAYERS, {"conv": -1, "stack0": {"idle": 1}}, {"idle": 1}, 2),
        lambda: _core.move_stage(LAYERS, {"stack1": 1}, {}, 2),
        lambda: _core.move_stage(LAYERS, {"stack1": {"conv": -2}}, {LAYERS[7]: LAYERS[3]}, 2),
        lambda: _core.move_stage(LAYERS, {}, {LAYERS[7]: "nobody"}, 2),
        lambda: _core.move_stage(LAYERS, {"conv": 3}, {}, 2),
        lambda: _core.move_stage(LAYERS, {"conv": None}, {}, 2),
        lambda: _core.move_stage([1], {}, {}, 2),  # type: ignore[list-item]
        lambda: _core.move_stage(LAYERS, [], {}, 2)  # type: ignore[arg-type]
    ]
}


def test_every_function_has_its_leak_test() -> None:
    public = {name for name, value in vars(_core).items() if isinstance(value, BuiltinFunctionType)}
    assert public == set(CALLS)


def run(calls: list[Callable[[], object]], times: int) -> None:
    for _ in range(times):
        for call in calls:
            with contextlib.suppress(Exception):
                call()


def growth(calls: list[Callable[[], object]], times: int,
           shared: list[object]) -> tuple[int, int, int]:
    """What `times` rounds of calls add: (blocks of the allocator, traced bytes, references to one
    of the shared objects).
    """
    gc.collect()
    references = [sys.getrefcount(thing) for thing in shared]
    blocks, (size, _) = sys.getallocatedblocks(), tracemalloc.get_traced_memory()
    run(calls, times)
    gc.collect()
    more_blocks, (new_size, _) = sys.getallocatedblocks() - blocks, tracemalloc.get_traced_memory()
    drift = [
        abs(sys.getrefcount(thing) - before)
        for thing, before in zip(shared, references, strict=True)
    ]
    return more_blocks, new_size - size, max(drift)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_left_behind(name: str) -> None:
    calls, times = CALLS[name], 200
    shared = kept_alive()
    tracemalloc.start()
    try:
        run(calls, 20)
        rounds = [growth(calls, times, shared) for _ in range(5)]
    finally:
        tracemalloc.stop()
    # A leak in any one of the calls adds at least `times` in every round; the interpreter's caches
    # grow in some rounds only.
    blocks, size, references = (min(values) for values in zip(*rounds, strict=True))
    assert blocks < times // 2
    assert size < times * 16
    assert references < times // 2
