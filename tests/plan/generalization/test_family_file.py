"""Families in files: small, the same bytes, and nothing read that was not meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keras_torch_convert.errors import PlanError
from keras_torch_convert.plan.file import FORMAT as PLAN
from keras_torch_convert.plan.generalization.family_file import FORMAT
from keras_torch_convert.plan.plan import FamilyPlan, Plan
from tests.helpers.family_members import decoder, stages


@pytest.mark.parametrize("member", [decoder(3, 4, 2, 6), stages(2, 3)], ids=["decoder", "stages"])
def test_a_family_that_was_saved_does_the_same(member: Any, tmp_path: Path) -> None:
    family = (decoder()
              if "layer_0/norm_1/scale" in member.expected else stages(1, 2)).plan.generalize()
    path = family.save(tmp_path / "x.family.json")
    loaded = FamilyPlan.load(path)
    assert member.planned_by(loaded) == member.planned_by(family) == member.expected
    assert loaded.save(tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert str(loaded) == str(family)


def test_it_is_small_and_has_a_line_for_each_pattern(tmp_path: Path) -> None:
    family = decoder(2).plan.generalize()
    text = family.save(tmp_path / "x.family.json").read_text()
    assert decoder(40).plan.generalize().save(tmp_path / "y").stat().st_size < len(text) + 200
    lines = text.splitlines()
    targets = [pattern.target for pattern in family.patterns]
    for target in targets:
        assert sum(line.startswith(f'["{target}"') for line in lines) == targets.count(target)
    assert json.loads(text)["format"] == "keras_torch_convert family"


def written(tmp_path: Path, **changed: Any) -> Path:
    """A file with other parts, and the check sum that belongs to them."""
    parts = json.loads(decoder().plan.generalize().save(tmp_path / "x").read_text())
    parts.update(changed)
    path = tmp_path / "changed.family.json"
    path.write_text(FORMAT.as_text({key: parts[key] for key in (*FORMAT.parts,)}))
    return path


ROW = ["a_{}/w", "a.{}.w", [["0"]], 0]


@pytest.mark.parametrize(("row", "where"), [
    (["a_{}/w", "a.{}.w", [["0"]], 99], r"patterns\[0\]\[3\]: expected a number below"),
    (["a_{}/w", "a.{}.w", [], 0], r"patterns\[0\]\[2\]: expected a list of 1 entries"),
    (["a_{}/w", "a.{}.w", [["0", "0"]], 0], r"patterns\[0\]\[2\]\[0\]: expected a list of 1"),
    (["a_{}/w", "a.{}.w", [["1"]], 0], "a number of the variable below 1"),
    (["a_{}/w", "a.{}.w", [["0/0"]], 0], "a number of the variable below 1"),
    (["a_{}/w", "a.{}.w", [["x"]], 0], "an index such as"),
    (["a_{}/w", "a.{}.w", [["=3;0"]], 0], "an index such as"),
    (["a_{}/w", ["dance", "a.{}.w"], [["0"]], 0], r"patterns\[0\]\[1\]\[0\]: expected one of the"),
    ([*ROW, {"sizes": {"4": [["t", 0]]}}], "numbers of sizes below 0"),
    ([*ROW, {"conditions": [[7, [], [], [], []]]}], r"\[0\].conditions\[0\]\[0\]: expected a num"),
    ([*ROW, {"conditions": [[0, [], [], [1], []]]}], "at least one hole"),
    ([*ROW, {"color": 1}], "an object with conditions"),
    (["a_{}/w", ["concat", [["repeated", "a.{}.w", 3]], 0], [["0"]], 0], "a hole of 'a.{}.w'"),
])  # yapf: disable
def test_what_no_family_holds_is_refused_with_its_place(row: Any, where: str,
                                                        tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=where) as error:
        FamilyPlan.load(written(tmp_path, patterns=[row]))
    assert "changed.family.json" in str(error.value)


def test_a_changed_or_cut_file_is_refused(tmp_path: Path) -> None:
    path = decoder().plan.generalize().save(tmp_path / "x.family.json")
    text = path.read_text()
    path.write_text(text.replace("norm_before", "norm_behind", 1))
    with pytest.raises(PlanError, match="changed by hand"):
        FamilyPlan.load(path)
    path.write_text(text[:-100])
    with pytest.raises(PlanError, match="not valid JSON"):
        FamilyPlan.load(path)
    path.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(PlanError, match="install the newer one"):
        FamilyPlan.load(path)


def test_plans_and_families_are_told_apart(tmp_path: Path) -> None:
    plan = decoder().plan
    with pytest.raises(PlanError, match="JSON but no family"):
        FamilyPlan.load(plan.save(tmp_path / "x.plan.json"))
    with pytest.raises(PlanError, match="JSON but no plan"):
        Plan.load(plan.generalize().save(tmp_path / "x.family.json"))


def test_a_plan_file_holds_no_repeated_operands(tmp_path: Path) -> None:
    parts = json.loads(decoder().plan.save(tmp_path / "x").read_text())
    parts["variables"][0][3][0][3] = ["repeated", "weight", 0]
    (tmp_path / "x").write_text(PLAN.as_text({key: parts[key] for key in PLAN.parts}))
    with pytest.raises(PlanError, match="in families alone"):
        Plan.load(tmp_path / "x")
