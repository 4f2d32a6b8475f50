"""Small pairs for alignment by running: each is (torch module, Keras model) of one architecture
with nothing in common but that.
"""

from __future__ import annotations

from typing import Any

import keras
import torch
from torch import nn

from tests.helpers.small_models import randomized

layers = keras.layers


class Attention(nn.Module):
    """Two heads of four, query, key and value as three layers or as one."""
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        if fused:
            self.qkv = nn.Linear(8, 24)
        else:
            self.value, self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        if self.fused:
            query, key, value = self.qkv(x).chunk(3, dim=-1)
        else:
            query, key, value = self.query(x), self.key(x), self.value(x)
        heads = [part.unflatten(-1, (2, 4)).transpose(1, 2) for part in (query, key, value)]
        mixed = (heads[0] @ heads[1].transpose(-1, -2) / 2).softmax(-1) @ heads[2]
        return x + self.out(mixed.transpose(1, 2).flatten(2))


def attention_pair(fused: bool) -> tuple[Any, Any]:
    """Keras's own attention, which has three layers, against one or three layers in torch."""
    inputs = layers.Input((5, 8))
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    outputs = layers.Add()([inputs, attention(inputs, inputs)])
    return randomized(Attention(fused)), keras.Model(inputs, outputs)


class Branches(nn.Module):
    """Two branches of one shape on one input; `join` says how they come together."""
    def __init__(self, join: str) -> None:
        super().__init__()
        self.join = join
        self.second, self.first = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(16 if join == "concat" else 8, 3)

    def forward(self, x: Any) -> Any:
        first, second = self.first(x), self.second(x)
        if self.join == "concat":
            return self.head(torch.cat([torch.relu(first), torch.tanh(second)], dim=-1))
        if self.join == "ignore":
            return self.head(torch.relu(first)) + 0 * second.sum()
        return self.head(torch.relu(first) + torch.relu(second))


def branches_pair(join: str, names: tuple[str, str]) -> tuple[Any, Any]:
    """The same, the Keras layers called `names`."""
    inputs = layers.Input((8,))
    first = layers.Dense(8, name=names[0])(inputs)
    second = layers.Dense(8, name=names[1])(inputs)
    if join == "concat":
        joined = layers.Concatenate()([layers.ReLU()(first), layers.Activation("tanh")(second)])
    else:
        joined = layers.Add()([layers.ReLU()(first), layers.ReLU()(second)])
    return randomized(Branches(join)), keras.Model(inputs, layers.Dense(3, name="head")(joined))


class Flattened(nn.Module):
    """A dense layer behind a flattened map, which torch counts channels first."""
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 6 * 6, 5)

    def forward(self, x: Any) -> Any:
        return self.fc(torch.relu(self.conv(x)).flatten(1))


def flattened_pair() -> tuple[Any, Any]:
    """The same with channels last."""
    inputs = layers.Input((6, 6, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3, padding="same", activation="relu", name="c")(inputs))
    return randomized(Flattened()), keras.Model(inputs, layers.Dense(5, name="d")(x))


class Language(nn.Module):
    """Tokens and positions, a head that shares the table, and a layer that is never used."""
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.positions = nn.Parameter(torch.zeros(1, 6, 8))
        self.dense = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 3)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Any) -> Any:
        return self.head(torch.tanh(self.dense(self.table(ids) + self.positions)))


class Positions(keras.layers.Layer):  # type: ignore[misc]
    """Adds a table of positions."""
    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(6, 8), name="table")

    def call(self, x: Any) -> Any:
        return x + self.table


def language_pair() -> tuple[Any, Any]:
    """The same; Keras's table serves both ends, as in torch."""
    inputs = layers.Input((6,), dtype="int32")
    table = layers.Embedding(20, 8, name="tokens")
    x = layers.Dense(8, activation="tanh", name="mix")(Positions(name="where")(table(inputs)))
    outputs = layers.Lambda(lambda x: keras.ops.matmul(x, keras.ops.transpose(table.embeddings)),
                            output_shape=(6, 20))(x)
    return randomized(Language()), keras.Model(inputs, outputs)


class Chaos(nn.Module):
    """A layer whose output goes many times through a map that doubles every error."""
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        x = torch.sigmoid(self.dense(x))
        for _ in range(60):
            x = 4 * x * (1 - x)
        return x


class Logistic(keras.layers.Layer):  # type: ignore[misc]
    """The map that doubles every error."""
    def call(self, x: Any) -> Any:
        x = keras.ops.sigmoid(x)
        for _ in range(60):
            x = 4 * (x - x * x)
        return x


def chaos_pair() -> tuple[Any, Any]:
    """The same, computed in another order."""
    inputs = layers.Input((8,))
    return randomized(Chaos()), keras.Model(inputs,
                                            Logistic()(layers.Dense(8, name="dense")(inputs)))


class Switches(nn.Module):
    """Outputs of -1 and 1, of which a change of the weights by 1e-4 turns many, and rounding hardly
    ever one.
    """
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 64)

    def forward(self, x: Any) -> Any:
        return torch.sign(torch.sin(3000 * self.dense(x)))


def switches_pair() -> tuple[Any, Any]:
    """The same."""
    inputs = layers.Input((8,))
    dense = layers.Dense(64, name="dense")(inputs)
    outputs = layers.Lambda(lambda x: keras.ops.sign(keras.ops.sin(3000 * x)),
                            output_shape=(64,))(dense)
    return randomized(Switches()), keras.Model(inputs, outputs)


class IgnoredBranch(nn.Module):
    """Two convolutions of one shape on one input, one of which counts for nothing, and a head that
    is computed for nothing.
    """
    def __init__(self) -> None:
        super().__init__()
        self.ignored, self.shown = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.unused, self.head = nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        y = (torch.relu(self.shown(x)) + 0 * torch.relu(self.ignored(x))).mean((2, 3))
        self.unused(y)
        return self.head(y)


def ignored_branch_pair() -> tuple[Any, Any]:
    """The same without the unused head, the convolutions called the other way round."""
    inputs = layers.Input((12, 12, 3))
    second = layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(inputs)
    first = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(inputs)
    both = layers.GlobalAveragePooling2D()(layers.Add()([first, layers.Rescaling(0.0)(second)]))
    return randomized(IgnoredBranch()), keras.Model(inputs, layers.Dense(5, name="head")(both))


class TokenTypes(nn.Module):
    """Tokens, positions and token types added up, the type being 0 always; Keras has no table of
    types.
    """
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions, self.types = nn.Embedding(20,
                                                               8), nn.Embedding(6, 8), nn.Embedding(
                                                                   2, 8)
        self.dense = nn.Linear(8, 4)

    def forward(self, ids: Any) -> Any:
        positions = torch.arange(6).expand_as(ids)
        return self.dense(
            torch.tanh(
                self.tokens(ids) + self.types(torch.zeros_like(ids)) + self.positions(positions)))


class PositionTable(keras.layers.Layer):  # type: ignore[misc]
    """The rows of a table of positions."""
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.table = layers.Embedding(6, 8, name="table")

    def call(self, x: Any) -> Any:
        return x + self.table(keras.ops.arange(6)[None])


def token_types_pair() -> tuple[Any, Any]:
    """The same without types."""
    inputs = layers.Input((6,), dtype="int32")
    x = PositionTable(name="positions")(layers.Embedding(20, 8, name="tokens")(inputs))
    return randomized(TokenTypes()), keras.Model(
        inputs,
        layers.Dense(4, name="d")(layers.Activation("tanh")(x)))


class Plain(nn.Module):
    """Two convolutions without biases, a norm without gain and offset, and a dense layer."""
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 3, bias=False)
        self.norm = nn.LayerNorm(4, elementwise_affine=False)
        self.head = nn.Linear(4, 5, bias=False)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(self.norm(x.mean((2, 3))))


def pair_with_more_in_keras() -> tuple[Any, Any]:
    """The same with norms, biases, gains and offsets that torch lacks, none of them at its initial
    value.
    """
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="c1", bias_initializer="ones")(inputs)
    x = layers.BatchNormalization(name="b1", moving_mean_initializer="ones",
                                  gamma_initializer="zeros")(x)
    x = layers.Conv2D(4, 3, use_bias=False, name="c2")(layers.ReLU()(x))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    x = layers.LayerNormalization(epsilon=1e-5, beta_initializer="ones", name="l")(x)
    return randomized(Plain()), keras.Model(inputs, layers.Dense(5, name="d")(x))


class Frequencies(keras.layers.Layer):  # type: ignore[misc]
    """Multiplies by numbers that it computed for itself and keeps as a weight."""
    def build(self, shape: Any) -> None:
        self.numbers = self.add_weight(shape=(8,),
                                       initializer=lambda shape, dtype: keras.ops.arange(8.0) + 0.5)

    def call(self, x: Any) -> Any:
        return x * self.numbers


def frequencies_pair() -> tuple[Any, Any]:
    """Torch computes them each time."""
    class Times(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            return self.second(self.first(x) * (torch.arange(8) + 0.5))

    inputs = layers.Input((4,))
    x = Frequencies(name="frequencies")(layers.Dense(8, name="a")(inputs))
    return randomized(Times()), keras.Model(inputs, layers.Dense(3, name="b")(x))


class Offsets(nn.Module):
    """Adds what a small network makes of constant places, which is the same whatever goes in; two
    of them one after the other.
    """
    def __init__(self) -> None:
        super().__init__()
        self.zeta, self.alpha = nn.Linear(2, 8), nn.Linear(2, 8)
        self.middle = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        places = torch.linspace(-1, 1, 12).reshape(6, 2)
        return self.middle(x + torch.tanh(self.zeta(places))) + torch.tanh(self.alpha(places))


class OffsetsInKeras(keras.layers.Layer):  # type: ignore[misc]
    """One of them."""
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dense = layers.Dense(8, activation="tanh", name="dense")

    def call(self, x: Any) -> Any:
        return x + self.dense(keras.ops.reshape(keras.ops.linspace(-1.0, 1.0, 12), (6, 2)))


def offsets_pair() -> tuple[Any, Any]:
    """The same; the names lie."""
    inputs = layers.Input((6, 8))
    x = layers.Dense(8, name="middle")(OffsetsInKeras(name="alpha")(inputs))
    return randomized(Offsets()), keras.Model(inputs, OffsetsInKeras(name="zeta")(x))


def pair_with_another_step(width: int = 6) -> tuple[Any, Any]:
    """Three dense layers with a relu and a tanh in torch, with an exp and a tanh in Keras, whose
    middle layer gives `width` numbers.
    """
    torch_module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Tanh(),
                                 nn.Linear(6, 3))
    inputs = layers.Input((4,))
    x = layers.Dense(width,
                     name="b")(layers.Activation("exponential")(layers.Dense(5, name="a")(inputs)))
    return randomized(torch_module), keras.Model(
        inputs,
        layers.Dense(3, name="c")(layers.Activation("tanh")(x)))


class TableForBothEnds(keras.layers.Layer):  # type: ignore[misc]
    """A table of tokens that holds a second one, transposed, for the way back, as keras-hub's does.
    """
    def build(self, shape: Any) -> None:
        self.embeddings = self.add_weight(shape=(20, 8), name="embeddings")
        self.reverse_embeddings = self.add_weight(shape=(8, 20), name="reverse_embeddings")

    def call(self, ids: Any) -> Any:
        return keras.ops.take(self.embeddings, ids, axis=0)


class Inner(keras.Model):  # type: ignore[misc]
    """A subclassed model inside a functional one."""
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.mix = layers.Dense(8, activation="tanh", name="mix")

    def call(self, x: Any) -> Any:
        return self.mix(x)


def tied_table_pair() -> tuple[Any, Any]:
    """Torch ties its head to its table, and here only what is below the head is run."""
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.dense, self.head = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(
                8, 20, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids: Any) -> Any:
            return torch.tanh(self.dense(self.table(ids)))

    inputs = layers.Input((6,), dtype="int32")
    return randomized(Tied()), keras.Model(
        inputs,
        Inner(name="inner")(TableForBothEnds(name="tokens")(inputs)))


def shortcut_pair(order: tuple[str, ...]) -> tuple[Any, Any]:
    """Torch computes query, key and value in one, beside a shortcut of a third of its size; Keras
    has four layers of one shape, called in `order`.
    """
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.skip, self.out = nn.Linear(24, 72), nn.Linear(24, 24), nn.Linear(24, 24)

        def forward(self, x: Any) -> Any:
            query, key, value = self.qkv(x).chunk(3, dim=-1)
            mixed = (query @ key.transpose(-1, -2) * 24**-0.5).softmax(-1) @ value
            return torch.tanh(self.out(mixed)) + self.skip(x)

    inputs = layers.Input((7, 24))
    made = {name: layers.Dense(24, name=name)(inputs) for name in order}
    scores = keras.ops.matmul(made["query"], keras.ops.transpose(made["key"], (0, 2, 1))) * 24**-0.5
    mixed = keras.ops.matmul(keras.ops.softmax(scores), made["value"])
    outputs = keras.ops.tanh(layers.Dense(24, name="mixed")(mixed)) + made["skip"]
    return randomized(Fused()), keras.Model(inputs, outputs)
