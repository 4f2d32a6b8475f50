"""additional_transfer: which callbacks hit, and that a pasted function gets exactly what the
reference hands to it.
"""

import numpy as np
import pytest

from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.expressions import UserCall
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.rules import assign_layer, calls_for, keys_without_hit
from tests.helpers.transfer import layer, source_of, stack_of, target_of, tensor, values_by_label


def handed(tensors, kinds, variables=None):
    """The arrays that a callback on a layer of these kinds is given."""
    seen = []
    source = source_of(tensors)
    keras_layer = layer("hit", kinds, variables or {"anything": (1,)})

    def look(arrays):
        seen.extend(array.copy() for array in arrays)
        return [np.zeros(variable.shape, "float32") for variable in keras_layer.variables]

    plan = Plan(assign_layer(stack_of(source), keras_layer, (UserCall("'hit'", look),)))
    values_by_label(plan, source, target_of(keras_layer))
    return seen


class TestDefaultTransforms:
    """As `keras_reload_stacked_state_dict` of keras_cv_attention_models 1.4.3 does it: the first
    array, by the first class that fits.
    """

    KERNEL = np.arange(48, dtype="float32").reshape(4, 2, 2, 3)

    @pytest.mark.parametrize(("kinds", "axes"),
                             [(("DepthwiseConv2D", "Conv2D", "Layer"), (2, 3, 0, 1)),
                              (("Conv2D", "BaseConv", "Layer"), (2, 3, 1, 0)),
                              (("Conv2DTranspose", "Conv2D", "Layer"), (2, 3, 1, 0)),
                              (("Conv2DTranspose", "BaseConvTranspose", "Layer"), (0, 1, 2, 3)),
                              (("SeparableConv2D", "Layer"), (0, 1, 2, 3)),
                              (("Dense", "Layer"), (3, 2, 1, 0)),
                              (("Embedding", "Layer"), (0, 1, 2, 3))], ids=lambda value: value[0]
                             if isinstance(value[0], str) else None)
    def test_the_first_array_is_permuted_by_class(self, kinds, axes):
        first, second = handed({"l.weight": self.KERNEL, "l.other": np.ones((1, 2), "float32")},
                               kinds)

        np.testing.assert_array_equal(first, self.KERNEL.transpose(axes))
        assert second.shape == (1, 2)

    def test_a_conv1d_kernel_is_reversed(self):
        assert handed({"l.weight": np.ones((4, 3, 2), "float32")}, "Conv1D")[0].shape == (2, 3, 4)

    def test_prelu_gets_two_leading_axes(self):
        assert handed({"l.weight": np.ones(4, "float32")}, "PReLU")[0].shape == (1, 1, 4)

    def test_the_third_array_of_a_convolution_is_squeezed(self):
        tensors = {
            "l.weight": self.KERNEL, "l.bias": np.ones(4, "float32"), "l.gain": np.ones(
                (4, 1, 1, 1), "float32")
        }

        assert [array.shape for array in handed(tensors, "Conv2D")] == [(2, 3, 2, 4), (4,), (4,)]

    def test_our_further_rules_do_not_touch_what_a_callback_gets(self):
        assert handed({"l.weight": np.ones((5, 4, 1, 2, 3), "float32")},
                      "Conv3D")[0].shape == (5, 4, 1, 2, 3)

    def test_a_kernel_of_another_rank_is_refused_where_the_reference_raises(self):
        with pytest.raises(TransferError, match="permutes a tensor of 4 axes"):
            handed({"l.weight": np.ones((3, 4), "float32")}, "Conv2D")


class TestArraysOfACallback:
    def test_torch_values_arrive_as_float32_and_numpy_values_in_their_own_type(self):
        torch_born = tensor("l.a", np.ones(1, "float64"))
        bits = tensor("l.b", np.array([0x3FC0], "uint16"), dtype="bfloat16")
        numpy_born = tensor("l.c", np.ones(1, "int64"), from_array=True)

        arrays = handed([torch_born, bits, numpy_born], "Custom")

        assert [array.dtype.name for array in arrays] == ["float32", "float32", "int64"]
        assert arrays[1][0] == 1.5

    def test_they_may_be_written_and_the_source_stays_as_it_is(self):
        values = np.arange(4, dtype="float32")
        before = values.tobytes()
        source, keras_layer = source_of({"l.weight": values}), layer("l", "Custom", {"w": (4,)})

        def overwrite(arrays):
            arrays[0][:] = 9
            return arrays

        plan = Plan(assign_layer(stack_of(source), keras_layer, (UserCall("'l'", overwrite),)))

        assert values_by_label(plan, source, target_of(keras_layer))["l/w"].tolist() == [9, 9, 9, 9]
        assert values.tobytes() == before

    def test_a_layer_sorted_by_name_reaches_the_callback_in_the_order_of_the_module(self):
        names = ["n.bias", "n.running_mean", "n.running_var", "n.weight"]
        arrays = handed({name: np.full(1, index, "float32") for index, name in enumerate(names)},
                        "BatchNormalization")

        assert [array[0] for array in arrays] == [3, 0, 1, 2]

    def test_any_other_order_is_the_modules_own(self):
        names = ["g.beta", "g.alpha"]
        arrays = handed({name: np.full(1, index, "float32") for index, name in enumerate(names)},
                        "Custom")

        assert [array[0] for array in arrays] == [0, 1]

    def test_several_callbacks_chain_in_dictionary_order(self):
        source, keras_layer = (source_of({"a.weight": np.full(
            (1, 1), 5, "float32")}), layer("a", "Dense", {"kernel": (1, 1)}))
        transfers = {"a": lambda arrays: [arrays[0] * 0], "": lambda arrays: [arrays[0] + 1]}

        plan = Plan(assign_layer(stack_of(source), keras_layer, calls_for(keras_layer, transfers)))

        assert values_by_label(plan, source, target_of(keras_layer))["a/kernel"] == [[1]]


class TestKeys:
    def test_a_string_hits_every_name_that_ends_with_it(self):
        transfers = {"x_dense": sorted, "other": sorted}

        assert [call.key for call in calls_for(layer("xx_dense", "Dense", {}), transfers)
               ] == ["'x_dense'"]

    def test_a_class_hits_its_instances_and_those_of_derived_classes(self):
        class Base:
            ...

        class Derived(Base):
            ...

        hit = layer("one", "Derived", {})
        hit = type(hit)(hit.name, hit.display_name, hit.class_names, (), (), 0, {}, Derived())

        assert [
            call.key for call in calls_for(hit, {Base: sorted, str: sorted, (int, Base): sorted})
        ] == ["Base", "(int, Base)"]

    def test_a_class_of_the_other_keras_hits_by_its_name(self):
        import keras

        tf_keras_layer = layer("head", ("Dense", "Layer"), {})

        assert [
            call.key for call in calls_for(
                tf_keras_layer, {keras.layers.Dense: sorted, keras.layers.Conv2D: sorted})
        ] == ["Dense"]

    def test_keys_without_a_hit_are_named(self):
        layers = [layer("head", "Dense", {}), layer("stem", "Conv2D", {})]

        assert keys_without_hit(layers, {"head": sorted, "tail": sorted}) == ("'tail'",)

    def test_other_keys_and_values_are_refused(self):
        with pytest.raises(TransferError, match="ending of a layer name or a layer class, got 3"):
            calls_for(layer("head", "Dense", {}), {3: sorted})
        with pytest.raises(TransferError,
                           match=r"additional_transfer\['head'\] must be a function, got int"):
            calls_for(layer("head", "Dense", {}), {"head": 3})


def test_what_is_no_dictionary_of_callbacks_is_refused():
    with pytest.raises(TransferError,
                       match=r"additional_transfer must be a dict of .*, got NoneType"):
        calls_for(layer("head", "Dense", {"kernel": (2, 3)}), None)
