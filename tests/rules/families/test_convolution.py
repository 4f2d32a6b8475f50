"""Convolutions that differ in more than the order of axes: grouped transposed ones, output padding,
kinds that are one function, padding.
"""

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from tests.helpers.conversion import EQUAL, as_keras, convert_by_hand, named, random_input, relative


def outputs(module, values):
    import torch

    with torch.no_grad():
        return as_keras(module["layer"](values))


def one_layer(keras, layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def test_grouped_outputs_in_another_order_differ():
    import keras
    from torch import nn

    module, values = named(layer=nn.ConvTranspose2d(4, 6, 3, groups=2)), random_input(2, 4, 5, 4)
    model = one_layer(keras, keras.layers.Conv2DTranspose(6, 3, name="layer"), (5, 4, 4))
    exchanged = {
        name: tensor.flip(0) if "weight" in name else tensor
        for name, tensor in module.state_dict().items()
    }

    convert_by_hand(exchanged, model, {"layer": "layer"})

    assert relative(model(as_keras(values)), outputs(module, values)) > 1e-2


def test_a_linear_layer_is_not_taken_for_a_convolution_over_patches():
    import keras
    from torch import nn

    model = one_layer(keras, keras.layers.Conv2D(6, 2, strides=2, name="conv"), (4, 4, 3))

    with pytest.raises(TransferError, match=r"needs a torch tensor of shape \(6, 3, 2, 2\)"):
        convert_by_hand(named(layer=nn.Linear(12, 6)), model, {"conv": "layer"})


def patches(keras):
    """Pictures (4, 6, 3) as six patches of 2 by 2, each (row, column, channel)."""
    inputs = keras.Input((4, 6, 3))
    apart = keras.layers.Permute((1, 3, 2, 4, 5))(keras.layers.Reshape((2, 2, 3, 2, 3))(inputs))
    return inputs, keras.layers.Reshape((6, 12))(apart)


def test_a_linear_layer_on_patches_moves_as_it_stands_and_says_that_their_order_is_unproven():
    import keras
    from torch import nn

    inputs, x = patches(keras)
    model = keras.Model(inputs, keras.layers.Dense(5, name="embed")(x))
    module = named(layer=nn.Linear(12, 5))

    report = convert_by_hand(module, model, {"embed": "layer"})

    np.testing.assert_array_equal(model.get_weights()[0], module["layer"].weight.detach().numpy().T)
    assert any("unfolds its patches" in warning for warning in report.warnings)


@pytest.mark.parametrize(("size", "told"), [(8, True), (9, False), (None, True)])
def test_same_padding_with_a_stride_is_told_where_it_differs_from_torch(size, told):
    import keras
    from torch import nn

    module = named(layer=nn.Conv2d(3, 5, 3, stride=2, padding=1))
    layer = keras.layers.Conv2D(5, 3, strides=2, padding="same", name="conv")
    model = one_layer(keras, layer, (size, size, 3))

    report = convert_by_hand(module, model, {"conv": "layer"})

    assert told == any("padding='same' with stride 2" in note for note in report.notes)
    if size:
        values = random_input(2, 3, size, size)
        assert (relative(model(as_keras(values)), outputs(module, values)) > EQUAL) == told


def test_a_convolution_that_pads_by_itself_like_tensorflow_is_told_nothing():
    import keras
    import torch
    from torch import nn

    class PadsLikeTensorFlow(nn.Conv2d):
        def forward(self, values):
            return super().forward(torch.nn.functional.pad(values, (0, 1, 0, 1)))

    module = named(layer=PadsLikeTensorFlow(3, 5, 3, stride=2))
    layer = keras.layers.Conv2D(5, 3, strides=2, padding="same", name="conv")
    model = one_layer(keras, layer, (8, 8, 3))

    report = convert_by_hand(module, model, {"conv": "layer"})

    assert not report.notes
    values = random_input(2, 3, 8, 8)
    assert relative(model(as_keras(values)), outputs(module, values)) < EQUAL


def test_pairing_by_order_joins_the_two_convolutions_of_a_separable_one():
    import keras
    from torch import nn

    module = named(stem=nn.Conv2d(3, 4, 3), depth=nn.Conv2d(4, 8, 3, groups=4, bias=False),
                   point=nn.Conv2d(8, 5, 1), last=nn.Conv2d(5, 2, 1))
    L = keras.layers
    inputs = keras.Input((9, 9, 3))
    x = L.SeparableConv2D(5, 3, depth_multiplier=2, name="separable")(L.Conv2D(4, 3,
                                                                               name="stem")(inputs))
    model = keras.Model(inputs, L.Conv2D(2, 1, name="last")(x))

    ktc.keras_reload_from_torch_model(module, model, save_name="", do_predict=False, verbose=0)

    import torch

    values = random_input(2, 3, 9, 9)
    with torch.no_grad():
        expected = as_keras(module["last"](module["point"](module["depth"](
            module["stem"](values)))))
    assert relative(model(as_keras(values)), expected) < EQUAL
