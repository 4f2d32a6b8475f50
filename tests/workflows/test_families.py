"""A family learned from a small pair that was aligned by running it, and applied to larger ones."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.cli.main import main
from tests.helpers.mixers import keras_mixer, torch_mixer
from tests.helpers.small_models import same_values, values

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")


@pytest.fixture(scope="module")
def family() -> ktc.FamilyPlan:
    return ktc.align(torch_mixer(3, 8), keras_mixer(3, 8)).generalize()


def test_a_larger_member_is_converted_and_proven(family: ktc.FamilyPlan, tmp_path: Path) -> None:
    torch_model, keras_model = torch_mixer(5, 12), keras_mixer(5, 12)
    report = ktc.convert(torch_model, keras_model, plan=family, save=tmp_path / "m.weights.h5")
    assert report.verdict == "equal"
    assert report.ok
    direct = ktc.align(torch_model, keras_mixer(5, 12))
    assert report.plan is not None
    assert [one.expression for one in report.plan.assignments
           ] == [one.expression for one in direct.assignments]
    assert ktc.verify(torch_model, keras_model, plan=family).equal


def test_the_plan_of_a_member_is_applied_to_files(family: ktc.FamilyPlan, tmp_path: Path) -> None:
    torch_model, keras_model = torch_mixer(4, 10), keras_mixer(4, 10)
    torch.save(torch_model.state_dict(), tmp_path / "large.pth")
    plan = family.plan_for(tmp_path / "large.pth", keras_model)
    assert ktc.apply(plan, tmp_path / "large.pth", tmp_path / "large.weights.h5").ok
    keras_model.load_weights(tmp_path / "large.weights.h5")
    sample = np.ones((1, 6), "float32")
    expected = torch_model(torch.from_numpy(sample)).detach().numpy()
    np.testing.assert_allclose(np.asarray(keras.ops.convert_to_numpy(keras_model(sample))),
                               expected, atol=1e-5)


def test_files_are_written_for_a_model_that_has_no_values(family: ktc.FamilyPlan,
                                                          tmp_path: Path) -> None:
    source = tmp_path / "large.pth"
    torch.save(torch_mixer(4, 10).state_dict(), source)
    with keras.device("meta"):
        bare = keras_mixer(4, 10)
    plan = family.plan_for(source, bare)
    filled = keras_mixer(4, 10)
    ktc.load_weights(filled, source, family)
    for suffix in (".h5", ".keras"):
        assert ktc.apply(plan, source, tmp_path / f"large{suffix}").ok
        loaded = keras.models.load_model(tmp_path / f"large{suffix}", compile=False)
        assert same_values(values(loaded), values(filled))
    assert ktc.apply(plan, source, tmp_path / "large.weights.h5").ok
    loaded = keras_mixer(4, 10)
    loaded.load_weights(tmp_path / "large.weights.h5")
    assert same_values(values(loaded), values(filled))
    for refused in (lambda: ktc.load_weights(bare, source, family),
                    lambda: ktc.verify(torch_mixer(4, 10), bare)):
        with pytest.raises(ktc.ConversionError, match="made on the meta device"):
            refused()


def test_the_command_applies_a_family_without_a_model(family: ktc.FamilyPlan,
                                                      tmp_path: Path) -> None:
    source, output = tmp_path / "large.pth", tmp_path / "large.weights.h5"
    torch.save(torch_mixer(4, 10).state_dict(), source)
    assert main(["apply",
                 str(family.save(tmp_path / "net.family.json")),
                 str(source),
                 str(output)]) == 0
    loaded, filled = keras_mixer(4, 10), keras_mixer(4, 10)
    loaded.load_weights(output)
    ktc.load_weights(filled, source, family)
    assert same_values(values(loaded), values(filled))


def test_a_member_of_another_family_leaves_the_model_as_it_was(family: ktc.FamilyPlan) -> None:
    keras_model = keras_mixer(4, 8)
    before = values(keras_model)
    state = torch_mixer(4, 8).state_dict()
    state["blocks.2.gate.weight"] = torch.zeros(8, 8)
    with pytest.raises(ktc.TransferError, match=r"'blocks\.2\.gate\.weight'"):
        ktc.convert(state, keras_model, plan=family)
    with pytest.raises(ktc.TransferError, match=r"blocks\.3"):
        ktc.convert(torch_mixer(3, 8), keras_model, plan=family)
    assert same_values(before, values(keras_model))


def test_the_other_direction(family: ktc.FamilyPlan) -> None:
    torch_model, keras_model = torch_mixer(4, 8), keras_mixer(4, 8)
    report = ktc.convert(keras_model, torch_model, plan=family)
    assert report.equal
    with pytest.raises(ktc.TargetError, match="expected a Keras model"):
        family.plan_for(torch_model, torch_model)


def test_where_a_plan_is_wanted_a_family_is_refused_with_what_to_do(family: ktc.FamilyPlan,
                                                                    tmp_path: Path) -> None:
    with pytest.raises(ktc.PlanError, match=r"family.plan_for\(source, keras_model\)"):
        ktc.apply(family, tmp_path / "x.pth", tmp_path / "x.h5")


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "family_zoo.py"),
                   run_name="__main__")
    assert "largest difference" in capsys.readouterr().out
