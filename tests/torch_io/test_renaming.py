"""Names that only begin otherwise are found; what is ambiguous or only alike is offered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from keras_torch_convert.errors import SourceError
from keras_torch_convert.spec.source import Source
from keras_torch_convert.torch_io.reader import read
from keras_torch_convert.torch_io.renaming import fitted, offered

WANTED = {
    "features.0.weight": (8, 3), "features.0.bias": (8,), "features.1.weight": (8, 8),
    "features.1.bias": (8,), "features.2.weight": (8, 8), "features.2.bias": (8,),
    "head.weight": (4, 8), "head.bias": (4,)
}


def source(rename: Callable[[str], str] = str, **more: Any) -> Source:
    state = {
        rename(name): torch.full(shape, float(place))
        for place, (name, shape) in enumerate(WANTED.items())
    }
    return read({**state, **more})


@pytest.mark.parametrize("rename", [
    lambda name: f"backbone.{name}", lambda name: f"a.b.{name}",
    lambda name: name.replace("features.", "encoder.layers."),
    lambda name: name.replace("features.", "body.").replace("head.", "classifier."),
    lambda name: name.replace("features.", "features.model._orig_mod."),
    lambda name: name.replace("features.", "") if "head" not in name else name])  # yapf: disable
def test_beginnings_that_differ_are_found(rename: Callable[[str], str]) -> None:
    found = fitted(source(rename), WANTED)
    assert list(found) == list(WANTED)
    assert [float(tensor.read().flat[0]) for tensor in found.values()] == list(range(8))
    assert any("names fit with" in note for note in found.notes)


def test_names_that_a_plan_kept_from_a_wrapped_model_are_found_in_a_plain_file() -> None:
    wanted = {
        name.replace("features.", "features._orig_mod."): shape for name, shape in WANTED.items()
    }
    assert list(fitted(source(), wanted)) == list(wanted)
    assert list(fitted(source(lambda name: f"net.{name}"), wanted)) == list(wanted)


def test_what_is_there_already_keeps_its_name() -> None:
    state = source(lambda name: name if "head" in name else name.replace("features.", ""))
    found = fitted(state, WANTED)
    assert found["head.weight"].shape == (4, 8)
    assert list(found) == list(WANTED)
    same = source()
    assert fitted(same, WANTED) is same


def test_two_networks_with_the_names_must_be_chosen_from() -> None:
    both = {
        f"{net}.{name}": torch.ones(shape) for net in ("a", "b") for name, shape in WANTED.items()
    }
    with pytest.raises(SourceError, match=r"several networks.*under 'a', 'b'; choose one with "
                       "wrapper="):
        fitted(read(both), WANTED)
    assert list(fitted(read(both, wrapper="b"), WANTED)) == list(WANTED)
    assert list(fitted(read({**both, "b.head.bias": torch.ones(5)}), WANTED))[:8] == list(WANTED)


def test_layers_that_may_be_each_other_are_offered_not_taken() -> None:
    swapped = source(lambda name: name.replace("features.1", "x").replace("features.2", "y"))
    assert fitted(swapped, WANTED) is swapped
    text = offered(swapped, WANTED)
    assert "'features.1' may be 'x' or 'y' there" in text
    told = read(swapped, rename={"x": "features.1", "y": "features.2"})
    assert list(fitted(told, WANTED)) == list(WANTED)


def test_a_single_layer_of_the_same_shape_is_only_offered_where_more_differs() -> None:
    other = source(lambda name: name.replace("head.", "aux."), extra=torch.ones(3))
    assert fitted(other, WANTED) is other
    assert offered(other, WANTED) == "names seem to begin otherwise: if so, say rename={'aux': " \
        "'head'}"
    assert fitted(read(other, rename={"aux": "head"}), WANTED).keys() >= WANTED.keys()


@pytest.mark.parametrize("change", [{"features.1.bias": (9,)}, {"features.3.weight": (8, 8)}])
def test_nothing_is_renamed_where_a_tensor_is_missing_or_of_another_shape(
        change: dict[str, tuple[int, ...]]) -> None:
    state = source(lambda name: f"net.{name}")
    assert fitted(state, {**WANTED, **change}) is state


def test_the_caller_exchanges_beginnings_of_whole_parts() -> None:
    state = source(lambda name: f"net.{name}", netto=torch.ones(1))
    assert list(read(state, rename={"net.": ""})) == [*WANTED, "netto"]
    assert "m.net.head.bias" in read(state, rename={"": "m"})
    with pytest.raises(SourceError, match="no name begins with 'nett'; did you mean 'net'"):
        read(state, rename={"nett": ""})
    with pytest.raises(SourceError, match=r"would all be called 'a\.weight'"):
        read({"b.weight": np.ones(1), "c.weight": np.ones(1)}, rename={"b": "a", "c": "a"})
    with pytest.raises(SourceError, match="a module keeps its names"):
        read(torch.nn.Linear(1, 1), rename={"": "a"})
