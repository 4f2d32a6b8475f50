"""An architecture of any depth and width in both frameworks."""

from __future__ import annotations

from typing import Any

from tests.helpers.small_models import randomized


def torch_mixer(layers: int, width: int) -> Any:
    """Blocks of a norm and two dense layers, made to be run as they stand."""
    import torch

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.LayerNorm(width)
            self.up = torch.nn.Linear(width, 2 * width)
            self.down = torch.nn.Linear(2 * width, width)

        def forward(self, x: Any) -> Any:
            return x + self.down(torch.relu(self.up(self.norm(x))))

    class Mixer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Linear(6, width)
            self.blocks = torch.nn.ModuleList(Block() for _ in range(layers))
            self.head = torch.nn.Linear(width, 5)

        def forward(self, x: Any) -> Any:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    return randomized(Mixer())


def keras_mixer(layers: int, width: int) -> Any:
    """The same with names that Keras makes up for the dense layers of all blocks."""
    import keras

    inputs = keras.Input((6,))
    x = keras.layers.Dense(width, name="stem")(inputs)
    for i in range(layers):
        y = keras.layers.LayerNormalization(epsilon=1e-5, name=f"block_{i}_norm")(x)
        y = keras.layers.Dense(2 * width, activation="relu")(y)
        x = keras.layers.Add()([x, keras.layers.Dense(width)(y)])
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x))
