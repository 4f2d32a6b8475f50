"""Convolutions: PyTorch keeps channels first, Keras last; a transposed one exchanges input and
output.
"""

from __future__ import annotations

from .rule import AxisPattern, Rule

_SPATIAL = {1: "width", 2: "height width", 3: "depth height width"}
_SOURCE = ("torch.nn.{torch} weight and keras.layers.{keras} kernel, as their documentation gives "
           "the shapes")


def _kernel(ndim: int) -> AxisPattern:
    """(out, in / groups, spatial...) against (spatial..., in / groups, out): the groups are blocks
    of the output axis on both sides.
    """
    return AxisPattern(f"out in {_SPATIAL[ndim]}", f"{_SPATIAL[ndim]} in out")


def _transposed_kernel(ndim: int) -> AxisPattern:
    """(in, out, spatial...) against (spatial..., out, in): both are gradients of a convolution, so
    nothing is flipped.
    """
    return AxisPattern(f"in out {_SPATIAL[ndim]}", f"{_SPATIAL[ndim]} out in")


def _depthwise_kernel(ndim: int) -> AxisPattern:
    """PyTorch numbers output channels as channel * multiplier + copy, Keras keeps the two apart."""
    return AxisPattern(f"(channel multiplier) 1 {_SPATIAL[ndim]}",
                       f"{_SPATIAL[ndim]} channel multiplier")


def _rules(ndim: int) -> tuple[Rule, ...]:
    torch = f"Conv{ndim}d"
    plain = Rule(f"convolution {ndim}D", (f"Conv{ndim}D",),
                 _SOURCE.format(torch=torch, keras=f"Conv{ndim}D"), {"kernel": _kernel(ndim)})
    transposed = Rule(f"transposed convolution {ndim}D", (f"Conv{ndim}DTranspose",),
                      _SOURCE.format(torch=f"ConvTranspose{ndim}d", keras=f"Conv{ndim}DTranspose"),
                      {"kernel": _transposed_kernel(ndim)})
    if ndim == 3:
        return plain, transposed
    depthwise = Rule(
        f"depthwise convolution {ndim}D", (f"DepthwiseConv{ndim}D",),
        _SOURCE.format(torch=f"{torch} (groups = channels)", keras=f"DepthwiseConv{ndim}D"),
        {"kernel": _depthwise_kernel(ndim), "depthwise_kernel": _depthwise_kernel(ndim)})
    separable = Rule(
        f"separable convolution {ndim}D", (f"SeparableConv{ndim}D",),
        _SOURCE.format(torch=f"{torch} twice (groups = channels, then size 1)",
                       keras=f"SeparableConv{ndim}D"),
        {"depthwise_kernel": _depthwise_kernel(ndim), "pointwise_kernel": _kernel(ndim)})
    return plain, transposed, depthwise, separable


RULES = tuple(rule for ndim in (1, 2, 3) for rule in _rules(ndim))
