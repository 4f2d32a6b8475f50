"""Load a converted file into a fresh Keras model in a process that knows nothing of PyTorch's
weights, and predict.

    python examples/fresh_process.py EfficientNetLiteB0 demo_output/lite0.h5

Prints the logits for the picture of the cat as JSON. The demo starts this as a process of its own,
so that neither variables nor automatic layer names of the conversion can lend a hand.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")


def efficientnet_lite0_keras() -> Any:
    """kimm's EfficientNet-Lite0, fresh: (224, 224, 3) in, 1000 logits out."""
    import kimm

    return kimm.models.EfficientNetLiteB0(weights=None, classifier_activation=None,
                                          include_preprocessing=False, input_shape=(224, 224, 3))


def build(name: str) -> Any:
    """The fresh model that goes by this name."""
    from parallel_lite import parallel_lite_keras

    return {"EfficientNetLiteB0": efficientnet_lite0_keras,
            "parallel_lite": parallel_lite_keras}[name]()


def cat_picture() -> Any:
    """scikit-image's chelsea as these weights want it: 224 x 224, bicubic, (x - 127) / 128, shape
    (1, 224, 224, 3).
    """
    import numpy as np
    from PIL import Image
    from skimage import data

    picture = Image.fromarray(data.chelsea()).resize((224, 224), Image.Resampling.BICUBIC)
    return (np.asarray(picture, np.float32)[None] - 127) / 128


def main(name: str, path: str) -> None:
    """Load, predict, print."""
    import keras

    model = build(name)
    model.load_weights(path)
    logits = keras.ops.convert_to_numpy(model(cat_picture(), training=False))[0]
    print(json.dumps(logits.tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
