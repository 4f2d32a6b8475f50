"""Weights that no layer's input tells: tied tables with a bias of their own, variables of layers
that have layers inside, tables that are read without a call.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

L, ops = keras.layers, keras.ops
RANDOM = np.random.default_rng(3)
IDS = RANDOM.integers(0, 40, (2, 7)).astype("int64")


def converted(module, model, sample, **options):
    """The report of the conversion; outputs are compared apart from it."""
    module = randomized(module)
    ours, theirs = sample
    if not model.built:
        model(theirs)
    report = ktc.convert(module, model, sample=sample, **options)
    wanted = module(torch.as_tensor(ours)).detach().numpy()
    np.testing.assert_allclose(np.asarray(ops.convert_to_numpy(model(theirs))), wanted, atol=2e-5)
    assert report.equal
    return report


def taken(report):
    """Variable label to the torch tensors that fill it."""
    from keras_torch_convert.plan.expressions import tensors_of

    plan = report.plan
    return {
        plan.targets[one.key].display_name: tensors_of(one.expression) for one in plan.assignments
    }


def doubts(report):
    plan = report.plan
    return {plan.targets[one.key].display_name: one.doubt for one in plan.assignments if one.doubt}


class TestTied:
    @pytest.mark.parametrize("ties_the_table", [True, False])
    def test_output_layer_with_a_bias_of_its_own(self, ties_the_table):
        class Masked(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.middle = nn.Embedding(40, 16), nn.Linear(16, 16)
                self.out = nn.Linear(16, 40)
                if ties_the_table:
                    self.out.weight = self.embed.weight

            def forward(self, ids):
                return self.out(torch.relu(self.middle(self.embed(ids))))

        inputs = keras.Input((None,), dtype="int32")
        hidden = L.Dense(16, "relu")(L.Embedding(40, 16)(inputs))
        model = keras.Model(inputs, L.Dense(40, name="logits")(hidden))

        report = converted(Masked(), model, (IDS, IDS))

        assert taken(report)["logits/bias"] == ("out.bias",)
        assert not doubts(report)

    def test_one_matrix_in_two_layers_that_have_biases_of_their_own(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
                self.second.weight = self.first.weight

            def forward(self, x):
                return self.second(torch.tanh(self.first(x)))

        inputs = keras.Input((12,))
        model = keras.Model(inputs, L.Dense(12, name="b")(L.Dense(12, "tanh", name="a")(inputs)))
        x = RANDOM.normal(size=(3, 12)).astype("float32")

        report = converted(Twice(), model, (x, x))

        assert taken(report)["a/bias"] == ("first.bias",)
        assert taken(report)["b/bias"] == ("second.bias",)

    def test_untied_output_table_is_not_made_of_rows_of_a_projection(self):
        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.out = nn.Embedding(40, 16), nn.Linear(16, 40, bias=False)
                self.layers = nn.ModuleList(nn.Linear(16, 48) for _ in range(6))
                self.back = nn.ModuleList(nn.Linear(48, 16) for _ in range(6))
                self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(6))

            def forward(self, ids):
                x = self.embed(ids)
                for norm, layer, back in zip(self.norms, self.layers, self.back, strict=True):
                    x = x + back(torch.relu(layer(norm(x))))
                return self.out(x)

        class Table(L.Layer):
            def build(self, shape):
                self.embeddings = self.add_weight(shape=(40, 16), name="embeddings")
                self.reverse = self.add_weight(shape=(16, 40), name="reverse_embeddings")

            def call(self, x, reverse=False):
                return x @ self.reverse if reverse else ops.take(self.embeddings, x, axis=0)

        inputs = keras.Input((7,), dtype="int32")
        table = Table()
        x = table(inputs)
        for _ in range(6):
            inner = L.Dense(48, "relu")(L.LayerNormalization(epsilon=1e-5)(x))
            x = x + L.Dense(16)(inner)
        model = keras.Model(inputs, table(x, reverse=True))

        report = converted(Module(), model, (IDS, IDS))

        assert not doubts(report)


def heads_of(x):
    return ops.transpose(ops.reshape(x, (-1, 9, 4, 4)), (0, 2, 1, 3))


class Attention(nn.Module):
    """Four projections and, between them, one score for each head that nothing attends to."""
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.sinks = nn.Parameter(torch.randn(4))
        self.gamma = nn.Parameter(torch.randn(16))

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (4, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        sinks = self.sinks.view(1, 4, 1, 1).expand(x.shape[0], 4, x.shape[1], 1)
        scores = torch.cat([q @ k.transpose(-1, -2) / 2, sinks], -1)
        mixed = (scores.softmax(-1)[..., :-1] @ v).transpose(1, 2).flatten(2)
        return x + self.gamma * self.o(mixed)


class KerasAttention(L.Layer):
    """The same; the names of its projections say nothing with `plain_names`."""
    def __init__(self, plain_names=False, **options):
        super().__init__(**options)
        names = ("dense", "dense_1", "dense_2", "dense_3") if plain_names else "qkvo"
        self.q, self.k, self.v, self.o = (L.Dense(16, name=name) for name in names)

    def build(self, shape):
        for dense in (self.q, self.k, self.v, self.o):
            dense.build(shape)
        self.unused = self.add_weight(shape=(16,), name="mask_token")
        self.gamma = self.add_weight(shape=(16,), name="gamma")
        self.sinks = self.add_weight(shape=(4,), name="sinks")
        self.built = True

    def call(self, x):
        q, k, v = (heads_of(f(x)) for f in (self.q, self.k, self.v))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / 2
        sinks = ops.zeros_like(scores[..., :1]) + ops.reshape(self.sinks, (1, 4, 1, 1))
        mixed = ops.matmul(ops.softmax(ops.concatenate([scores, sinks], -1))[..., :-1], v)
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, 9, 16))
        return x + self.gamma * self.o(mixed) + 0 * self.unused


class AttentionWithToken(Attention):
    def __init__(self):
        super().__init__()
        self.mask_token = nn.Parameter(torch.randn(16))

    def forward(self, x):
        return super().forward(x) + 0 * self.mask_token


class TestOwned:
    @pytest.mark.parametrize("plain_names", [False, True])
    def test_vectors_beside_layers_inside(self, plain_names):
        module = nn.Sequential(*(AttentionWithToken() for _ in range(2)))
        inputs = keras.Input((9, 16))
        model = keras.Model(
            inputs,
            KerasAttention(plain_names, name="b")(KerasAttention(plain_names, name="a")(inputs)))
        x = RANDOM.normal(size=(2, 9, 16)).astype("float32")

        report = converted(module, model, (x, x))

        filled = taken(report)
        for name, number in (("a", 0), ("b", 1)):
            assert filled[f"{name}/sinks"] == (f"{number}.sinks",)
            assert filled[f"{name}/gamma"] == (f"{number}.gamma",)
            assert filled[f"{name}/mask_token"] == (f"{number}.mask_token",)
        assert set(doubts(report)) == {"a/mask_token", "b/mask_token"}

    def test_table_three_layers_above_those_that_use_it(self):
        class Torch(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.ModuleList(
                    nn.ModuleList(nn.Linear(32, 32) for _ in range(3)) for _ in range(5))
                self.bias = nn.Embedding(32, 4)

            def forward(self, x):
                apart = (torch.arange(9)[:, None] - torch.arange(9)[None]).abs()
                bias = self.bias(apart).permute(2, 0, 1)[None]
                for q, k, o in self.blocks:
                    queries, keys = (f(x).reshape(-1, 9, 4, 8).transpose(1, 2) for f in (q, k))
                    scores = (queries @ keys.transpose(-1, -2) / 8 + bias).softmax(-1)
                    x = x + o((scores @ keys).transpose(1, 2).flatten(2))
                return x

        class Block(L.Layer):
            def __init__(self, **options):
                super().__init__(**options)
                self.layers = [L.Dense(32, name=name) for name in ("q", "k", "o")]

            def call(self, x, bias):
                queries, keys = (ops.transpose(ops.reshape(f(x), (-1, 9, 4, 8)), (0, 2, 1, 3))
                                 for f in self.layers[:2])
                scores = ops.softmax(queries @ ops.transpose(keys, (0, 1, 3, 2)) / 8 + bias)
                mixed = ops.transpose(scores @ keys, (0, 2, 1, 3))
                return x + self.layers[2](ops.reshape(mixed, (-1, 9, 32)))

        class Stage(L.Layer):
            def __init__(self, **options):
                super().__init__(**options)
                self.blocks = [Block(name=f"block_{number}") for number in range(5)]

            def call(self, x, bias):
                for block in self.blocks:
                    x = block(x, bias)
                return x

        class Encoder(L.Layer):
            def __init__(self, **options):
                super().__init__(**options)
                self.stage = Stage(name="stage")

            def build(self, shape):
                self.table = self.add_weight(shape=(32, 4), name="rel_pos")
                super().build(shape)

            def call(self, x):
                apart = np.abs(np.arange(9)[:, None] - np.arange(9)[None])
                bias = ops.transpose(ops.take(self.table, apart, axis=0), (2, 0, 1))[None]
                return self.stage(x, bias)

        inputs = keras.Input((9, 32))
        model = keras.Model(inputs, Encoder(name="encoder")(inputs))
        x = RANDOM.normal(size=(2, 9, 32)).astype("float32")

        report = converted(Torch(), model, (x, x))

        assert taken(report)["encoder/rel_pos"] == ("bias.weight",)
        assert not doubts(report)


class Disentangled(nn.Module):
    """Attention with biases of its own and positions from a table of the encoder, then a norm that
    takes the same input as the attention does.
    """
    def __init__(self):
        super().__init__()
        self.in_proj, self.pos_proj, self.dense = (
            nn.Linear(16, n, bias=False) for n in (48, 16, 16))
        self.q_bias, self.v_bias = (nn.Parameter(torch.randn(16)) for _ in range(2))
        self.norm, self.gain = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x, table):
        q, k, v = self.in_proj(x).chunk(3, -1)
        scores = (q + self.q_bias) @ k.transpose(1, 2) + q @ self.pos_proj(table).T
        mixed = (scores / 8).softmax(-1) @ (v + self.v_bias)
        return self.gain(self.norm(self.dense(mixed) + x))


class KerasDisentangled(L.Layer):
    """The same as one layer."""
    def __init__(self, **options):
        super().__init__(**options)
        self.in_proj, self.pos_proj, self.dense = (L.Dense(n, use_bias=False, name=name)
                                                   for n, name in ((48, "in_proj"),
                                                                   (16, "pos_proj"), (16, "dense")))
        self.norm, self.gain = L.LayerNormalization(epsilon=1e-5,
                                                    name="norm"), L.Dense(16, name="out")

    def build(self, shape):
        self.q_bias = self.add_weight(shape=(16,), name="q_bias")
        self.v_bias = self.add_weight(shape=(16,), name="v_bias")
        super().build(shape)

    def call(self, x, table):
        q, k, v = ops.split(self.in_proj(x), 3, -1)
        scores = ops.matmul(q + self.q_bias, ops.swapaxes(k, 1, 2))
        scores = scores + ops.matmul(q, ops.transpose(self.pos_proj(table)))
        mixed = ops.matmul(ops.softmax(scores / 8), v + self.v_bias)
        return self.gain(self.norm(self.dense(mixed) + x))


class TestOwnersInsideOwners:
    def test_one_pass_places_them_all(self, monkeypatch):
        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList(Disentangled() for _ in range(3))
                self.rel_embeddings = nn.Embedding(9, 16)

            def forward(self, x):
                for layer in self.layers:
                    x = layer(x, self.rel_embeddings.weight)
                return x

        class Encoder(L.Layer):
            def __init__(self, **options):
                super().__init__(**options)
                self.blocks = [KerasDisentangled(name=f"layer_{number}") for number in range(3)]

            def build(self, shape):
                self.table = self.add_weight(shape=(9, 16), name="rel_embeddings")
                super().build(shape)

            def call(self, x):
                for block in self.blocks:
                    x = block(x, ops.convert_to_tensor(self.table))
                return x

        from keras_torch_convert.alignment.activations.keras_pass import KerasPass

        tried, attempt = [], KerasPass.attempt
        monkeypatch.setattr(
            KerasPass, "attempt",
            lambda self, leaf, *args: tried.append(leaf) or attempt(self, leaf, *args))
        inputs = keras.Input((9, 16))
        model = keras.Model(inputs, Encoder(name="encoder")(inputs))
        x = RANDOM.normal(size=(2, 9, 16)).astype("float32")

        report = converted(Module(), model, (x, x))

        assert not doubts(report)
        # Each layer inside was tried for every trial of the layers around it before.
        assert len(tried) < 40


class Positions(L.Layer):
    def __init__(self, rows, **options):
        super().__init__(**options)
        self.table = self.add_weight(shape=(rows, 8), name="embeddings")
        self.built = True

    def call(self, length):
        return self.table[:length][None]


class TestHidden:
    @pytest.mark.parametrize("rows", [16, 12])
    def test_tables_called_with_a_length(self, rows):
        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.head = nn.Embedding(40, 8), nn.Linear(8, 8)
                self.down, self.across = nn.Embedding(16, 8), nn.Embedding(rows, 8)

            def forward(self, ids):
                places = torch.arange(ids.shape[1])
                x = torch.tanh(self.embed(ids) + self.across(places))
                return self.head(x * self.down(places))

        class Model(keras.Model):
            def __init__(self):
                super().__init__()
                self.embed, self.head = L.Embedding(40, 8), L.Dense(8)
                self.first, self.second = Positions(rows,
                                                    name="first"), Positions(16, name="second")

            def call(self, ids):
                x = ops.tanh(self.embed(ids) + self.first(length=ids.shape[1]))
                return self.head(x * self.second(length=ids.shape[1]))

        report = converted(Module(), Model(), (IDS, IDS.astype("int32")))

        filled = taken(report)
        assert filled["first/embeddings"] == ("across.weight",)
        assert filled["second/embeddings"] == ("down.weight",)
        assert not doubts(report)

    def test_positions_that_torch_counts_for_each_sample(self):
        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.positions = nn.Embedding(40, 8), nn.Embedding(16, 8)
                self.others, self.head = nn.Embedding(16, 8), nn.Linear(8, 8)

            def forward(self, ids):
                places = torch.arange(ids.shape[1]).expand(ids.shape[0], -1)
                return self.head(self.embed(ids) + self.positions(places) * self.others(places))

        class Model(keras.Model):
            def __init__(self):
                super().__init__()
                self.embed, self.head = L.Embedding(40, 8), L.Dense(8)
                self.first, self.second = Positions(16,
                                                    name="others"), Positions(16, name="positions")

            def call(self, ids):
                length = ids.shape[1]
                both = self.first(length=length)[0] * self.second(length=length)[0]
                return self.head(self.embed(ids) + both)

        report = converted(Module(), Model(), (IDS, IDS.astype("int32")))

        assert taken(report)["positions/embeddings"] == ("positions.weight",)
        assert not doubts(report)

    def test_table_that_another_layer_reads(self):
        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.head = nn.Embedding(40, 8), nn.Linear(8, 8)
                self.other = nn.Embedding(40, 8)

            def forward(self, ids):
                return self.head(
                    torch.tanh(self.embed(ids)) @ self.other.weight.T @ self.other.weight)

        class Model(keras.Model):
            def __init__(self):
                super().__init__()
                self.table, self.embed = L.Embedding(40, 8, name="table"), L.Embedding(40, 8)
                self.head = L.Dense(8)
                self.table.build(None)

            def call(self, ids):
                x = ops.tanh(self.embed(ids))
                return self.head(x @ ops.transpose(self.table.embeddings) @ self.table.embeddings)

        report = converted(Module(), Model(), (IDS, IDS.astype("int32")))

        assert taken(report)["table/embeddings"] == ("other.weight",)
        assert not doubts(report)
