"""Every kind of seeded fault, in small pairs: the place and the cause are named exactly, and models without a fault are left in peace."""

from __future__ import annotations

import random
from typing import Any

import keras
import pytest
from fault_pairs import convolutions, transformer
from faults import Fault, Pair, every_fault, verdict

import keras_torch_convert as ktc

MAKERS = {"convolutions": convolutions, "transformer": transformer}
FAULTS = {fault.name: fault for fault in every_fault()}


def verified(pair: Pair) -> ktc.Comparison:
    return ktc.verify(pair.torch_module, pair.keras_model, plan=pair.plan, sample=pair.sample, randomised=False)


def cases() -> list[Any]:
    found = []
    for maker, make in MAKERS.items():
        pair = make(keras)
        found += [
            pytest.param(maker, name, id=f"{maker}: {name}") for name, fault in FAULTS.items() if fault.places(pair)
        ]
    return found


@pytest.mark.parametrize("maker", MAKERS)
def test_equal_models_have_no_divergence(maker: str) -> None:
    pair = MAKERS[maker](keras)
    result = verified(pair)
    assert result.equal is True
    assert result.first_divergence is None


def test_there_are_more_than_forty_kinds() -> None:
    assert len({case.values[1] for case in cases()}) > 40


@pytest.mark.slow
@pytest.mark.parametrize(("maker", "name"), cases())
def test_a_seeded_fault_is_named(maker: str, name: str) -> None:
    fault: Fault = FAULTS[name]
    generator = random.Random(name)
    count = len(fault.places(MAKERS[maker](keras)))
    for number in generator.sample(range(count), count):
        pair = MAKERS[maker](keras)
        seeded = fault.put(pair, fault.places(pair)[number])
        result = verified(pair)
        divergence = result.first_divergence
        if divergence is None and not result.unexplained:
            continue  # a fault that no output shows, such as relu6 where nothing is above 6
        assert verdict(divergence, fault, seeded) == "exact", f"seeded {fault.name} at {seeded}\n{result}"
        return
    pytest.fail("no place shows this fault")
