"""Layers whose weights are cut, turned and joined, beside the NumPy way: `python -m
benchmarks.bench_transfer [--rounds 7]`.

Ours is the executor from the Plan on: everything checked, then every variable in a buffer of its
own. The NumPy way is what recipes in use do: slices, transposes and concatenations of whole arrays,
each step an array. Results are compared bit for bit before any time counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.race import print_ratios, race
from keras_torch_convert.plan.evaluation import shape_of
from keras_torch_convert.plan.executor import check_plan
from keras_torch_convert.plan.expressions import (Add, Concat, Expression, Permute, Reshape, Slice,
                                                  Tensor)
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.source import Source, SourceTensor
from keras_torch_convert.spec.target import Target, TargetLayer, TargetVariable

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """Torch tensors, the expression of every Keras variable, and the same by NumPy."""

    name: str
    tensors: Mapping[str, Array]
    expressions: Sequence[Expression]
    by_numpy: Callable[[Mapping[str, Array]], list[Array]]


def random(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def lstm(width: int = 2048) -> Case:
    """Return an LSTM: gates in rows and two biases in torch, a transposed kernel in Keras."""
    tensors = {name: random(4 * width, width) for name in ("weight_ih", "weight_hh")}
    tensors |= {name: random(4 * width) for name in ("bias_ih", "bias_hh")}
    # Both number the gates input, forget, cell, output; GRU needs another order, which is what the
    # slices stand for.
    order = (0, 1, 2, 3)

    def gates(operand: Expression) -> Expression:
        return Concat(tuple(Slice(operand, 0, width * gate, width * (gate + 1)) for gate in order),
                      0)

    def by_numpy(tensors: Mapping[str, Array]) -> list[Array]:
        def gates(array: Array) -> Array:
            parts = np.split(array, 4)
            return np.concatenate([parts[gate] for gate in order])

        kernels = [
            np.ascontiguousarray(gates(tensors[name]).T) for name in ("weight_ih", "weight_hh")
        ]
        return [*kernels, gates(tensors["bias_ih"] + tensors["bias_hh"])]

    kernels = [Permute(gates(Tensor(name)), (1, 0)) for name in ("weight_ih", "weight_hh")]
    bias = gates(Add((Tensor("bias_ih"), Tensor("bias_hh"))))
    return Case(f"LSTM of width {width}, gates", tensors, [*kernels, bias], by_numpy)


def gru(width: int = 2048) -> Case:
    """Reset, update, new on the torch side; update, reset, new on the Keras side."""
    tensors = {name: random(3 * width, width) for name in ("weight_ih", "weight_hh")}
    order = (1, 0, 2)

    def by_numpy(tensors: Mapping[str, Array]) -> list[Array]:
        result = []
        for name in ("weight_ih", "weight_hh"):
            parts = np.split(tensors[name], 3)
            result.append(np.ascontiguousarray(np.concatenate([parts[gate] for gate in order]).T))
        return result

    expressions = [
        Permute(
            Concat(
                tuple(Slice(Tensor(name), 0, width * gate, width * (gate + 1))
                      for gate in order), 0), (1, 0)) for name in ("weight_ih", "weight_hh")
    ]
    return Case(f"GRU of width {width}, gates", tensors, expressions, by_numpy)


def fused_qkv(width: int = 4096, heads: int = 32) -> Case:
    """(3 * width, width) to three kernels (width, heads, head width)."""
    shape = (width, heads, width // heads)

    def by_numpy(tensors: Mapping[str, Array]) -> list[Array]:
        return [np.ascontiguousarray(part.T).reshape(shape) for part in np.split(tensors["qkv"], 3)]

    expressions = [
        Reshape(Permute(Slice(Tensor("qkv"), 0, width * part, width * (part + 1)), (1, 0)), shape)
        for part in range(3)
    ]
    return Case(f"fused QKV {(3 * width, width)}", {"qkv": random(3 * width, width)}, expressions,
                by_numpy)


def interleaved_qkv(width: int = 4096, heads: int = 32) -> Case:
    """Return the same, but every head has its query, key and value together."""
    head = width // heads

    def by_numpy(tensors: Mapping[str, Array]) -> list[Array]:
        grouped = tensors["qkv"].reshape(heads, 3, head, width)
        return [np.ascontiguousarray(grouped[:, part].transpose(2, 0, 1)) for part in range(3)]

    grouped = Reshape(Tensor("qkv"), (heads, 3, head, width))
    expressions = [
        Permute(Reshape(Slice(grouped, 1, part, part + 1), (heads, head, width)), (2, 0, 1))
        for part in range(3)
    ]
    return Case(f"QKV by heads {(3 * width, width)}", {"qkv": random(3 * width, width)},
                expressions, by_numpy)


def flattened(channels: int = 512, side: int = 7, units: int = 4096) -> Case:
    """Return a Dense layer behind Flatten: rows by channel, height, width, or channel last."""
    shape = (units, channels, side, side)

    def by_numpy(tensors: Mapping[str, Array]) -> list[Array]:
        return [
            np.ascontiguousarray(tensors["fc"].reshape(shape).transpose(2, 3, 1,
                                                                        0)).reshape(-1, units)
        ]

    turned = Permute(Reshape(Tensor("fc"), shape), (2, 3, 1, 0))
    expression = Reshape(turned, (channels * side * side, units))
    return Case(f"Dense after Flatten {shape}", {"fc": random(units, channels * side * side)},
                [expression], by_numpy)


def executor_of(case: Case) -> Callable[[], list[Array]]:
    """Return the executor on a model of one layer that has a variable for every expression."""
    shapes = {name: array.shape for name, array in case.tensors.items()}
    tensors = {
        name: SourceTensor(name, array.shape, "float32", lambda array=array: array)
        for name, array in case.tensors.items()
    }
    variables = tuple(
        TargetVariable(f"layer/{index}", f"layer/{index}", str(index), shape_of(one, shapes),
                       "float32", True, None) for index, one in enumerate(case.expressions))
    layer = TargetLayer("layer", "layer", ("Layer",), variables, (), 0, {}, None)
    target = Target(None, "model", "keras", "torch", (layer,))
    plan = Plan(
        tuple(Assignment(f"layer/{index}", one, "") for index, one in enumerate(case.expressions)))
    source = Source(tensors, "arrays")
    return lambda: [array for _, array in check_plan(plan, source, target).arrays()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="run only the cases that contain this text")
    options = parser.parse_args()
    for make in (lstm, gru, fused_qkv, interleaved_qkv, flattened):
        case = make()
        if options.only not in case.name:
            continue
        ours = executor_of(case)
        for got, expected in zip(ours(), case.by_numpy(case.tensors), strict=True):
            assert got.shape == expected.shape, case.name
            assert got.tobytes() == expected.tobytes(), case.name
        alternatives: dict[str, Callable[[], object]] = {
            "ours": ours, "numpy": lambda case=case: case.by_numpy(case.tensors),
            "memcpy": lambda case=case: [array.copy() for array in case.tensors.values()]
        }
        size = sum(array.nbytes for array in case.tensors.values())
        print_ratios(f"{case.name}, {size / 2**20:.0f} MiB",
                     race(alternatives, rounds=options.rounds), unit="ours", size=size)


if __name__ == "__main__":
    main()
