"""What ports of language models get wrong in code of their own is named: rotary positions, scores,
masks, heads, gates.
"""

from __future__ import annotations

import random

import keras
import pytest

import keras_torch_convert as ktc
from tests.helpers.faults import Pair, language_faults, verdict
from tests.helpers.language_pairs import language

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
