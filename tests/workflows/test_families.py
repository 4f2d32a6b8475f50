"""A family learned from a small pair that was aligned by running it, and applied to larger ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized, same_values, values

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")


def torch_mixer(layers: int, width: int) -> Any:
    """Blocks of a norm and two dense layers, made to be run as they stand."""
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.LayerNorm(width)
            self.up = torch.nn.Linear(width, 2 * width)
            self.down = torch.nn.Linear(2 * width, width)

        def forward(self, x: Any) -> Any:
            return x + self.down(torch.relu(self.up(self.norm(x))))

    class Mixer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Linear(6, width)
            self.blocks = torch.nn.ModuleList(Block() for _ in range(layers))
            self.head = torch.nn.Linear(width, 5)

        def forward(self, x: Any) -> Any:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    return randomized(Mixer())


def keras_mixer(layers: int, width: int) -> Any:
    """The same with names that Keras makes up for the dense layers of all blocks."""
    inputs = keras.Input((6,))
    x = keras.layers.Dense(width, name="stem")(inputs)
    for i in range(layers):
        y = keras.layers.LayerNormalization(epsilon=1e-5, name=f"block_{i}_norm")(x)
        y = keras.layers.Dense(2 * width, activation="relu")(y)
        x = keras.layers.Add()([x, keras.layers.Dense(width)(y)])
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x))


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
