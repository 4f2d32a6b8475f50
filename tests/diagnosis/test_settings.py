"""Models built for other sizes, or with another kind of norm: the first sentence of the refusal is
the cause, with the tensors of both sides, and its advice works.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

LAYERS = keras.layers


def first_sentence(module: Any, keras_model: Any, kind: type[Exception]) -> str:
    with pytest.raises(kind) as refused:
        ktc.convert(module, keras_model)
    return str(refused.value).splitlines()[0]


def normed(layer: Any) -> Any:
    return keras.Sequential([
        keras.Input((6,)),
        LAYERS.Dense(8, name="first"), layer,
        LAYERS.ReLU(),
        LAYERS.Dense(3, name="last")
    ])


def module_with(norm: Any) -> Any:
    return randomized(nn.Sequential(nn.Linear(6, 8), norm, nn.ReLU(), nn.Linear(8, 3)))


def test_a_layer_norm_where_torch_has_a_batch_norm() -> None:
    module = module_with(nn.BatchNorm1d(8))
    said = first_sentence(module, normed(LAYERS.LayerNormalization(epsilon=1e-5, name="norm")),
                          ktc.AlignmentError)
    assert said.startswith("Keras layer 'norm' (LayerNormalization: gamma (8,), beta (8,))")
    assert "'1' (BatchNorm1d) (1.weight (8,), 1.bias (8,), 1.running_mean (8,)" in said
    assert "put a BatchNormalization in the place" in said
    assert ktc.convert(module, normed(LAYERS.BatchNormalization(epsilon=1e-5))).equal


def test_a_batch_norm_where_torch_has_a_layer_norm() -> None:
    module = module_with(nn.LayerNorm(8))
    report = ktc.convert(module, normed(LAYERS.BatchNormalization(epsilon=1e-5, name="norm")),
                         if_different="keep")
    assert report.comparison is not None
    found = report.comparison.first_divergence
    assert found is not None
    assert (found.kind, found.keras_layer) == ("normalization", "norm")
    assert found.advice == "use the Keras LayerNormalization"
    assert ktc.convert(module, normed(LAYERS.LayerNormalization(epsilon=1e-5))).equal


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 16), nn.Linear(16, 3)
        self.mix = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Any) -> Any:
        x = self.embed(x)
        return self.head(self.mix(x, x, x)[0])


def keras_attention(heads: int, width: int) -> Any:
    inputs = keras.Input((6, 5))
    x = LAYERS.Dense(16, name="embed")(inputs)
    x = LAYERS.MultiHeadAttention(heads, width, name="mix")(x, x)
    return keras.Model(inputs, LAYERS.Dense(3, name="head")(x))


@pytest.mark.parametrize(("heads", "width"), [(4, 8), (2, 4)])
def test_attention_of_another_width(heads: int, width: int) -> None:
    module = randomized(Attention())
    said = first_sentence(module, keras_attention(heads, width), ktc.AlignmentError)
    assert said == (
        f"Keras layer 'mix' (MultiHeadAttention) attends with {heads} heads of width {width}, "
        f"query kernel (16, {heads}, {width}); torch layer 'mix' (MultiheadAttention) with 4 of "
        "width 4, mix.in_proj_weight (48, 16): build the Keras layer with num_heads=4, key_dim=4")
    assert ktc.convert(module, keras_attention(4, 4)).equal


class Words(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(count, 8), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.table(x))


def keras_words(count: int) -> Any:
    inputs = keras.Input((7,), dtype="int32")
    x = LAYERS.Embedding(count, 8, name="table")(inputs)
    return keras.Model(inputs, LAYERS.Dense(3, name="head")(x))


def test_a_vocabulary_that_torch_does_not_have() -> None:
    said = first_sentence(randomized(Words(20)), keras_words(50), ktc.AlignmentError)
    assert said.startswith("Keras layer 'table' (Embedding) has embeddings (50, 8), torch "
                           "table.weight (20, 8)")
    assert said.endswith("in Keras with input_dim=20")
    assert ktc.convert(randomized(Words(20)), keras_words(20)).equal


def test_a_vocabulary_that_keras_has_a_part_of() -> None:
    said = first_sentence(randomized(Words(50)), keras_words(20), ktc.TransferError)
    assert "'table.weight' (50, 8) are left over, 'table/embeddings' (20, 8) has the others" in said


def test_what_torch_raises_on_inputs_of_its_own_is_not_blamed_on_tables() -> None:
    class Failing(Words):
        def forward(self, x: Any) -> Any:
            raise IndexError("of its own")

    with pytest.raises(ktc.PredictionError, match="of its own"):
        ktc.convert(randomized(Failing(20)), keras_words(20), sample=np.zeros((1, 7), np.int32))
