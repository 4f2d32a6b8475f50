"""Parameters that no rule names: layer scales and tokens."""

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from keras_torch_convert.rules import assign_layer
from tests.helpers.small_models import randomized
from tests.helpers.transfer import composite, layer, moved, source_of, stack_of


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


class TestVectorsOfOtherRanks:
    @pytest.mark.parametrize("torch_shape", [(5,), (1, 5), (5, 1, 1), (1, 5, 1, 1), (1, 1, 5)])
    @pytest.mark.parametrize("keras_shape", [(5,), (1, 1, 5), (1, 1, 1, 5)])
    def test_a_layer_scale_loses_and_gains_axes_of_size_1(self, torch_shape, keras_shape):
        scale = layer("scale", ("LayerScale", "Layer"), {"lambda": keras_shape})

        result = moved(source_of({"block.gamma_1": counted(*torch_shape) + 7}), scale)

        np.testing.assert_array_equal(result["lambda"].ravel(), [7, 8, 9, 10, 11])

    @pytest.mark.parametrize(("torch_shape", "keras_shape"),
                             [((1, 1, 6), (1, 6)), ((1, 1, 6), (6,)), ((1, 9, 6), (9, 6)),
                              ((9, 6), (1, 9, 6))])
    def test_tokens_and_position_tables_gain_and_lose_leading_axes_only(
            self, torch_shape, keras_shape):
        tokens = layer("tokens", ("Tokens", "Layer"), {"token": keras_shape})

        result = moved(source_of({"cls_token": counted(*torch_shape)}), tokens)["token"]

        np.testing.assert_array_equal(result, counted(*keras_shape))

    @pytest.mark.parametrize(("torch_shape", "keras_shape"), [((9, 6), (6, 9)), ((9, 6), (54,)),
                                                              ((9, 6), (3, 3, 6)),
                                                              ((9, 1, 6), (9, 6))])
    def test_nothing_else_follows_from_the_number_of_elements(self, torch_shape, keras_shape):
        tokens = layer("tokens", ("Tokens", "Layer"), {"token": keras_shape})

        message = refusal({"mask_token": counted(*torch_shape)}, tokens)

        assert "additional_transfer={'tokens': ...}" in message

    def test_tokens_of_one_torch_layer_go_into_the_parts_that_they_fit(self):
        both = composite("embed", "Embed",
                         layer("embed/cls", ("Token", "Layer"), {"token": (1, 1, 6)}),
                         layer("embed/pos", ("Table", "Layer"), {"table": (9, 6)}))

        result = moved(
            source_of({"pos_embed": counted(1, 9, 6), "cls_token": counted(1, 1, 6) + 100}), both)

        np.testing.assert_array_equal(result["table"], counted(9, 6))
        np.testing.assert_array_equal(result["token"], counted(1, 1, 6) + 100)
