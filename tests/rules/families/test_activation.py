"""Slopes of parametric activations."""

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
