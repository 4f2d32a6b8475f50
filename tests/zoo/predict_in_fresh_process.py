"""Load a file into a fresh kecam model, by name and skipping what does not fit as kecam itself
does, and print the logits.
"""

import json
import sys

import numpy as np
from keras_cv_attention_models.efficientnet import EfficientNetV1Lite0

model = EfficientNetV1Lite0(input_shape=(224, 224, 3), activation="relu6", pretrained=None,
                            classifier_activation=None)
model.load_weights(sys.argv[1], by_name=True, skip_mismatch=True)
print(json.dumps(model(np.load(sys.argv[2]), training=False)[0].numpy().tolist()))
