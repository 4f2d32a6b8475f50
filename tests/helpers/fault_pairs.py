"""Small pairs in which every kind of seeded fault has a place: a convolutional network, a
transformer, one that resizes and pools, and a decoder of layers inside others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.faults import Pair
from tests.helpers.small_models import randomized


class BatchNormAct2d(nn.BatchNorm2d):
    """A norm with its activation, as timm has it."""
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x: Any) -> Any:
        return self.act(super().forward(x))


class Convolutions(nn.Module):
    """Convolutions, norms, most activations, a pooling of each kind, a sum, a join, a flattened
    map.
    """
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = nn.Conv2d(3, 12, 3, 2, 1,
                                                    bias=False), nn.BatchNorm2d(12), nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, 2, 1)
        self.conv2, self.bn2 = nn.Conv2d(12, 12, 3, 1, 1), BatchNormAct2d(12)
        self.conv3, self.bn3, self.act3 = nn.Conv2d(12, 12, 3, 1, 1,
                                                    groups=12), nn.BatchNorm2d(12), nn.Hardswish()
        self.squeeze, self.gate = nn.Conv2d(12, 12, 1), nn.Sigmoid()
        self.drop_path = nn.Identity()
        self.conv4, self.act4 = nn.Conv2d(12, 12, 3, 1, 1), nn.ReLU6()
        self.conv5, self.act5 = nn.Conv2d(24, 16, 3, 1, 1), nn.GELU()
        self.gate2 = nn.Hardsigmoid()
        self.pool2 = nn.AvgPool2d(3, 2, 1)
        self.fc1, self.drop, self.fc2 = nn.Linear(16 * 16, 24), nn.Dropout(0.2), nn.Linear(24, 10)

    def forward(self, x: Any) -> Any:
        x = self.pool1(self.act1(self.bn1(self.conv1(3 * x))))
        y = self.bn2(self.conv2(x))
        y = self.act3(self.bn3(self.conv3(y)))
        y = y * self.gate(self.squeeze(y.mean((2, 3), keepdim=True)))
        x = x + self.drop_path(y)
        z = self.act4(3 * self.conv4(x))
        x = torch.cat([x, z], 1)
        x = self.act5(self.conv5(x))
        x = x * self.gate2(x)
        x = self.pool2(x).flatten(1)
        return self.fc2(self.drop(torch.relu(self.fc1(x))))


def keras_convolutions(keras: Any) -> Any:
    """The same."""
    layers, activation = keras.layers, keras.activations

    def act(function: Any, name: str) -> Any:
        return layers.Activation(function, name=name)

    def norm(name: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-5, name=name)

    relu6 = getattr(activation, "relu6", None) or (lambda x: activation.relu(x, max_value=6))
    hard_silu = getattr(activation, "hard_silu",
                        None) or (lambda x: x * activation.relu(x + 3, max_value=6) / 6)
    hard_sigmoid = activation.hard_sigmoid if hasattr(activation,
                                                      "hard_silu") else lambda x: relu6(x + 3) / 6
    inputs = layers.Input((32, 32, 3))
    x = layers.Rescaling(3.0)(inputs)
    x = layers.ZeroPadding2D(1, name="pad1")(x)
    x = act("relu", "act1")(norm("bn1")(layers.Conv2D(12, 3, 2, use_bias=False, name="conv1")(x)))
    x = layers.MaxPooling2D(3, 2, name="pool1")(layers.ZeroPadding2D(1, name="pad2")(x))
    y = act("silu" if hasattr(activation, "silu") else "swish",
            "act2")(norm("bn2")(layers.Conv2D(12, 3, padding="same", name="conv2")(x)))
    y = act(hard_silu, "act3")(norm("bn3")(layers.DepthwiseConv2D(3, padding="same",
                                                                  name="conv3")(y)))
    gate = layers.Conv2D(12, 1, name="squeeze")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    y = layers.Multiply(name="gated")([y, act("sigmoid", "gate")(gate)])
    x = layers.Add(name="added")([x, y])
    z = layers.Conv2D(12, 3, padding="same", name="conv4")(x)
    z = act(relu6, "act4")(layers.Rescaling(3.0)(z))
    x = layers.Concatenate(name="joined")([x, z])
    x = act("gelu", "act5")(layers.Conv2D(16, 3, padding="same", name="conv5")(x))
    x = layers.Multiply(name="gated2")([x, act(hard_sigmoid, "gate2")(x)])
    x = layers.Flatten(name="flatten")(layers.AveragePooling2D(3, 2, name="pool2")(
        layers.ZeroPadding2D(1)(x)))
    x = layers.Dropout(0.2, name="drop")(layers.Dense(24, activation="relu", name="fc1")(x))
    return keras.Model(inputs, layers.Dense(10, name="fc2")(x))


class Attention(nn.Module):
    """Self-attention with one layer for query, key and value."""
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj, self.scale = nn.Linear(24, 72), nn.Linear(24, 24), 6**-0.5

    def forward(self, x: Any) -> Any:
        query, key, value = self.qkv(x).unflatten(-1, (3, 4, 6)).permute(2, 0, 3, 1, 4)
        weights = (self.scale * 4 * (query @ key.transpose(-1, -2))).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer block."""
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn, self.drop_path1 = nn.LayerNorm(24,
                                                              eps=1e-6), Attention(), nn.Identity()
        self.norm2, self.fc1, self.act = nn.LayerNorm(24, eps=1e-6), nn.Linear(24, 48), nn.GELU()
        self.drop, self.fc2 = nn.Dropout(0.1), nn.Linear(48, 24)

    def forward(self, x: Any) -> Any:
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.fc2(self.drop(self.act(self.fc1(self.norm2(x)))))


class Transformer(nn.Module):
    """Patches, two blocks, the mean of all places."""
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.blocks = nn.Conv2d(3, 24, 4, 4), nn.ModuleList([Block(), Block()])
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 10)

    def forward(self, x: Any) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def keras_attention(keras: Any, name: str) -> Any:
    """The attention as a layer."""
    class SelfAttention(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.scale = 6**-0.5
            self.qkv, self.proj = keras.layers.Dense(72, name="qkv"), keras.layers.Dense(
                24, name="proj")
            self.softmax = keras.layers.Softmax(name="softmax")

        def build(self, shape: Any) -> None:
            self.qkv.build(shape)
            self.proj.build(shape)
            self.built = True

        def call(self, x: Any) -> Any:
            import numpy

            ops = getattr(keras, "ops", None)
            if ops is None:
                import tensorflow as ops

                ops.matmul = ops.linalg.matmul
            places = x.shape[1]
            split = ops.transpose(ops.reshape(self.qkv(x), (-1, places, 3, 4, 6)), (2, 0, 3, 1, 4))
            query, key, value = split[0], split[1], split[2]
            scores = ops.matmul(query, ops.transpose(key,
                                                     (0, 1, 3, 2))) * numpy.float32(4 * self.scale)
            mixed = ops.matmul(self.softmax(scores), value)
            return self.proj(ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, places, 24)))

    return SelfAttention(name=name)


def keras_transformer(keras: Any) -> Any:
    """The same."""
    layers = keras.layers
    inputs = layers.Input((16, 16, 3))
    x = layers.Reshape((16, 24), name="tokens")(layers.Conv2D(24, 4, 4, name="patch")(inputs))
    for number in range(2):
        y = layers.LayerNormalization(epsilon=1e-6, name=f"blocks_{number}_norm1")(x)
        x = layers.Add(name=f"blocks_{number}_add1")(
            [x, keras_attention(keras, f"blocks_{number}_attn")(y)])
        y = layers.LayerNormalization(epsilon=1e-6, name=f"blocks_{number}_norm2")(x)
        y = layers.Activation("gelu", name=f"blocks_{number}_act")(layers.Dense(
            48, name=f"blocks_{number}_fc1")(y))
        y = layers.Dense(24, name=f"blocks_{number}_fc2")(layers.Dropout(
            0.1, name=f"blocks_{number}_drop")(y))
        x = layers.Add(name=f"blocks_{number}_add2")([x, y])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-5, name="norm")(x))
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


class DecoderBlock(nn.Module):
    """Causal attention with layers of its own for query, key and value, and a gated network."""
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(24), nn.LayerNorm(24)
        self.query, self.key, self.value, self.proj = (nn.Linear(24, 24) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(24, 32), nn.Linear(24, 32), nn.Linear(32, 24)
        self.act, self.drop = nn.SiLU(), nn.Dropout(0.1)

    def forward(self, x: Any) -> Any:
        y = self.norm1(x)
        query, key, value = (layer(y).unflatten(-1, (4, 6)).transpose(1, 2)
                             for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) * (3 * 6**-0.5)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, -1e9).softmax(-1) @ value
        x = x + self.drop(self.proj(mixed.transpose(1, 2).flatten(2)))
        y = self.norm2(x)
        return x + self.down(self.act(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    """Tokens, a table of positions, two blocks."""
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(40, 24), nn.Embedding(12, 24)
        self.blocks, self.norm = nn.ModuleList([DecoderBlock(), DecoderBlock()]), nn.LayerNorm(24)

    def forward(self, x: Any) -> Any:
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def keras_decoder(keras: Any) -> Any:
    """The same, each block one layer whose code calls others."""
    layers, ops = keras.layers, keras.ops

    class KerasBlock(layers.Layer):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.norm1 = layers.LayerNormalization(epsilon=1e-5, name="norm1")
            self.norm2 = layers.LayerNormalization(epsilon=1e-5, name="norm2")
            self.query, self.key = layers.Dense(24, name="query"), layers.Dense(24, name="key")
            self.value, self.proj = layers.Dense(24, name="value"), layers.Dense(24, name="proj")
            self.gate, self.up, self.down = (layers.Dense(
                units, name=name) for units, name in ((32, "gate"), (32, "up"), (24, "down")))
            self.softmax, self.drop = layers.Softmax(name="softmax"), layers.Dropout(
                0.1, name="drop")
            self.activation = keras.activations.silu

        def build(self, shape: Any) -> None:
            for layer in (self.norm1, self.norm2, self.query, self.key, self.value, self.proj,
                          self.gate, self.up):
                layer.build(shape)
            self.down.build((*shape[:-1], 32))
            self.built = True

        def call(self, x: Any) -> Any:
            places = x.shape[1]
            y = self.norm1(x)
            query, key, value = (ops.reshape(layer(y), (-1, places, 4, 6))
                                 for layer in (self.query, self.key, self.value))
            scores = ops.einsum("bqhd,bkhd->bhqk", query, key) * (3 * 6**-0.5)
            mask = np.tril(np.ones((1, 1, places, places), bool))
            mixed = ops.einsum("bhqk,bkhd->bqhd", self.softmax(scores, mask=mask), value)
            x = x + self.drop(self.proj(ops.reshape(mixed, (-1, places, 24))))
            y = self.norm2(x)
            return x + self.down(self.activation(self.gate(y)) * self.up(y))

    class Tokens(layers.Layer):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.tokens = layers.Embedding(40, 24, name="tokens")
            self.positions = layers.Embedding(12, 24, name="positions")

        def build(self, shape: Any) -> None:
            self.tokens.build(shape)
            self.positions.build((12,))
            self.built = True

        def call(self, x: Any) -> Any:
            return self.tokens(x) + self.positions(ops.arange(x.shape[1]))

    inputs = layers.Input((12,), dtype="int32")
    x = Tokens(name="embed")(inputs)
    for number in range(2):
        x = KerasBlock(name=f"blocks_{number}")(x)
    return keras.Model(inputs, layers.LayerNormalization(epsilon=1e-5, name="norm")(x))


class Scaled(nn.Module):
    """One gain and one offset for the whole map, each a single number."""
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.tensor(1.3)), nn.Parameter(torch.tensor(0.2))

    def forward(self, x: Any) -> Any:
        return self.scale * x + self.bias


class Maps(nn.Module):
    """Group norm, other activations, poolings of odd maps, resizing, a softmax over channels."""
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1, self.act1 = nn.Conv2d(3, 16, 3, 1,
                                                      1), nn.GroupNorm(4, 16,
                                                                       eps=1e-3), nn.LeakyReLU(0.2)
        self.pool1 = nn.MaxPool2d(2, 2)
        self.conv2, self.act2 = nn.Conv2d(16, 16, 3, 1, 1), nn.ELU()
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear")
        self.weigh, self.conv3, self.act3 = nn.Softmax(1), nn.Conv2d(16, 16, 3, 1, 1), nn.Tanh()
        self.scaled = Scaled()
        self.pool2, self.fc = nn.AvgPool2d(2, 2), nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        x = self.pool1(self.act1(self.norm1(self.conv1(x))))
        x = self.resize(self.act2(self.conv2(x)))
        x = self.act3(self.scaled(self.conv3(16 * self.weigh(x))))
        return self.fc(self.pool2(x).mean((2, 3)))


def keras_maps(keras: Any) -> Any:
    """The same."""
    layers = keras.layers

    class Scaled(layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
            self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")
            super().build(shape)

        def call(self, x: Any) -> Any:
            return self.scale * x + self.bias

    inputs = layers.Input((15, 15, 3))
    x = layers.GroupNormalization(4, epsilon=1e-3,
                                  name="norm1")(layers.Conv2D(16, 3, padding="same",
                                                              name="conv1")(inputs))
    leaky = {"negative_slope": 0.2} if hasattr(keras, "ops") else {"alpha": 0.2}
    x = layers.MaxPooling2D(2, 2, name="pool1")(layers.LeakyReLU(name="act1", **leaky)(x))
    x = layers.Activation("elu", name="act2")(layers.Conv2D(16, 3, padding="same", name="conv2")(x))
    x = layers.UpSampling2D(2, interpolation="bilinear", name="resize")(x)
    x = layers.Rescaling(16.0)(layers.Softmax(name="weigh")(x))
    x = Scaled(name="scaled")(layers.Conv2D(16, 3, padding="same", name="conv3")(x))
    x = layers.Activation("tanh", name="act3")(x)
    x = layers.GlobalAveragePooling2D()(layers.AveragePooling2D(2, 2, name="pool2")(x))
    return keras.Model(inputs, layers.Dense(10, name="fc")(x))


def maps(keras: Any) -> Pair:
    """The pair with maps, converted."""
    return converted(keras_maps(keras), Maps(), 15)


def convolutions(keras: Any) -> Pair:
    """The convolutional pair, converted."""
    return converted(keras_convolutions(keras), Convolutions(), 32)


def transformer(keras: Any) -> Pair:
    """The transformer pair, converted."""
    return converted(keras_transformer(keras), Transformer(), 16)


def decoder(keras: Any) -> Pair:
    """The pair of decoders, whose layers are inside others, converted."""
    pair = converted(keras_decoder(keras), Decoder(), 0)
    tokens = np.random.default_rng(1).integers(0, 40, (1, 12)).astype("int32")
    return Pair(pair.torch_module, pair.keras_model, pair.plan, (tokens.astype("int64"), tokens))


def converted(keras_model: Any, torch_module: Any, size: int) -> Pair:
    """The pair with the weights carried over by name, and a sample: a picture of this size."""
    from keras_torch_convert.keras_io.model import read_target

    module = randomized(torch_module, seed=3)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if name.endswith("weight") and tensor.ndim == 1:
                tensor.copy_(1 + 0.2 * tensor)
    mapping = {
        leaf.display_name: torch_name(leaf.display_name)
        for leaf in read_target(keras_model).leaves()
    }
    plan = ktc.align(module, keras_model, mapping=mapping)
    ktc.convert(module, keras_model, plan=plan, verify=False)
    picture = np.random.default_rng(1).uniform(-1, 1, (1, size, size, 3)).astype("float32")
    return Pair(module, keras_model, plan,
                (np.ascontiguousarray(picture.transpose(0, 3, 1, 2)), picture))


def torch_name(label: str) -> str:
    """blocks_0_attn/qkv is blocks.0.attn.qkv in torch."""
    label = label.removeprefix("embed/")
    parts = label.replace("/", ".").split("_")
    return (label.replace("/", ".") if parts[0] != "blocks" else ".".join(
        ["blocks", *"_".join(parts[1:]).replace("_", ".").split(".")]))
