"""No pair is without an answer: the search ends in time, with what it found and what is open."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.errors import AlignmentError
from keras_torch_convert.util import time_limit
from tests.helpers.small_models import randomized

LAYERS = 6


def pair(activation="tanh"):
    """A chain of equal layers."""
    chain = [part for _ in range(LAYERS) for part in (nn.Linear(4, 4), nn.Tanh())]
    inputs = x = keras.Input((4,))
    for number in range(LAYERS):
        x = keras.layers.Dense(4, activation, name=f"dense_{number}")(x)
    return randomized(nn.Sequential(*chain)), keras.Model(inputs, x)


@pytest.fixture
def slow_clock(monkeypatch):
    """Each look at the clock takes a second."""
    now = [0.0]

    def monotonic():
        now[0] += 1
        return now[0]

    monkeypatch.setattr(time_limit, "monotonic", monotonic)


@pytest.mark.usefixtures("slow_clock")
@pytest.mark.parametrize("run", [ktc.align, ktc.convert])
def test_the_search_ends_with_what_is_aligned_and_what_is_open(run):
    module, model = pair()
    before = [keras.ops.convert_to_numpy(one).tobytes() for one in model.weights]

    with pytest.raises(AlignmentError) as caught:
        run(module, model, time_limit=6)

    text = str(caught.value)
    assert "3 layers of" in text
    assert "3 are open" in text
    assert "dense_3, dense_4, dense_5: the search had no time left for it (time_limit=6 s)" in text
    assert "a larger time_limit= lets the search go on" in text
    assert [keras.ops.convert_to_numpy(one).tobytes() for one in model.weights] == before


@pytest.mark.usefixtures("slow_clock")
def test_a_longer_time_or_none_ends_it_as_the_advice_says():
    for limit in (1e6, None):
        assert len(ktc.align(*pair(), time_limit=limit).pairs) == LAYERS


def test_the_search_for_causes_ends_too():
    module, model = pair("relu")

    report = ktc.convert(module, model, if_different="keep", time_limit=None)
    assert report.comparison.first_divergence is not None
    comparison = ktc.verify(module, model, plan=report.plan, time_limit=0)

    assert comparison.verdict == "different"
    assert comparison.first_divergence is None
    assert "the search for causes ended after time_limit=0 s" in comparison.notes


def test_the_bar_counts_layers(monkeypatch, capfd):
    from keras_torch_convert.util import progress

    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 0)

    ktc.convert(*pair(), progress=True)

    err = capfd.readouterr().err
    assert "align" in err
    assert f"/{LAYERS}" in err


def test_the_interrupted_module_is_as_it_was():
    module, model = pair()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    with pytest.raises(AlignmentError, match="time_limit=0 s"):
        ktc.align(module, model, time_limit=0)

    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
