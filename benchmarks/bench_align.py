"""Alignment of wide and of deep nets: by running, beside the two plain forward passes of the same
models, and from a checkpoint alone.

    python -m benchmarks.bench_align [layers ...]        (1000 and 10000 by default)
    python -m benchmarks.bench_align --zoo [pair ...]    (pairs of tests/zoo, in its environment)

The goal for running is three times the sum of both warm passes and a millisecond a layer. No step
may grow with the square of the number of layers: the milliseconds a layer of two sizes, side by
side, show whether one does.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import torch

import keras_torch_convert as ktc

WIDTH = 8
IN_A_BRANCH = 4


class TorchWide(torch.nn.Module):
    """Branches of four layers on one input, added up."""
    def __init__(self, count: int) -> None:
        super().__init__()
        self.branches = torch.nn.ModuleList(
            torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(IN_A_BRANCH))
            for _ in range(count // IN_A_BRANCH))

    def forward(self, x: Any) -> Any:
        """Return the outputs."""
        total = 0
        for branch in self.branches:
            y = x
            for layer in branch:
                y = torch.tanh(layer(y))
            total = total + y
        return total


class KerasWide(keras.Model):
    """The same."""
    def __init__(self, count: int) -> None:
        super().__init__()
        self.branches = [[
            keras.layers.Dense(WIDTH, name=f"branch{branch}_dense{layer}")
            for layer in range(IN_A_BRANCH)
        ] for branch in range(count // IN_A_BRANCH)]

    def call(self, x: Any) -> Any:
        """Return the outputs."""
        total = 0
        for branch in self.branches:
            y = x
            for layer in branch:
                y = keras.ops.tanh(layer(y))
            total = total + y
        return total


class TorchDeep(torch.nn.Module):
    """One layer behind the other, each with its input added."""
    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(count))

    def forward(self, x: Any) -> Any:
        """Return the outputs."""
        for layer in self.layers:
            x = torch.tanh(x / 2 + layer(x))
        return x


class KerasDeep(keras.Model):
    """The same."""
    def __init__(self, count: int) -> None:
        super().__init__()
        self.dense = [keras.layers.Dense(WIDTH, name=f"dense{number}") for number in range(count)]

    def call(self, x: Any) -> Any:
        """Return the outputs."""
        for layer in self.dense:
            x = keras.ops.tanh(x / 2 + layer(x))
        return x


NETS = {"wide": (TorchWide, KerasWide), "subclassed, deep": (TorchDeep, KerasDeep)}


def seconds(function: Callable[[], object], times: int = 1) -> tuple[float, Any]:
    """Least seconds of several runs, and what the last one gave."""
    best, answer = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        answer = function()
        best = min(best, time.perf_counter() - start)
    return best, answer


def measure(name: str, count: int) -> None:
    """Print one line for one net; the plans are checked before their time is printed."""
    torch_net, keras_net = NETS[name]
    torch.manual_seed(0)
    module, model = torch_net(count).eval(), keras_net(count)
    inputs = np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)
    model(inputs)
    with torch.no_grad():
        ours, _ = seconds(lambda: module(torch.from_numpy(inputs)), 3)
        theirs, _ = seconds(lambda: model(inputs, training=False), 3)
    by_names, static = seconds(lambda: ktc.align(module.state_dict(), model, accept_unproven=True))
    by_running, plan = seconds(lambda: ktc.align(module, model, sample=inputs))
    assert len(plan.assignments) == 2 * count
    assert [one.expression for one in plan.assignments
           ] == [one.expression for one in static.assignments]
    goal = 3 * (ours + theirs) + count / 1000
    print(
        f"{name:18}{count:8}{ours:9.3f}{theirs:9.3f}{by_running:11.2f}{goal:8.2f}{by_names:10.2f}"
        f"{1000 * by_running / count:18.2f}{1000 * by_names / count:17.2f}", flush=True)


def main() -> None:
    """Measure all nets and sizes, or pairs of the zoo."""
    if sys.argv[1:2] == ["--zoo"]:
        from benchmarks.zoo_alignment import measure_zoo

        measure_zoo(sys.argv[2:])
        return
    print(f"{'net':18}{'layers':>8}{'torch s':>9}{'Keras s':>9}{'running s':>11}{'goal s':>8}"
          f"{'static s':>10}{'running ms/layer':>18}{'static ms/layer':>17}")
    for name in NETS:
        for count in [int(size) for size in sys.argv[1:]] or [1000, 10000]:
            measure(name, count)


if __name__ == "__main__":
    main()
