"""A checkpoint whose names are not the module's, converted with the module at hand."""

from __future__ import annotations

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
from tests.helpers.small_models import (keras_two_branches, randomized, same_values,
                                        torch_two_branches, values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The weights under names of their own, two of them fused, as a folder."""
    state = dict(torch_two_branches().state_dict())
    fused = torch.cat([state.pop("block1.conv1.weight"), state.pop("block1.conv2.weight")])
    names = {"stem.weight": "patch.kernel", "head.weight": "output.matrix"}
    content = {names.get(name, name): tensor for name, tensor in state.items()}
    (tmp_path / "hub").mkdir()
    save_file({**content, "block1.convs": fused}, tmp_path / "hub" / "model.safetensors")
    return tmp_path / "hub"


def test_the_module_tells_the_layers_and_the_values_tell_the_names(folder: Path,
                                                                   tmp_path: Path) -> None:
    module, model, other = torch_two_branches(), keras_two_branches(keras), keras_two_branches(
        keras)
    report = ktc.convert(folder, model, module=module, save=tmp_path / "live.weights.h5")
    assert report.equal
    ktc.convert(module, other)
    assert same_values(values(model), values(other))
    statuses = {entry.name: entry.status for entry in report.ledger if entry.side == "source"}
    assert statuses["block1.convs"] == statuses["patch.kernel"] == "used"
    # The Plan has both name spaces, also as a file.
    report.plan.save(tmp_path / "a.plan.json")
    plan = ktc.Plan.load(tmp_path / "a.plan.json")
    assert plan == report.plan
    assert plan.stored is not None
    ktc.apply(plan, folder, tmp_path / "a.weights.h5")
    torch.save(module.state_dict(), tmp_path / "own.pth")
    ktc.apply(plan, tmp_path / "own.pth", tmp_path / "b.weights.h5")
    for name in ("a", "b"):
        model.load_weights(tmp_path / f"{name}.weights.h5")
        assert same_values(values(model), values(other))


def test_a_module_of_other_weights_is_not_compared_and_a_file_of_others_is_refused(
        folder: Path, tmp_path: Path) -> None:
    other = randomized(torch_two_branches(), 3)
    with pytest.raises(ktc.TransferError, match=r"the plan names a tensor 'stem.weight'"):
        ktc.convert(folder, keras_two_branches(keras), module=other)
    torch.save(torch_two_branches().state_dict(), tmp_path / "own.pth")
    model = keras_two_branches(keras)
    report = ktc.convert(tmp_path / "own.pth", model, module=other)
    assert report.comparison is None
    assert any("holds other weights than the file" in note for note in report.notes)
    assert np.array_equal(
        values(model)[0].transpose(3, 2, 0, 1),
        torch_two_branches().state_dict()["stem.weight"].numpy())
    with pytest.raises(ktc.TransferError, match="give the checkpoint first"):
        ktc.convert(other, model, module=other)


def test_a_changed_plan_of_two_name_spaces_is_refused(folder: Path, tmp_path: Path) -> None:
    plan = ktc.convert(folder, keras_two_branches(keras), module=torch_two_branches()).plan
    path = plan.save(tmp_path / "a.plan.json")
    text: Any = path.read_text()
    path.write_text(text.replace('"patch.kernel"', '"batch.kernel"'))
    with pytest.raises(ktc.PlanError):
        ktc.Plan.load(path)
