"""A decoder like Llama of any depth and width in both frameworks: grouped heads, gated inner
layers, no biases, an output layer of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tests.helpers.small_models import randomized

POSITIONS = 5


class Size(NamedTuple):
    """Of no two sizes of a learned one may be equal."""

    layers: int
    width: int
    heads: int
    key_heads: int
    head_size: int
    inner: int
    vocabulary: int


SMALL = Size(2, 18, 6, 2, 4, 28, 37)
OTHER = Size(3, 20, 3, 1, 8, 34, 41)


def tensor_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """The checkpoint of a size."""
    layers, width, heads, key_heads, head_size, inner, vocabulary = size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for index in range(layers):
        block = f"model.layers.{index}."
        shapes |= {
            f"{block}input_layernorm.weight": (width,), f"{block}self_attn.q_proj.weight":
                (heads * head_size, width), f"{block}self_attn.k_proj.weight":
                    (key_heads * head_size, width), f"{block}self_attn.v_proj.weight":
                        (key_heads * head_size, width),
            f"{block}self_attn.o_proj.weight": (width, heads * head_size),
            f"{block}post_attention_layernorm.weight": (width,), f"{block}mlp.gate_proj.weight":
                (inner, width), f"{block}mlp.up_proj.weight": (inner, width),
            f"{block}mlp.down_proj.weight": (width, inner)
        }
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def torch_decoder(size: Size) -> Any:
    """The model with the names of transformers."""
    import torch
    from torch.nn import Embedding, Linear, Module, ModuleList, RMSNorm

    _, width, heads, key_heads, head_size, inner, vocabulary = size

    class Attention(Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj = Linear(width, heads * head_size, bias=False)
            self.k_proj = Linear(width, key_heads * head_size, bias=False)
            self.v_proj = Linear(width, key_heads * head_size, bias=False)
            self.o_proj = Linear(heads * head_size, width, bias=False)

        def forward(self, x: Any) -> Any:
            q, k, v = (one(x).unflatten(-1, (-1, head_size)).transpose(1, 2)
                       for one in (self.q_proj, self.k_proj, self.v_proj))
            k, v = (one.repeat_interleave(heads // key_heads, 1) for one in (k, v))
            scores = torch.softmax(q @ k.transpose(-1, -2) / head_size**0.5, -1)
            return self.o_proj((scores @ v).transpose(1, 2).flatten(2))

    class Inner(Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_proj = Linear(width, inner, bias=False)
            self.up_proj = Linear(width, inner, bias=False)
            self.down_proj = Linear(inner, width, bias=False)

        def forward(self, x: Any) -> Any:
            return self.down_proj(torch.nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))

    class Block(Module):
        def __init__(self) -> None:
            super().__init__()
            self.input_layernorm = RMSNorm(width, eps=1e-5)
            self.self_attn = Attention()
            self.post_attention_layernorm = RMSNorm(width, eps=1e-5)
            self.mlp = Inner()

        def forward(self, x: Any) -> Any:
            x = x + self.self_attn(self.input_layernorm(x))
            return x + self.mlp(self.post_attention_layernorm(x))

    class Body(Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens = Embedding(vocabulary, width)
            self.layers = ModuleList(Block() for _ in range(size.layers))
            self.norm = RMSNorm(width, eps=1e-5)

        def forward(self, ids: Any) -> Any:
            x = self.embed_tokens(ids)
            for layer in self.layers:
                x = layer(x)
            return self.norm(x)

    class Decoder(Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Body()
            self.lm_head = Linear(width, vocabulary, bias=False)

        def forward(self, ids: Any) -> Any:
            return self.lm_head(self.model(ids))

    return randomized(Decoder())


def keras_decoder(size: Size) -> Any:
    """The same of layers whose kernels have an axis for the heads; blocks have automatic names."""
    import keras
    from keras import layers, ops

    _, width, heads, key_heads, head_size, inner, vocabulary = size

    class DecoderBlock(layers.Layer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.attention_norm = layers.RMSNormalization(epsilon=1e-5, name="attention_norm")
            self.query, self.key, self.value = (layers.EinsumDense(
                "btw,whd->bthd", (None, count, head_size),
                name=name) for name, count in (("query", heads), ("key", key_heads), ("value",
                                                                                      key_heads)))
            self.out = layers.EinsumDense("bthd,hdw->btw", (None, width), name="out")
            self.inner_norm = layers.RMSNormalization(epsilon=1e-5, name="inner_norm")
            self.gate = layers.Dense(inner, "silu", use_bias=False, name="gate")
            self.up = layers.Dense(inner, use_bias=False, name="up")
            self.down = layers.Dense(width, use_bias=False, name="down")

        def build(self, shape: Any) -> None:
            for one in (self.attention_norm, self.query, self.key, self.value, self.inner_norm,
                        self.gate, self.up):
                one.build(shape)
            self.out.build((*shape[:2], heads, head_size))
            self.down.build((*shape[:2], inner))
            self.built = True

        def call(self, x: Any) -> Any:
            y = self.attention_norm(x)
            q, k, v = self.query(y), self.key(y), self.value(y)
            k, v = (ops.repeat(one, heads // key_heads, 2) for one in (k, v))
            scores = ops.softmax(ops.einsum("bthd,bshd->bhts", q, k) / head_size**0.5)
            x = x + self.out(ops.einsum("bhts,bshd->bthd", scores, v))
            y = self.inner_norm(x)
            return x + self.down(self.gate(y) * self.up(y))

    ids = keras.Input((POSITIONS,), dtype="int32")
    x = layers.Embedding(vocabulary, width, name="tokens")(ids)
    for _ in range(size.layers):
        x = DecoderBlock()(x)
    x = layers.RMSNormalization(epsilon=1e-5, name="norm")(x)
    return keras.Model(ids, layers.Dense(vocabulary, use_bias=False, name="logits")(x))


def sample(size: Size) -> Any:
    """Ids of tokens."""
    return np.random.default_rng(0).integers(0, size.vocabulary, (2, POSITIONS))
