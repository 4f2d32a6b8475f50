"""Normalisations: scale, offset and statistics are raw parameters on both sides, told apart by their roles."""

from __future__ import annotations

from .rule import Rule

RULES = (
    Rule(
        "batch normalisation",
        ("BatchNormalization", "SyncBatchNormalization"),
        "torch.nn.BatchNorm*d: weight, bias, running_mean, running_var; Keras: gamma, beta, moving_mean, moving_variance",
    ),
    Rule(
        "layer normalisation",
        ("LayerNormalization",),
        "torch.nn.LayerNorm: weight, bias; Keras: gamma, beta",
    ),
    Rule(
        "group normalisation",
        ("GroupNormalization",),
        "torch.nn.GroupNorm: weight, bias, one for each channel; Keras: gamma, beta",
    ),
    Rule(
        "root mean square normalisation",
        ("RMSNormalization",),
        "torch.nn.RMSNorm: weight; Keras: scale",
    ),
)
