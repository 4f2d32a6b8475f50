"""Attention, a flattened map and parametrised weights on Keras 2, in a process of its own: prints relative differences as JSON."""

from __future__ import annotations

import json
from typing import Any

from conversion_helpers import as_keras, convert_by_hand, named, random_input, relative


def attention(keras: Any) -> float:
    import torch
    from torch import nn

    module = named(attn=nn.MultiheadAttention(12, 3, batch_first=True))
    query, value = keras.Input((None, 12)), keras.Input((None, 12))
    model = keras.Model([query, value], keras.layers.MultiHeadAttention(3, 4, name="attn")(query, value))
    convert_by_hand(module, model, {"attn": ["attn", "attn.out_proj"]})
    queries, values = random_input(2, 5, 12), random_input(2, 7, 12, seed=4)
    with torch.no_grad():
        expected = module["attn"](queries, values, values)[0]
    return relative(model([queries.numpy(), values.numpy()]), expected)


def flattened(keras: Any) -> float:
    import torch
    from torch import nn

    module, values = named(conv=nn.Conv2d(3, 4, 3), fc=nn.Linear(24, 5)), random_input(2, 3, 6, 8)
    x = inputs = keras.Input((6, 8, 3))
    x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(4, 3, name="conv")(x))
    flat = keras.Sequential([keras.layers.Flatten(), keras.layers.Dropout(0.5)])(x)
    model = keras.Model(inputs, keras.layers.Dense(5, name="fc")(flat))
    convert_by_hand(module, model, {"conv": "conv", "fc": "fc"})
    with torch.no_grad():
        expected = module["fc"](torch.max_pool2d(module["conv"](values), 2).flatten(1))
    return relative(model(as_keras(values)), expected)


def reshaped_by_an_operation(keras: Any) -> float:
    import tensorflow as tf
    import torch
    from torch import nn

    module, values = named(fc=nn.Linear(24, 5)), random_input(2, 4, 2, 3)
    inputs = keras.Input((2, 3, 4))
    model = keras.Model(inputs, keras.layers.Dense(5, name="fc")(tf.reshape(inputs, (-1, 24))))
    convert_by_hand(module, model, {"fc": "fc"})
    with torch.no_grad():
        return relative(model(as_keras(values)), module["fc"](values.flatten(1)))


def weight_norm(keras: Any) -> float:
    import torch
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm as normalised

    module, values = named(layer=normalised(nn.ConvTranspose2d(4, 6, 3, groups=2))), random_input(2, 4, 5, 4)
    inputs = keras.Input((5, 4, 4))
    model = keras.Model(inputs, keras.layers.Conv2DTranspose(6, 3, name="layer")(inputs))
    convert_by_hand(module, model, {"layer": "layer"})
    with torch.no_grad():
        return relative(model(as_keras(values)), as_keras(module["layer"](values)))


FAMILIES = (attention, flattened, reshaped_by_an_operation, weight_norm)

if __name__ == "__main__":
    import tf_keras

    print(json.dumps({family.__name__: family(tf_keras) for family in FAMILIES}))
