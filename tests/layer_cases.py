"""The same layer in PyTorch and in Keras, as data: one entry for each kind and setting that the rules must carry over.

Run as a script, `python tests/layer_cases.py tf_keras`, it converts and runs every case on Keras 2 and prints the relative
differences as JSON; the tests do that in a process of its own, and Keras 3 in theirs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from small_models import randomised


@dataclass(frozen=True)
class LayerCase:
    """`torch_layer(nn)` and `keras_layer(layers)` hold the same function; `input_shape` is Keras's, without the batch axis."""

    name: str
    torch_layer: Callable[[Any], Any]
    keras_layer: Callable[[Any], Any]
    input_shape: tuple[int, ...]
    tokens: int = 0
    channels_first: bool = False
    keras3_only: bool = False
    torch_names: tuple[str, ...] = ("layer",)


def separable(nn: Any, ndim: int) -> Any:
    """Depthwise with multiplier 3, then pointwise: Keras holds both in one layer."""
    convolution = getattr(nn, f"Conv{ndim}d")
    return nn.Sequential(convolution(4, 12, 3, groups=4, bias=False), convolution(12, 5, 1))


def rms_norm(nn: Any) -> Any:
    return nn.RMSNorm(6, eps=1e-6)


CASES = [
    LayerCase("conv1d", lambda nn: nn.Conv1d(4, 6, 3), lambda L: L.Conv1D(6, 3), (9, 4)),
    LayerCase("conv1d square", lambda nn: nn.Conv1d(3, 3, 3), lambda L: L.Conv1D(3, 3), (9, 3)),
    LayerCase("conv1d grouped", lambda nn: nn.Conv1d(4, 6, 3, groups=2), lambda L: L.Conv1D(6, 3, groups=2), (9, 4)),
    LayerCase("conv2d", lambda nn: nn.Conv2d(4, 6, (3, 2)), lambda L: L.Conv2D(6, (3, 2)), (9, 8, 4)),
    LayerCase("conv2d square", lambda nn: nn.Conv2d(3, 3, 3), lambda L: L.Conv2D(3, 3), (9, 8, 3)),
    LayerCase("conv2d without bias", lambda nn: nn.Conv2d(4, 6, 3, bias=False), lambda L: L.Conv2D(6, 3, use_bias=False), (9, 8, 4)),
    LayerCase("conv2d grouped", lambda nn: nn.Conv2d(4, 6, 3, groups=2), lambda L: L.Conv2D(6, 3, groups=2), (9, 8, 4)),
    LayerCase("conv2d dilated", lambda nn: nn.Conv2d(4, 6, 3, dilation=2), lambda L: L.Conv2D(6, 3, dilation_rate=2), (9, 8, 4)),
    LayerCase("conv2d strided", lambda nn: nn.Conv2d(4, 6, 3, stride=2), lambda L: L.Conv2D(6, 3, strides=2), (9, 9, 4)),
    LayerCase("conv3d cubic", lambda nn: nn.Conv3d(3, 3, 3), lambda L: L.Conv3D(3, 3), (5, 6, 7, 3)),
    LayerCase("conv3d", lambda nn: nn.Conv3d(2, 4, (2, 3, 1)), lambda L: L.Conv3D(4, (2, 3, 1)), (5, 6, 7, 2)),
    LayerCase("transposed conv1d", lambda nn: nn.ConvTranspose1d(4, 6, 3, stride=2), lambda L: L.Conv1DTranspose(6, 3, strides=2), (5, 4)),
    LayerCase("transposed conv2d", lambda nn: nn.ConvTranspose2d(4, 6, 3, stride=2), lambda L: L.Conv2DTranspose(6, 3, strides=2), (5, 4, 4)),
    LayerCase("transposed conv2d square", lambda nn: nn.ConvTranspose2d(3, 3, 3), lambda L: L.Conv2DTranspose(3, 3), (5, 4, 3)),
    LayerCase("transposed conv3d", lambda nn: nn.ConvTranspose3d(2, 3, 2), lambda L: L.Conv3DTranspose(3, 2), (4, 4, 4, 2)),
    LayerCase("depthwise conv1d", lambda nn: nn.Conv1d(4, 12, 3, groups=4), lambda L: L.DepthwiseConv1D(3, depth_multiplier=3), (9, 4)),
    LayerCase("depthwise conv2d", lambda nn: nn.Conv2d(4, 4, 3, groups=4), lambda L: L.DepthwiseConv2D(3), (9, 8, 4)),
    LayerCase("depthwise conv2d multiplier 3", lambda nn: nn.Conv2d(4, 12, (3, 2), groups=4), lambda L: L.DepthwiseConv2D((3, 2), depth_multiplier=3), (9, 8, 4)),
    LayerCase("depthwise conv2d multiplier 4 of 4", lambda nn: nn.Conv2d(4, 16, 3, groups=4), lambda L: L.DepthwiseConv2D(3, depth_multiplier=4), (9, 8, 4)),
    LayerCase("separable conv1d", lambda nn: separable(nn, 1), lambda L: L.SeparableConv1D(5, 3, depth_multiplier=3), (9, 4), torch_names=("layer.0", "layer.1")),
    LayerCase("separable conv2d", lambda nn: separable(nn, 2), lambda L: L.SeparableConv2D(5, 3, depth_multiplier=3), (9, 8, 4), torch_names=("layer.0", "layer.1")),
    LayerCase("dense", lambda nn: nn.Linear(4, 6), lambda L: L.Dense(6), (4,)),
    LayerCase("dense square", lambda nn: nn.Linear(5, 5), lambda L: L.Dense(5), (5,)),
    LayerCase("dense in a wrapper", lambda nn: nn.Linear(4, 6), lambda L: L.TimeDistributed(L.Dense(6)), (3, 4)),
    LayerCase("embedding", lambda nn: nn.Embedding(7, 4), lambda L: L.Embedding(7, 4), (5,), tokens=7),
    LayerCase("embedding square", lambda nn: nn.Embedding(6, 6), lambda L: L.Embedding(6, 6), (5,), tokens=6),
    LayerCase("batch norm 1d", lambda nn: nn.BatchNorm1d(4), lambda L: L.BatchNormalization(epsilon=1e-5), (4,)),
    LayerCase("batch norm 2d", lambda nn: nn.BatchNorm2d(4), lambda L: L.BatchNormalization(epsilon=1e-5), (6, 5, 4)),
    LayerCase("batch norm 3d", lambda nn: nn.BatchNorm3d(4), lambda L: L.BatchNormalization(epsilon=1e-5), (3, 4, 5, 4)),
    LayerCase("batch norm without scale and offset", lambda nn: nn.BatchNorm2d(4, affine=False), lambda L: L.BatchNormalization(epsilon=1e-5, scale=False, center=False), (6, 5, 4)),
    LayerCase("layer norm", lambda nn: nn.LayerNorm(6), lambda L: L.LayerNormalization(epsilon=1e-5), (5, 6)),
    LayerCase("layer norm without offset", lambda nn: nn.LayerNorm(6, bias=False), lambda L: L.LayerNormalization(epsilon=1e-5, center=False), (5, 6)),
    LayerCase("group norm", lambda nn: nn.GroupNorm(2, 6), lambda L: L.GroupNormalization(2, epsilon=1e-5), (5, 4, 6)),
    LayerCase("batch norm without weight and bias into one with", lambda nn: nn.BatchNorm2d(4, affine=False), lambda L: L.BatchNormalization(epsilon=1e-5), (6, 5, 4)),
    LayerCase("layer norm over a whole map", lambda nn: nn.LayerNorm((4, 5, 6)), lambda L: L.LayerNormalization(axis=[1, 2, 3], epsilon=1e-5), (5, 6, 4)),
    LayerCase("layer norm over a square map", lambda nn: nn.LayerNorm((4, 5, 5)), lambda L: L.LayerNormalization(axis=[-3, -2, -1], epsilon=1e-5), (5, 5, 4)),
    LayerCase("instance norm", lambda nn: nn.InstanceNorm2d(6, affine=True), lambda L: L.GroupNormalization(-1, epsilon=1e-5), (5, 4, 6)),
    LayerCase("prelu of one slope into one by channel", lambda nn: nn.PReLU(), lambda L: L.PReLU(shared_axes=[1, 2]), (6, 5, 4)),
    LayerCase("prelu by channel into one by place", lambda nn: nn.PReLU(4), lambda L: L.PReLU(), (6, 5, 4)),
    LayerCase("rms norm", rms_norm, lambda L: L.RMSNormalization(epsilon=1e-6), (5, 6), keras3_only=True),
    LayerCase("prelu by channel", lambda nn: nn.PReLU(4), lambda L: L.PReLU(shared_axes=[1, 2]), (6, 5, 4)),
    LayerCase("prelu of one slope", lambda nn: nn.PReLU(), lambda L: L.PReLU(shared_axes=[1, 2, 3]), (6, 5, 4)),
    LayerCase("conv2d channels first", lambda nn: nn.Conv2d(4, 6, 3), lambda L: L.Conv2D(6, 3, data_format="channels_first"), (4, 9, 8), channels_first=True, keras3_only=True),
    LayerCase("prelu channels first", lambda nn: nn.PReLU(4), lambda L: L.PReLU(shared_axes=[2, 3]), (4, 6, 5), channels_first=True),
]  # fmt: skip


def randomised_layer(case: LayerCase) -> Any:
    """The torch layer of a case under the name "layer", with random weights and statistics."""
    from torch import nn

    return randomised(nn.ModuleDict({"layer": case.torch_layer(nn)}))


def keras_model(keras: Any, case: LayerCase) -> Any:
    """A functional model that is the case's Keras layer and nothing else."""
    inputs = keras.Input(case.input_shape, dtype="int32" if case.tokens else "float32")
    return keras.Model(inputs, case.keras_layer(keras.layers)(inputs))


def relative_difference(module: Any, model: Any, case: LayerCase) -> float:
    """Largest difference of the two outputs on random input, as a fraction of torch's largest output."""
    import torch

    random = np.random.default_rng(1)
    shape = (2, *case.input_shape)
    values = random.integers(0, case.tokens, shape) if case.tokens else random.standard_normal(shape).astype("float32")
    moves_channels = values.ndim > 2 and not case.channels_first and case.name not in LAST_AXIS_ON_BOTH_SIDES
    torch_in = torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 1) if moves_channels else values))
    with torch.no_grad():
        expected = module["layer"](torch_in).numpy()
    if moves_channels:
        expected = np.moveaxis(expected, 1, -1)
    output = model(values)
    got = output.detach().cpu().numpy() if hasattr(output, "detach") else np.asarray(output)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    return float(np.abs(got - expected).max() / np.abs(expected).max())


# Layers that work on the last axis in PyTorch too.
LAST_AXIS_ON_BOTH_SIDES = ("dense in a wrapper", "layer norm", "layer norm without offset", "rms norm")


def differences_on_keras2() -> dict[str, float]:
    import tf_keras
    from transfer_helpers import transferred

    return {
        case.name: relative_difference(module, transferred(module, keras_model(tf_keras, case), case.torch_names), case)
        for case in CASES
        if not case.keras3_only
        for module in [randomised_layer(case)]
    }


if __name__ == "__main__":
    assert sys.argv[1:] == ["tf_keras"], "usage: python tests/layer_cases.py tf_keras"
    print(json.dumps(differences_on_keras2()))
