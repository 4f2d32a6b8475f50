"""Layers behind a flattened feature map: rows go from (channel, height, width) to (height, width,
channel), and only where that is due.
"""

import pytest

import keras_torch_convert as ktc
from tests.helpers.conversion import EQUAL, as_keras, convert_by_hand, named, random_input, relative


def keras_layers():
    import keras

    return keras, keras.layers


def torch_net(after=None):
    """Convolution, pooling, then a linear layer on the flattened (4, 3, 5) map."""
    from torch import nn

    return named(conv=nn.Conv2d(2, 4, 3), fc=nn.Linear(4 * 3 * 5, 6))


def run(module, values):
    import torch

    with torch.no_grad():
        return module["fc"](torch.relu(torch.max_pool2d(module["conv"](values), 2)).flatten(1))


MAP = {"conv": "conv", "fc": "fc"}
VALUES = (2, 2, 8, 12)


def features(keras, layers):
    inputs = keras.Input((8, 12, 2))
    return inputs, layers.ReLU()(layers.MaxPooling2D()(layers.Conv2D(4, 3, name="conv")(inputs)))


def flat_and_dropout(layers, x):
    return layers.Dropout(0.5)(layers.Flatten()(x))


def reshape(layers, x):
    return layers.Activation("linear")(layers.Reshape((3 * 5 * 4,))(x))


def through_tokens(layers, x):
    return layers.Flatten()(layers.Reshape((15, 4))(x))


@pytest.mark.parametrize("flatten", [flat_and_dropout, reshape, through_tokens])
def test_rows_are_reordered_and_the_report_says_so(flatten):
    keras, layers = keras_layers()
    module, values = torch_net(), random_input(*VALUES)
    inputs, x = features(keras, layers)
    model = keras.Model(inputs, layers.Dense(6, name="fc")(flatten(layers, x)))

    report = convert_by_hand(module, model, MAP)

    assert relative(model(as_keras(values)), run(module, values)) < EQUAL
    assert any("'fc/kernel'" in note and "(4, 3, 5)" in note and "(height, width, channel)" in note
               for note in report.notes)


def test_the_same_kernel_with_rows_as_they_stand_gives_other_outputs():
    keras, layers = keras_layers()
    module, values = torch_net(), random_input(*VALUES)
    inputs, x = features(keras, layers)
    model = keras.Model(inputs, layers.Dense(6, name="fc")(layers.Flatten()(x)))

    convert_by_hand(module, model, MAP, additional_transfer={"fc": lambda weights: weights})

    assert relative(model(as_keras(values)), run(module, values)) > 1e-2


def test_a_permute_to_channels_first_makes_it_unnecessary():
    keras, layers = keras_layers()
    module, values = torch_net(), random_input(*VALUES)
    inputs, x = features(keras, layers)
    model = keras.Model(inputs,
                        layers.Dense(6, name="fc")(layers.Flatten()(layers.Permute((3, 1, 2))(x))))

    report = convert_by_hand(module, model, MAP)

    assert relative(model(as_keras(values)), run(module, values)) < EQUAL
    assert not any("flattened" in note for note in report.notes)


def test_a_sequential_and_a_nested_model_are_seen_through():
    keras, layers = keras_layers()
    module, values = torch_net(), random_input(*VALUES)
    inputs, x = features(keras, layers)
    head = keras.Sequential([keras.Input(
        (3, 5, 4)), layers.Flatten(),
                             layers.Dense(6, name="fc")], name="head")
    model = keras.Model(inputs, head(x))

    convert_by_hand(module, model, {"conv": "conv", "head/fc": "fc"})

    assert relative(model(as_keras(values)), run(module, values)) < EQUAL


@pytest.mark.parametrize("shape", [(1, 1, 12), (12,), (3, 4)], ids=str)
def test_nothing_is_moved_where_the_order_is_the_same(shape):
    from torch import nn

    keras, layers = keras_layers()
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layers.Dense(5, name="fc")(layers.Flatten()(inputs)))

    plan = ktc.align(named(fc=nn.Linear(12, 5)), model, mapping={"fc": "fc"})

    assert not any(assignment.note for assignment in plan.assignments)
    assert plan.assignments[0].rule == "dense: out in -> in out"


def test_global_pooling_ends_the_map():
    from torch import nn

    keras, layers = keras_layers()
    inputs = keras.Input((3, 4, 5))
    model = keras.Model(inputs, layers.Dense(2, name="fc")(layers.GlobalMaxPooling2D()(inputs)))

    plan = ktc.align(named(fc=nn.Linear(5, 2)), model, mapping={"fc": "fc"})

    assert not any(assignment.note for assignment in plan.assignments)


def test_a_channels_first_model_flattens_in_torch_order():
    import torch
    from torch import nn

    keras, layers = keras_layers()
    module, values = named(fc=nn.Linear(24, 5)), random_input(2, 4, 4, 6)
    inputs = keras.Input((4, 4, 6))
    pooled = layers.AveragePooling2D(2, data_format="channels_first")(inputs)
    model = keras.Model(inputs, layers.Dense(5, name="fc")(layers.Flatten()(pooled)))

    convert_by_hand(module, model, {"fc": "fc"})

    if keras.backend.backend() != "tensorflow":
        with torch.no_grad():
            expected = module["fc"](torch.nn.functional.avg_pool2d(values, 2).flatten(1))
        assert relative(model(values.numpy()), expected) < EQUAL


def test_the_classic_function_reorders_rows_of_layers_that_no_callback_hits():
    keras, layers = keras_layers()
    module, values = torch_net(), random_input(*VALUES)
    inputs, x = features(keras, layers)
    model = keras.Model(inputs, layers.Dense(6, name="fc")(layers.Flatten()(x)))

    report = ktc.keras_reload_from_torch_model(module, model, save_name="", do_predict=False,
                                               verbose=0)

    assert relative(model(as_keras(values)), run(module, values)) < EQUAL
    assert any("flattened map" in note for note in report.notes)


def test_heads_that_are_put_together_behind_an_attention_are_no_map():
    import torch

    keras, layers = keras_layers()
    inputs = keras.Input((5, 6))
    heads = layers.Permute((2, 1, 3))(layers.Reshape((5, 2, 3))(inputs))
    mixed = keras.ops.matmul(
        keras.ops.softmax(keras.ops.matmul(heads, keras.ops.transpose(heads, (0, 1, 3, 2)))), heads)
    together = layers.Reshape((5, 6))(layers.Permute((2, 1, 3))(mixed))
    model = keras.Model(inputs, layers.Dense(4, name="proj")(together))
    module, values = named(proj=torch.nn.Linear(6, 4)), random_input(2, 5, 6)

    report = convert_by_hand(module, model, {"proj": "proj"})

    with torch.no_grad():
        split = values.unflatten(-1, (2, 3)).transpose(1, 2)
        expected = module["proj"](((split @ split.mT).softmax(-1) @ split).transpose(1,
                                                                                     2).flatten(2))
    assert relative(model(values), expected) < EQUAL
    assert not any("flattened map" in note for note in report.notes)
