"""One name space from file to Plan: the same weights are found whatever wrapped them when they were
saved.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch
from safetensors.torch import save_file

import keras_torch_convert as ktc
from keras_torch_convert.cli.main import main
from tests.helpers.small_models import keras_two_branches, randomized, torch_two_branches, values


class Task(torch.nn.Module):
    """A training task around a model."""
    def __init__(self) -> None:
        super().__init__()
        self.model = torch_two_branches()

    def forward(self, x: Any) -> Any:
        return self.model(x)


@pytest.fixture(scope="module")
def known() -> tuple[Any, Any, ktc.Plan]:
    module, model = torch_two_branches(), keras_two_branches(keras)
    return module, model, ktc.convert(module, model, verify=False).plan


def applied(plan: ktc.Plan, content: Any, folder: Path, **options: Any) -> Any:
    torch.save(content, folder / "net.ckpt")
    report = ktc.apply(plan, folder / "net.ckpt", folder / "out.weights.h5", **options)
    model = keras_two_branches(keras)
    model.load_weights(folder / "out.weights.h5")
    return report, values(model)


def test_a_plan_applies_to_checkpoints_of_lightning_and_of_wrapped_blocks(
        known: Any, tmp_path: Path) -> None:
    module, model, plan = known
    state = module.state_dict()
    for content in ({
            "pytorch-lightning_version": "2.4.0",
            "state_dict": {f"model.{name}": one for name, one in state.items()}
    }, {name.replace("block1.", "block1._orig_mod."): one for name, one in state.items()},
                    {f"student.backbone.{name}": one for name, one in state.items()}):
        _, arrays = applied(plan, content, tmp_path)
        assert all(map(np.array_equal, arrays, values(model)))


def test_a_plan_of_a_wrapped_model_applies_to_plain_files_and_plain_plans_to_wrapped_models(
        known: Any, tmp_path: Path) -> None:
    module, model, plan = known
    task, other = Task(), keras_two_branches(keras)
    report = ktc.convert(task, other, plan=plan)
    assert report.equal
    assert "model.stem.weight" in report.plan.sources
    _, arrays = applied(report.plan, module.state_dict(), tmp_path)
    assert all(map(np.array_equal, arrays, values(model)))
    assert ktc.verify(task, other, plan=plan).verdict == "equal"


def test_a_renaming_that_is_not_certain_is_offered_and_the_advice_works(known: Any,
                                                                        tmp_path: Path) -> None:
    module, model, plan = known
    state = {
        name.replace("block1.", "a.").replace("block2.", "b."): tensor
        for name, tensor in module.state_dict().items()
    }
    with pytest.raises(ktc.TransferError, match="'block1' may be 'a' or 'b' there: say which with "
                       "rename="):
        applied(plan, state, tmp_path)
    rename = {"a": "block1", "b": "block2"}
    report, arrays = applied(plan, state, tmp_path, rename=rename)
    assert all(map(np.array_equal, arrays, values(model)))
    assert any("'a.' as 'block1.'" in note for note in report.notes)
    other = keras_two_branches(keras)
    ktc.convert(tmp_path / "net.ckpt", other, plan=plan, rename=rename)
    assert all(map(np.array_equal, values(other), values(model)))


def test_the_commands_take_wrapper_and_rename_for_the_weights(
        known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, plan = known
    averaged = randomized(torch_two_branches(), 5).state_dict()
    torch.save({"net": {f"x.{name}": tensor for name, tensor in module.state_dict().items()},
                "net_ema": {f"x.{name}": tensor for name, tensor in averaged.items()}},
               tmp_path / "net.pth")  # yapf: disable
    plan.save(tmp_path / "a.plan.json")
    monkeypatch.chdir(tmp_path)
    models = ["tests.helpers.small_models:torch_two_branches", f"{__name__}:built"]
    assert main([
        "convert", *models, "--weights", "net.pth", "--wrapper", "net_ema", "--rename", "x=", "-o",
        "a.weights.h5"
    ]) == 0
    assert main(["apply", "a.plan.json", "net.pth", "b.weights.h5", "--wrapper", "net_ema"]) == 0
    found = []
    for name in ("a", "b"):
        model = keras_two_branches(keras)
        model.load_weights(f"{name}.weights.h5")
        found.append(values(model))
    assert all(map(np.array_equal, *found))
    assert np.array_equal(found[0][0], averaged["stem.weight"].permute(2, 3, 1, 0).numpy())
    assert main(["apply", "a.plan.json", "net.pth", "c.weights.h5", "--rename", "x"]) == 2
    assert main(["apply", "a.plan.json", "net.pth", "c.weights.h5", "--rename", "y="]) == 3


def built() -> Any:
    return keras_two_branches(keras)


def test_an_adapter_is_merged_on_the_way_into_the_keras_file(
        known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, plan = known
    state = module.state_dict()
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    one, other = torch.randn(2, 8), torch.randn(10, 2)
    save_file({"base_model.model.head.lora_A.weight": one,
               "base_model.model.head.lora_B.weight": other},
              folder / "adapter_model.safetensors")  # yapf: disable
    torch.save(state, tmp_path / "net.pth")
    plan.save(tmp_path / "a.plan.json")
    monkeypatch.chdir(tmp_path)
    assert main(["apply", "a.plan.json", "net.pth", "a.weights.h5", "--adapter", "lora"]) == 0
    model = keras_two_branches(keras)
    model.load_weights("a.weights.h5")
    expected = state["head.weight"] + 2 * other @ one
    np.testing.assert_allclose(model.layers[-1].get_weights()[0], expected.T.numpy(), rtol=1e-5,
                               atol=1e-6)
