"""Normalizations: statistics, what one side is built without, several axes, and settings that no
weight shows.
"""

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from keras_torch_convert.rules import assign_layer
from tests.helpers.rule_case import as_array
from tests.helpers.small_models import randomized
from tests.helpers.transfer import layer, source_of, stack_of

EQUAL = 1e-5


def torch_of(module):
    from torch import nn

    return randomized(nn.ModuleDict({"norm": module}))


def keras_of(keras_layer, shape):
    import keras

    inputs = keras.Input(shape)
    return keras.Model(inputs, keras_layer(inputs))


def converted(module, model, **options):
    return ktc.convert(module, model, plan=ktc.align(module, model,
                                                     mapping={model.layers[-1].name: "norm"}),
                       verify=False, **options)


def difference(module, model, shape, channels_first=True):
    """Relative difference on random input of Keras's `shape` (without batch); PyTorch gets the
    channels first.
    """
    import torch

    values = np.random.default_rng(2).standard_normal((2, *shape)).astype("float32") * 2 + 1
    torch_in = np.ascontiguousarray(np.moveaxis(values, -1, 1)) if channels_first else values
    with torch.no_grad():
        expected = module["norm"](torch.from_numpy(torch_in)).numpy()
    if channels_first:
        expected = np.moveaxis(expected, 1, -1)
    return float(np.abs(as_array(model(values)) - expected).max() / np.abs(expected).max())


class TestWhatOneSideIsBuiltWithout:
    def test_weights_that_are_not_one_are_refused_with_their_number(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.BatchNorm2d(4)),
                         keras_of(keras.layers.BatchNormalization(scale=False, epsilon=1e-5),
                                  (5, 6, 4)))
        module["norm"].weight.data[:] = 1
        module["norm"].weight.data[1:3] = 1.5

        said = (r"scale=False \(scale=True would hold it\): 'norm.weight'.*"
                "value is 1, 2 of 4 are not")
        with pytest.raises(TransferError, match=said):
            converted(module, model)

    def test_biases_that_are_not_zero_are_refused(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.LayerNorm(4)),
                         keras_of(keras.layers.LayerNormalization(center=False, epsilon=1e-5),
                                  (6, 4)))

        with pytest.raises(
                TransferError,
                match=r"center=True would hold it.*'norm.bias'.*value is 0, 4 of 4 are not"):
            converted(module, model)

    def test_weights_of_one_and_biases_of_zero_are_left_out_and_the_ledger_says_so(self):
        import keras
        from torch import nn

        module = torch_of(nn.BatchNorm2d(4))
        module["norm"].weight.data[:] = 1
        module["norm"].bias.data[:] = 0
        model = keras_of(keras.layers.BatchNormalization(scale=False, center=False, epsilon=1e-5),
                         (5, 6, 4))

        report = converted(module, model)

        statuses = {
            entry.name: (entry.status, entry.rule)
            for entry in report.ledger if entry.side == "source"
        }
        assert statuses["norm.weight"][0] == statuses["norm.bias"][0] == "skipped"
        assert "1 everywhere" in statuses["norm.weight"][1]
        assert difference(module, model, (5, 6, 4)) < EQUAL

    def test_a_value_next_to_one_is_not_one(self):
        import keras
        from torch import nn

        module = torch_of(nn.LayerNorm(4, bias=False))
        module["norm"].weight.data[:] = 1
        module["norm"].weight.data[0] = 1 + 2.0**-23
        model = keras_of(keras.layers.LayerNormalization(scale=False, epsilon=1e-5), (6, 4))

        with pytest.raises(TransferError, match="1 of 4 are not"):
            converted(module, model)

    def test_what_pytorch_lacks_is_filled_and_the_report_says_so(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.BatchNorm2d(4, affine=False)),
                         keras_of(keras.layers.BatchNormalization(epsilon=1e-5), (5, 6, 4)))
        model.set_weights([weight + 3 for weight in model.get_weights()])

        report = converted(module, model)

        gamma, beta = model.get_weights()[:2]
        np.testing.assert_array_equal(gamma, np.ones(4))
        np.testing.assert_array_equal(beta, np.zeros(4))
        assert any("filled with 1" in note for note in report.notes)
        assert any("filled with 0" in note for note in report.notes)

    def test_a_torch_norm_without_any_tensor_is_mapped_as_an_empty_list(self):
        import keras
        from torch import nn

        module = torch_of(nn.Sequential(nn.InstanceNorm2d(4), nn.Conv2d(4, 3, 1)))
        inputs = keras.Input((5, 6, 4))
        norm = keras.layers.GroupNormalization(-1, epsilon=1e-5, name="instance")
        model = keras.Model(inputs, keras.layers.Conv2D(3, 1, name="conv")(norm(inputs)))
        model.set_weights([weight + 3 for weight in model.get_weights()])

        plan = ktc.align(module, model, mapping={"instance": [], "conv": "norm.1"})
        ktc.convert(module, model, plan=plan, verify=False)

        assert difference(module, model, (5, 6, 4)) < EQUAL

    def test_statistics_are_never_made_up(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.BatchNorm2d(4, track_running_stats=False)),
                         keras_of(keras.layers.BatchNormalization(), (5, 6, 4)))

        with pytest.raises(TransferError,
                           match=r"keeps no running statistics.*normalizes by the batch at hand"):
            converted(module, model)

    def test_statistics_are_never_dropped(self):
        import keras
        from torch import nn

        module = torch_of(nn.InstanceNorm2d(4, affine=True, track_running_stats=True))
        model = keras_of(keras.layers.GroupNormalization(-1), (5, 6, 4))

        with pytest.raises(TransferError, match="use BatchNormalization"):
            converted(module, model)

    def test_one_statistic_alone_is_refused(self):
        norm = layer("norm", "BatchNormalization",
                     {"gamma": (4,), "beta": (4,), "moving_mean": (4,), "moving_variance": (4,)})
        arrays = {"n.weight": np.ones(4), "n.bias": np.ones(4), "n.running_mean": np.ones(4)}

        with pytest.raises(TransferError, match="3 tensors for 4 variables"):
            assign_layer(stack_of(source_of(arrays)), norm)

    def test_arrays_without_names_go_by_their_order_or_not_at_all(self):
        norm = layer("norm", "BatchNormalization",
                     {"gamma": (4,), "beta": (4,), "moving_mean": (4,), "moving_variance": (4,)})
        arrays = {f"n[{index}]": np.full(4, index) for index in range(4)}

        assignments = assign_layer(stack_of(source_of(arrays)), norm)

        assert [assignment.expression.name for assignment in assignments
               ] == ["n[0]", "n[1]", "n[2]", "n[3]"]
        with pytest.raises(TransferError, match="names do not tell which is which"):
            assign_layer(stack_of(source_of({name: arrays[name] for name in list(arrays)[:2]})),
                         norm)


class TestSeveralAxes:
    def test_axes_of_one_size_are_refused(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.LayerNorm(
            (4, 4, 4))), keras_of(keras.layers.LayerNormalization(axis=[1, 2, 3]), (4, 4, 4)))

        with pytest.raises(TransferError,
                           match="nothing tells whether its channels come first or last"):
            converted(module, model)

    def test_axes_without_the_channels_stand_alike_even_when_they_have_one_size(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.LayerNorm(
            (5, 5))), keras_of(keras.layers.LayerNormalization(axis=[1, 2]), (5, 5, 4)))

        converted(module, model)

        np.testing.assert_array_equal(model.get_weights()[0],
                                      module["norm"].weight.detach().numpy())

    def test_the_advice_given_then_is_right(self):
        import keras
        from torch import nn

        module = torch_of(nn.LayerNorm((4, 4, 4)))
        model = keras_of(keras.layers.LayerNormalization(axis=[1, 2, 3], epsilon=1e-5, name="cube"),
                         (4, 4, 4))
        plan = ktc.align(
            module, model, mapping={"cube": "norm"}, additional_transfer={
                "cube": lambda weights: [weight.transpose(1, 2, 0) for weight in weights]
            })

        ktc.convert(module, model, plan=plan, verify=False)

        assert difference(module, model, (4, 4, 4)) < EQUAL

    def test_a_shape_that_is_neither_layout_is_refused(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.LayerNorm(
            (5, 4, 6))), keras_of(keras.layers.LayerNormalization(axis=[1, 2, 3]), (5, 6, 4)))

        with pytest.raises(
                TransferError,
                match=r"of shape \(5, 6, 4\) or \(4, 5, 6\), got 'norm.weight' of shape \(5, 4, 6\)"
        ):
            converted(module, model)


class TestSettings:
    def test_another_epsilon_is_a_warning_with_both_values(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.BatchNorm2d(4, momentum=0.01)),
                         keras_of(keras.layers.BatchNormalization(name="bn"), (5, 6, 4)))

        report = converted(module, model)

        (warning,) = report.warnings
        assert warning.startswith("epsilon of 'bn' is 0.001, eps of torch layer 'norm' is 1e-05")

    def test_another_momentum_is_a_note_with_both_values(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.BatchNorm2d(4)),
                         keras_of(keras.layers.BatchNormalization(name="bn", epsilon=1e-5),
                                  (5, 6, 4)))

        report = converted(module, model)

        assert report.warnings == ()
        assert any(
            "momentum of 'bn' is 0.99, of torch layer 'norm' 0.1, which Keras counts as 0.9" in note
            for note in report.notes)

    def test_layers_that_differ_in_the_same_way_share_a_sentence(self):
        import keras
        from torch import nn

        module = torch_of(nn.Sequential(*(nn.BatchNorm2d(4) for _ in range(5))))
        norms = [
            keras.layers.BatchNormalization(name=f"bn{place}", epsilon=1e-5) for place in range(4)
        ]
        last = keras.layers.BatchNormalization(name="last", epsilon=1e-5, momentum=0.5)
        model = keras.Sequential([keras.Input((5, 6, 4)), *norms, last])

        mapping = {layer.name: f"norm.{place}" for place, layer in enumerate([*norms, last])}
        plan = ktc.align(module, model, mapping=mapping)
        report = ktc.convert(module, model, plan=plan, verify=False)
        notes = [note for note in report.notes if "momentum" in note]

        assert notes == [
            "momentum of 4 BatchNormalization layers ('bn0', 'bn1', 'bn2' and 1 more) is 0.99, of "
            "their torch layers 0.1, which Keras counts as 0.9: this shows in training only",
            "momentum of 'last' is 0.5, of torch layer 'norm.4' 0.1, which Keras counts as 0.9: "
            "this shows in training only"
        ]

    def test_a_cumulative_mean_is_a_note(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.BatchNorm2d(4, momentum=None)),
                         keras_of(keras.layers.BatchNormalization(epsilon=1e-5), (5, 6, 4)))

        assert any("a cumulative mean, which Keras lacks" in note
                   for note in converted(module, model).notes)

    def test_equal_settings_are_not_mentioned(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.BatchNorm2d(4)),
                         keras_of(keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9),
                                  (5, 6, 4)))

        report = converted(module, model)

        assert (report.warnings, [note for note in report.notes if "momentum" in note]) == ((), [])

    def test_other_groups_are_a_warning(self):
        import keras
        from torch import nn

        module, model = (torch_of(nn.GroupNorm(3, 6)),
                         keras_of(keras.layers.GroupNormalization(2, epsilon=1e-5, name="gn"),
                                  (5, 6)))

        assert converted(module, model).warnings == (
            "groups of 'gn' is 2, num_groups of torch layer 'norm' is 3: the outputs will differ",)

    def test_a_root_mean_square_norm_without_epsilon_takes_that_of_the_type(self):
        import keras
        from torch import nn

        module, model = torch_of(nn.RMSNorm(6)), keras_of(keras.layers.RMSNormalization(name="rms"),
                                                          (5, 6))

        (warning,) = converted(module, model).warnings

        assert "eps of torch layer 'norm' is 1.19209e-07" in warning

    def test_nothing_is_compared_without_a_module(self):
        import keras
        from torch import nn

        module, model = torch_of(nn.BatchNorm2d(4)), keras_of(keras.layers.BatchNormalization(),
                                                              (5, 6, 4))

        report = converted(module.state_dict(), model)

        assert report.warnings == ()
