"""Several networks in one list of names: one is taken or refused with the choices, never mixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from keras_torch_convert.errors import SourceError
from keras_torch_convert.torch_io.reader import read

PLAIN = {
    "0.weight": torch.full((5, 6), 1.0), "0.bias": torch.ones(5), "2.weight": torch.full((3, 5),
                                                                                         1.0)
}
AVERAGED = {name: tensor * 2 for name, tensor in PLAIN.items()}
COUNTS = {"initted": torch.tensor(True), "step": torch.tensor(9)}


def under(prefix: str, state: Mapping[str, Any], spelled: Callable[[str],
                                                                   str] = str) -> dict[str, Any]:
    return {prefix + spelled(name): tensor for name, tensor in state.items()}


# Content, the network that is taken by itself, the averages' name, all names to choose from.
FORMS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "ema-pytorch":
        ({**COUNTS, **under("online_model.", PLAIN), **under("ema_model.", AVERAGED)},
         "online_model", "ema_model"),
    "latent diffusion":
        ({**under("model.unet.", PLAIN),
          **under("model_ema.unet", AVERAGED, lambda name: name.replace(".", "")),
          "model_ema.decay": torch.tensor(0.9)}, "model", "model_ema"),
    "beside other parts":
        ({**under("diffusion.model.", PLAIN), "diffusion.conditioner.weight": torch.ones(1),
          **under("diffusion_ema.ema_model.", AVERAGED), "diffusion_ema.step": torch.tensor(1)},
         None, "diffusion_ema.ema_model"),
    "mmcv":
        ({**PLAIN, **under("ema_", AVERAGED, lambda name: name.replace(".", "_"))}, None, "ema"),
    "wrapped":
        ({**under("model.module.", PLAIN), **under("model_ema.module.", AVERAGED)},
         "model", "model_ema"),
}  # yapf: disable


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_copy_is_told_from_the_network_and_taken_when_asked_for(form: str, nested: bool,
                                                                  tmp_path: Path) -> None:
    content, taken, averages = FORMS[form]
    path = tmp_path / "net.pt"
    torch.save({"epoch": 1, "state_dict": content} if nested else content, path)
    source = read(path)
    outer = "state_dict/" if nested else ""
    assert source.wrapper == (outer + taken if taken else "state_dict" if nested else None)
    assert outer + averages in source.wrappers
    assert f"{outer}{averages}: 3 tensors" in source.notes[0]
    assert all(float(tensor.read().max()) == 1 for tensor in source.values())
    for wanted in dict.fromkeys((averages, outer + averages)):
        copy = read(path, wrapper=wanted)
        assert copy.wrapper == outer + averages
        assert [name.removeprefix("unet.") for name in copy] == list(PLAIN)
        assert all(float(tensor.read().max()) == 2 for tensor in copy.values())


def test_the_plain_network_is_named_without_its_beginning_and_its_counters() -> None:
    assert list(read(FORMS["ema-pytorch"][0])) == list(PLAIN)
    assert "diffusion.model.0.weight" in read(FORMS["beside other parts"][0])


@pytest.mark.parametrize(("first", "second"), [("student", "teacher"), ("online", "target"),
                                               ("module.encoder_q", "module.encoder_k"),
                                               ("online_encoder", "target_encoder"),
                                               ("net.base_encoder", "net.momentum_encoder")])
def test_networks_of_equal_rights_must_be_chosen_from(first: str, second: str) -> None:
    content = {
        **under(f"{first}.", PLAIN),
        **under(f"{second}.", AVERAGED), f"{first.rpartition('.')[0]}.predictor.weight".lstrip("."):
            torch.ones(1)
    }
    with pytest.raises(
            SourceError, match="several networks of the same layers.*wrapper="
            rf".*{second}: 3 tensors"):
        read(content)
    for name, state in ((first, PLAIN), (second, AVERAGED)):
        found = read(content, wrapper=name)
        assert list(found) == list(PLAIN)
        assert torch.equal(torch.tensor(found["2.weight"].read()), state["2.weight"])


def test_only_averages_are_taken_and_said_so() -> None:
    source = read({**COUNTS, **under("ema_model.", AVERAGED)})
    assert (source.wrapper, list(source)) == ("ema_model", list(PLAIN))
    assert "moving averages" in source.notes[0]
    source = read({"n_averaged": torch.tensor(4), **under("module.", AVERAGED)})
    assert (source.prefix, list(source)) == ("module.", list(PLAIN))
    assert any("'n_averaged'" in note or "n_averaged" in note for note in source.notes)


@pytest.mark.parametrize("names", [
    ["a.ema_gate.weight", "a.gate.weight", "b.weight", "c.weight", "d.weight", "e.weight"],
    ["attn.to_q.weight", "attn.to_k.weight", "out.weight"],
    ["source_encoder.0.weight", "target_encoder.0.weight"],
    ["left.conv.weight", "right.conv.weight"], ["step", "a.weight", "b.weight"],
    ["quantizer.ema_w", "quantizer.w"]])  # yapf: disable
def test_what_only_looks_like_a_copy_is_part_of_its_network(names: list[str]) -> None:
    source = read({name: torch.ones(2) if name != "step" else torch.tensor(1) for name in names})
    assert list(source) == names
    assert source.wrapper is None


def test_any_beginning_of_names_can_be_chosen_and_a_wrong_one_is_refused() -> None:
    content = {**under("generator.", PLAIN), "discriminator.weight": torch.ones(1)}
    assert list(read(content, wrapper="generator")) == list(PLAIN)
    assert list(read({"state_dict": content}, wrapper="state_dict/generator.")) == list(PLAIN)
    with pytest.raises(SourceError, match="no weights under wrapper 'gen'"):
        read(content, wrapper="gen")


def test_a_copy_of_other_shapes_is_no_copy() -> None:
    other = {name: torch.ones(7, 7) for name in PLAIN}
    source = read({**PLAIN, **under("ema_model.", other)})
    assert len(source) == 6
