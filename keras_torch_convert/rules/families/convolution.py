"""Convolutions: PyTorch keeps channels first, Keras last; a transposed one exchanges in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from ...plan.recipe import Assignment
from ...spec.layer_groups import TorchLayer
from ...spec.target import TargetLayer
from ..rule import AxisPattern, Rule

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
ONE_KERNEL = (*CONVOLUTIONS, "DepthwiseConv1D", "DepthwiseConv2D")

_SPATIAL = {1: "width", 2: "height width", 3: "depth height width"}

# PyTorch numbers the outputs of a depthwise kernel as channel * multiplier + copy.
_KERNELS = {
    "plain": ("out in {0}", "{0} in out"), "transposed": ("in out {0}", "{0} out in"),
    "depthwise": ("(channel multiplier) 1 {0}", "{0} channel multiplier")
}


def _kernel(kind: str, ndim: int) -> AxisPattern:
    torch, keras = _KERNELS[kind]
    return AxisPattern(torch.format(_SPATIAL[ndim]), keras.format(_SPATIAL[ndim]))


def _rules(ndim: int) -> tuple[Rule, ...]:
    plain, depthwise = _kernel("plain", ndim), _kernel("depthwise", ndim)

    def rule(name: str, keras: str, torch: str, **axes: AxisPattern) -> Rule:
        return Rule(
            f"{name} convolution {ndim}D".strip(), (keras,),
            (f"torch.nn.{torch} weight and keras.layers.{keras} kernel, as their documentation "
             "gives the shapes"), axes)

    both = (rule("", f"Conv{ndim}D", f"Conv{ndim}d", kernel=plain),
            rule("transposed", f"Conv{ndim}DTranspose", f"ConvTranspose{ndim}d",
                 kernel=_kernel("transposed", ndim)))
    if ndim == 3:
        return both
    return (*both,
            rule("depthwise", f"DepthwiseConv{ndim}D", f"Conv{ndim}d (groups = channels)",
                 kernel=depthwise, depthwise_kernel=depthwise),
            rule("separable", f"SeparableConv{ndim}D",
                 f"Conv{ndim}d twice (groups = channels, then size 1)", depthwise_kernel=depthwise,
                 pointwise_kernel=plain))


RULES = tuple(rule for ndim in (1, 2, 3) for rule in _rules(ndim))


def with_padding_note(assignments: Sequence[Assignment], torch_layer: TorchLayer,
                      layer: TargetLayer) -> tuple[Assignment, ...]:
    """Note it when Keras's "same" pads elsewhere than PyTorch's module does."""
    note = _padding_note(torch_layer, layer)
    if not note:
        return tuple(assignments)
    return (replace(assignments[0], note=note), *assignments[1:])


def _padding_note(torch_layer: TorchLayer, layer: TargetLayer) -> str:
    """Return a sentence when "same" puts zeros elsewhere than PyTorch, "" when that is not known.

    TensorFlow's documentation (tf.nn): "same" pads ceil(n / s) * s ... in all, the odd one behind;
    PyTorch pads both sides alike.
    """
    strides = layer.settings.get("strides")
    pads = any(name in ONE_KERNEL or name.startswith("SeparableConv") for name in layer.class_names)
    module = next((one for one in torch_layer.modules.values()
                   if isinstance(getattr(one, "padding", None), tuple)), None)
    if not pads or module is None or layer.settings.get("padding") != "same":
        return ""
    if not isinstance(strides, tuple) or max(strides) < 2 or len(module.padding) != len(strides):
        return ""
    if _may_pad_by_itself(module):
        return ""
    extents = spatial_shape(layer) or (None,) * len(strides)
    axes = zip(extents, strides, module.kernel_size, module.dilation, module.padding, strict=True)
    for extent, stride, size, dilation, padding in axes:
        reach = (size - 1) * dilation + 1
        if extent is None:
            differs = reach - stride != 2 * padding or reach % 2 == stride % 2
        else:
            windows = ceil(extent / stride)
            total = max((windows - 1) * stride + reach - extent, 0)
            differs = (total // 2 != padding
                       or (extent + 2 * padding - reach) // stride + 1 != windows)
        if differs:
            where = f"of {extent}" if extent else "of an even size"
            same = (f"'{layer.display_name}': padding='same' with stride {stride} on an input "
                    f"{where} pads more behind than in front, PyTorch pads ")
            if padding:
                return (f"{same}{padding} on both sides, so that outputs differ: use "
                        f"ZeroPadding({padding}) and padding='valid' in Keras")
            return (f"{same}nothing here, so that outputs differ unless something before it pads "
                    "so: use padding='valid' in Keras")
    return ""


def _may_pad_by_itself(module: Any) -> bool:
    """Return True for a class with a `forward` of its own, as those that pad like TensorFlow."""
    own: Any = type(module)
    if own.__name__ in ("StdConv2d", "ScaledStdConv2d"):
        return False
    torchs = (base for base in own.__mro__ if base.__module__.startswith("torch.nn.modules."))
    return own.forward is not next(torchs, own).forward


def spatial_shape(layer: TargetLayer) -> tuple[Any, ...] | None:
    """Return height and width of the layer's input, None where they are open or not known."""
    shape = layer.settings.get("input_shape")
    if shape is None:
        return None
    return tuple(shape[1:] if layer.settings.get("data_format") == "channels_first" else shape[:-1])
