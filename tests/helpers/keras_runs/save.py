"""python save.py FRAMEWORK FOLDER CASES: give the models known values, save them, and write down
what they held.

CASES is JSON, a list of [model, frozen state, suffix]. Writes FOLDER/report.json.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np

from keras_torch_convert.errors import SaveError
from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.keras_io.model_writer import transaction
from keras_torch_convert.keras_io.values import read_values
from keras_torch_convert.spec.dtypes import numpy_dtype
from keras_torch_convert.spec.target import Target
from tests.helpers.keras_runs.models import FREEZE, MODELS, import_keras
from tests.helpers.saved import save_model


def known_values(target: Target) -> dict[str, Any]:
    """For every key an array of small whole numbers from 2 on, different for each key and exact
    in two bytes.
    """
    return {
        variable.key: (np.arange(variable.size).reshape(variable.shape) % 50 + 2 + index).astype(
            numpy_dtype(variable.dtype)) for index, variable in enumerate(target.variables.values())
    }


def aligned_copy(array: Any) -> Any:
    """A copy at an address that jax and TensorFlow would use in place."""
    room = np.zeros(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start:start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def put(array: Any, into: Any) -> Any:
    """Compute the values of a variable, here a known array, into memory that it gives."""
    assert into is not None
    into[...] = array.view(into.dtype)
    return into.view(array.dtype)


def flags(model: Any) -> list[bool]:
    """Trainable flags of all layers and weights."""
    return [layer.trainable for layer in model._flatten_layers()
           ] + [weight.trainable for weight in model.weights]


def main(framework: str, folder: Path, cases: list[list[str]]) -> None:
    keras = import_keras(framework)
    report = []
    for model_name, frozen, suffix in cases:
        model = MODELS[model_name](keras)
        FREEZE[frozen](model)
        target = read_target(model)
        values = known_values(target)
        with transaction(target) as writer:
            for index, (key, variable) in enumerate(target.variables.items()):
                if index % 2:
                    writer.fill(variable, partial(put, values[key]))
                    continue
                lent = aligned_copy(values[key])
                writer.write(variable, lent)
                lent[...] = 0  # the model must not live in memory that belongs to its caller
        held = all(
            read_values(target, v.variable).tobytes() == values[p].tobytes()
            for p, v in target.variables.items())
        before = flags(model)
        entry: dict[str, Any] = {
            "case": [model_name, frozen, suffix], "held": held, "count": len(values)
        }
        try:
            saved = save_model(target, folder / f"{model_name} {frozen}{suffix}")
            entry |= {**saved.digests, "size": saved.size, "notes": saved.notes}
        except SaveError as error:
            entry["refused"] = str(error)
        report.append(entry | {"flags kept": flags(model) == before})
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
