"""Imports TensorFlow before PyTorch, uses every function that runs models, and prints which of
torch's compilers were imported on the way: in some environments that ends the process.
"""

from __future__ import annotations

import json
import sys

import keras
import tensorflow  # noqa: F401
import torch

import keras_torch_convert as ktc

L = keras.layers


def net(epsilon: float = 1e-5) -> keras.Model:
    """The twin of the torch module below, or one that differs."""
    return keras.Sequential([
        keras.Input((8, 8, 3)),
        L.Conv2D(4, 3),
        L.BatchNormalization(epsilon=epsilon),
        L.ReLU(),
        L.GlobalAveragePooling2D(),
        L.Dense(5)
    ])


module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
                             torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                             torch.nn.Linear(4, 5)).eval()
model = net()
plan = ktc.align(module, model)
verdicts = [
    ktc.convert(module, model).verdict,
    ktc.verify(module, model, plan=plan).verdict,
    ktc.convert(module, net(0.5), if_different="keep").verdict,
    ktc.convert(module, keras.Model(model.inputs, [*model.outputs, model.layers[2].output])).verdict
]
ktc.keras_reload_from_torch_model(module, net(), save_name="", do_predict=False, verbose=0)
print(
    json.dumps(
        [verdicts, [name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules]]))
