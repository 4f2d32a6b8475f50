"""A whole conversion between live models of ResNet-50's size, and the memory that 1.2 GB of weights
need.

    python -m benchmarks.bench_conversion

Rivals: the classic way in plain Python and NumPy (transpose, set_weights, model.save), and memcpy
of the same bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np

from benchmarks.goals import Goals
from benchmarks.race import print_ratios, race

LARGE_BYTES = 1_200_000_000

# Processor time beside that of the classic way, which checks nothing and restores nothing.
GOAL = 0.7


def main() -> None:
    import keras

    goals = Goals()
    resnet = keras.applications.ResNet50(weights=None, classifier_activation=None)
    race_of("ResNet-50", resnet, goals, saved=True)
    race_of("ViT-L", vit_large(), goals, saved=False)
    memory()
    goals.close(check=False)


def vit_large() -> Any:
    """Return the layers of ViT-L's blocks, in a chain."""
    import keras

    inputs = x = keras.Input((4, 1024))
    for _ in range(24):
        for width in (1024, 1024, 1024, 1024, 4096, 1024):
            x = keras.layers.Dense(width)(x)
    return keras.Model(inputs, x)


def race_of(name: str, keras_model: Any, goals: Goals, saved: bool) -> None:
    """Time ours, the classic way and memcpy on the layers of a model."""
    from keras_torch_convert import keras_reload_from_torch_model

    module = twin_module(keras_model)
    expected = expected_values(module, keras_model)
    size = sum(array.nbytes for array in expected)
    initial = [np.zeros_like(array) for array in expected]
    copies = [np.zeros_like(array) for array in expected]

    def ours(save_name: str) -> Any:
        return keras_reload_from_torch_model(module, keras_model, save_name=save_name,
                                             do_predict=False, verbose=0)

    def memcpy() -> None:
        for copy, array in zip(copies, expected, strict=True):
            np.copyto(copy, array)

    for convert in (lambda: ours(""), lambda: classic_way(module, keras_model, None)):
        keras_model.set_weights(initial)
        convert()
        assert all(
            np.array_equal(a, b) for a, b in zip(expected, keras_model.get_weights(), strict=True))

    times = race({
        "memcpy": memcpy, "this package": lambda: ours(""),
        "the classic way": lambda: classic_way(module, keras_model, None)
    })
    title = f"{name}, live model to live model, {len(module.layers)} layers, {size / 1e6:.0f} MB"
    print_ratios(title, times, unit="the classic way", size=size)
    goals.at_most(f"{name}, live: of the classic way's processor time",
                  times["this package"].processor / times["the classic way"].processor, GOAL)
    if not saved:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.h5"
        times = race(
            {
                "memcpy": memcpy, "this package, checked and hashed": lambda: ours(path),
                "the classic way, unchecked": lambda: classic_way(module, keras_model, path)
            }, rounds=5)
        print_ratios(f"{name}, saved as .h5", times, unit="the classic way, unchecked", size=size)
        report = ours(path)
        print("  seconds by stage:",
              {name: round(seconds, 3) for name, seconds in report.seconds.items()})


def twin_module(keras_model: Any) -> Any:
    """Return a torch module with a layer for each Keras layer with weights, random values."""
    import torch

    def twin(layer: Any) -> Any:
        kind, shape = type(layer).__name__, tuple(layer.weights[0].shape)
        if kind == "Conv2D":
            return torch.nn.Conv2d(shape[2], shape[3], shape[:2], bias=layer.use_bias)
        if kind == "BatchNormalization":
            return torch.nn.BatchNorm2d(shape[0])
        if kind == "Dense":
            return torch.nn.Linear(*shape)
        raise NotImplementedError(f"no twin for {kind}")

    module = torch.nn.Module()
    module.layers = torch.nn.ModuleList(
        twin(layer) for layer in keras_model.layers if layer.weights)
    generator = torch.Generator().manual_seed(11)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator)
    return module


def stacked_by_layer(module: Any) -> dict[str, list[np.ndarray]]:
    """Return the classic collection, restated: layer name to its arrays."""
    stacked: dict[str, list[np.ndarray]] = {}
    for name, tensor in module.state_dict().items():
        layer, _, last = name.rpartition(".")
        if last != "num_batches_tracked":
            stacked.setdefault(layer, []).append(tensor.float().numpy())
    return stacked


def in_keras_layout(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Return the classic default transforms of the kinds of layer that a ResNet has."""
    first, *others = arrays
    if first.ndim == 4:
        return [first.transpose(2, 3, 1, 0), *others]
    return [first.T, *others] if first.ndim == 2 else arrays


def classic_way(module: Any, keras_model: Any, path: str | None) -> None:
    """Stack, pair by order, transpose, set_weights, save; nothing is checked."""
    layers = [layer for layer in keras_model.layers if layer.weights]
    for arrays, layer in zip(stacked_by_layer(module).values(), layers, strict=True):
        layer.set_weights(in_keras_layout(arrays))
    if path is not None:
        keras_model.save(path)


def expected_values(module: Any, keras_model: Any) -> list[np.ndarray]:
    """Return what the Keras model must hold afterward, in the order of `get_weights()`."""
    values = [
        np.ascontiguousarray(array) for arrays in stacked_by_layer(module).values()
        for array in in_keras_layout(arrays)
    ]
    assert [array.shape for array in values
           ] == [tuple(weight.shape) for weight in keras_model.weights]
    return values


def memory() -> None:
    """What a conversion of 1.2 GB adds to the memory of the process, measured in a process of its
    own.
    """
    print(
        f"\nmemory that converting {LARGE_BYTES / 1e9:.1f} GB adds, both models being there already"
    )
    for way in ("live", "saved as .h5"):
        answer = subprocess.run([sys.executable, "-m", "benchmarks.bench_conversion", way],
                                check=True, stdout=subprocess.PIPE, text=True)
        added = json.loads(answer.stdout.splitlines()[-1])["added"]
        print(f"  {way:32}{added / 1e6:8.0f} MB = {added / LARGE_BYTES:.2f} of the weights")
        assert added < LARGE_BYTES / 2, "a second copy of the weights was held"


def convert_large(way: str) -> None:
    """Convert a chain of Dense layers of 8 MB each, and print what the peak of memory was above the
    level before.
    """
    import keras
    import torch

    from keras_torch_convert import keras_reload_from_torch_model

    if way != "live":
        # Keras's own saving imports it, which takes more memory than it leaves to see.
        with contextlib.suppress(ImportError):
            import tensorflow  # noqa: F401
    count = LARGE_BYTES // (1024 * 2048 * 4)
    widths = [1024 if place % 2 else 2048 for place in range(count + 1)]
    inputs = x = keras.Input((widths[0],))
    for width in widths[1:]:
        x = keras.layers.Dense(width, use_bias=False, kernel_initializer="zeros")(x)
    keras_model = keras.Model(inputs, x)
    generator = torch.Generator().manual_seed(1)
    state_dict = {
        f"layers.{place}.weight": torch.rand((rows, columns), generator=generator)
        for place, (columns, rows) in enumerate(itertools.pairwise(widths))
    }
    with tempfile.TemporaryDirectory() as folder:
        before = forget_peak()
        save_name = "" if way == "live" else str(Path(folder) / "large.h5")
        keras_reload_from_torch_model(state_dict, keras_model, save_name=save_name,
                                      do_predict=False, verbose=0)
        added = status_bytes("VmHWM") - before
    for tensor, weight in zip(state_dict.values(), keras_model.weights, strict=True):
        assert np.array_equal(tensor.numpy().T, keras.ops.convert_to_numpy(weight))
    print(json.dumps({"added": added}))


def forget_peak() -> int:
    """Reset the kernel's record of the largest resident size of this process; the size now, in
    bytes.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")


def status_bytes(field: str) -> int:
    """Return a field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        convert_large(sys.argv[1])
    else:
        main()
