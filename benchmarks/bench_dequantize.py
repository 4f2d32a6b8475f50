"""Quantized weights decoded into the layout of a Keras kernel, beside a copy of what comes out.

    python -m benchmarks.bench_dequantize [--rows 4096] [--columns 4096] [--rounds 7] [--check]

Each weight is decoded, transposed into Keras's (inputs, outputs) where it is stored the other way,
and put into memory that has been used before; memcpy copies the same bytes into the same memory.
Two threads share what is large, so the goal is one of elapsed time, beside memcpy by one thread.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.goals import Goals
from benchmarks.race import print_ratios, race
from keras_torch_convert.plan.evaluation import Evaluation
from keras_torch_convert.plan.expressions import Dequantize, Expression, Permute, Tensor
from keras_torch_convert.spec.source import Source, SourceTensor

GOAL = 0.5
# What decoding may hold beside the codes and the target.
GOAL_MEBIBYTES = 16
GROUP = 128


def main() -> None:
    """Race every scheme with a copy of its own output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--check", action="store_true",
                        help="end with an error when a goal is missed")
    options = parser.parse_args()
    goals = Goals()
    for name, expression, tensors in cases(options.rows, options.columns):
        evaluation = Evaluation(Source(tensors, "bench"))
        for dtype in ("bfloat16", "float32"):
            target = evaluation.values(expression, dtype, name)
            copied = target.copy()
            race_name = f"{name} to {dtype}"

            def decode(evaluation: Any = evaluation, expression: Any = expression,
                       dtype: str = dtype, target: Any = target) -> None:
                evaluation.values(expression, dtype, "", None, target)

            def copy(copied: Any = copied, target: Any = target) -> None:
                np.copyto(target, copied)

            times = race({"decoded": decode, "memcpy": copy}, rounds=options.rounds)
            print_ratios(race_name, times, unit="memcpy", size=target.nbytes)
            goals.at_least(f"{race_name}: share of memcpy's speed",
                           times["memcpy"].best / times["decoded"].best, GOAL)
            tracemalloc.start()
            decode()
            goals.at_most(f"{race_name}: memory at most",
                          tracemalloc.get_traced_memory()[1] / 2**20, GOAL_MEBIBYTES, " MiB")
            tracemalloc.stop()
    goals.close(options.check)


def cases(rows: int, columns: int) -> Iterator[tuple[str, Expression, dict[str, SourceTensor]]]:
    """Yield each scheme's name, what gives (inputs, outputs), and random codes."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 127, (rows, columns), np.uint8)
    for scheme in ("float8_e4m3fn", "float8_e5m2"):
        for label, block in (("tensor", (rows, columns)), ("channel", (1, columns)), ("block",
                                                                                      (128, 128))):
            grid = [-(-extent // size) for extent, size in zip(codes.shape, block, strict=True)]
            yield (f"{scheme}, a scale for each {label}",
                   *_moved(scheme, 8, block,
                           {"codes": (scheme, codes), "scales": ("float32", _factors(rng, grid))}))
    blocks = rng.integers(0, 256, (rows, columns // 32, 16), np.uint8)
    powers = rng.integers(110, 130, blocks.shape[:-1], np.uint8)
    yield "MXFP4", *_moved("mxfp4", 4,
                           (1, 32), {"codes": ("uint8", blocks), "scales": ("uint8", powers)})
    for scheme in ("gptq_v2", "awq"):
        for bits in (4, 8):
            packed = 32 // bits
            shape = (rows, columns // packed) if scheme == "awq" else (rows // packed, columns)
            groups = rows // GROUP
            parts = {
                "codes": ("int32", _words(rng, shape)),
                "zeros": ("int32", _words(rng, (groups, columns // packed))),
                "scales": ("float16", _factors(rng, [groups, columns]).astype(np.float16))
            }
            yield f"{scheme} of {bits} bits", *_plain(scheme, bits, (GROUP, 1), parts)


Parts = dict[str, tuple[str, Any]]


def _plain(scheme: Any, bits: int, block: tuple[int, int],
           parts: Parts) -> tuple[Expression, dict[str, SourceTensor]]:
    dtype: Any = "bfloat16"
    tensors = {
        name: SourceTensor(name, values.shape, stored, lambda values=values: values)
        for name, (stored, values) in parts.items()
    }
    return Dequantize(tuple(map(Tensor, parts)), scheme, dtype, bits, block), tensors


def _moved(scheme: Any, bits: int, block: tuple[int, int],
           parts: Parts) -> tuple[Expression, dict[str, SourceTensor]]:
    node, tensors = _plain(scheme, bits, block, parts)
    return Permute(node, (1, 0)), tensors


def _factors(rng: Any, shape: Any) -> Any:
    return rng.random(shape, np.float32) + np.float32(0.5)


def _words(rng: Any, shape: Any) -> Any:
    return rng.integers(-2**31, 2**31, shape, np.int32)


if __name__ == "__main__":
    main()
