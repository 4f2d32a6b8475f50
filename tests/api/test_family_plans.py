"""Families made from functions that build models, and the hook that a zoo calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_torch_convert as ktc
from tests.helpers.mixers import keras_mixer, torch_mixer
from tests.helpers.small_models import same_values, values

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
SIZES = [{"layers": 2, "width": 6}, {"layers": 3, "width": 10}]


def test_a_family_is_learned_from_sizes_and_fills_a_larger_model(tmp_path: Path) -> None:
    family = ktc.learn_family(torch_mixer, keras_mixer, SIZES)
    module, model = torch_mixer(5, 16), keras_mixer(5, 16)
    torch.save(module.state_dict(), tmp_path / "large.pth")
    family.save(tmp_path / "mixer.family.json")
    ktc.load_weights(model, tmp_path / "large.pth", tmp_path / "mixer.family.json")
    sample = np.linspace(-1, 1, 12, dtype="float32").reshape(2, 6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(sample)),
                               module(torch.from_numpy(sample)).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [(2, 6), {"layers": 2, "width": 6}])
def test_sizes_are_given_as_arguments_are(size: Any) -> None:
    found = ktc.learn_family(torch_mixer, keras_mixer, [size], sample=lambda size: np.ones(
        (1, 6), "float32"))
    assert found.learned == ("16 variables, 425 values",)
    assert ktc.learn_family(lambda width: torch_mixer(2, width),
                            lambda width: keras_mixer(2, width), [6]) == found


def test_sizes_that_do_not_fit_together_are_named() -> None:
    with pytest.raises(ValueError, match="at least one size"):
        ktc.learn_family(torch_mixer, keras_mixer, [])
    with pytest.raises(ktc.AlignmentError, match=r"the member of size \(3,\):"):
        ktc.learn_family(lambda layers: torch_mixer(layers, 6),
                         lambda layers: keras_mixer(layers - 1, 6), [(3,)])


def test_a_checkpoint_of_another_family_changes_nothing(tmp_path: Path) -> None:
    family = ktc.learn_family(torch_mixer, keras_mixer, SIZES[:1])
    model = keras_mixer(3, 8)
    before = values(model)
    torch.save({"conv.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ktc.TransferError) as error:
        ktc.load_weights(model, tmp_path / "other.pth", family)
    assert "tensor 'conv.weight' (3, 3) is left over" in error.value.problems[-1]
    assert "there is no 'blocks.2.down.bias'" in error.value.problems[-4]
    with pytest.raises(ktc.PlanError, match=r"it is no (family|plan)"):
        ktc.load_weights(model, tmp_path / "other.pth", Path(__file__))
    assert same_values(before, values(model))


def test_weights_are_loaded_without_a_word(tmp_path: Path,
                                           capfd: pytest.CaptureFixture[str]) -> None:
    module, model = torch_mixer(2, 6), keras_mixer(2, 6)
    plan = ktc.align(module, model)
    torch.save(module.state_dict(), tmp_path / "x.pth")
    capfd.readouterr()
    ktc.load_weights(model, tmp_path / "x.pth", plan)
    assert capfd.readouterr() == ("", "")
