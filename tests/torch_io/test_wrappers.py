"""Parts of names that only wrappers leave, and modules that only wrap another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from keras_torch_convert.torch_io.reader import read
from keras_torch_convert.torch_io.wrappers import inner_module, plain_names

NAMES = ["features.0.weight", "features.3.running_mean", "classifier.weight"]


@pytest.mark.parametrize(("found", "prefix"), [
    ([f"_orig_mod.module.{name}" for name in NAMES], "_orig_mod.module."),
    ([name.replace("features.", "features._orig_mod.") for name in NAMES], ""),
    ([name.replace("features.", "features.module.") for name in NAMES], ""),
    ([name.replace("features.", "features._checkpoint_wrapped_module.") for name in NAMES], ""),
    (["_fsdp_wrapped_module." + name.replace("0.", "0._fsdp_wrapped_module.") for name in NAMES],
     ""),
])  # yapf: disable
def test_wrappers_are_cut_in_front_and_in_the_middle(found: list[str], prefix: str) -> None:
    assert plain_names(found) == (prefix, NAMES)
    source = read({name: torch.ones(2) for name in found})
    assert (list(source), source.prefix) == (NAMES, prefix)
    assert any("removed from" in note for note in source.notes)


@pytest.mark.parametrize("names", [
    ["a.module.weight", "a.other.weight"],  # no wrapper: something stands beside it
    ["a.module", "b.weight"],  # a tensor of this name
    ["a._orig_mod.weight", "a.weight"],  # they would be one name
    NAMES])  # yapf: disable
def test_other_names_stay_as_they_are(names: list[str]) -> None:
    assert plain_names(names) == ("", names)


def test_a_file_of_lightning_loses_the_name_of_its_model(tmp_path: Path) -> None:
    state = {f"model.{name}": torch.ones(2) for name in NAMES}
    torch.save({"pytorch-lightning_version": "2.4.0", "state_dict": state}, tmp_path / "a.ckpt")
    source = read(tmp_path / "a.ckpt")
    assert (list(source), source.prefix) == (NAMES, "model.")
    # Elsewhere a module may well be called so.
    assert list(read(state)) == list(state)


def test_a_module_that_only_wraps_gives_the_one_inside() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    for wrapped, prefix in ((torch.nn.DataParallel(net), "module."), (torch.compile(
            net, backend="eager"), "_orig_mod."), (torch.nn.DataParallel(
                torch.compile(net, backend="eager")), "module._orig_mod."),
                            (torch.optim.swa_utils.AveragedModel(net), "module.")):
        found, inside = inner_module(wrapped)
        assert (found, type(inside)) == (prefix, torch.nn.Sequential)
        source = read(wrapped)
        assert (list(source), source.prefix) == (["0.weight", "0.bias"], prefix)
        assert source.module.state_dict().keys() == source.keys()


def test_a_module_of_the_users_own_is_not_looked_through() -> None:
    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = torch.nn.Linear(2, 2)

    net = Doubled()
    assert inner_module(net) == ("", net)
    assert (list(read(net)), read(net).module) == (["module.weight", "module.bias"], net)
