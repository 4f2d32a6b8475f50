"""Element-wise functions that networks use, by the names that Keras and torch have for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...comparison.arrays import apart
from ..context import Array

# A function is recognized when it gives an output to this part of its largest value.
RECOGNIZED = 2e-6


@dataclass(frozen=True, slots=True)
class Function:
    """A function: what to call it, what to write in Keras and in torch, and how it is computed (by
    torch, in float64).
    """

    name: str
    keras: str
    torch: str
    compute: Callable[[Any], Any]

    def __call__(self, array: Array) -> Array:
        """The function of an array, in float32."""
        import torch

        with torch.no_grad():
            wide = torch.from_numpy(np.ascontiguousarray(array, np.float64))
            return np.asarray(self.compute(wide).numpy(), np.float32)


def identity() -> Function:
    """No activation."""
    return Function("none", 'activation="linear"', "nn.Identity()", lambda x: x)


def functions() -> Iterator[Function]:
    """All that are known, the usual ones first."""
    from torch.nn import functional as f

    plain = (("relu", 'activation="relu"', "nn.ReLU()",
              f.relu), ("gelu", 'activation="gelu" (approximate=False)', "nn.GELU()", f.gelu),
             ("the tanh approximation of gelu", "keras.activations.gelu(x, approximate=True)",
              'nn.GELU(approximate="tanh")', lambda x: f.gelu(x, approximate="tanh")),
             ("silu (swish)", 'activation="silu"', "nn.SiLU()",
              f.silu), ("hard silu (hard swish)", 'activation="hard_silu"', "nn.Hardswish()",
                        f.hardswish), ("relu6", 'activation="relu6"', "nn.ReLU6()", f.relu6),
             ("sigmoid", 'activation="sigmoid"', "nn.Sigmoid()", lambda x: x.sigmoid()),
             ("hard sigmoid (relu6(x + 3) / 6)", 'activation="hard_sigmoid" of Keras 3',
              "nn.Hardsigmoid()", f.hardsigmoid), ("hard sigmoid (clip(0.2 x + 0.5))",
                                                   'activation="hard_sigmoid" of Keras 2',
                                                   "clip(0.2 * x + 0.5, 0, 1)", lambda x:
                                                   (0.2 * x + 0.5).clamp(0, 1)),
             ("tanh", 'activation="tanh"', "nn.Tanh()",
              lambda x: x.tanh()), ("elu", 'activation="elu"', "nn.ELU()",
                                    f.elu), ("selu", 'activation="selu"', "nn.SELU()", f.selu),
             ("mish", 'activation="mish"', "nn.Mish()",
              f.mish), ("softplus", 'activation="softplus"', "nn.Softplus()",
                        f.softplus), ("softsign", 'activation="softsign"', "nn.Softsign()",
                                      f.softsign), ("x sigmoid(1.702 x)", "x * sigmoid(1.702 * x)",
                                                    "quick gelu", lambda x: x *
                                                    (1.702 * x).sigmoid()),
             ("relu squared", "relu(x) ** 2", "relu(x) ** 2",
              lambda x: f.relu(x)**2), ("hard tanh", 'activation="hard_tanh"', "nn.Hardtanh()",
                                        f.hardtanh), ("log sigmoid", 'activation="log_sigmoid"',
                                                      "nn.LogSigmoid()", f.logsigmoid),
             ("exp", 'activation="exponential"', "torch.exp",
              lambda x: x.clamp(max=80).exp()), ("celu", 'activation="celu"', "nn.CELU()", f.celu))
    for name, keras, torch_name, compute in plain:
        yield Function(name, keras, torch_name, compute)
    for slope in (0.01, 0.2, 0.1, 0.3, 0.25, 0.05):
        yield Function(f"leaky relu with slope {slope:g}", f"LeakyReLU(negative_slope={slope:g})",
                       f"nn.LeakyReLU({slope:g})", partial(f.leaky_relu, negative_slope=slope))


def softmaxes(ndim: int) -> Iterator[Function]:
    """Softmax over each axis, the last first."""
    from torch.nn import functional as f

    for axis in (-1, *range(ndim - 1)):
        yield Function(f"softmax over axis {axis}", f"softmax, axis={axis}", f"softmax, dim={axis}",
                       partial(f.softmax, dim=axis))


def recognized(array: Array, output: Array) -> Function | None:
    """The function that gives `output` for `array`, None when it is none of the known ones."""
    if array.shape != output.shape or output.dtype.kind != "f":
        return None
    known = [identity(), *functions(), *(softmaxes(array.ndim) if array.ndim > 1 else ())]
    return next((function for function in known if apart(function(array), output) < RECOGNIZED),
                None)
