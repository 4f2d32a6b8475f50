"""A checkpoint at an address wherever a path is taken, and secrets of the address nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save

import keras_torch_convert as ktc
from keras_torch_convert.cli.main import main
from tests.helpers.mixers import keras_mixer, torch_mixer
from tests.helpers.range_server import serving
from tests.helpers.small_models import same_values, values

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


@dataclass
class Pair:
    module: Any
    model: Any
    plan: ktc.Plan
    address: str
    expected: Any


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    module, model = torch_mixer(2, 6), keras_mixer(2, 6)
    plan = ktc.convert(module, model).plan
    assert plan is not None
    content = save({name: one.contiguous() for name, one in module.state_dict().items()})
    with serving({"mixer.safetensors": content}) as server:
        host = server.url.removeprefix("http://")
        address = f"http://name:pass-word@{host}/mixer.safetensors?signature=s-e-cret"
        yield Pair(module, model, plan, address, values(model))


def no_secrets(*texts: object) -> None:
    assert "mixer.safetensors" in str(texts[0])
    for text in texts:
        assert "s-e-cret" not in str(text)
        assert "pass-word" not in str(text)


def test_a_model_is_filled_from_an_address(pair: Pair, tmp_path: Path) -> None:
    model = keras_mixer(2, 6)
    report = ktc.convert(pair.address, model, plan=pair.plan, save=tmp_path / "mixer.h5")
    assert same_values(pair.expected, values(model))
    assert report.plan is not None
    no_secrets(report, report.to_json(), report.plan.save(tmp_path / "mixer.json").read_text())
    fresh = keras_mixer(2, 6)
    ktc.load_weights(fresh, pair.address, pair.plan)
    assert same_values(pair.expected, values(fresh))


def test_an_address_is_aligned(pair: Pair) -> None:
    plan = ktc.align(pair.address, keras_mixer(2, 6), accept_unproven=True)
    assert len(plan.assignments) == len(pair.plan.assignments)
    report = ktc.convert(pair.address, keras_mixer(2, 6), module=pair.module)
    assert report.verdict == "equal"


def test_a_file_is_written_from_an_address(pair: Pair, tmp_path: Path) -> None:
    report = ktc.apply(pair.plan, pair.address, tmp_path / "mixer.weights.h5")
    model = keras_mixer(2, 6)
    model.load_weights(tmp_path / "mixer.weights.h5")
    assert same_values(pair.expected, values(model))
    no_secrets(report, report.to_json())
    with pytest.raises(ktc.SourceError) as error:
        ktc.apply(pair.plan, f"{pair.address[:30]}/none.mixer", tmp_path / "other.weights.h5")
    assert "pass-word" not in str(error.value)
    assert not (tmp_path / "other.weights.h5").exists()


def test_the_command_line_takes_an_address(pair: Pair, tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    plan, written = pair.plan.save(tmp_path / "mixer.plan.json"), tmp_path / "mixer.weights.h5"
    page = tmp_path / "mixer.html"
    assert main(["apply", str(plan), pair.address, str(written), "--html", str(page)]) == 0
    assert written.exists()
    assert main(["inspect", pair.address]) == 0
    shown = capsys.readouterr()
    no_secrets(shown.out + shown.err, page.read_text())
    assert main(["inspect", pair.address.replace("mixer.", "none-mixer.")]) != 0
    shown = capsys.readouterr()
    no_secrets(shown.out + shown.err)
