"""Reading a Keras model as a Target, on Keras 3 and on Keras 2."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

from keras_torch_convert.errors import TargetError
from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.spec.target import Target, TargetLayer
from tests.helpers.keras_runs import models


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


def names(layer: TargetLayer) -> list[str]:
    return [variable.name for variable in layer.variables]


def keys(target: Target) -> list[str]:
    return list(target.variables)


def test_layers_with_weights_are_listed_in_model_order(keras: Any) -> None:
    target = read_target(models.plain(keras))
    assert [layer.name for layer in target.layers] == ["stem", "stem_norm", "head"]
    assert [layer.class_name for layer in target.layers
           ] == ["Conv2D", "BatchNormalization", "Dense"]
    assert {layer.depth for layer in target.layers} == {0}
    assert (target.name, target.framework) == ("plain", keras.__name__)


def test_variables_come_in_the_order_of_get_weights(keras: Any) -> None:
    stem, norm, head = read_target(models.plain(keras)).layers
    assert names(stem) == names(head) == ["kernel", "bias"]
    assert names(norm) == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [variable.trainable for variable in norm.variables] == [True, True, False, False]
    assert [variable.display_name for variable in stem.variables] == ["stem/kernel", "stem/bias"]
    assert (stem.variables[0].shape, stem.variables[0].dtype) == ((3, 3, 3, 4), "float32")


def test_freezing_changes_flags_but_neither_order_nor_places(keras: Any) -> None:
    model = models.nested(keras)
    free = read_target(model)
    for freeze in (models.freeze_some, models.freeze_all):
        freeze(model)
        frozen = read_target(model)
        assert [v.key for layer in frozen.layers for v in layer.variables] == keys(free)
        norm = frozen.layers[0].children[1]
        assert [variable.trainable for variable in norm.variables] == [False] * 4
    assert [layer.trainable for layer in model._flatten_layers()
           ] == [False] * len(list(model._flatten_layers()))


def test_kinds_go_from_the_own_class_to_layer(keras: Any) -> None:
    class ScaledConv2D(keras.layers.Conv2D):
        pass

    image = keras.Input((8, 8, 3))
    layer = read_target(keras.Model(image, ScaledConv2D(2, 1)(image))).layers[0]
    assert layer.class_names[:2] == ("ScaledConv2D", "Conv2D")
    assert layer.class_names[-1] == "Layer"


def test_settings_are_plain_values(keras: Any) -> None:
    image = keras.Input((8, 8, 4))
    layers = keras.layers
    x = layers.Conv2D(6, (3, 1), strides=2, groups=2, padding="same", activation="relu",
                      use_bias=False)(image)
    x = layers.BatchNormalization(epsilon=1e-5, scale=False)(x)
    conv, norm = read_target(keras.Model(image,
                                         layers.DepthwiseConv2D(3,
                                                                depth_multiplier=2)(x))).layers[:2]
    expected = {
        "filters": 6, "kernel_size": (3, 1), "strides": (2, 2), "groups": 2, "padding": "same",
        "use_bias": False
    }
    assert {name: conv.settings[name] for name in expected} == expected
    assert (conv.settings["activation"], conv.settings["data_format"]) == ("relu", "channels_last")
    assert (norm.settings["epsilon"], norm.settings["scale"],
            norm.settings["center"]) == (1e-5, False, True)
    assert names(norm) == ["beta", "moving_mean", "moving_variance"]


def test_a_channels_first_model_says_so(keras: Any) -> None:
    model = keras.Sequential([keras.layers.Conv2D(2, 3, data_format="channels_first")])
    model.build((None, 3, 8, 8))
    assert read_target(model).layers[0].settings["data_format"] == "channels_first"


def test_leaves_of_a_nested_model_and_of_wrappers_are_children(keras: Any) -> None:
    body, both_ways, head = read_target(models.nested(keras)).layers
    assert [(leaf.display_name, leaf.depth) for leaf in body.children] == [("body/first", 1),
                                                                           ("body/first_norm", 1),
                                                                           ("body/second", 1),
                                                                           ("body/second_norm", 1)]
    assert [leaf.class_name for leaf in both_ways.children] == ["LSTMCell", "LSTMCell"]
    assert [names(leaf) for leaf in both_ways.children
           ] == [["kernel", "recurrent_kernel", "bias"]] * 2
    assert head.children == ()
    assert {variable.key for leaf in body.children for variable in leaf.variables
           } == {v.key for v in body.variables}


def test_a_composite_with_weights_of_its_own_is_a_leaf_beside_its_sublayers(keras: Any) -> None:
    block = read_target(models.composite(keras)).layers[1]
    assert sorted(leaf.class_name for leaf in block.children) == [
        "BatchNormalization", "Block", "Dense", "Dense", "Dense", "LayerNormalization"
    ]
    own = next(leaf for leaf in block.children if leaf.class_name == "Block")
    assert names(own) == ["gate", "count"]
    assert (own.depth, own.children) == (1, ())
    assert sum(len(leaf.variables) for leaf in block.children) == len(block.variables) == 14


def test_time_distributed_is_read_through(keras: Any) -> None:
    frames = keras.Input((5, 4), name="frames")
    inner = keras.layers.Dense(3, name="inner")
    wrapped = keras.layers.TimeDistributed(inner, name="each")(frames)
    layer = read_target(keras.Model(frames, wrapped)).layers[0]
    assert [leaf.display_name for leaf in layer.children] == ["each/inner"]


def test_expanded_leaves_count_as_layers_under_their_own_names(keras: Any) -> None:
    target = read_target(models.nested(keras), expand_nested=True)
    assert [layer.name for layer in target.layers
           ][:4] == ["first", "first_norm", "second", "second_norm"]
    assert target.layers[-1].name == "head"
    assert {layer.depth for layer in target.layers} == {0}
    assert all(layer.children == () for layer in target.layers)
    assert keys(target) == keys(read_target(target.model))


def test_expanded_leaves_of_one_name_get_those_above_them(keras: Any) -> None:
    def part(name: str) -> Any:
        inner = keras.Input((4,))
        return keras.Model(inner, keras.layers.Dense(4, name="own")(inner), name=name)

    vector = keras.Input((4,))
    model = keras.Model(vector, part("left")(part("right")(vector)))
    assert [layer.name for layer in read_target(model, expand_nested=True).layers
           ] == ["right/own", "left/own"]


def test_expanded_leaves_with_automatic_names_are_called_after_the_layer_above_them(
        keras: Any) -> None:
    def part(name: str) -> Any:
        inside = [keras.layers.Dense(4), keras.layers.Dense(4), keras.layers.LayerNormalization()]
        return keras.Sequential([keras.Input((4,)), *inside], name=name)

    keras.layers.Dense(3)
    names = [
        layer.name
        for layer in read_target(keras.Sequential([part("one"), part("two")]), sample=np.zeros((
            1, 4)), expand_nested=True).layers
    ]
    each = ("dense", "dense_1", "layer_normalization")
    assert names == [f"{above}_{name}" for above in ("one", "two") for name in each]


def test_places_are_the_same_in_another_instance_though_automatic_names_differ(keras: Any) -> None:
    first, second = (read_target(models.composite(keras)) for _ in range(2))
    assert keys(first) == keys(second)
    assert len(set(keys(first))) == 16
    labels = [[v.display_name for v in target.variables.values()] for target in (first, second)]
    assert labels[0] != labels[1]


def test_variables_that_layers_share_have_one_place(keras: Any) -> None:
    vector = keras.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, shared(inner_input), name="inner")
    target = read_target(keras.Model(vector, inner(shared(shared(vector)))))
    assert [layer.name for layer in target.layers] == ["shared", "inner"]
    assert target.layers[0].variables == target.layers[1].variables
    assert len(target.variables) == 2
    assert [layer.name for layer in read_target(target.model, expand_nested=True).layers
           ] == ["shared"]


def test_random_state_is_not_a_weight(keras: Any) -> None:
    vector = keras.Input((4,))
    x = keras.layers.GaussianNoise(0.1)(keras.layers.Dropout(0.5, seed=1)(vector))
    target = read_target(keras.Model(vector, keras.layers.Dense(2, name="dense")(x)))
    assert [variable.display_name for variable in target.variables.values()
           ] == ["dense/kernel", "dense/bias"]


def test_weights_of_the_model_itself_are_a_layer_of_their_own(keras: Any) -> None:
    target = read_target(models.subclassed(keras))
    assert sorted(layer.name for layer in target.layers) == ["block_0", "block_1", "head", "net"]
    own = next(layer for layer in target.layers if layer.name == "net")
    assert [(v.key, v.display_name) for v in own.variables] == [("model/0", "net/token")]


def test_two_layers_of_one_name_are_both_listed(keras: Any) -> None:
    class Twins(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.one = keras.layers.Dense(2, name="twin")
            self.two = keras.layers.Dense(2, name="twin")

        def call(self, x: Any) -> Any:
            return self.two(self.one(x))

    target = read_target(Twins(), sample=np.zeros((1, 2), "float32"))
    assert [layer.name for layer in target.layers] == ["twin", "twin"]
    assert len(target.variables) == 4


def test_an_unbuilt_model_is_refused_with_the_remedy(keras: Any) -> None:
    with pytest.raises(TargetError,
                       match=r"not built.*pass sample=.*model\.build\(\(None, 224, 224, 3\)\)"):
        read_target(keras.Sequential([keras.layers.Dense(2)]))


@pytest.mark.parametrize("sample",
                         [np.zeros((1, 4), "float32"), ("for torch", np.zeros((1, 4), "float32"))])
def test_an_unbuilt_model_is_built_from_the_sample(keras: Any, sample: Any) -> None:
    target = read_target(keras.Sequential([keras.layers.Dense(2)]), sample=sample)
    assert target.layers[0].variables[0].shape == (4, 2)


def test_a_model_that_keras_only_says_to_be_built_is_built_from_the_sample(keras: Any) -> None:
    class Lazy(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Lazy()
    model.built = True  # as `build` leaves it in Keras 3, with a warning
    with pytest.raises(TargetError, match=r"not built.*pass sample=.*or run the model once$"):
        read_target(model)
    target = read_target(model, sample=np.zeros((1, 4), "float32"))
    assert target.layers[0].variables[0].shape == (4, 2)


def test_several_inputs_of_an_unbuilt_model_come_in_a_dict(keras: Any) -> None:
    class Pair(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = keras.layers.Dense(2, name="left"), keras.layers.Dense(
                2, name="right")

        def call(self, inputs: Any) -> Any:
            return self.left(inputs["a"]) + self.right(inputs["b"])

    sample = {"a": np.zeros((1, 3), "float32"), "b": np.zeros((1, 5), "float32")}
    target = read_target(Pair(), sample=sample)
    assert [layer.variables[0].shape for layer in target.layers] == [(3, 2), (5, 2)]


def test_a_sample_that_does_not_fit_is_told_with_its_shape(keras: Any) -> None:
    model = keras.Sequential([keras.layers.Conv2D(2, 3)])
    with pytest.raises(TargetError, match=r"calling it on the sample \(shape \(1, 4\)\) failed"):
        read_target(model, sample=np.zeros((1, 4), "float32"))


def test_a_model_without_weights_is_refused(keras: Any) -> None:
    vector = keras.Input((4,))
    with pytest.raises(TargetError, match="has no weights"):
        read_target(keras.Model(vector, keras.layers.Flatten()(vector)))


def test_a_single_layer_is_refused_with_the_remedy(keras: Any) -> None:
    with pytest.raises(TargetError, match=r"single layer .*Dense: wrap it"):
        read_target(keras.layers.Dense(2))


@pytest.mark.parametrize("other", [None, {"a.weight": np.zeros(2)}, "model.h5"])
def test_what_is_not_a_keras_model_is_refused(other: Any) -> None:
    with pytest.raises(TargetError, match="expected a Keras model"):
        read_target(other)


@pytest.mark.parametrize(("own", "other"), [("keras", "tf_keras"), ("tf_keras", "keras")])
def test_the_keras_of_the_other_version_is_never_imported(own: str, other: str) -> None:
    script = (f"import sys, {own} as keras; loaded = {other!r} in sys.modules\n"
              "from tests.helpers.keras_runs.models import plain\n"
              "from keras_torch_convert.keras_io.model import read_target\n"
              f"assert len(read_target(plain(keras)).layers) == 3\n"
              f"assert ({other!r} in sys.modules) == loaded")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
