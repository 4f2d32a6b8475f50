"""Models that differ in one to four places: every layer gets the weights that it gets in the pair
without a difference, and nothing wrong is called proven.
"""

from __future__ import annotations

import random
from typing import Any

import keras
import pytest

import keras_torch_convert as ktc
from tests.helpers.fault_pairs import convolutions, decoder, maps, transformer
from tests.helpers.faults import Pair, every_fault

MAKERS = {
    "convolutions": convolutions, "transformer": transformer, "maps": maps, "decoder": decoder
}
# Faults of settings and of steps without weights; none that changes weights, inputs or outputs.
WORDS = ("epsilon", "Keras relu", "Keras gelu", "Keras silu", "Keras hard", "torch ReLU",
         "torch GELU", "torch SiLU", "torch Hard", "slope", "residual", "groups of", "scale of",
         "output of a layer scaled")
FAULTS = [fault for fault in every_fault() if fault.name.startswith(WORDS)]


def sources_by_name(plan: ktc.Plan) -> dict[str, Any]:
    """The expression of every variable by the name that people know it by."""
    return {plan.targets[one.key].display_name: one.expression for one in plan.assignments}


def with_faults(maker: str, count: int, seed: int) -> tuple[Pair, list[str]]:
    """A pair with `count` faults at random places, and their names."""
    rng = random.Random(f"{maker} {count} {seed}")
    pair, names = MAKERS[maker](keras), []
    while len(names) < count:
        fault = rng.choice(FAULTS)
        if places := fault.places(pair):
            fault.put(pair, rng.choice(places))
            names.append(fault.name)
    return pair, names


@pytest.mark.parametrize("maker", MAKERS)
def test_every_layer_gets_its_weights(maker: str) -> None:
    unchanged = MAKERS[maker](keras)
    wanted = sources_by_name(
        ktc.align(unchanged.torch_module, unchanged.keras_model, sample=unchanged.sample))
    for count in (1, 2, 3, 4):
        for seed in range(3):
            pair, faults = with_faults(maker, count, seed)
            report = ktc.convert(pair.torch_module, pair.keras_model, sample=pair.sample,
                                 if_different="keep")
            assert report.plan is not None
            found = sources_by_name(report.plan)
            wrong = {name for name, expression in wanted.items() if found.get(name) != expression}
            assert not wrong, faults
            assert {entry.status for entry in report.ledger} <= {"used", "skipped", "set", "kept"}


def test_what_stands_behind_a_difference_is_not_called_proven() -> None:
    torch_model = MAKERS["maps"](keras).torch_module
    pair = MAKERS["maps"](keras)
    pair.keras_model.get_layer("norm1").epsilon = 0.5
    report = ktc.convert(torch_model, pair.keras_model, sample=pair.sample, if_different="keep")
    told = {name: words for name, words in report.evidence.items() if "/" not in name}
    assert "told by input and output" in told["conv1"]
    assert "the models differ here; " in told["norm1"]
    assert "distance" not in told["norm1"]
    assert "told by its output on torch's own input" in told["conv3"]
