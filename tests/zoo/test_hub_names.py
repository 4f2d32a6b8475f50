"""Files of the Hub, whose names and fusions differ from the module's: a Plan of the module fills a
Keras file from them, and a folder is converted with its module at hand.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

from registry import PAIRS

import keras_torch_convert as ktc
from keras_torch_convert.torch_io.reader import read
from keras_torch_convert.torch_io.stored_names import matched_by_value

NAMES = ("hub_mixtral", "hub_qwen2moe", "hub_qwen3moe", "hub_gptoss", "hub_vit")


def same_weights(first: Any, second: Any) -> bool:
    return all(map(np.array_equal, first.get_weights(), second.get_weights()))


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_of_the_module_fills_a_keras_file_from_the_files_of_the_hub(
        name: str, tmp_path: Path) -> None:
    pair = PAIRS[name]
    module, model = pair.torch_model(), pair.keras_model()
    module.save_pretrained(tmp_path / "hub")
    calls = {
        "sample": pair.inputs(0),
        "torch_call": lambda one, ids: pair.torch_call(one, np.asarray(ids)),
        "keras_call": pair.keras_call
    }
    plan = ktc.align(module, model, **calls)
    plan.save(tmp_path / "a.plan.json")
    plan = ktc.Plan.load(tmp_path / "a.plan.json")
    live = pair.keras_model()
    ktc.convert(module, live, plan=plan, if_different="keep", **calls)
    assert ktc.apply(plan, tmp_path / "hub", tmp_path / "out.weights.h5").ok
    model.load_weights(tmp_path / "out.weights.h5")
    assert same_weights(model, live)
    # By the values alone, without what transformers declares.
    source = read(tmp_path / "hub")
    if source.keys() != read(module).keys():
        by_value = replace(plan, stored=matched_by_value(read(module), source))
        model = pair.keras_model()
        ktc.convert(source, model, plan=by_value)
        assert same_weights(model, live)
    model = pair.keras_model()
    report = ktc.convert(tmp_path / "hub", model, module=module, if_different="keep", **calls)
    # GPT-OSS is no twin: its rotary embedding differs.
    assert report.verdict in ("equal", "close") or name == "hub_gptoss"
    assert same_weights(model, live)
