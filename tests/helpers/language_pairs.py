"""Decoders of language models as real ports write them: rotary positions, grouped heads, a window,
soft caps and gates, all in code of the layers' own. Every setting is read when a layer is called,
so that a fault is another setting on one side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.faults import Pair
from tests.helpers.small_models import randomized

WIDTH, HEADS, PLACES, TOKENS = 32, 4, 12, 40
HEAD = WIDTH // HEADS


@dataclass(frozen=True)
class Rope:
    """How rotary positions are computed."""

    base: float = 10000.0
    scaling: str = ""
    factor: float = 8.0
    interleaved: bool = False
    exponent: float = 2.0
    dtype: str = "float32"
    scale: float = 1.0
    width: int = HEAD

    def tables(self) -> tuple[Any, Any]:
        """Cosine and sine, (places, half of the width)."""
        exponents = self.exponent * np.arange(self.width // 2) / self.width
        frequencies = self.base**-exponents
        if self.scaling == "linear":
            frequencies = frequencies / self.factor
        if self.scaling in ("llama3", "yarn"):
            # Between a wavelength of 8 and one of 60 places.
            turns = 64 * frequencies / (2 * np.pi)
            kept = np.clip((turns - 1) / (8 - 1), 0, 1)
            frequencies = kept * frequencies + (1 - kept) * frequencies / self.factor
        places = torch.arange(PLACES).to(getattr(torch, self.dtype))
        angles = places[:, None] * torch.from_numpy(frequencies).to(places.dtype)
        angles = angles.float().numpy()
        scale = self.scale * (0.1 * np.log(self.factor) + 1 if self.scaling == "yarn" else 1.0)
        return np.float32(scale * np.cos(angles)), np.float32(scale * np.sin(angles))


class TorchRope(nn.Module):
    """Turns pairs of values; (batch, heads, places, width)."""
    def __init__(self) -> None:
        super().__init__()
        self.settings = Rope()

    def forward(self, x: Any) -> Any:
        cosine, sine = (torch.from_numpy(table) for table in self.settings.tables())
        if self.settings.interleaved:
            one, two = x[..., ::2], x[..., 1::2]
            turned = torch.stack([one * cosine - two * sine, two * cosine + one * sine], -1)
            return turned.flatten(-2)
        cosine, sine = torch.cat([cosine, cosine], -1), torch.cat([sine, sine], -1)
        one, two = x.chunk(2, -1)
        return x * cosine + torch.cat([-two, one], -1) * sine


class TorchNorm(nn.Module):
    """Divides by the root of the mean square."""
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(WIDTH)), 1e-5

    def forward(self, x: Any) -> Any:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class TorchAttention(nn.Module):
    """Causal attention of groups of heads, by hand or by torch's own function."""
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.q_proj, self.o_proj = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(WIDTH, WIDTH // 2, bias=False) for _ in range(2))
        self.rope, self.fused = TorchRope(), fused
        self.scale, self.cap, self.window, self.causal = HEAD**-0.5, None, None, True

    def forward(self, x: Any) -> Any:
        query = self.rope(self.q_proj(x).unflatten(-1, (-1, HEAD)).transpose(1, 2))
        key = self.rope(self.k_proj(x).unflatten(-1, (-1, HEAD)).transpose(1, 2))
        value = self.v_proj(x).unflatten(-1, (-1, HEAD)).transpose(1, 2)
        key, value = (one.repeat_interleave(2, 1) for one in (key, value))
        left_out = torch.zeros(PLACES, PLACES, dtype=torch.bool)
        if self.causal:
            left_out = torch.ones(PLACES, PLACES, dtype=torch.bool).triu(1)
        if self.window:
            left_out = left_out | torch.ones(PLACES, PLACES, dtype=torch.bool).tril(-self.window)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value, ~left_out,
                                                               scale=self.scale)
        else:
            scores = query @ key.transpose(-1, -2) * self.scale
            if self.cap:
                scores = self.cap * torch.tanh(scores / self.cap)
            mixed = scores.masked_fill(left_out, float("-inf")).softmax(-1) @ value
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class TorchBlock(nn.Module):
    """Attention and a gated network."""
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = TorchNorm(), TorchAttention(fused), TorchNorm()
        self.gate, self.up = (nn.Linear(WIDTH, 48, bias=False) for _ in range(2))
        self.down = nn.Linear(48, WIDTH, bias=False)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(nn.functional.gelu(self.gate(y)) * self.up(y))


class TorchLanguage(nn.Module):
    """Tokens, blocks, scores of the next token under a soft cap."""
    def __init__(self, blocks: int, fused: bool) -> None:
        super().__init__()
        self.tokens, self.cap = nn.Embedding(TOKENS, WIDTH), None if fused else 3.0
        self.blocks = nn.ModuleList([TorchBlock(fused) for _ in range(blocks)])
        self.norm, self.head = TorchNorm(), nn.Linear(WIDTH, TOKENS, bias=False)

    def forward(self, x: Any) -> Any:
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        x = self.head(self.norm(x))
        return x if self.cap is None else self.cap * torch.tanh(x / self.cap)


def keras_language(keras: Any, blocks: int, fused: bool) -> Any:
    """The same in layers of one's own."""
    layers, ops = keras.layers, keras.ops

    class KerasRope(layers.Layer):  # type: ignore[misc]
        settings = Rope()

        def call(self, x: Any) -> Any:
            cosine, sine = (
                ops.convert_to_tensor(table[:, None]) for table in self.settings.tables())
            if self.settings.interleaved:
                one, two = x[..., ::2], x[..., 1::2]
                turned = ops.stack([one * cosine - two * sine, two * cosine + one * sine], -1)
                return ops.reshape(turned, ops.shape(x))
            half = self.settings.width // 2
            one, two, rest = ops.split(x, [half, 2 * half], -1)
            return ops.concatenate([one * cosine - two * sine, two * cosine + one * sine, rest], -1)

    class KerasNorm(layers.Layer):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.epsilon, self.centered, self.root = 1e-5, False, True

        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")
            self.built = True

        def call(self, x: Any) -> Any:
            if self.centered:
                x = x - ops.mean(x, -1, keepdims=True)
            square = ops.mean(ops.square(x), -1, keepdims=True)
            if self.root:
                return self.scale * (x * ops.rsqrt(square + self.epsilon))
            return self.scale * (x / (ops.sqrt(square) + self.epsilon))

    class KerasAttention(layers.Layer):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.q_proj, self.o_proj = (
                layers.Dense(WIDTH, use_bias=False, name=name) for name in ("q_proj", "o_proj"))
            self.k_proj, self.v_proj = (layers.Dense(WIDTH // 2, use_bias=False, name=name)
                                        for name in ("k_proj", "v_proj"))
            self.rope, self.head, self.fused = KerasRope(name="rope"), HEAD, fused
            self.factor, self.cap, self.window, self.causal = HEAD**-0.5, None, None, True
            self.tiled = False

        def build(self, shape: Any) -> None:
            for layer in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
                layer.build(shape)
            self.built = True

        def call(self, x: Any) -> Any:
            split = (-1, PLACES, WIDTH // self.head, self.head)
            query = self.rope(ops.reshape(self.q_proj(x), split))
            split = (-1, PLACES, WIDTH // 2 // self.head, self.head)
            key = self.rope(ops.reshape(self.k_proj(x), split))
            value = ops.reshape(self.v_proj(x), split)
            if self.tiled:
                key, value = (ops.tile(one, (1, 1, 2, 1)) for one in (key, value))
            else:
                key, value = (ops.repeat(one, 2, 2) for one in (key, value))
            kept = np.ones((PLACES, PLACES), bool)
            kept = np.tril(kept) if self.causal else kept
            kept = kept & ~np.tril(kept, -self.window) if self.window else kept
            if self.fused:
                mixed = ops.dot_product_attention(query, key, value, mask=kept[None, None],
                                                  scale=self.factor)
            else:
                scores = ops.einsum("bqhd,bkhd->bhqk", query, key) * self.factor
                if self.cap:
                    scores = self.cap * ops.tanh(scores / self.cap)
                scores = ops.where(kept, scores, -1e9)
                mixed = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores, -1), value)
            return self.o_proj(ops.reshape(mixed, (-1, PLACES, WIDTH)))

    class KerasBlock(layers.Layer):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.norm1, self.norm2 = KerasNorm(name="norm1"), KerasNorm(name="norm2")
            self.attn = KerasAttention(name="attn")
            self.gate, self.up, self.down = (layers.Dense(units, use_bias=False, name=name)
                                             for units, name in ((48, "gate"), (48, "up"),
                                                                 (WIDTH, "down")))
            self.function, self.behind = ops.gelu, False
            self.approximate = False

        def build(self, shape: Any) -> None:
            for layer in (self.norm1, self.norm2, self.attn, self.gate, self.up):
                layer.build(shape)
            self.down.build((*shape[:-1], 48))
            self.built = True

        def call(self, x: Any) -> Any:
            x = x + self.attn(self.norm1(x))
            y = self.norm2(x)
            gate, up = self.gate(y), self.up(y)
            if self.behind:
                return x + self.down(ops.gelu(gate * up, approximate=self.approximate))
            return x + self.down(ops.gelu(gate, approximate=self.approximate) * up)

    class SoftCap(layers.Layer):  # type: ignore[misc]
        cap = 3.0

        def call(self, x: Any) -> Any:
            return x if self.cap is None else self.cap * ops.tanh(x / self.cap)

    inputs = layers.Input((PLACES,), dtype="int32")
    x = layers.Embedding(TOKENS, WIDTH, name="tokens")(inputs)
    for number in range(blocks):
        x = KerasBlock(name=f"blocks_{number}")(x)
    x = layers.Dense(TOKENS, use_bias=False, name="head")(KerasNorm(name="norm")(x))
    return keras.Model(inputs, x if fused else SoftCap(name="soft_cap")(x))


def language(keras: Any, blocks: int = 1, fused: bool = False) -> Pair:
    """The pair, converted."""
    module = randomized(TorchLanguage(blocks, fused), 3)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if tensor.ndim == 1:
                tensor.copy_(1 + 0.2 * tensor)
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                tensor.mul_(2)
    keras_model = keras_language(keras, blocks, fused)
    names = ["tokens", "norm", "head"]
    for number in range(blocks):
        names += [
            f"blocks_{number}/{name}"
            for name in ("norm1", "norm2", "gate", "up", "down", "attn/q_proj", "attn/k_proj",
                         "attn/v_proj", "attn/o_proj")
        ]
    mapping = {name: name.replace("blocks_", "blocks.").replace("/", ".") for name in names}
    plan = ktc.align(module, keras_model, mapping=mapping)
    ktc.convert(module, keras_model, plan=plan, verify=False)
    tokens = np.random.default_rng(1).integers(0, TOKENS, (1, PLACES)).astype("int32")
    return Pair(module, keras_model, plan, (tokens.astype("int64"), tokens))
