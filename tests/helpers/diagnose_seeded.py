"""Faults in the small pairs on the Keras that the environment names: a JSON list of (pair, fault,
what the diagnosis says about it).
"""

from __future__ import annotations

import importlib
import json
import sys

import keras_torch_convert as ktc
from tests.helpers.fault_pairs import convolutions, maps, transformer
from tests.helpers.faults import every_fault, verdict

WANTED = ("epsilon of Keras BatchNormalization", "Keras gelu is gelu tanh",
          "torch SiLU is Hardswish()", "asymmetric padding of a Keras convolution",
          "square kernel transposed", "two norms swapped", "missing permutation behind Flatten",
          "dropout left on in Keras", "batch statistics in Keras", "count_include_pad",
          "corners aligned in torch", "softmax at the end of Keras")

keras = importlib.import_module(sys.argv[1])
answers = []
for make in (convolutions, transformer, maps):
    try:
        pair = make(keras)
    except AttributeError as error:
        answers.append([make.__name__, "build",
                        str(error)])  # Keras 2 has no GroupNormalization on older versions
        continue
    clean = ktc.verify(pair.torch_module, pair.keras_model, plan=pair.plan, sample=pair.sample)
    answers.append([
        make.__name__, "none",
        "equal" if clean.equal and clean.first_divergence is None else str(clean)
    ])
    for fault in every_fault():
        if fault.name in WANTED and fault.places(pair):
            pair = make(keras)
            seeded = fault.put(pair, fault.places(pair)[-1])
            result = ktc.verify(pair.torch_module, pair.keras_model, plan=pair.plan,
                                sample=pair.sample, randomized=False, inputs=1)
            if result.first_divergence is None and not result.unexplained:
                continue  # no output shows it
            said = verdict(result.first_divergence, fault, seeded)
            answers.append([
                make.__name__, fault.name,
                said if said == "exact" else f"{said}: {seeded}\n{result}"
            ])
print(json.dumps(answers))
