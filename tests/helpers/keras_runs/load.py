"""python load.py FRAMEWORK FOLDER CASES: load what save.py wrote into freshly built models, by
every way Keras has.

Prints JSON: for each case and way of loading, how many values were right and differ from the
initial ones, of how many.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np

from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.keras_io.values import read_values
from tests.helpers.keras_runs.models import MODELS, import_keras
from tests.helpers.keras_runs.save import known_values


def right_and_changed(loaded: Any, initial: Any) -> list[int]:
    """Number of loaded values that are the known ones and not the initial ones; number of all
    values.
    """
    target, before = read_target(loaded), read_target(initial)
    values = known_values(target)
    right = total = 0
    for key, variable in target.variables.items():
        got = read_values(target, variable.variable)
        start = read_values(before, before.variables[key].variable)
        right += int(np.count_nonzero((got == values[key]) & (got != start)))
        total += variable.size
    return [right, total]


def main(framework: str, folder: Path, cases: list[list[str]]) -> None:
    keras = import_keras(framework)
    results = []
    for model_name, frozen, suffix in cases:
        path = str(folder / f"{model_name} {frozen}{suffix}")
        build = MODELS[model_name]
        ways: dict[str, list[int]] = {}
        fresh = build(keras)
        fresh.load_weights(path)
        ways["load_weights"] = right_and_changed(fresh, build(keras))
        if suffix == ".h5":
            fresh = build(keras)
            fresh.load_weights(path, by_name=True, skip_mismatch=True)
            ways["by_name"] = right_and_changed(fresh, build(keras))
        if suffix != ".weights.h5" and model_name in {"plain", "nested"}:
            ways["load_model"] = right_and_changed(keras.models.load_model(path), build(keras))
        results.append({"case": [model_name, frozen, suffix], "ways": ways})
    print("\n" + json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
