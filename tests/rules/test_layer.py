"""One torch layer onto one Keras layer: what fits and how it moves, what does not fit and what the
message says.
"""

import numpy as np
import pytest

from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.expressions import Tensor
from keras_torch_convert.rules import assign_layer
from keras_torch_convert.rules.rule import AxisPattern
from tests.helpers.transfer import composite, layer, moved, source_of, stack_of


def counted(*shape):
    """An array whose values are their own numbers, so that every misplaced one shows."""
    return np.arange(np.prod(shape), dtype="float32").reshape(shape)


def refusal(tensors, keras_layer):
    with pytest.raises(TransferError) as caught:
        assign_layer(stack_of(source_of(tensors)), keras_layer)
    assert caught.value.problems == (str(caught.value),)
    return str(caught.value)


CONV = layer("conv", "Conv2D", {"kernel": (3, 3, 2, 4), "bias": (4,)})
NORM = layer("norm", "BatchNormalization",
             {"gamma": (4,), "beta": (4,), "moving_mean": (4,), "moving_variance": (4,)})


class TestKernels:
    def test_convolution_moves_channels_last(self):
        kernel = counted(4, 2, 3, 3)

        result = moved(source_of({"c.weight": kernel, "c.bias": counted(4)}), CONV)

        np.testing.assert_array_equal(result["kernel"], kernel.transpose(2, 3, 1, 0))

    def test_transposed_convolution_is_not_taken_for_the_convolution_it_derives_from_in_keras_2(
            self):
        kernel = counted(2, 5, 3, 3)
        keras2 = layer("up", ("Conv2DTranspose", "Conv2D", "Conv", "Layer"),
                       {"kernel": (3, 3, 5, 2)})

        np.testing.assert_array_equal(
            moved(source_of({"up.weight": kernel}), keras2)["kernel"], kernel.transpose(2, 3, 1, 0))

    def test_depthwise_multiplier_varies_faster_than_the_channel(self):
        kernel = np.array([10, 11, 12, 20, 21, 22], "float32").reshape(6, 1, 1, 1)
        depthwise = layer("depth", "DepthwiseConv2D", {"depthwise_kernel": (1, 1, 2, 3)})

        result = moved(source_of({"d.weight": kernel}), depthwise)["depthwise_kernel"]

        np.testing.assert_array_equal(result[0, 0], [[10, 11, 12], [20, 21, 22]])

    def test_a_cubic_conv3d_kernel_keeps_depth_before_width(self):
        kernel = counted(3, 3, 3, 3, 3)
        cubic = layer("cubic", "Conv3D", {"kernel": (3, 3, 3, 3, 3)})

        np.testing.assert_array_equal(
            moved(source_of({"c.weight": kernel}), cubic)["kernel"],
            kernel.transpose(2, 3, 4, 1, 0))

    def test_square_dense_is_transposed_and_a_square_embedding_is_not(self):
        square = counted(3, 3)

        dense = moved(source_of({"d.weight": square}), layer("dense", "Dense", {"kernel": (3, 3)}))
        embedding = moved(source_of({"e.weight": square}),
                          layer("tokens", "Embedding", {"embeddings": (3, 3)}))

        np.testing.assert_array_equal(dense["kernel"], square.T)
        np.testing.assert_array_equal(embedding["embeddings"], square)

    def test_gain_of_a_weight_standardized_convolution_loses_its_axes_of_size_1(self):
        standardized = layer("stem", ("WSConv2D", "Conv2D", "BaseConv", "Layer"),
                             {"kernel": (1, 1, 2, 3), "bias": (3,), "gain": (3,)})
        tensors = {
            "s.weight": counted(3, 2, 1, 1), "s.bias": counted(3),
            "s.gain": 7 + counted(3, 1, 1, 1)
        }

        result = moved(source_of(tensors), standardized)

        np.testing.assert_array_equal(result["gain"], [7, 8, 9])
        np.testing.assert_array_equal(result["kernel"][0, 0], counted(3, 2).T)

    def test_separable_takes_two_kernels_of_one_role_in_file_order(self):
        separable = layer(
            "sep", "SeparableConv2D",
            {"depthwise_kernel": (3, 3, 2, 2), "pointwise_kernel": (1, 1, 4, 5), "bias": (5,)})
        tensors = {
            "dw.weight": counted(4, 1, 3, 3), "pw.weight": counted(5, 4, 1, 1),
            "pw.bias": counted(5)
        }
        swapped = {name: tensors[name] for name in ("pw.weight", "dw.weight", "pw.bias")}

        result = moved(source_of(tensors), separable)

        np.testing.assert_array_equal(result["depthwise_kernel"],
                                      counted(2, 2, 3, 3).transpose(2, 3, 0, 1))
        assert "(4, 1, 3, 3)" in refusal(swapped, separable)


class TestRoles:
    def test_batch_norm_from_a_file_sorted_by_name_comes_out_right(self):
        by_name = {
            "n.bias": np.full(4, 2.0), "n.running_mean": np.full(4, 3.0),
            "n.running_var": np.full(4, 4.0)
        }
        by_name["n.weight"] = np.full(4, 1.0)

        result = moved(source_of(by_name), NORM)

        assert [result[name][0] for name in ("gamma", "beta", "moving_mean", "moving_variance")
               ] == [1, 2, 3, 4]

    def test_variance_before_mean_is_told_apart_by_name(self):
        tensors = {"n.weight": np.full(4, 1.0), "n.bias": np.full(4, 2.0)}
        tensors |= {"n.running_var": np.full(4, 4.0), "n.running_mean": np.full(4, 3.0)}

        result = moved(source_of(tensors), NORM)

        assert (result["moving_mean"][0], result["moving_variance"][0]) == (3, 4)

    def test_arrays_without_names_are_taken_in_order(self):
        result = moved(
            source_of({
                "norm[0]": np.full(4, 1.0), "norm[1]": np.full(4, 2.0), "norm[2]": np.full(4, 3.0),
                "norm[3]": np.full(4, 4.0)
            }), NORM)

        assert [result[name][0] for name in ("gamma", "beta", "moving_mean", "moving_variance")
               ] == [1, 2, 3, 4]

    def test_a_norm_without_scale_is_not_filled_with_the_wrong_statistics(self):
        without_scale = layer("norm", "BatchNormalization",
                              {"beta": (4,), "moving_mean": (4,), "moving_variance": (4,)},
                              scale=False)
        as_many = {"n.weight": np.ones(4), "n.bias": np.ones(4), "n.running_mean": np.ones(4)}

        message = refusal(as_many, without_scale)

        assert "scale=False" in message
        assert "['weight']" in message


class TestRawParameters:
    @pytest.mark.parametrize("shape", [(5,), (1, 5), (5, 1, 1), (1, 1, 1, 5)])
    def test_ranks_may_differ_in_axes_of_size_1(self, shape):
        result = moved(source_of({"block.gamma": counted(5).reshape(shape)}),
                       layer("scale", "LayerScale", {"gamma": (5,)}))

        np.testing.assert_array_equal(result["gamma"], counted(5))

    def test_a_position_table_may_gain_its_batch_axis(self):
        result = moved(source_of({"pos_embed": counted(7, 4)}),
                       layer("pos", "PositionalEmbedding", {"table": (1, 7, 4)}))

        np.testing.assert_array_equal(result["table"][0], counted(7, 4))

    def test_a_kernel_of_an_unknown_layer_is_not_reshaped_between_two_layouts(self):
        unknown = layer("custom", ("MyConv", "Layer"), {"kernel": (1, 1, 8, 8)})

        assert "additional_transfer" in refusal({"custom.weight": counted(8, 8, 1, 1)}, unknown)

    def test_equal_shapes_of_an_unknown_layer_move_with_a_doubt_when_a_transpose_would_fit_too(
            self):
        source = source_of({"m.weight": counted(3, 3), "m.table": counted(2, 3)})
        unknown = layer("mix", ("Mixer", "Layer"), {"kernel": (3, 3), "table": (2, 3)})

        square, oblong = assign_layer(stack_of(source), unknown)

        assert "transposed" in square.doubt
        assert oblong.doubt == ""
        np.testing.assert_array_equal(moved(source, unknown)["kernel"], counted(3, 3))

    def test_one_value_does_not_fill_many(self):
        message = refusal({"mix.scale": counted(1)},
                          layer("mix", ("Mixer", "Layer"), {"scale": (1, 1, 4)}))

        assert "scale" in message
        assert "(1,)" in message


class TestRefusals:
    def test_the_message_shows_both_layers_with_all_shapes(self):
        message = refusal({"features.0.weight": counted(5, 2, 3, 3), "features.0.bias": counted(5)},
                          CONV)

        for part in ("'conv' (Conv2D: kernel (3, 3, 2, 4), bias (4,))", "weight (5, 2, 3, 3)",
                     "(4, 2, 3, 3)"):
            assert part in message

    def test_a_fused_query_key_value_suggests_unstacking_or_a_split(self):
        message = refusal({"attn.in_proj_weight": counted(12, 4)},
                          layer("query", "Dense", {"kernel": (4, 4)}))

        assert "unstack_weights=['in_proj_weight']" in message
        assert "additional_transfer={'query'" in message

    def test_a_kernel_in_keras_layout_is_named_as_such(self):
        assert "already is in Keras's layout" in refusal({"fc/kernel:0": counted(4, 5)},
                                                         layer("fc", "Dense", {"kernel": (4, 5)}))

    def test_a_surplus_tensor_can_be_skipped_or_unstacked(self):
        message = refusal(
            {"c.weight": counted(4, 2, 3, 3), "c.bias": counted(4), "c.gamma_1": counted(4)}, CONV)

        assert "3 tensors for 2 variables" in message
        assert "unstack_weights=['gamma_1']" in message

    def test_a_missing_tensor_is_never_made_up(self):
        assert "1 tensor for 2 variables" in refusal({"c.weight": counted(4, 2, 3, 3)}, CONV)

    @pytest.mark.parametrize("kinds", [("LSTM", "RNN", "Layer"), ("EinsumDense", "Layer"),
                                       ("Bidirectional", "Wrapper", "Layer")])
    def test_layers_that_store_their_weights_otherwise_are_not_moved_as_they_stand(self, kinds):
        message = refusal({"l.weight": counted(4, 4)}, layer("l", kinds, {"kernel": (4, 4)}))

        assert "no rule" in message
        assert "additional_transfer={'l'" in message

    def test_a_recurrent_cell_inside_another_layer_is_refused_as_well(self):
        cell = layer("lstm/cell", ("LSTMCell", "Layer"), {"kernel": (4, 4)})

        assert "no rule" in refusal({"l.weight": counted(4, 4)},
                                    composite("lstm", "MyRecurrent", cell))


class TestCompositeLayers:
    DENSE = layer("block/dense", "Dense", {"kernel": (3, 5), "bias": (5,)})
    CONV = layer("block/conv", "Conv1D", {"kernel": (2, 3, 4)})

    def test_the_only_tensor_that_fits_each_variable_is_taken(self):
        tensors = {"b.conv": counted(4, 3, 2), "b.bias": counted(5), "b.dense": counted(5, 3)}

        result = moved(source_of(tensors), composite("block", "Block", self.DENSE, self.CONV))

        np.testing.assert_array_equal(result["bias"], counted(5))

    def test_two_variables_of_one_shape_ask_for_expand_nested(self):
        twins = composite("block", "Block", layer("a", "Dense", {"kernel": (3, 3)}),
                          layer("b", "Dense", {"kernel": (3, 3)}))

        assert "expand_nested=True" in refusal(
            {"b.first": counted(3, 3), "b.second": counted(3, 3)}, twins)

    def test_a_wrapper_of_one_layer_is_that_layer(self):
        result = moved(source_of({"w.weight": counted(5, 3), "w.bias": counted(5)}),
                       composite("each", "TimeDistributed", self.DENSE))

        np.testing.assert_array_equal(result["kernel"], counted(5, 3).T)


class TestMovement:
    def test_the_torch_shape_follows_from_the_keras_shape(self):
        depthwise = AxisPattern("(channel multiplier) 1 height width",
                                "height width channel multiplier")

        assert depthwise.torch_shape((3, 5, 4, 2)) == (8, 1, 3, 5)

    def test_another_rank_is_not_described(self):
        dense = AxisPattern("out in", "in out")

        assert dense.torch_shape((3, 4, 5)) is None
        with pytest.raises(ValueError, match="does not describe"):
            dense.expression(Tensor("weight"), (3, 4, 5))
