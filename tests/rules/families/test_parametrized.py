"""Weights that PyTorch computes from others: Keras gets the effective weight, and nothing about the
module changes.
"""

import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from tests.helpers.conversion import EQUAL, as_keras, convert_by_hand, named, random_input, relative


def old_weight_norm(layer, **options):
    from torch.nn.utils import weight_norm

    return weight_norm(layer, **options)


def new_weight_norm(layer, **options):
    from torch.nn.utils.parametrizations import weight_norm

    return weight_norm(layer, **options)


def old_spectral_norm(layer, **options):
    from torch.nn.utils import spectral_norm

    return spectral_norm(layer, **options)


def new_spectral_norm(layer, **options):
    from torch.nn.utils.parametrizations import spectral_norm

    return spectral_norm(layer, **options)


NORMS = [old_weight_norm, new_weight_norm, old_spectral_norm, new_spectral_norm]
LAYERS = {
    "conv": (lambda nn: nn.Conv2d(3, 5, 3), lambda L: L.Conv2D(5, 3, name="layer"), (6, 5, 3)),
    "square conv without bias": (lambda nn: nn.Conv2d(4, 4, 2, bias=False),
                                 lambda L: L.Conv2D(4, 2, use_bias=False, name="layer"), (6, 5, 4)),
    "transposed": (lambda nn: nn.ConvTranspose2d(4, 4, 2),
                   lambda L: L.Conv2DTranspose(4, 2, name="layer"), (6, 5, 4)), "dense":
                       (lambda nn: nn.Linear(4, 6), lambda L: L.Dense(6, name="layer"), (4,))
}


def one_layer(keras_layer, shape):
    import keras

    inputs = keras.Input(shape)
    return keras.Model(inputs, keras_layer(keras.layers)(inputs))


def outputs(module, values):
    import torch

    with torch.no_grad():
        return as_keras(module["layer"](values))


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first, second):
    return list(first) == list(second) and all(
        bool((first[name] == second[name]).all()) for name in first)


@pytest.mark.parametrize("live", [True, False], ids=["module", "state dict"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("norm", NORMS)
def test_norms_give_the_effective_weight(norm, name, live):
    from torch import nn

    torch_layer, keras_layer, shape = LAYERS[name]
    module, values = named(layer=norm(torch_layer(nn))), random_input(2, shape[-1], *shape[:-1])
    model, before = one_layer(keras_layer, shape), state(module)

    report = convert_by_hand(module if live else module.state_dict(), model, {"layer": "layer"})

    assert relative(model(as_keras(values)), outputs(module, values)) < EQUAL
    assert same(state(module), before)
    assert {entry.status for entry in report.ledger if entry.side == "source"} == {"used"}


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("norm", [old_weight_norm, new_weight_norm])
def test_the_axis_of_a_weight_norm_is_told_by_its_magnitudes(norm, dim):
    from torch import nn

    module, values = named(layer=norm(nn.Linear(4, 6), dim=dim)), random_input(2, 4)
    model = one_layer(LAYERS["dense"][1], (4,))

    convert_by_hand(module.state_dict(), model, {"layer": "layer"})

    assert relative(model(values.numpy()), outputs(module, values)) < EQUAL


def test_the_direction_alone_gives_other_outputs():
    from torch import nn

    module, values = named(layer=old_weight_norm(nn.Linear(4, 6))), random_input(2, 4)
    model = one_layer(LAYERS["dense"][1], (4,))
    plain = {"layer.weight": module["layer"].weight_v, "layer.bias": module["layer"].bias}

    convert_by_hand(plain, model, {"layer": "layer"})

    assert relative(model(values.numpy()), outputs(module, values)) > 1e-2


def test_a_module_in_training_mode_is_read_as_in_evaluation_and_left_as_it_is():
    from torch import nn

    module, values = named(layer=new_spectral_norm(nn.Linear(4, 6))), random_input(2, 4)
    model, before = one_layer(LAYERS["dense"][1], (4,)), state(module)
    module.train()

    convert_by_hand(module, model, {"layer": "layer"})

    assert same(state(module), before)
    assert module["layer"].training
    assert relative(model(values.numpy()), outputs(module.eval(), values)) < EQUAL


def doubled_and_symmetric(layer):
    import torch
    from torch.nn.utils.parametrize import register_parametrization

    class Symmetric(torch.nn.Module):
        def forward(self, weight):
            return weight.triu() + weight.triu(1).mT

    class Doubled(torch.nn.Module):
        def forward(self, weight):
            return 2 * weight

    register_parametrization(layer, "weight", Symmetric())
    register_parametrization(layer, "weight", Doubled())
    return layer


def test_any_parametrization_is_computed_by_the_live_module():
    from torch import nn

    module, values = named(layer=doubled_and_symmetric(nn.Linear(4, 4))), random_input(2, 4)
    model = one_layer(lambda L: L.Dense(4, name="layer"), (4,))

    report = convert_by_hand(module, model, {"layer": "layer"})

    assert relative(model(values.numpy()), outputs(module, values)) < EQUAL
    assert {entry.status for entry in report.ledger if entry.side == "source"} == {"used"}
    assert any("Symmetric, Doubled" in entry.rule for entry in report.ledger)


def test_without_the_module_an_unknown_parametrization_says_what_to_do():
    from torch import nn

    module = named(layer=doubled_and_symmetric(nn.Linear(4, 4)))
    model = one_layer(lambda L: L.Dense(4, name="layer"), (4,))

    with pytest.raises(TransferError, match=r"give the live module, .*remove_parametrizations"):
        convert_by_hand(module.state_dict(), model, {"layer": "layer"})


@pytest.mark.parametrize("norm", NORMS)
def test_pairing_by_order_takes_a_parametrized_layer_as_one(norm):
    import keras
    import torch
    from torch import nn

    module = named(first=norm(nn.Conv1d(3, 4, 2)), second=norm(nn.Conv1d(4, 5, 2, bias=False)))
    inputs = keras.Input((7, 3))
    x = keras.layers.Conv1D(4, 2, name="first")(inputs)
    model = keras.Model(inputs, keras.layers.Conv1D(5, 2, use_bias=False, name="second")(x))

    ktc.keras_reload_from_torch_model(module, model, save_name="", do_predict=False, verbose=0)

    values = random_input(2, 3, 7)
    with torch.no_grad():
        assert relative(model(as_keras(values)),
                        as_keras(module["second"](module["first"](values)))) < EQUAL


def test_a_weight_normalized_lstm():
    import keras
    import torch
    from torch import nn

    layer = old_weight_norm(old_weight_norm(nn.LSTM(3, 4, batch_first=True), name="weight_ih_l0"),
                            name="weight_hh_l0")
    module, values = named(layer=layer), random_input(2, 5, 3)
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, keras.layers.LSTM(4, return_sequences=True, name="layer")(inputs))

    convert_by_hand(module.state_dict(), model, {"layer": "layer"})

    with torch.no_grad():
        assert relative(model(values.numpy()), module["layer"](values)[0]) < EQUAL
