"""Which layers take a flattened map, what hides that, and what keeps the order."""

from __future__ import annotations

from typing import Any

import pytest

from keras_torch_convert.keras_io.flattened import flattened_settings
from keras_torch_convert.keras_io.model import read_target

MAP = (("height", 6), ("width", 6), ("channel", 4))


def model_of(*layers: Any, shape: tuple[int | None, ...]) -> Any:
    import keras

    return keras.Sequential([keras.Input(shape), *layers])


def settings_of_last(model: Any) -> dict[str, Any]:
    """What is known of the innermost last layer."""
    leaf = list(read_target(model).leaves())[-1]
    return {name: leaf.settings.get(name) for name in ("flattened", "hidden_by")}


@pytest.mark.parametrize("steps", [3, None])
def test_a_map_flattened_in_each_step_is_seen(steps):
    from keras.layers import Conv2D, Dense, Flatten, TimeDistributed

    model = model_of(TimeDistributed(Conv2D(4, 3)), TimeDistributed(Flatten()),
                     TimeDistributed(Dense(5)), shape=(steps, 8, 8, 1))

    assert settings_of_last(model) == {"flattened": (MAP,), "hidden_by": None}


def test_a_recurrent_layer_behind_flattened_steps_gets_their_order():
    from keras.layers import LSTM, Conv2D, Flatten, TimeDistributed

    model = model_of(TimeDistributed(Conv2D(4, 3)), TimeDistributed(Flatten()), LSTM(5),
                     shape=(3, 8, 8, 1))

    assert settings_of_last(model) == {"flattened": (MAP,), "hidden_by": None}


def test_steps_flattened_as_well_come_before_all_axes_of_the_map():
    from keras.layers import Conv2D, Dense, Flatten, TimeDistributed

    model = model_of(TimeDistributed(Conv2D(4, 3)), Flatten(), Dense(5), shape=(3, 8, 8, 1))

    assert settings_of_last(model)["flattened"] == ((("time", 3), *MAP),)


def test_pooling_in_each_step_ends_the_map():
    from keras.layers import Conv2D, Dense, GlobalAveragePooling2D, TimeDistributed

    model = model_of(TimeDistributed(Conv2D(4, 3)), TimeDistributed(GlobalAveragePooling2D()),
                     TimeDistributed(Dense(5)), shape=(3, 8, 8, 1))

    assert settings_of_last(model) == {"flattened": None, "hidden_by": None}


def own_layers(keras: Any) -> dict[str, Any]:
    """Layers that flatten a map where the graph does not show it."""
    class Flattens(keras.layers.Layer):
        def call(self, x):
            return keras.ops.reshape(x, (-1, 144))

    inner = keras.Sequential([keras.Input((6, 6, 4)), keras.layers.Flatten()])
    flatten = keras.layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 144)), output_shape=(144,))
    return {"lambda": flatten, "own": Flattens(), "model": inner}


@pytest.mark.parametrize("kind", ["lambda", "own"])
@pytest.mark.parametrize("between", [False, True])
def test_a_layer_that_may_flatten_a_map_is_named(kind, between):
    import keras
    from keras.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout

    layer = own_layers(keras)[kind]
    others = [Dropout(0.1), BatchNormalization(), Activation("relu")] if between else []

    model = model_of(Conv2D(4, 3), layer, *others, Dense(5), shape=(8, 8, 1))

    assert settings_of_last(model) == {"flattened": None, "hidden_by": layer.name}


def test_a_flatten_in_a_nested_model_is_seen():
    import keras
    from keras.layers import Conv2D, Dense

    model = model_of(Conv2D(4, 3), own_layers(keras)["model"], Dense(5), shape=(8, 8, 1))

    assert settings_of_last(model) == {"flattened": (MAP,), "hidden_by": None}


def test_a_nested_model_in_each_step_is_followed_as_far_as_its_graph_shows():
    import keras
    from keras.layers import Conv2D, Dense, TimeDistributed

    own = own_layers(keras)
    unseen = keras.Sequential([keras.Input((6, 6, 4)), own["lambda"]])
    for inner, flattened in ((own["model"], (MAP,)), (unseen, None)):
        step = TimeDistributed(inner)

        model = model_of(TimeDistributed(Conv2D(4, 3)), step, TimeDistributed(Dense(5)),
                         shape=(3, 8, 8, 1))

        hidden = None if flattened else step.name
        assert settings_of_last(model) == {"flattened": flattened, "hidden_by": hidden}


def test_a_layer_that_gives_a_value_for_each_channel_hides_nothing():
    import keras
    from keras.layers import Conv2D, Dense

    pooling = keras.layers.Lambda(lambda x: keras.ops.mean(x, (1, 2)), output_shape=(4,))

    model = model_of(Conv2D(4, 3), pooling, Dense(5), shape=(8, 8, 1))

    assert settings_of_last(model) == {"flattened": None, "hidden_by": None}


def test_features_mixed_in_between_have_no_order_to_hide():
    import keras
    from keras.layers import Conv2D, Dense

    model = model_of(Conv2D(4, 3), own_layers(keras)["lambda"], Dense(9), Dense(5), shape=(8, 8, 1))

    assert settings_of_last(model) == {"flattened": None, "hidden_by": None}


def test_a_layer_with_weights_of_its_own_gives_their_features():
    import keras
    from keras.layers import Conv2D, Dense

    class Patches(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(144, 7), name="kernel")

        def call(self, x):
            return keras.ops.reshape(x, (-1, 144)) @ self.kernel

    model = model_of(Conv2D(4, 3), Patches(), Dense(5), shape=(8, 8, 1))

    assert settings_of_last(model) == {"flattened": None, "hidden_by": None}


def test_layers_outside_a_graph_have_no_settings():
    import keras

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(5)

        def call(self, x):
            return self.head(x)

    model = Net()
    model(keras.ops.ones((1, 3)))

    assert flattened_settings(model) == {}
