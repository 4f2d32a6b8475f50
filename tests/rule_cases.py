"""All cases of all rules.

Run as a script, `python tests/rule_cases.py keras` (or `tf_keras`), it converts and runs each on that framework and prints, as JSON, the relative
differences of the outputs.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from attention_cases import CASES as ATTENTION
from composed_cases import CASES as COMPOSED
from layer_cases import CASES as LAYERS
from recurrent_cases import CASES as RECURRENT

CASES = [*LAYERS, *RECURRENT, *ATTENTION, *COMPOSED]


def differences(keras: Any) -> dict[str, float]:
    """The relative difference of every case that the framework can run, by its label."""
    import keras_torch_convert as ktc

    keras2, backend = not hasattr(keras, "ops"), keras.backend.backend() if hasattr(keras, "ops") else "tensorflow"
    found = {}
    for case in CASES:
        if (keras2 and case.keras3_only) or (backend == "tensorflow" and "conv2d channels first" in case.name):
            continue
        module, model = case.module(), case.keras_model(keras)
        ktc.convert(module, model, plan=case.plan(module, model), verify=False)
        found[case.label] = case.difference(module, model)
    return found


if __name__ == "__main__":
    print(json.dumps(differences(importlib.import_module(sys.argv[1]))))
