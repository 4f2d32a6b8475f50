"""Activations with parameters."""

from __future__ import annotations

from .rule import Rule

RULES = (
    Rule(
        "parametric relu",
        ("PReLU",),
        "torch.nn.PReLU: one slope (1,) or one for each channel (C,); Keras: alpha over all axes, of size 1 where shared_axes says so",
    ),
)
