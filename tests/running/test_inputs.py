"""Inputs that the tool draws."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch

import keras_torch_convert as ktc
from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.running.input_specs import input_specs, random_inputs


class Table(keras.layers.Layer):
    """A table that is no Embedding layer."""
    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(50, 4), name="table")
        self.built = True

    def call(self, ids: Any) -> Any:
        return keras.ops.take(self.table, ids, axis=0)


def test_ids_go_through_the_table_of_torch_where_keras_reads_one_in_a_layer_of_its_own() -> None:
    ids = keras.Input((40,), dtype="int32")
    target = read_target(keras.Model(ids, Table()(ids)))
    drawn, = random_inputs(input_specs(target.model), torch.nn.Embedding(50, 4), target, (8, 8))
    assert len(np.unique(drawn)) > 15
    assert drawn.max() < 50
    # Which table, nobody knows.
    drawn, = random_inputs(input_specs(target.model), None, target, (8, 8))
    assert set(np.unique(drawn)) == {0, 1}


def test_a_name_that_the_keras_model_lacks_is_refused_since_keras_goes_by_position_then() -> None:
    values = keras.Input((3,), name="values")
    model = keras.Model({"values": values}, keras.layers.Dense(2)(values))
    given, mask = np.ones((1, 3), "float32"), np.zeros((1, 3), "float32")
    sample: Any = ([given], {"mask": mask, "values": given})
    with pytest.raises(ValueError, match=r"sample has 'mask' for Keras.* it takes 'values'"):
        ktc.convert(torch.nn.Linear(3, 2), model, sample=sample)
    sample[1].pop("mask")
    assert ktc.convert(torch.nn.Linear(3, 2), model, sample=sample).complete
