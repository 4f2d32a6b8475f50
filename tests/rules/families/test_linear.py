"""Embedding tables."""

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from keras_torch_convert.rules import assign_layer
from tests.helpers.rule_case import as_array
from tests.helpers.small_models import randomized
from tests.helpers.transfer import layer, source_of, stack_of


def counted(*shape):
    """An array whose values are their own numbers, so that every misplaced one shows."""
    return np.arange(np.prod(shape), dtype="float32").reshape(shape)


def refusal(tensors, keras_layer):
    with pytest.raises(TransferError) as caught:
        assign_layer(stack_of(source_of(tensors)), keras_layer)
    return str(caught.value)


def converted(torch_layer, keras_layer, shape, dtype="float32"):
    """Both models after the conversion, and the report."""
    import keras
    from torch import nn

    module = randomized(nn.ModuleDict({"layer": torch_layer}))
    inputs = keras.Input(shape, dtype=dtype)
    model = keras.Model(inputs, keras_layer(inputs))
    plan = ktc.align(module, model, mapping={model.layers[-1].name: "layer"})
    return module, model, ktc.convert(module, model, plan=plan, verify=False)


class TestEmbeddings:
    def test_rows_are_tokens_and_the_outputs_equal(self):
        import keras
        import torch
        from torch import nn

        module, model, report = converted(nn.Embedding(6, 6), keras.layers.Embedding(6, 6), (5,),
                                          "int32")

        tokens = np.array([[0, 5, 2, 3, 1], [4, 4, 0, 1, 5]])
        np.testing.assert_array_equal(as_array(model(tokens)),
                                      module["layer"](torch.from_numpy(tokens)).detach().numpy())
        assert report.notes == ()

    def test_a_padding_row_is_carried_over_and_noted(self):
        import keras
        from torch import nn

        module, model, report = converted(nn.Embedding(6, 4, padding_idx=2),
                                          keras.layers.Embedding(6, 4, name="tokens"), (5,),
                                          "int32")

        np.testing.assert_array_equal(model.get_weights()[0],
                                      module["layer"].weight.detach().numpy())
        assert any("is 2: that row of 'tokens'" in note for note in report.notes)

    def test_a_largest_norm_is_noted(self):
        import keras
        from torch import nn

        _, _, report = converted(nn.Embedding(6, 4, max_norm=1.5), keras.layers.Embedding(6, 4),
                                 (5,), "int32")

        assert any("is 1.5: it shortens rows" in note for note in report.notes)

    def test_a_transposed_table_is_refused(self):
        message = refusal({"tokens.weight": counted(4, 6)},
                          layer("tokens", "Embedding", {"embeddings": (6, 4)}))

        assert "embeddings needs a torch tensor of shape (6, 4)" in message
