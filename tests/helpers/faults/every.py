"""All kinds of faults, as they are put into pairs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from .ends import other_channel_order, other_preprocessing, softmax_in_keras, softmax_in_torch
from .fault import Fault
from .keras_classes import concat_order, keras_batch_statistics, keras_dropout, keras_merge
from .keras_settings import (extra_activation, keras_activation, keras_attention_scale,
                             keras_dilation, keras_epsilon, keras_setting, shifted_padding)
from .keras_weights import changed_weights, exchanged, flatten_order, swapped_layers

from .torch_modules import (  # isort: skip
    LAYERS, NORMS, attention_scale, average_of, dropped_branch, hooked, norm_behind_activation,
    rounded_up, torch_activation, torch_batch_statistics, torch_dilation, torch_dropout,
    torch_epsilon, torch_padding, torch_padding_mode, torch_pooling, torch_setting, uncounted)


def square(leaf: Any, variable: Any) -> bool:
    shape = variable.shape
    return (len(shape) == 2 and shape[0] == shape[1]) or (len(shape) == 4
                                                          and shape[0] == shape[1] > 1)


def every_fault() -> Iterator[Fault]:
    """All kinds."""
    yield keras_epsilon("BatchNormalization")
    yield keras_epsilon("LayerNormalization")
    yield keras_epsilon("GroupNormalization")
    yield torch_epsilon("batch norm", "BatchNorm2d", "BatchNormAct2d", "FrozenBatchNorm2d")
    yield torch_epsilon("layer norm", "LayerNorm", "LayerNorm2d")
    for old, new in (("relu", "relu6"), ("relu", "leaky relu"), ("relu6", "relu"),
                     ("silu", "hard_silu"), ("hard_silu", "silu"), ("gelu", "gelu tanh"),
                     ("gelu", "silu"), ("sigmoid", "hard_sigmoid"), ("hard_sigmoid", "sigmoid")):
        yield keras_activation(old, new)
    for old in ("relu", "relu6", "silu", "gelu", "hard_silu"):
        yield keras_activation(old, "linear", ("missing activation",))
    yield torch_activation("ReLU", "ReLU6")
    yield torch_activation("ReLU", "LeakyReLU", 0.2)
    yield torch_activation("GELU", "GELU", approximate="tanh")
    yield torch_activation("SiLU", "Hardswish")
    yield torch_activation("Hardswish", "SiLU")
    yield torch_activation("Hardsigmoid", "Sigmoid")
    yield torch_activation("Sigmoid", "Hardsigmoid")
    yield extra_activation()
    yield keras_dilation()
    yield shifted_padding(pooling=False)
    yield shifted_padding(pooling=True)
    yield changed_weights("square kernel transposed", ("transposed weights",), square, lambda a: a.T
                          if a.ndim == 2 else a.transpose(1, 0, 2, 3))
    yield changed_weights("kernel mirrored", ("flipped weights",),
                          lambda leaf, one: len(one.shape) == 4 and one.shape[0] > 1,
                          lambda a: a[::-1, ::-1])
    yield changed_weights("wrong scale of a kernel", ("scaled weights",), lambda leaf, one: True,
                          lambda a: 1.2 * a)
    yield changed_weights("kernel never loaded", ("weights not loaded", "weights"),
                          lambda leaf, one: True, lambda a: 0 * a)
    yield changed_weights("bias never loaded", ("weights not loaded",), lambda leaf, one: True,
                          lambda a: 0 * a, ("bias",))
    yield changed_weights("gain never loaded", ("weights not loaded",), lambda leaf, one: True,
                          lambda a: 0 * a + 1, ("gamma", "scale"))
    yield changed_weights("output channels in another order", ("weights order", "block order"),
                          lambda leaf, one: one.shape[-1] > 8 and len(one.shape) > 1,
                          lambda a: a[..., np.random.default_rng(0).permutation(a.shape[-1])])
    yield changed_weights(
        "query and key exchanged", ("block order", "swapped weights"),
        lambda leaf, one: "qkv" in leaf.display_name and one.shape[-1] % 3 == 0,
        lambda a: np.concatenate([*np.split(a, 3, -1)[1::-1],
                                  np.split(a, 3, -1)[2]], -1))
    yield changed_weights(
        "heads in another order", ("block order",), lambda leaf, one: leaf.display_name.endswith(
            ("qkv", "proj")) and one.shape[0] % 4 == 0 and len(one.shape) == 2,
        lambda a: np.roll(a, a.shape[0] // 4, axis=0))
    yield changed_weights("colors of the first kernel in the other order", ("flipped weights",),
                          lambda leaf, one: len(one.shape) == 4 and one.shape[2] == 3,
                          lambda a: a[:, :, ::-1])
    yield exchanged("mean and variance exchanged", ("moving_mean",), ("moving_variance",))
    yield exchanged("gain and offset exchanged", ("gamma",), ("beta",))
    yield swapped_layers("two norms swapped", "BatchNormalization", "LayerNormalization")
    yield swapped_layers("two layers swapped", "Conv2D", "DepthwiseConv2D", "Dense")
    yield flatten_order()
    yield keras_dropout()
    yield torch_dropout()
    yield keras_merge("residual missing in Keras", lambda inputs: inputs[0])
    yield keras_merge("mean in the place of a sum", lambda inputs: (inputs[0] + inputs[1]) / 2)
    yield concat_order()
    yield keras_batch_statistics()
    yield torch_batch_statistics()
    # A factor of the query or key is one of the scores of attention.
    scale = ("scale", "branch scale", "attention scale")
    yield hooked("output of a layer scaled in torch", scale, LAYERS, partial(_times, 1.3))
    yield hooked("activation that only torch has", ("missing activation", "activation"), NORMS,
                 _relu)
    yield torch_padding_mode("reflect")
    yield torch_padding_mode("circular")
    yield torch_padding()
    yield torch_dilation()
    yield torch_pooling("average in the place of the largest", ("pooling kind",), ("MaxPool2d",),
                        average_of)
    yield torch_pooling("count_include_pad", ("count_include_pad",), ("AvgPool2d",), uncounted)
    yield torch_pooling("ceil mode of pooling", ("ceil mode",), ("MaxPool2d", "AvgPool2d"),
                        rounded_up)
    yield keras_setting("groups of a Keras norm", ("groups",), ("GroupNormalization",), groups=2)
    yield keras_setting("interpolation in Keras", ("interpolation",), ("UpSampling2D",),
                        interpolation="nearest")
    yield keras_setting("axis of a softmax in Keras", ("softmax axis",), ("Softmax",), axis=1)
    yield keras_setting("slope of a leaky relu in Keras", ("activation",), ("LeakyReLU",),
                        negative_slope=0.01, alpha=0.01)
    yield torch_setting("corners aligned in torch", ("align_corners",), ("Upsample",),
                        align_corners=True)
    yield torch_setting("interpolation in torch", ("interpolation",), ("Upsample",), mode="bicubic")
    yield torch_setting("axis of a softmax in torch", ("softmax axis",), ("Softmax",), dim=2)
    yield torch_activation("Tanh", "Softsign")
    yield torch_activation("ELU", "SELU")
    yield norm_behind_activation()
    yield attention_scale()
    yield keras_attention_scale()
    yield dropped_branch()
    yield other_preprocessing()
    yield other_channel_order()
    yield softmax_in_keras()
    yield softmax_in_torch()


def _times(factor: float, output: Any) -> Any:
    return factor * output


def _relu(output: Any) -> Any:
    return output.relu()
