"""Small pairs in which one side holds in one tensor what the other holds in several, or in a layer
of its own with more besides.
"""

from __future__ import annotations

from typing import Any

import keras
import torch
from torch import nn

from tests.helpers.small_models import randomized

layers = keras.layers
HEADS, HEAD, WIDTH = 2, 4, 8


class FusedByHeads(nn.Module):
    """Query, key and value of each head beside each other in one layer."""
    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Any) -> Any:
        parts = self.query_key_value(x).unflatten(-1, (HEADS, 3, HEAD)).unbind(-2)
        query, key, value = (part.transpose(1, 2) for part in parts)
        mixed = (query @ key.transpose(-1, -2) / HEAD**0.5).softmax(-1) @ value
        return x + self.out(mixed.transpose(1, 2).flatten(2))


def fused_by_heads_pair(names: tuple[str, str, str]) -> tuple[Any, Any]:
    """Three dense layers in Keras, whose kernels do not show the heads; `names` are theirs."""
    ops = keras.ops
    inputs = layers.Input((5, WIDTH))
    heads = []
    for name in names:
        part = ops.reshape(layers.Dense(WIDTH, name=name)(inputs), (-1, 5, HEADS, HEAD))
        heads.append(ops.transpose(part, (0, 2, 1, 3)))
    query, key, value = heads
    scores = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / HEAD**0.5)
    mixed = ops.reshape(ops.transpose(ops.matmul(scores, value), (0, 2, 1, 3)), (-1, 5, WIDTH))
    return randomized(FusedByHeads()), keras.Model(inputs,
                                                   inputs + layers.Dense(WIDTH, name="out")(mixed))


ROWS = (12, 4, 4)


class UnequalBlocks(nn.Module):
    """More rows for the query than for key and value, all in one layer."""
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, sum(ROWS))

    def forward(self, x: Any) -> Any:
        query, key, value = self.qkv(x).split(ROWS, dim=-1)
        return query * torch.tanh(key).repeat(1, 3) + torch.relu(value).repeat(1, 3)


def unequal_blocks_pair() -> tuple[Any, Any]:
    """A layer for each in Keras."""
    inputs = layers.Input((WIDTH,))
    query, key, value = (layers.Dense(rows, name=name)(inputs)
                         for rows, name in zip(ROWS, ("query", "key", "value"), strict=True))
    key, value = (
        keras.ops.tile(part, (1, 3)) for part in (keras.ops.tanh(key), keras.ops.relu(value)))
    return randomized(UnequalBlocks()), keras.Model(inputs, query * key + value)


KEY_HEADS, QUERIES = 2, 4


class FusedByKeyHeads(nn.Module):
    """For each head of the keys the queries that share it, the key and the value, in one layer."""
    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(WIDTH, KEY_HEADS * (QUERIES + 2) * HEAD)
        self.dense = nn.Linear(KEY_HEADS * QUERIES * HEAD, WIDTH)

    def forward(self, x: Any) -> Any:
        fused = self.query_key_value(x).unflatten(-1, (KEY_HEADS, QUERIES + 2, HEAD))
        query, key, value = fused.permute(0, 2, 3, 1, 4).split((QUERIES, 1, 1), dim=2)
        mixed = (query @ key.transpose(-1, -2) / HEAD**0.5).softmax(-1) @ value
        return x + self.dense(mixed.permute(0, 3, 1, 2, 4).flatten(2))


def fused_by_key_heads_pair(*, shows_heads: bool) -> tuple[Any, Any]:
    """A layer for each in Keras, whose kernels show the heads or do not."""
    ops = keras.ops
    inputs = layers.Input((5, WIDTH))

    def projected(name: str, heads: int) -> Any:
        if shows_heads:
            return layers.EinsumDense("bsd,dhe->bshe", (None, heads, HEAD), bias_axes="he",
                                      name=name)(inputs)
        flat = layers.Dense(heads * HEAD, name=name)(inputs)
        return ops.reshape(flat, (-1, 5, heads, HEAD))

    query = ops.reshape(projected("query", KEY_HEADS * QUERIES), (-1, 5, KEY_HEADS, QUERIES, HEAD))
    key, value = projected("key", KEY_HEADS), projected("value", KEY_HEADS)
    scores = ops.softmax(ops.einsum("bsgqe,btge->bgqst", query, key) / HEAD**0.5)
    mixed = ops.reshape(ops.einsum("bgqst,btge->bsgqe", scores, value),
                        (-1, 5, KEY_HEADS * QUERIES * HEAD))
    model = keras.Model(inputs, inputs + layers.Dense(WIDTH, name="out")(mixed))
    return randomized(FusedByKeyHeads()), model


class Groups(nn.Module):
    """A convolution in groups of two channels, four for each."""
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * groups, 4 * groups, 3, padding=1, groups=groups)
        self.norm = nn.BatchNorm2d(4 * groups)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.norm(self.conv(x)))


def groups_pair(groups: int) -> tuple[Any, Any]:
    """A convolution for each group in Keras, the last one built first."""
    inputs = layers.Input((6, 6, 2 * groups))
    parts = keras.ops.split(inputs, groups, axis=-1)
    convolutions = [
        layers.Conv2D(4, 3, padding="same", name=f"of_{groups - number}")
        for number in range(groups)
    ]
    joined = layers.Concatenate()(
        [layer(part) for layer, part in zip(convolutions, parts, strict=True)])
    normed = layers.BatchNormalization(epsilon=1e-5, name="norm")(joined)
    return randomized(Groups(groups)), keras.Model(inputs, layers.ReLU()(normed))


class Tokens(nn.Module):
    """A class token before the rest, and a table of positions; the mask token serves training
    alone, and torch does not save the numbers of the positions.
    """
    def __init__(self) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, WIDTH))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.patches = nn.Linear(3, WIDTH)
        self.position_embeddings = nn.Parameter(torch.zeros(1, 6, WIDTH))
        self.more_positions = nn.Embedding(6, WIDTH)
        self.register_buffer("position_ids", torch.arange(6)[None], persistent=False)

    def forward(self, x: Any) -> Any:
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patches(x)], 1)
        return torch.tanh(tokens + self.position_embeddings
                          + self.more_positions(self.position_ids))


class KerasTokens(layers.Layer):  # type: ignore[misc]
    """All in one layer, with the positions as they were before training as well, and their numbers
    as a variable that is zero at first.
    """
    def __init__(self, trained_copy: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.trained_copy = trained_copy
        self.patches = layers.Dense(WIDTH, name="patches")
        self.more_positions = layers.Embedding(6, WIDTH, name="more_positions")

    def build(self, input_shape: Any) -> None:
        self.cls_token = self.add_weight(shape=(1, 1, WIDTH), name="cls_token")
        self.mask_token = self.add_weight(shape=(1, WIDTH), name="mask_token")
        self.positions = self.add_weight(shape=(1, 6, WIDTH),
                                         name="interpolated_position_embeddings")
        self.first_positions = self.add_weight(shape=(1, 6, WIDTH), trainable=self.trained_copy,
                                               name="position_embeddings")
        self.position_ids = self.add_weight(shape=(1, 6), dtype="int32", initializer="zeros",
                                            trainable=False, name="position_ids")
        self.patches.build(input_shape)
        self.more_positions.build(None)
        self.built = True

    def call(self, x: Any) -> Any:
        first = keras.ops.broadcast_to(self.cls_token, (keras.ops.shape(x)[0], 1, WIDTH))
        tokens = keras.ops.concatenate([first, self.patches(x)], 1)
        return keras.ops.tanh(tokens + self.positions + self.more_positions(self.position_ids))


def tokens_pair(trained_copy: bool = False) -> tuple[Any, Any]:
    """The two of them."""
    inputs = layers.Input((5, 3))
    return randomized(Tokens()), keras.Model(inputs,
                                             KerasTokens(trained_copy, name="tokens")(inputs))


class SharedBlock(nn.Module):
    """One block used twice, under a name for each use, and its convolution under a third."""
    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.first, self.second, self.conv = block, block, block[0]
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.conv(self.second(self.first(x))).mean((2, 3)))


def shared_block_pair() -> tuple[Any, Any]:
    """The same layers called as often in Keras."""
    inputs = layers.Input((6, 6, 4))
    convolution, norm = layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(epsilon=1e-5)
    x = inputs
    for _ in range(2):
        x = layers.ReLU()(norm(convolution(x)))
    pooled = layers.GlobalAveragePooling2D()(convolution(x))
    return randomized(SharedBlock()), keras.Model(inputs, layers.Dense(3, name="head")(pooled))


class Gated(nn.Module):
    """Gate and up in one layer."""
    def __init__(self) -> None:
        super().__init__()
        self.gate_up = nn.Linear(WIDTH, 12, bias=False)
        self.down = nn.Linear(6, WIDTH, bias=False)

    def forward(self, x: Any) -> Any:
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(torch.sigmoid(gate) * up)


class KerasGated(layers.Layer):  # type: ignore[misc]
    """All weights in one layer, gate and up apart."""
    def build(self, input_shape: Any) -> None:
        self.gate = self.add_weight((WIDTH, 6), name="gate")
        self.up = self.add_weight((WIDTH, 6), name="up")
        self.down = self.add_weight((6, WIDTH), name="down")
        self.built = True

    def call(self, x: Any) -> Any:
        return (keras.ops.sigmoid(x @ self.gate) * (x @ self.up)) @ self.down


def gated_pair() -> tuple[Any, Any]:
    """The two of them."""
    inputs = layers.Input((WIDTH,))
    return randomized(Gated()), keras.Model(inputs, KerasGated(name="gated")(inputs))


class MapsOfVectors(nn.Module):
    """Vectors made into maps again and again, and a convolution behind each."""
    def __init__(self, times: int) -> None:
        super().__init__()
        self.grow = nn.ModuleList(nn.Linear(WIDTH, 27) for _ in range(times))
        self.convolve = nn.ModuleList(nn.Conv2d(3, 3, 2) for _ in range(times))
        self.shrink = nn.ModuleList(nn.Linear(27, WIDTH) for _ in range(times))

    def forward(self, x: Any) -> Any:
        for grow, convolve, shrink in zip(self.grow, self.convolve, self.shrink, strict=True):
            made = torch.relu(grow(x)).view(-1, 3, 3, 3)
            x = torch.tanh(shrink(convolve(nn.functional.pad(made, (1, 0, 1, 0))).flatten(1)))
        return x


def maps_of_vectors_pair(times: int) -> tuple[Any, Any]:
    """Keras pads on the other sides, so that no convolution gives what torch's does."""
    x = inputs = layers.Input((WIDTH,))
    for number in range(times):
        made = layers.Reshape((3, 3, 3))(layers.Dense(27, activation="relu",
                                                      name=f"grow_{number}")(x))
        convolved = layers.Conv2D(3, 2, padding="same", name=f"convolve_{number}")(made)
        x = layers.Dense(WIDTH, activation="tanh",
                         name=f"shrink_{number}")(layers.Flatten()(convolved))
    return randomized(MapsOfVectors(times)), keras.Model(inputs, x)
