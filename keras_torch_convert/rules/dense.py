"""Dense layers: the kernel is PyTorch's matrix transposed."""

from __future__ import annotations

from .rule import AxisPattern, Rule

RULES = (Rule("dense", ("Dense",),
              ("torch.nn.Linear computes x A^T + b with A (out, in); keras.layers.Dense computes x "
               "kernel + bias"), {"kernel": AxisPattern("out in", "in out")}),)
