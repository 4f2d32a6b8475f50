"""A model of the zoo in Keras, and its original in PyTorch."""

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "weights"


def tiny_keras(epsilon=1e-5):
    """Make the Keras model."""
    import keras
    from keras import layers

    return keras.Sequential([
        keras.Input((32, 32, 3)),
        layers.Conv2D(8, 3, strides=2, use_bias=False, name="stem_conv"),
        layers.BatchNormalization(epsilon=epsilon, name="stem_bn"),
        layers.ReLU(name="stem_relu"),
        layers.Conv2D(16, 3, strides=2, name="block_conv"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dense(5, name="head"),
    ], name="tiny")  # yapf: disable


def tiny_torch():
    """Make the original, with its published weights."""
    import torch
    from torch import nn

    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                          nn.Conv2d(8, 16, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(16, 5))
    if (WEIGHTS / "tiny.pth").exists():
        model.load_state_dict(torch.load(WEIGHTS / "tiny.pth"))
    return model
