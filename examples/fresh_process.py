"""Load converted files into fresh Keras models, and predict.

    python examples/fresh_process.py lite0=demo_output/lite0.h5

Prints the logits for the picture of the cat as JSON, a list for each file. The demo starts this as
a process of its own, so that neither variables nor automatic layer names of the conversion can lend
a hand.
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


def parallel_lite() -> Any:
    """Return the network with parallel branches, fresh."""
    from parallel_lite import parallel_lite_keras

    return parallel_lite_keras()


# The fresh model of each part of the demo.
BUILDERS = {
    "lite0": efficientnet_lite0_keras, "sorted": efficientnet_lite0_keras, "branches": parallel_lite
}


def cat_picture() -> Any:
    """scikit-image's chelsea as these weights want it: 224 x 224, bicubic, (x - 127) / 128, shape
    (1, 224, 224, 3).
    """
    import numpy as np
    from PIL import Image
    from skimage import data

    picture = Image.fromarray(data.chelsea()).resize((224, 224), Image.Resampling.BICUBIC)
    return (np.asarray(picture, np.float32)[None] - 127) / 128


def logits(name: str, path: str) -> list[float]:
    """Load one file and predict."""
    import keras

    model = BUILDERS[name]()
    model.load_weights(path)
    return keras.ops.convert_to_numpy(model(cat_picture(), training=False))[0].tolist()


if __name__ == "__main__":
    print(json.dumps([logits(*file.split("=", 1)) for file in sys.argv[1:]]))
