"""Experts that torch holds one by one and a Keras layer in banks of its own variables."""

from __future__ import annotations

from typing import Any

import pytest

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

WIDTH, HIDDEN = 6, 5


def experts(count: int) -> Any:
    import torch
    from torch.nn import functional

    class Expert(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_proj = torch.nn.Linear(WIDTH, HIDDEN, bias=False)
            self.up_proj = torch.nn.Linear(WIDTH, HIDDEN, bias=False)
            self.down_proj = torch.nn.Linear(HIDDEN, WIDTH)

        def forward(self, x: Any) -> Any:
            return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))

    class Mixture(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = torch.nn.Linear(WIDTH, count, bias=False)
            self.experts = torch.nn.ModuleList(Expert() for _ in range(count))

        def forward(self, x: Any) -> Any:
            share = self.router(x).softmax(-1)
            return sum(share[..., k:k + 1] * one(x) for k, one in enumerate(self.experts))

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(20, WIDTH)
            self.mixtures = torch.nn.ModuleList(Mixture() for _ in range(2))

        def forward(self, ids: Any) -> Any:
            x = self.embedding(ids)
            for mixture in self.mixtures:
                x = x + mixture(x)
            # A mean over tokens: their order alone changes nothing.
            return x.mean(1)

    return randomized(Tokens())


def banks(count: int, own_router: bool, joined: bool) -> Any:
    import keras
    from keras import layers, ops

    class Bank(layers.Layer):
        def build(self, shape: Any) -> None:
            if own_router:
                self.router_kernel = self.add_weight(shape=(WIDTH, count), name="router_kernel")
            else:
                self.router = layers.Dense(count, use_bias=False, name="router")
                self.router.build(shape)
            names = {"gate_up": 2 * HIDDEN} if joined else {"gate": HIDDEN, "up": HIDDEN}
            self.first = [
                self.add_weight(shape=(count, WIDTH, size), name=name)
                for name, size in names.items()
            ]
            self.down = self.add_weight(shape=(count, HIDDEN, WIDTH), name="down")
            self.down_bias = self.add_weight(shape=(count, WIDTH), name="down_bias")

        def call(self, x: Any) -> Any:
            share = ops.softmax(ops.matmul(x, self.router_kernel) if own_router else self.router(x))
            hidden = [ops.einsum("btd,edh->bteh", x, bank) for bank in self.first]
            gate, up = ops.split(hidden[0], 2, -1) if joined else hidden
            made = ops.einsum("bteh,ehd->bted", ops.silu(gate) * up, self.down) + self.down_bias
            return ops.sum(made * share[..., None], -2)

    ids = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, WIDTH)(ids)
    for number in range(2):
        x = layers.Add()([x, Bank(name=f"mixture_{number}")(x)])
    return keras.Model(ids, layers.GlobalAveragePooling1D()(x))


@pytest.mark.parametrize(("count", "own_router", "joined"), [(3, True, False), (8, True, True),
                                                             (4, False, False), (4, False, True),])
def test_experts_fill_a_bank(count: int, own_router: bool, joined: bool) -> None:
    report = ktc.convert(experts(count), banks(count, own_router, joined))

    assert report.equal
    assert not [entry for entry in report.ledger if entry.status not in ("used", "set")]
