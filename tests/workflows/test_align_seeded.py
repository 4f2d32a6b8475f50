"""Pairs that differ in several places at once: every layer gets the weights of the pair without
faults, none is wrongly said to be proven, and all faults are named in one run.
"""

from __future__ import annotations

import keras
import pytest

from tests.helpers import fault_pairs
from tests.helpers.align_seeded import run
from tests.helpers.faults import every_fault

FAULTS = {fault.name: fault for fault in every_fault()}


@pytest.mark.parametrize(("maker", "seeds"),
                         [("maps", [("corners aligned in torch", 0),
                                    ("channels of the picture in the other order", 0)]),
                          ("transformer", [("Keras gelu is gelu tanh", 1),
                                           ("epsilon of Keras LayerNormalization", 0)]),
                          ("decoder", [("axis of a softmax in Keras", 0),
                                       ("Keras silu is linear", 0)])])
def test_faults_at_once(maker: str, seeds: list[tuple[str, int]]) -> None:
    pair = getattr(fault_pairs, maker)(keras)
    faults = [(FAULTS[name], FAULTS[name].put(pair, FAULTS[name].places(pair)[number]))
              for name, number in seeds]

    outcome = run(pair, faults)

    assert not outcome.refused
    assert outcome.wrong == []
    assert outcome.wrong_proven == []
    assert outcome.named == [True, True], outcome.said
    assert outcome.wrong_causes == []
    assert outcome.passes <= 25
