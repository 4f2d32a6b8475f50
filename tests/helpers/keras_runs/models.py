"""Models for the saving tests, built by the same code in the process that saves and in the one that
loads.
"""

import sys
from collections.abc import Callable
from typing import Any


def import_keras(framework: str) -> Any:
    """The Keras to test: tf_keras, or Keras 3 with the backend that KERAS_BACKEND names."""
    if framework == "tf_keras":
        import tf_keras

        return tf_keras
    import keras

    return keras


def plain(keras: Any) -> Any:
    """Layers only: loads with load_model and nothing else."""
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, name="stem")(image)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(5, name="head")(x), name="plain")


def nested(keras: Any) -> Any:
    """A Sequential with two norms of one shape, as in the frozen-order trap, and a wrapper."""
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    body = keras.Sequential([
        layers.Conv2D(4, 3, name="first"),
        layers.BatchNormalization(name="first_norm"),
        layers.Conv2D(4, 3, name="second"),
        layers.BatchNormalization(name="second_norm")
    ], name="body")
    x = layers.Reshape((16, 4), name="flat")(body(image))
    x = layers.Bidirectional(layers.LSTM(2, name="lstm"), name="both_ways")(x)
    return keras.Model(image, layers.Dense(3, name="head")(x), name="nested")


def composite(keras: Any) -> Any:
    """A layer of a user's own class with a weight of its own, sublayers in a list and in a dict."""
    class Block(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.steps = [
                keras.layers.Dense(4),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(4)
            ]
            self.ends = {"norm": keras.layers.LayerNormalization(), "out": keras.layers.Dense(4)}

        def build(self, input_shape: Any) -> None:
            self.gate = self.add_weight(name="gate", shape=(4,), initializer="ones")
            self.count = self.add_weight(name="count", shape=(), initializer="zeros",
                                         trainable=False)
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            for step in self.steps:
                x = step(x)
            return self.ends["out"](self.ends["norm"](x)) * self.gate + self.count

    vector = keras.Input((4,), name="vector")
    return keras.Model(vector,
                       Block(name="block")(keras.layers.Dense(4, name="first")(vector)),
                       name="composite")


def subclassed(keras: Any) -> Any:
    """A model that is a class of its own, with a weight beside its layers."""
    import numpy as np

    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="net")
            self.blocks = [
                keras.layers.Dense(4, name="block_0"),
                keras.layers.Dense(4, name="block_1")
            ]
            self.head = keras.layers.Dense(2, name="head")

        def build(self, input_shape: Any) -> None:
            self.token = self.add_weight(name="token", shape=(4,), initializer="zeros")
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x)
            return self.head(x + self.token)

    model = Net()
    model(np.zeros((1, 4), "float32"))
    return model


def two_bytes(keras: Any) -> Any:
    """Variables of type bfloat16 and float16."""
    vector = keras.Input((4,), name="vector")
    x = keras.layers.Dense(6, dtype="bfloat16", name="brain")(vector)
    return keras.Model(vector,
                       keras.layers.Dense(6, dtype="float16", name="half")(x), name="two_bytes")


def freeze_some(model: Any) -> None:
    """As in fine-tuning: one norm inside the nested model, and whole layers outside."""
    for layer in model.layers:
        if layer.name == "body":
            layer.get_layer("first_norm").trainable = False
        if layer.name in {"stem", "stem_norm", "block"}:
            layer.trainable = False


def freeze_all(model: Any) -> None:
    """The whole model, from its top."""
    model.trainable = False


MODELS: dict[str, Callable[[Any], Any]] = {
    "plain": plain, "nested": nested, "composite": composite, "subclassed": subclassed,
    "two_bytes": two_bytes
}
FREEZE: dict[str, Callable[[Any], None]] = {
    "trainable": lambda model: None, "some frozen": freeze_some, "all frozen": freeze_all
}

if __name__ == "__main__":
    sys.exit("this file holds models only: run save.py or load.py")
