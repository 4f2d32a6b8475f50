"""Plans that an earlier version saved load today, and give the same arrays bit for bit.

tests/data/plans was made by commit 3eb0b92, before plan/ was rebuilt. Together the Plans hold every
expression node, every part of the file, and the layout of Keras 3 and tf_keras files. arrays.npz
has "<plan>|source|<name>" (what goes in), "<plan>|values|<key>" (what the executor gave) and
"<plan>|<suffix>|<path>" (what `apply` wrote).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert import Plan
from keras_torch_convert.plan.executor import check_plan
from keras_torch_convert.plan.file import plan_as_text
from keras_torch_convert.spec.source import Source
from keras_torch_convert.spec.target import Target, TargetLayer, TargetVariable
from keras_torch_convert.spec.tensor_spec import TensorSpec
from tests.helpers.transfer import source_of, tensor

FOLDER = Path(__file__).parents[1] / "data" / "plans"
EXPECTED = json.loads((FOLDER / "expected.json").read_text("utf-8"))
CALLS = {"head": lambda weights: [weights[0] * 2, weights[1] + 1]}
WITH_LAYOUT = [name for name in EXPECTED if name.endswith("keras_model")]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "arrays.npz") as file:
        return {name: file[name] for name in file.files}


def load(name: str) -> Plan:
    return Plan.load(FOLDER / f"{name}.plan.json", additional_transfer=CALLS)


def part(arrays: dict[str, np.ndarray], name: str, kind: str) -> dict[str, np.ndarray]:
    head = f"{name}|{kind}|"
    return {key[len(head):]: one for key, one in arrays.items() if key.startswith(head)}


def source_for(plan: Plan, values: dict[str, np.ndarray]) -> Source:
    return source_of([
        tensor(name, one,
               dtype=plan.sources[name].dtype if name in plan.sources else one.dtype.name)
        for name, one in values.items()
    ])


def target_for(plan: Plan, values: dict[str, np.ndarray]) -> Target:
    """All variables of the Plan as one layer; those it knows no shape of as they were given."""
    specs = {key: TensorSpec(one.shape, one.dtype.name, key) for key, one in values.items()}
    specs |= {key: TensorSpec((), "float32", key) for key in plan.kept}
    specs |= plan.targets
    variables = tuple(
        TargetVariable(key, one.display_name, key, one.shape, one.dtype, True, None)
        for key, one in specs.items())
    layer = TargetLayer("all", "all", ("Layer",), variables, (), 0, {}, None)
    return Target(None, "golden", "torch" if plan.reversed else "keras", "torch", (layer,))


@pytest.mark.parametrize("name", EXPECTED)
class TestEveryGoldenFile:
    def test_it_gives_the_same_arrays_bit_for_bit(self, name: str, arrays: Any) -> None:
        plan, expected = load(name), part(arrays, name, "values")
        checked = check_plan(plan, source_for(plan, part(arrays, name, "source")),
                             target_for(plan, expected), strict=False)
        found = {variable.key: values for variable, values in checked.arrays()}
        assert found.keys() == expected.keys()
        for key, values in found.items():
            assert values.shape == expected[key].shape
            assert values.tobytes() == expected[key].tobytes(), key

    def test_it_says_the_same_about_itself(self, name: str) -> None:
        plan, expected = load(name), EXPECTED[name]
        assert plan.portable == expected["portable"]
        assert plan.lossless == expected["lossless"]
        assert [one[1:one.index("': ")] for one in plan.losses()] == expected["losses"]

    def test_saved_again_it_has_the_same_bytes(self, name: str) -> None:
        text = (FOLDER / f"{name}.plan.json").read_text("utf-8")
        assert plan_as_text(load(name)) == text


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
@pytest.mark.parametrize("name", WITH_LAYOUT)
def test_apply_writes_the_same_arrays_into_keras_files(name: str, suffix: str, arrays: Any,
                                                       tmp_path: Path) -> None:
    np.savez(tmp_path / "source.npz", **part(arrays, name, "source"))
    path = tmp_path / f"out{suffix}"
    assert ktc.apply(load(name), tmp_path / "source.npz", path).ok
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda key, one: found.__setitem__(key, one[()])
                        if isinstance(one, h5py.Dataset) else None)
    expected = part(arrays, name, suffix)
    assert found.keys() == expected.keys()
    for key, values in found.items():
        assert values.dtype == expected[key].dtype
        assert values.tobytes() == expected[key].tobytes(), key


def test_the_inverse_of_a_loaded_plan_is_the_golden_inverse() -> None:
    assert load("keras_model").invert() == load("keras_model_reversed")


def test_the_golden_files_hold_every_node() -> None:
    text = "".join(path.read_text("utf-8") for path in FOLDER.glob("*.plan.json"))
    for node in ("permute", "reshape", "slice", "concat", "place", "merge", "fill", "add",
                 "multiply", "scale", "norm_weight", "norm", "spectral_norm_weight",
                 "singular_vector", "standardized_weight", "resampled", "unrepeated",
                 "unstandardized", "deviation", "callback"):
        assert f'["{node}",' in text, node
