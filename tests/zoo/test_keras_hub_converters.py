"""Converters in the form of keras-hub's own: learned on one size, they give at another what
keras-hub's give, bit for bit, from the folder that transformers saves.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

from families import FAMILIES

import keras_torch_convert as ktc

NAMES = ("hub_bert", "hub_distilbert", "hub_gpt2", "hub_llama", "hub_mistral", "hub_gemma",
         "hub_qwen2", "hub_qwen3", "hub_vit")
# Where keras-hub's converter asks for names that only a model with a head has.
WITH_A_HEAD = {"hub_vit": "ViTForImageClassification", "hub_distilbert": "DistilBertForMaskedLM"}


@pytest.mark.parametrize("name", NAMES)
def test_a_generated_converter_gives_what_that_of_keras_hub_gives(name: str,
                                                                  tmp_path: Path) -> None:
    small, large, *_ = FAMILIES[name]
    plan = ktc.align(small.torch_model(), small.keras_model(), sample=small.inputs(1),
                     torch_call=small.torch_call, keras_call=small.keras_call)
    file = tmp_path / "converter.py"
    file.write_text(plan.to_python(name, "keras-hub"))
    made = ModuleType("converter")
    exec(compile(file.read_text(), str(file), "exec"), made.__dict__)

    save(large.torch_model(), WITH_A_HEAD.get(name), tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    theirs, ours = backbones(tmp_path / "hub")
    from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

    with SafetensorLoader(str(tmp_path / "hub")) as loader:
        made.convert_weights(ours, loader, config)
    for one, other in zip(theirs.weights, ours.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), one.path)


def save(module: Any, with_a_head: str | None, folder: Path) -> None:
    """Save a model with values that keras-hub's converters of some families, which go through
    half precision, keep as they are.
    """
    import transformers

    if with_a_head is not None:
        module = getattr(transformers, with_a_head)(module.config)
    module.half().float().save_pretrained(folder)


def backbones(folder: Path) -> tuple[Any, Any]:
    """The backbone of a folder, once with weights and once without."""
    import keras_hub

    make = keras_hub.models.Backbone.from_preset
    return make(str(folder)), make(str(folder), load_weights=False)
