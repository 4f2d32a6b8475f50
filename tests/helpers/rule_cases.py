"""All cases of all rules.

Run as a script, `python tests/helpers/rule_cases.py keras` (or `tf_keras`), it converts and runs
each on that framework, by hand and by running both models, and prints the relative differences of
the outputs as JSON: one dictionary for each of the two ways.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import keras_torch_convert as ktc
from tests.helpers.attention_cases import CASES as ATTENTION
from tests.helpers.composed_cases import CASES as COMPOSED
from tests.helpers.layer_cases import CASES as LAYERS
from tests.helpers.recurrent_cases import CASES as RECURRENT
from tests.helpers.rule_case import RuleCase

CASES = [*LAYERS, *RECURRENT, *ATTENTION, *COMPOSED]

# A table is resized only when that is asked for, and by hand.
FOUND_BY_RUNNING = [case for case in CASES if not case.options]


def can_run(case: RuleCase, keras: Any) -> bool:
    """False for layers that the framework lacks."""
    keras2 = not hasattr(keras, "ops")
    tensorflow = keras2 or keras.backend.backend() == "tensorflow"
    return not (keras2 and case.keras3_only) and not (tensorflow
                                                      and "conv2d channels first" in case.name)


def by_hand(keras: Any, case: RuleCase) -> float:
    """The relative difference when a mapping says what belongs together."""
    module, model = case.module(), case.keras_model(keras)
    ktc.convert(module, model, plan=case.plan(module, model), verify=False)
    return case.difference(module, model)


def by_running(keras: Any, case: RuleCase) -> float:
    """The relative difference when nothing is told."""
    module, model = case.module(), case.keras_model(keras)
    torch_model, sample = case.runnable(module)
    report = ktc.convert(torch_model, model, sample=sample)
    assert report.equal is True, case.display_name
    return case.difference(module, model)


def differences(keras: Any) -> tuple[dict[str, float], dict[str, float]]:
    """By hand and by running, by label of the case."""
    return ({case.display_name: by_hand(keras, case) for case in CASES if can_run(case, keras)}, {
        case.display_name: by_running(keras, case)
        for case in FOUND_BY_RUNNING if can_run(case, keras)
    })


if __name__ == "__main__":
    print(json.dumps(differences(importlib.import_module(sys.argv[1]))))
