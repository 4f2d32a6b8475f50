"""The classic conversion without dictionary or function: by order where that is right, else by
running both models.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch

import keras_torch_convert as ktc
from keras_torch_convert import keras_reload_from_torch_model
from keras_torch_convert.api import classic_alignment
from keras_torch_convert.errors import AlignmentError, ClassCountError, SaveError
from tests.helpers.small_models import (keras_two_branches, largest_difference, randomized,
                                        same_values, torch_two_branches, values)

QUIET = {"save_name": "", "verbose": 0}
layers = keras.layers


def swapped_pair(activation: str = "tanh") -> tuple[Any, Any]:
    """Two layers of one shape that PyTorch registers the other way round: every count and shape
    fits by order, and the outputs differ.
    """
    class Swapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            return self.second(torch.tanh(self.first(x)))

    inputs = layers.Input((6,))
    x = layers.Dense(6, activation=activation, name="first")(inputs)
    return randomized(Swapped()), keras.Model(inputs,
                                              layers.Dense(6, name="second")(x), name="swapped")


def outputs_differ(module: Any, model: Any) -> bool:
    inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return not np.allclose(module(inputs), model(inputs), atol=1e-5)


def test_order_that_fits_and_gives_equal_outputs_is_taken():
    module = randomized(torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)))
    model = keras.Sequential([layers.Input((6,)), layers.Dense(4), layers.Dense(3)])

    report = keras_reload_from_torch_model(module, model, **QUIET)

    assert report.alignment == "by order"
    assert report.equal is True


def test_where_the_order_does_not_fit_both_models_are_run():
    module, model = torch_two_branches(), keras_two_branches(keras)

    report = keras_reload_from_torch_model(module, model, **QUIET)

    assert report.alignment == "found by running both models"
    note = "the order of layers does not fit, so both models were run to find the alignment"
    assert note in report.notes
    assert report.equal is True
    assert report.dictionaries.tail_align_dict == {"shortcut_conv": -4}
    assert "    tail_align_dict={'shortcut_conv': -4}," in str(report)
    assert "block1.conv1.weight" in report.explain("stack1_block1_1_conv/kernel")
    assert largest_difference(module, model) < 1e-5


def test_order_that_fits_with_other_outputs_is_given_up_before_the_file_is_written(tmp_path):
    module, model = swapped_pair()
    path = tmp_path / "swapped.weights.h5"

    report = keras_reload_from_torch_model(module, model, save_name=path, verbose=0)

    assert any("by order the outputs differ" in note for note in report.notes)
    assert report.equal is True
    fresh = swapped_pair()[1]
    fresh.load_weights(path)
    assert not outputs_differ(module, fresh)


def test_without_prediction_an_order_that_fits_is_taken_as_it_is():
    module, model = swapped_pair()

    report = keras_reload_from_torch_model(module, model, do_predict=False, **QUIET)

    assert report.alignment == "by order"
    assert report.equal is None


@pytest.mark.parametrize("told",
                         [{"full_name_align_dict": {"second": 1}}, {"specific_match_func": list},
                          {"additional_transfer": {"first": list}}])
def test_what_the_user_says_is_done_whatever_comes_out(told):
    module, model = swapped_pair()

    report = keras_reload_from_torch_model(module, model, **told, **QUIET)

    assert report.equal is False
    assert report.alignment.startswith("by order")


def test_where_running_finds_nothing_better_the_order_stays_and_is_saved(tmp_path, monkeypatch):
    module, model = swapped_pair(activation="sigmoid")
    path = tmp_path / "swapped.weights.h5"

    def nothing_found(*_, **__):
        raise AlignmentError("2 layers are open")

    monkeypatch.setattr(classic_alignment, "aligned_by_running", nothing_found)

    report = keras_reload_from_torch_model(module, model, save_name=path, verbose=0)

    assert report.alignment == "by order"
    assert report.equal is False
    assert path.exists()
    assert any("without success: " in note and "2 layers are open" in note for note in report.notes)
    assert report.comparison.first_divergence is not None


def test_models_that_differ_are_aligned_by_running_and_saved_with_the_cause(tmp_path):
    module, model = swapped_pair(activation="sigmoid")
    path = tmp_path / "swapped.weights.h5"

    report = keras_reload_from_torch_model(module, model, save_name=path, verbose=0)

    assert report.alignment == "found by running both models"
    assert report.verdict == "different"
    assert "sigmoid" in report.comparison.first_divergence.cause
    assert path.exists()


def test_where_neither_way_works_both_reasons_are_given_and_nothing_changes(tmp_path):
    module = randomized(torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 3)))
    model = keras.Sequential([layers.Input((6,)), layers.Dense(4), layers.Dense(3)])
    before, path = values(model), tmp_path / "model.h5"

    with pytest.raises(
            AlignmentError,
            match=r"(?s)the order of layers does not fit.*did not help either") as caught:
        keras_reload_from_torch_model(module, model, save_name=path, verbose=0)

    assert "(5, 6)" in str(caught.value)
    assert same_values(before, values(model))
    assert not path.exists()


def test_a_head_for_another_number_of_classes_comes_with_the_arguments_that_leave_it_out():
    module = randomized(torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)))
    model = keras.Sequential(
        [layers.Input((6,)),
         layers.Dense(4, name="first"),
         layers.Dense(2, name="head")])

    with pytest.raises(ClassCountError,
                       match=r"skip_layers=\['1'\] and keep_layers=\['head'\]") as caught:
        keras_reload_from_torch_model(module, model, **QUIET)
    assert "\n" not in str(caught.value)

    report = keras_reload_from_torch_model(module, model, skip_layers=["1"], keep_layers=["head"],
                                           **QUIET)
    assert report.complete
    assert report.verdict == "equal"
    assert any("'head' keeps its own values: compared is what goes into it" in note
               for note in report.notes)


def test_all_but_a_head_for_another_number_of_classes_is_converted_where_that_is_asked_for():
    module, model = torch_two_branches(7), keras_two_branches(keras, 10)
    before = [value.copy() for value in model.get_layer("predictions").get_weights()]
    with pytest.raises(ClassCountError, match="with strict=False"):
        ktc.convert(module, model)

    report = ktc.convert(module, model, strict=False)

    assert report.verdict == "equal"
    assert any("'predictions' keeps its own values" in note for note in report.notes)
    assert same_values(before, model.get_layer("predictions").get_weights())
    statuses = {entry.name: entry.status for entry in report.ledger}
    assert statuses["head.weight"] == "skipped"
    assert statuses["predictions/kernel"] == "kept"


def test_a_head_for_another_number_of_classes_is_all_that_is_said_where_only_the_order_is_wrong_too(
):
    module, model = torch_two_branches(7), keras_two_branches(keras, 10)

    with pytest.raises(ClassCountError,
                       match=r"'predictions' has 10 outputs, 'head.weight' 7") as caught:
        keras_reload_from_torch_model(module, model, **QUIET)

    assert "block1" not in str(caught.value)


def test_where_a_file_cannot_be_written_is_said_before_a_model_is_run(tmp_path):
    class NeverRun(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            raise AssertionError("it ran")

    module, model = NeverRun(6, 4), keras.Sequential([layers.Input((6,)), layers.Dense(3)])

    with pytest.raises(SaveError, match="there is no folder"):
        keras_reload_from_torch_model(module, model, save_name=tmp_path / "missing" / "model.h5",
                                      verbose=0)


def test_a_checkpoint_by_order_is_said_to_be_unproven():
    module, model = swapped_pair()

    report = keras_reload_from_torch_model(module.state_dict(), model, **QUIET)

    assert report.alignment == "by order, unproven"
    assert report.equal is None
