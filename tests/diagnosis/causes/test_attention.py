"""What ports of language models get wrong in code of their own is named: rotary positions, scores,
masks, heads, gates.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.diagnosis.causes import rope
from tests.helpers.faults import Pair, language_faults, verdict
from tests.helpers.language_pairs import language
from tests.helpers.small_models import randomized

FAULTS = {fault.name: fault for fault in language_faults()}


def verified(pair: Pair) -> ktc.Comparison:
    return ktc.verify(pair.torch_module, pair.keras_model, plan=pair.plan, sample=pair.sample,
                      randomized=False, inputs=1)


@pytest.mark.parametrize("fused", [False, True])
def test_a_pair_without_a_fault_has_no_cause(fused: bool) -> None:
    result = verified(language(keras, fused=fused))
    assert result.equal
    assert result.first_divergence is None


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_port_of_a_language_model_is_named(name: str) -> None:
    pair, fault = language(keras), FAULTS[name]
    seeded = fault.put(pair, random.Random(name).choice(fault.places(pair)))
    found = verified(pair).first_divergence
    assert found is not None
    assert verdict(found, fault, seeded) == "exact", str(found)
    assert len(found.differences) == 1, str(found)
    assert found.advice


@pytest.mark.parametrize("name", [
    "scale of scores", "no causal mask", "window of a causal mask",
    "heads tiled instead of repeated", "scaling of YaRN"
])
def test_a_fault_is_named_where_both_sides_fuse_attention(name: str) -> None:
    pair, fault = language(keras, fused=True), FAULTS[name]
    seeded = fault.put(pair, fault.places(pair)[0])
    found = verified(pair).first_divergence
    assert verdict(found, fault, seeded) == "exact", str(found)


def test_a_mask_a_scale_and_a_cap_of_one_attention_are_all_named() -> None:
    pair = language(keras)
    attention = pair.layers("KerasAttention")[0]
    attention.factor, attention.cap, attention.causal = 0.5, 4.0, False
    found = verified(pair).first_divergence
    assert found is not None
    assert {one.kind for one in found.differences} == {"attention scale", "soft cap", "mask"}
    assert {one.keras_layers for one in found.differences} == {("blocks_0/attn",)}


def test_three_faults_in_two_blocks_are_all_named_and_nothing_else() -> None:
    pair = language(keras, blocks=2)
    rope, attention = pair.layers("KerasRope")[0], pair.layers("KerasAttention")[0]
    FAULTS["linear scaling of positions"].put(pair, rope)
    FAULTS["window of a causal mask"].put(pair, attention)
    FAULTS["no soft cap at the end"].put(pair, pair.layers("SoftCap")[0])
    found = verified(pair).first_divergence
    assert found is not None
    assert {one.kind for one in found.differences} == {"rope", "window", "soft cap"}, str(found)


class TorchHeads(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(24, 4, batch_first=True), nn.Linear(24, 5)
        self.causal = causal

    def forward(self, x: Any) -> Any:
        mask = torch.ones(10, 10, dtype=torch.bool).triu(1) if self.causal else None
        return self.head(x + self.attention(x, x, x, attn_mask=mask, need_weights=False)[0])


@pytest.mark.parametrize(
    ("causal", "settings", "kind"),
    [(True, {}, "mask"), (True, {"dropout": 0.1}, "mask"),
     (False, {"num_heads": 2, "key_dim": 12}, "number of heads"),
     (False, {"num_heads": 2, "key_dim": 12, "dropout": 0.1}, "number of heads")])
def test_keras_own_attention(causal: bool, settings: dict[str, Any], kind: str) -> None:
    x = inputs = keras.Input((10, 24))
    settings = {"num_heads": 4, "key_dim": 6, **settings}
    x = x + keras.layers.MultiHeadAttention(name="attention", **settings)(x, x)
    keras_model = keras.Model(inputs, keras.layers.Dense(5)(x))
    report = ktc.convert(randomized(TorchHeads(causal)), keras_model, if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert [one.kind for one in found.differences] == [kind], str(found)
    assert found.keras_layer.startswith("attention")


@pytest.mark.parametrize(("factor", "count"), [(1.0, 1), (0.35, 0)])
def test_a_query_that_is_scaled_is_not_said_to_be_without_positions(factor: float,
                                                                    count: int) -> None:
    """Torch may turn it behind that, by steps that are not seen."""
    values = np.random.default_rng(1)
    query = values.normal(size=(1, 9, 2, 8)).astype(np.float32)
    angles = np.arange(9)[:, None] * 10000**(-np.arange(4) / 4)
    turned = rope.Rotation(np.exp(1j * angles), False, 8).applied(np.moveaxis(query, 1, 2))
    context = SimpleNamespace(
        has_weights=False, keras=SimpleNamespace(inputs=[query],
                                                 outputs=[np.moveaxis(turned, 2, 1)]),
        step_results=lambda: iter([(SimpleNamespace(path="attention"), query * factor)]))
    found = list(rope.hypotheses(cast("Any", context)))
    assert len(found) == count
    assert all("torch does not" in one.cause for one in found)
