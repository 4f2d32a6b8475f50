"""Small pairs of equal architecture, their weights randomized: no norm is the identity, no bias
zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def randomized(module: Any, seed: int = 0) -> Any:
    """The module with random weights, biases and norm statistics, in eval mode."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            else:
                fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 4
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / fan_in**0.5)
    return module.eval()


def torch_two_branches(classes: int = 10) -> Any:
    """Stem, then a main branch of two convolutions beside a shortcut; PyTorch registers the
    shortcut first.
    """
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.shortcut = nn.Conv2d(channels, channels, 1)
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)

        def forward(self, x: Any) -> Any:
            main = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(main + self.shortcut(x))

    class TwoBranches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.block1 = Block(8)
            self.block2 = Block(8)
            self.head = nn.Linear(8, classes)

        def forward(self, x: Any) -> Any:
            x = self.block2(self.block1(self.stem(x)))
            return self.head(x.mean((2, 3)))

    return randomized(TwoBranches())


def keras_two_branches(keras: Any, classes: int = 10, size: int = 16) -> Any:
    """The same network; Keras lists a block's shortcut last."""
    layers = keras.layers

    def block(x: Any, name: str) -> Any:
        main = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"{name}_1_conv")(x)
        main = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_1_bn")(main)
        main = layers.Activation("relu", name=f"{name}_relu")(main)
        main = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(main)
        main = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_2_bn")(main)
        shortcut = layers.Conv2D(8, 1, name=f"{name}_shortcut_conv")(x)
        return layers.Activation("relu", name=f"{name}_out")(
            layers.Add(name=f"{name}_add")([main, shortcut]))

    inputs = layers.Input((size, size, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem_conv")(inputs)
    x = block(block(x, "stack1_block1"), "stack1_block2")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(classes, name="predictions")(x), name="two_branches")


# Where PyTorch registers what Keras lists elsewhere: the classic dictionary that aligns the two.
TWO_BRANCHES_ALIGNED = {"shortcut_conv": -4}


def values(model: Any) -> list[np.ndarray[Any, Any]]:
    """All values of a Keras model, for comparing before and after."""
    return [np.array(value) for value in model.get_weights()]


def same_values(first: list[Any], second: list[Any]) -> bool:
    """Equal bit for bit."""
    return len(first) == len(second) and all(
        a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


def largest_difference(torch_module: Any, keras_model: Any, size: int = 16) -> float:
    """Largest difference of the outputs on random input, relative to the largest output."""
    import torch

    picture = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype("float32")
    with torch.no_grad():
        expected = torch_module(torch.from_numpy(picture.transpose(0, 3, 1, 2).copy())).numpy()
    got = keras_model(picture, training=False)
    got = got.detach().cpu().numpy() if hasattr(got, "detach") else np.asarray(got)
    return float(abs(expected - got).max() / abs(expected).max())
