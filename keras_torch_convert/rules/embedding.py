"""Embedding tables: rows are tokens on both sides."""

from __future__ import annotations

from .rule import AxisPattern, Rule

RULES = (Rule(
    "embedding", ("Embedding",),
    "torch.nn.Embedding weight and keras.layers.Embedding embeddings are both (tokens, width)",
    {"embeddings": AxisPattern("token width", "token width")}),)
