"""Parameters that are no kernels: slopes, embeddings, layer scales, tokens and tables of biases."""

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from keras_torch_convert.rules import assign_layer
from tests.helpers.rule_case import as_array
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


class TestSlopes:
    def outputs(self, module, model, shape):
        import torch

        values = np.random.default_rng(3).standard_normal((2, *shape)).astype("float32")
        with torch.no_grad():
            expected = module["layer"](torch.from_numpy(
                np.ascontiguousarray(np.moveaxis(values, -1, 1)))).numpy()
        return as_array(model(values)), np.moveaxis(expected, 1, -1)

    @pytest.mark.parametrize("shared_axes", [[1, 2], [1], None])
    @pytest.mark.parametrize("slopes", [1, 4])
    def test_outputs_are_equal_however_many_slopes_keras_keeps(self, slopes, shared_axes):
        import keras
        from torch import nn

        module, model, report = converted(nn.PReLU(slopes),
                                          keras.layers.PReLU(shared_axes=shared_axes), (6, 5, 4))

        got, expected = self.outputs(module, model, (6, 5, 4))
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        as_many = slopes == 4 and shared_axes == [1, 2]
        assert any("repeated" in note for note in report.notes) is not as_many

    def test_outputs_differ_when_slopes_are_exchanged(self):
        import keras
        from torch import nn

        module, model, _ = converted(nn.PReLU(4), keras.layers.PReLU(shared_axes=[1, 2]), (6, 5, 4))
        model.set_weights([np.roll(model.get_weights()[0], 1)])

        got, expected = self.outputs(module, model, (6, 5, 4))
        assert abs(got - expected).max() / abs(expected).max() > 1e-2

    def test_the_note_says_how_keras_would_keep_as_many(self):
        import keras
        from torch import nn

        _, _, report = converted(nn.PReLU(4), keras.layers.PReLU(name="act"), (6, 5, 4))

        assert any("shared_axes=[1, 2] would keep as many" in note for note in report.notes)

    def test_slopes_by_channel_are_refused_when_the_channels_cannot_be_told(self):
        message = refusal({"act.weight": counted(4)}, layer("act", "PReLU", {"alpha": (4, 5, 4)}))

        assert "shared_axes=[1, 2]" in message

    def test_another_number_of_slopes_is_refused(self):
        assert "3 slopes for an alpha of shape (1, 1, 4)" in refusal({"act.weight": counted(3)},
                                                                     layer(
                                                                         "act", "PReLU",
                                                                         {"alpha": (1, 1, 4)}))


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
        assert any("padding_idx=2: its row in 'tokens'" in note for note in report.notes)

    def test_a_largest_norm_is_noted(self):
        import keras
        from torch import nn

        _, _, report = converted(nn.Embedding(6, 4, max_norm=1.5), keras.layers.Embedding(6, 4),
                                 (5,), "int32")

        assert any("max_norm=1.5: it shortens rows" in note for note in report.notes)

    def test_a_transposed_table_is_refused(self):
        message = refusal({"tokens.weight": counted(4, 6)},
                          layer("tokens", "Embedding", {"embeddings": (6, 4)}))

        assert "embeddings needs a torch tensor of shape (6, 4)" in message


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


SWIN = "attn.relative_position_bias_table"


class TestRelativePositionTables:
    """25 offsets of a window of 3 by 3, 4 heads."""
    def table(self, keras_shape):
        return layer("bias", ("RelativeBias", "Layer"), {"positional_embedding": keras_shape})

    def values(self, name, torch_shape, keras_shape):
        return moved(source_of({name: counted(*torch_shape)}),
                     self.table(keras_shape))["positional_embedding"]

    def test_swin_table_as_it_stands(self):
        np.testing.assert_array_equal(self.values(SWIN, (25, 4), (25, 4)), counted(25, 4))

    def test_swin_table_with_heads_first(self):
        np.testing.assert_array_equal(self.values(SWIN, (25, 4), (4, 25)), counted(25, 4).T)

    def test_swin_table_with_rows_and_columns(self):
        np.testing.assert_array_equal(self.values(SWIN, (25, 4), (5, 5, 4)), counted(5, 5, 4))

    def test_swin_table_with_heads_before_rows_and_columns(self):
        np.testing.assert_array_equal(self.values(SWIN, (25, 4), (4, 5, 5)),
                                      counted(25, 4).T.reshape(4, 5, 5))

    def test_levit_biases_with_heads_last(self):
        np.testing.assert_array_equal(self.values("attn.attention_biases", (4, 25), (25, 4)),
                                      counted(4, 25).T)

    def test_neighborhood_table_with_rows_and_columns_as_one(self):
        np.testing.assert_array_equal(self.values("attn.rpb", (4, 5, 5), (4, 25)), counted(4, 25))

    def test_a_table_that_fits_in_two_ways_is_refused(self):
        # 9 offsets of 3 heads would be (3, 3, 3) with the heads first or last.
        message = refusal({SWIN: counted(9, 3)}, self.table((3, 3, 3)))

        assert "additional_transfer={'bias': ...}" in message

    def test_a_square_table_is_moved_as_it_stands_and_the_doubt_is_told(self):
        (assignment,) = assign_layer(stack_of(source_of({SWIN: counted(9, 9)})), self.table((9, 9)))

        assert "only equal outputs can prove it" in assignment.doubt

    def test_a_table_of_another_name_is_not_transposed(self):
        message = refusal({"attn.my_table": counted(25, 4)}, self.table((4, 25)))

        assert "the axes are in another order" in message
        assert "move them with additional_transfer={'bias': ...}" in message

    def test_extra_offsets_of_a_class_token_do_not_fit_rows_and_columns(self):
        refusal({SWIN: counted(28, 4)}, self.table((5, 5, 4)))
