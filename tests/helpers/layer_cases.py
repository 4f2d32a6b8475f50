"""Rules by kind of layer: the same layer in PyTorch and in Keras, one case for each kind and
setting that the rules must carry over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.rule_case import RuleCase, channels_last, directly


def layer_case(rule: str, name: str, torch_layer: Callable[[Any], Any],
               keras_layer: Callable[[Any], Any], shape: tuple[int, ...], *, tokens: int = 0,
               channels_first: bool = False, last_axis: bool = False, keras3_only: bool = False,
               constrained: bool = False, loss: str = "", refused_back: str = "",
               torch_names: tuple[str, ...] = ("layer",)) -> RuleCase:
    """A case of one Keras layer; with `last_axis` PyTorch works on the last axis too."""
    def model(keras: Any) -> Any:
        inputs = keras.Input(shape, dtype="int32" if tokens else "float32")
        return keras.Model(inputs, keras_layer(keras.layers)(inputs))

    return RuleCase(
        rule,
        name,
        torch_layer,
        model,
        (shape,),
        directly if tokens or channels_first or last_axis or len(shape) == 1 else channels_last,
        lambda model: {model.layers[-1].name: list(torch_names)},
        tokens=tokens,
        # Fewer values in torch than in Keras.
        constrained=constrained or " into one " in name,
        loss=loss,
        refused_back=refused_back,
        keras3_only=keras3_only,
        channels_first=channels_first)


def separable(nn: Any, ndim: int) -> Any:
    """Depthwise with multiplier 3, then pointwise: Keras holds both in one layer."""
    convolution = getattr(nn, f"Conv{ndim}d")
    return nn.Sequential(convolution(4, 12, 3, groups=4, bias=False), convolution(12, 5, 1))


def einsum_dense(layers: Any) -> Any:
    """Keras 2 keeps it among its experiments."""
    return layers.EinsumDense if hasattr(layers, "EinsumDense") else layers.experimental.EinsumDense


def rms_norm(nn: Any) -> Any:
    return nn.RMSNorm(6, eps=1e-6)


CASES = [
    layer_case("convolution 1D", "conv1d", lambda nn: nn.Conv1d(4, 6, 3), lambda L: L.Conv1D(6, 3),
               (9, 4)),
    layer_case("convolution 1D", "conv1d square", lambda nn: nn.Conv1d(3, 3, 3),
               lambda L: L.Conv1D(3, 3), (9, 3)),
    layer_case("convolution 1D", "conv1d grouped", lambda nn: nn.Conv1d(4, 6, 3, groups=2),
               lambda L: L.Conv1D(6, 3, groups=2), (9, 4)),
    layer_case("convolution 2D", "conv2d", lambda nn: nn.Conv2d(4, 6, (3, 2)),
               lambda L: L.Conv2D(6, (3, 2)), (9, 8, 4)),
    layer_case("convolution 2D", "conv2d square", lambda nn: nn.Conv2d(3, 3, 3),
               lambda L: L.Conv2D(3, 3), (9, 8, 3)),
    layer_case("convolution 2D", "conv2d without bias", lambda nn: nn.Conv2d(4, 6, 3, bias=False),
               lambda L: L.Conv2D(6, 3, use_bias=False), (9, 8, 4)),
    layer_case("convolution 2D", "conv2d grouped", lambda nn: nn.Conv2d(4, 6, 3, groups=2),
               lambda L: L.Conv2D(6, 3, groups=2), (9, 8, 4)),
    layer_case("convolution 2D", "conv2d dilated", lambda nn: nn.Conv2d(4, 6, 3, dilation=2),
               lambda L: L.Conv2D(6, 3, dilation_rate=2), (9, 8, 4)),
    layer_case("convolution 2D", "conv2d strided", lambda nn: nn.Conv2d(4, 6, 3, stride=2),
               lambda L: L.Conv2D(6, 3, strides=2), (9, 9, 4)),
    layer_case("convolution 3D", "conv3d cubic", lambda nn: nn.Conv3d(3, 3, 3),
               lambda L: L.Conv3D(3, 3), (5, 6, 7, 3)),
    layer_case("convolution 3D", "conv3d", lambda nn: nn.Conv3d(2, 4, (2, 3, 1)),
               lambda L: L.Conv3D(4, (2, 3, 1)), (5, 6, 7, 2)),
    layer_case("transposed convolution 1D", "transposed conv1d",
               lambda nn: nn.ConvTranspose1d(4, 6, 3, stride=2),
               lambda L: L.Conv1DTranspose(6, 3, strides=2), (5, 4)),
    layer_case("transposed convolution 2D", "transposed conv2d",
               lambda nn: nn.ConvTranspose2d(4, 6, 3, stride=2),
               lambda L: L.Conv2DTranspose(6, 3, strides=2), (5, 4, 4)),
    layer_case("transposed convolution 2D", "transposed conv2d square",
               lambda nn: nn.ConvTranspose2d(3, 3, 3), lambda L: L.Conv2DTranspose(3, 3),
               (5, 4, 3)),
    layer_case("transposed convolution 3D", "transposed conv3d",
               lambda nn: nn.ConvTranspose3d(2, 3, 2), lambda L: L.Conv3DTranspose(3, 2),
               (4, 4, 4, 2)),
    layer_case("depthwise convolution 1D", "depthwise conv1d",
               lambda nn: nn.Conv1d(4, 12, 3, groups=4),
               lambda L: L.DepthwiseConv1D(3, depth_multiplier=3), (9, 4)),
    layer_case("depthwise convolution 2D", "depthwise conv2d",
               lambda nn: nn.Conv2d(4, 4, 3, groups=4), lambda L: L.DepthwiseConv2D(3), (9, 8, 4)),
    layer_case("depthwise convolution 2D", "depthwise conv2d multiplier 3",
               lambda nn: nn.Conv2d(4, 12, (3, 2), groups=4), lambda L: L.DepthwiseConv2D(
                   (3, 2), depth_multiplier=3), (9, 8, 4)),
    layer_case("depthwise convolution 2D", "depthwise conv2d multiplier 4 of 4",
               lambda nn: nn.Conv2d(4, 16, 3, groups=4),
               lambda L: L.DepthwiseConv2D(3, depth_multiplier=4), (9, 8, 4)),
    layer_case("separable convolution 1D", "separable conv1d", lambda nn: separable(nn, 1),
               lambda L: L.SeparableConv1D(5, 3, depth_multiplier=3), (9, 4),
               torch_names=("layer.0", "layer.1")),
    layer_case("separable convolution 2D", "separable conv2d", lambda nn: separable(nn, 2),
               lambda L: L.SeparableConv2D(5, 3, depth_multiplier=3), (9, 8, 4),
               torch_names=("layer.0", "layer.1")),
    layer_case("dense", "dense", lambda nn: nn.Linear(4, 6), lambda L: L.Dense(6), (4,)),
    layer_case("dense", "dense square", lambda nn: nn.Linear(5, 5), lambda L: L.Dense(5), (5,)),
    layer_case("dense", "dense in a wrapper", lambda nn: nn.Linear(4, 6),
               lambda L: L.TimeDistributed(L.Dense(6)), (3, 4), last_axis=True),
    layer_case("embedding", "embedding", lambda nn: nn.Embedding(7, 4), lambda L: L.Embedding(7, 4),
               (5,), tokens=7),
    layer_case("embedding", "embedding square", lambda nn: nn.Embedding(6, 6),
               lambda L: L.Embedding(6, 6), (5,), tokens=6),
    layer_case("batch normalization", "batch norm 1d", lambda nn: nn.BatchNorm1d(4),
               lambda L: L.BatchNormalization(epsilon=1e-5), (4,)),
    layer_case("batch normalization", "batch norm 2d", lambda nn: nn.BatchNorm2d(4),
               lambda L: L.BatchNormalization(epsilon=1e-5), (6, 5, 4)),
    layer_case("batch normalization", "batch norm 3d", lambda nn: nn.BatchNorm3d(4),
               lambda L: L.BatchNormalization(epsilon=1e-5), (3, 4, 5, 4)),
    layer_case("batch normalization", "batch norm without scale and offset",
               lambda nn: nn.BatchNorm2d(4, affine=False),
               lambda L: L.BatchNormalization(epsilon=1e-5, scale=False, center=False), (6, 5, 4)),
    layer_case("layer normalization", "layer norm", lambda nn: nn.LayerNorm(6),
               lambda L: L.LayerNormalization(epsilon=1e-5), (5, 6), last_axis=True),
    layer_case("layer normalization", "layer norm without offset",
               lambda nn: nn.LayerNorm(6, bias=False),
               lambda L: L.LayerNormalization(epsilon=1e-5, center=False), (5, 6), last_axis=True),
    layer_case("group normalization", "group norm", lambda nn: nn.GroupNorm(2, 6),
               lambda L: L.GroupNormalization(2, epsilon=1e-5), (5, 4, 6)),
    layer_case("batch normalization", "batch norm without weight and bias into one with",
               lambda nn: nn.BatchNorm2d(4, affine=False),
               lambda L: L.BatchNormalization(epsilon=1e-5), (6, 5, 4)),
    layer_case("layer normalization", "layer norm over a whole map", lambda nn: nn.LayerNorm(
        (4, 5, 6)), lambda L: L.LayerNormalization(axis=[1, 2, 3], epsilon=1e-5), (5, 6, 4)),
    layer_case("layer normalization", "layer norm over a square map", lambda nn: nn.LayerNorm(
        (4, 5, 5)), lambda L: L.LayerNormalization(axis=[-3, -2, -1], epsilon=1e-5), (5, 5, 4)),
    layer_case("group normalization", "instance norm", lambda nn: nn.InstanceNorm2d(6, affine=True),
               lambda L: L.GroupNormalization(-1, epsilon=1e-5), (5, 4, 6)),
    layer_case("parametric relu", "prelu of one slope into one by channel", lambda nn: nn.PReLU(),
               lambda L: L.PReLU(shared_axes=[1, 2]), (6, 5, 4)),
    layer_case("parametric relu", "prelu by channel into one by place", lambda nn: nn.PReLU(4),
               lambda L: L.PReLU(), (6, 5, 4)),
    layer_case("root mean square normalization", "rms norm", rms_norm,
               lambda L: L.RMSNormalization(epsilon=1e-6), (5, 6), keras3_only=True,
               last_axis=True),
    layer_case("parametric relu", "prelu by channel", lambda nn: nn.PReLU(4),
               lambda L: L.PReLU(shared_axes=[1, 2]), (6, 5, 4)),
    layer_case("parametric relu", "prelu of one slope", lambda nn: nn.PReLU(),
               lambda L: L.PReLU(shared_axes=[1, 2, 3]), (6, 5, 4)),
    layer_case("convolution 2D", "conv2d channels first", lambda nn: nn.Conv2d(4, 6, 3),
               lambda L: L.Conv2D(6, 3, data_format="channels_first"), (4, 9, 8),
               channels_first=True, keras3_only=True),
    layer_case("parametric relu", "prelu channels first", lambda nn: nn.PReLU(4),
               lambda L: L.PReLU(shared_axes=[2, 3]), (4, 6, 5), channels_first=True),
    layer_case("batch normalization", "batch norm of sequences", lambda nn: nn.BatchNorm1d(4),
               lambda L: L.BatchNormalization(epsilon=1e-5), (7, 4)),
    layer_case("batch normalization", "synchronized batch norm", lambda nn: nn.SyncBatchNorm(4),
               lambda L: L.BatchNormalization(epsilon=1e-5), (5, 6, 4)),
    layer_case("batch normalization", "instance norm with statistics",
               lambda nn: nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
               lambda L: L.BatchNormalization(epsilon=1e-5), (5, 4, 6)),
    layer_case("layer normalization", "layer norm over a map of one channel",
               lambda nn: nn.LayerNorm((1, 5, 6)),
               lambda L: L.LayerNormalization(axis=[1, 2, 3], epsilon=1e-5), (5, 6, 1)),
    layer_case("layer normalization", "layer norm over channels and length",
               lambda nn: nn.LayerNorm(
                   (4, 7)), lambda L: L.LayerNormalization(axis=[1, 2], epsilon=1e-5), (7, 4)),
    layer_case("layer normalization", "layer norm without bias into one with",
               lambda nn: nn.LayerNorm(6, bias=False), lambda L: L.LayerNormalization(epsilon=1e-5),
               (5, 6), last_axis=True),
    layer_case("layer normalization", "layer norm over two axes that stand alike",
               lambda nn: nn.LayerNorm((5, 6)),
               lambda L: L.LayerNormalization(axis=[1, 2], epsilon=1e-5), (5, 6), last_axis=True),
    layer_case("group normalization", "instance norm of sequences",
               lambda nn: nn.InstanceNorm1d(6, affine=True),
               lambda L: L.GroupNormalization(-1, epsilon=1e-5), (5, 6)),
    layer_case("transposed convolution 2D", "transposed conv2d with output padding",
               lambda nn: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1),
               lambda L: L.Conv2DTranspose(6, 3, strides=2, output_padding=1), (4, 5, 4)),
    layer_case("convolution 2D", "conv2d grouped and dilated",
               lambda nn: nn.Conv2d(4, 6, 3, groups=2, dilation=2),
               lambda L: L.Conv2D(6, 3, groups=2, dilation_rate=2), (9, 8, 4)),
    layer_case("convolution 2D", "conv2d strided, odd size, same",
               lambda nn: nn.Conv2d(3, 5, 3, stride=2, padding=1),
               lambda L: L.Conv2D(5, 3, strides=2, padding="same"), (9, 7, 3)),
    layer_case("grouped transposed convolution", "strided",
               lambda nn: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
               lambda L: L.Conv2DTranspose(6, 3, strides=2), (5, 4, 4), constrained=True),
    layer_case("grouped transposed convolution", "by channel",
               lambda nn: nn.ConvTranspose1d(3, 6, 2, groups=3), lambda L: L.Conv1DTranspose(6, 2),
               (5, 3), constrained=True),
    layer_case("linear layer as convolution, or the reverse", "conv2d of size 1 into dense",
               lambda nn: nn.Conv2d(4, 6, 1), lambda L: L.Dense(6), (3, 5, 4)),
    layer_case("linear layer as convolution, or the reverse", "conv1d of size 1 into dense",
               lambda nn: nn.Conv1d(4, 4, 1), lambda L: L.Dense(4), (5, 4)),
    layer_case("linear layer as convolution, or the reverse", "conv1d of size 1 into einsum dense",
               lambda nn: nn.Conv1d(4, 6, 1), lambda L: einsum_dense(L)
               ("abc,cd->abd", (None, 6), bias_axes="d"), (5, 4)),
    *(layer_case("linear layer as convolution, or the reverse", f"dense into conv{ndim}d of size 1",
                 lambda nn: nn.Linear(5, 6), lambda L, ndim=ndim: getattr(L, f"Conv{ndim}D")(6, 1),
                 (*(3, 2, 4)[:ndim], 5), last_axis=True) for ndim in (1, 2, 3))
]
