"""Families on the command line: made of plans, shown, and refused where a plan alone will do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from keras_torch_convert.cli.main import MISMATCH, main
from keras_torch_convert.plan.plan import FamilyPlan
from tests.helpers.family_members import decoder, stages


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(one) for one in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_plans_become_a_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = stages(2, 2).plan.save(tmp_path / "small.plan.json")
    large = stages(3, 3).plan.save(tmp_path / "large.plan.json")
    file = tmp_path / "net.family.json"

    code, out, _ = run(capsys, "generalize", small, large, "-o", file)

    assert code == 0
    assert "stage{i}_block{j}_conv{k}: kernel, bias <- layer{i}.{j}.conv{k}" in out
    member = stages(1, 4, 2)
    assert member.planned_by(FamilyPlan.load(file)) == member.expected
    code, again, _ = run(capsys, "inspect", file)
    assert code == 0
    assert again.strip() in out
    code, out, _ = run(capsys, "inspect", file, "--json")
    assert {one["variable"] for one in json.loads(out)["patterns"]} >= {"stem/kernel"}


def test_plans_of_two_families_are_refused(tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    family = decoder().plan.generalize().save(tmp_path / "x.family.json")
    code, _, err = run(capsys, "generalize", family)
    assert code != 0
    assert "JSON but no plan" in err


def test_apply_says_what_it_needs_to_know_of_a_size(tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    family = decoder().plan.generalize().save(tmp_path / "x.family.json")
    np.savez(tmp_path / "x.npz", **{"model.norm.weight": np.ones(3, np.float32)})
    code, _, err = run(capsys, "apply", family, tmp_path / "x.npz", tmp_path / "x.weights.h5")
    assert code == MISMATCH
    assert "MODULE:MODEL --plan FAMILY --save-plan" in " ".join(err.split())
    assert not (tmp_path / "x.weights.h5").exists()
