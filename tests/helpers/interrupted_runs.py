"""Ctrl-C at a chosen point of a run, counted in calls of functions, so that no clock decides where.

    python -m tests.helpers.interrupted_runs COUNT [SEED]

measures COUNT points of `align`, `convert` and `verify`.
"""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import keras
import numpy as np
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized


class Cached(nn.Module):
    """Keeps what it derives from its weights, and counts its calls."""
    instances: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.table, self.kept = nn.Parameter(torch.randn(6)), {"calls": 0}
        self.again = [self.dense.weight]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept["calls"] += 1
        if "table" not in self.kept:
            self.kept["table"] = self.table.flip(0)
        return self.norm(x @ self.again[0].T + self.dense.bias) + self.kept["table"]


class KerasCached(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.dense = keras.layers.Dense(6)
        self.dense.build(shape)
        self.norm = keras.layers.BatchNormalization(epsilon=1e-5)
        self.norm.build(shape)
        self.table = self.add_weight(shape=(6,), name="table")
        self.built = True

    def call(self, x: Any) -> Any:
        return self.norm(self.dense(x)) + keras.ops.flip(self.table, 0)


def pair() -> tuple[nn.Module, Any]:
    """A torch module in training mode, and its Keras twin with other values."""
    module = nn.Sequential(randomized(Cached()), nn.ReLU(), nn.Linear(6, 3))
    inputs = keras.Input((6,))
    return module.train(), keras.Model(
        inputs,
        keras.layers.Dense(3)(keras.layers.ReLU()(KerasCached()(inputs))))


def runs(module: nn.Module, model: Any, folder: Path) -> dict[str, Callable[[], Any]]:
    """Return what is interrupted, by name; each was run once, so that all is imported."""
    plan = ktc.align(module, model)
    named: dict[str, Callable[[], Any]] = {
        "align": lambda: ktc.align(module, model),
        "convert": lambda: ktc.convert(module, model, save=folder / "a.weights.h5"),
        "verify": lambda: ktc.verify(module, model, plan=plan),
    }
    for run in named.values():
        run()
    return named


def state_of(module: nn.Module, model: Any, folder: Path) -> dict[str, Any]:
    """Return all that an interrupt must leave as it was, by name, as bytes and plain values."""
    from torch.nn.modules import module as hooks

    state: dict[str, Any] = {
        name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()
    }
    state |= {
        f"keras {number}": np.array(value).tobytes()
        for number, value in enumerate(model.get_weights())
    }
    state |= {path.name: path.read_bytes() for path in folder.iterdir()}
    inner: Any = module[0]
    return state | {
        "modes": [one.training for one in module.modules()], "kept": dict(inner.kept),
        "alias": inner.again[0] is inner.dense.weight,
        "hooks": [len(one) for one in (hooks._global_forward_hooks,
                                       hooks._global_forward_pre_hooks)],
        "call": keras.layers.Layer.__call__, "signal": signal.getsignal(signal.SIGINT),
        "grad": torch.is_grad_enabled(), "fast": torch.backends.mha.get_fastpath_enabled(),
        "random": (random.getstate(), torch.get_rng_state().tolist(),
                   np.random.get_state()[1].tolist())
    }  # yapf: disable


def calls_of(run: Callable[[], Any], interrupt_at: int = 0) -> int:
    """Run, with Ctrl-C at the call of this number (0: at none); return how many calls there were.
    """
    count = 0

    def count_calls(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == interrupt_at:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(count_calls)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def broken_by_interrupts(count: int, seed: int) -> tuple[list[str], int]:
    """Interrupt each of the runs at `count` random points.

    Returns:
        What was not as before, in words, and how many runs were broken off.
    """
    generator = random.Random(seed)
    broken, stopped = [], 0
    with TemporaryDirectory() as name:
        folder, (module, model) = Path(name), pair()
        for title, run in runs(module, model, folder).items():
            total = calls_of(run)
            finished = state_of(module, model, folder)
            for _ in range(count):
                keras_values = [np.array(value) for value in model.get_weights()]
                model.set_weights([value + 1 for value in keras_values])
                before, point = state_of(module, model, folder), generator.randint(1, total)
                try:
                    calls_of(run, point)
                except KeyboardInterrupt:
                    stopped += 1
                    after = state_of(module, model, folder)
                    # Behind its last step a run is done, and stays so.
                    if title == "convert" and after == finished:
                        continue
                    broken += [
                        f"{title}, call {point} of {total}: {key}"
                        for key in {**before, **after} if before.get(key) != after.get(key)
                    ]
                model.set_weights(keras_values)
    return broken, stopped


if __name__ == "__main__":
    found, broken_off = broken_by_interrupts(int(sys.argv[1]),
                                             seed=int(sys.argv[2]) if sys.argv[2:] else 0)
    print(f"{broken_off} runs were broken off")
    print("\n".join(found) or "everything was as before")
