"""A conversion card is checked again from its files: what was not touched passes, what was touched
is refused, also by somebody who signs the card anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.cli.main import main
from keras_torch_convert.errors import ConversionError
from keras_torch_convert.release.recheck import recheck
from keras_torch_convert.report.card import card_text, file_facts, read_card

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "zoo_repo"
CARD = "tiny.card.md"


def models(*_: Any) -> tuple[Any, Any]:
    """Both models of the example, the Keras model with the weights of its file."""
    sys.path.insert(0, str(EXAMPLE))
    from zoo.tiny import tiny_keras, tiny_torch  # type: ignore[import-not-found]

    sys.path.remove(str(EXAMPLE))
    keras_model = tiny_keras()
    if _:
        keras_model.load_weights(str(_[-1]))
    return tiny_torch(), keras_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a card and its files."""
    folder = tmp_path_factory.mktemp("card")
    torch_model, keras_model = models()
    shutil.copy(EXAMPLE / "weights" / "tiny.pth", folder)
    report = ktc.convert(torch_model, keras_model, save=folder / "tiny.h5")
    compared = ktc.verify(torch_model, keras_model, plan=report.plan)
    report.card(folder / CARD, checkpoint=folder / "tiny.pth", torch_model="zoo.tiny:tiny_torch",
                keras_model="zoo.tiny:tiny_keras", comparison=compared, license="mit",
                base_model="example/tiny", revision="4f2c")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "card"))


def is_refused(folder: Path) -> bool:
    """Return whether the card does not pass."""
    try:
        return any(finding.problem for finding in recheck(folder / CARD, models))
    except ConversionError:
        return True


def test_a_card_that_nobody_touched_passes(folder: Path) -> None:
    findings = recheck(folder / CARD, models)

    assert [finding for finding in findings if finding.problem] == []
    assert len(findings) > 20


def test_the_card_reads_as_on_the_hub(made: Path) -> None:
    text = (made / CARD).read_text()
    yaml = pytest.importorskip("yaml")

    front = yaml.safe_load(text.split("---\n")[1])

    assert (front["license"], front["base_model"]) == ("mit", "example/tiny")
    assert front["library_name"] == "keras"
    assert front["conversion"]["comparison"]["verdict"] == "equal"
    for sentence in ("**equal**", "noise floor", "sensitivity",
                     "swaps that would go unnoticed: none", "momentum of 'stem_bn' is 0.99",
                     "revision is `4f2c`"):
        assert sentence in text


# Text of the card, and what it is replaced by, nothing signed anew.
EDITS = [
    ('license: "mit"', 'license: "apache-2.0"'), ("example/tiny", "example/huge"),
    ('library_name: "keras"', 'library_name: "tf-keras"'), ('"4f2c"', '"4f2d"'),
    ("card: 1", "card: 2"),
    ("source: \"module", "source: \"Module"), ("Keras on torch", "Keras on jax"),
    ('"verdict": "equal"', '"verdict": "close"'), ("tolerance\": 0.001", "tolerance\": 0.1"),
    ('"python": "3', '"python": "4'), ("**equal**", "**close**"), ("noise floor", "noise"),
    ("unnoticed: none", "unnoticed: many"), ("momentum of", "Momentum of"),
    ("## Files", "## File"), ("# tiny.h5", "# huge.h5"), ("9 variables", "90 variables"),
    ("recheck CARD.md", "recheck OTHER.md"), ("---\n\n#", "---\n\nIt is good.\n\n#"),
    ("\n---\n", "\n  more: 1\n---\n"), ("\n---\n", "\nmore: 1\n---\n"), ("conversion:\n", ""),
]  # yapf: disable


@pytest.mark.parametrize(("old", "new"), EDITS)
def test_an_edited_card_is_refused(old: str, new: str, folder: Path) -> None:
    text = (folder / CARD).read_text()
    assert old in text
    (folder / CARD).write_text(text.replace(old, new, 1))

    with pytest.raises(ConversionError, match=r"was changed|is not a conversion card|of version 2"):
        recheck(folder / CARD, models)


def signed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the facts of the card and sign it anew."""
    about, facts = read_card(folder / CARD)
    change(facts)
    (folder / CARD).write_text(card_text(about, facts))


# A part of the facts, and its new value: the card is signed anew.
CLAIMS: list[tuple[str, str, Any]] = [
    ("comparison", "verdict", "close"), ("comparison", "max_abs_diff", 1e-12),
    ("comparison", "relative_diff", 1e-12), ("comparison", "rounding", 1e-3),
    ("comparison", "noise", 0.5), ("comparison", "sensitivity", 1e-9),
    ("comparison", "instability", None), ("comparison", "randomized", "different"),
    ("comparison", "unnoticed_swaps", [["stem_conv", "block_conv"]]),
    ("comparison", "rescale_mode", "'torch'"), ("comparison", "softmax_only_in", "Keras"),
    ("comparison", "top5_agree", False), ("comparison", "inputs", ["one"]),
    ("comparison", "cause", "stem_bn: epsilon"), ("comparison", "settings", []),
    ("comparison", "notes", ["all is well"]), ("weights", "set", [8, 1501]),
    ("weights", "kept", [1, 1]), ("output", "md5", "0" * 32), ("output", "sha256", "0" * 64),
    ("output", "size", 1), ("output", "file", "huge.h5"), ("output", "file", "/tmp/tiny.h5"),
    ("plan", "sha256", "0" * 64), ("plan", "file", "tiny.pth"),
    ("checkpoint", "sha256", "0" * 64), ("checkpoint", "size", 2),
    ("checkpoint", "file", "..\\tiny.pth"),
]  # yapf: disable


@pytest.mark.parametrize(("part", "key", "value"), CLAIMS)
def test_a_false_claim_is_refused_although_it_is_signed(part: str, key: str, value: Any,
                                                        folder: Path) -> None:
    signed(folder, lambda facts: facts[part].update({key: value}))
    assert is_refused(folder)


@pytest.mark.parametrize("key", ["comparison", "checkpoint", "plan", "weights", "revision"])
def test_a_missing_fact_is_refused(key: str, folder: Path) -> None:
    about, facts = read_card(folder / CARD)
    text = (folder / CARD).read_text()
    (folder / CARD).write_text(re.sub(rf"  {key}: .*\n", "", text))
    assert is_refused(folder)
    del facts[key]
    with pytest.raises(KeyError):
        card_text(about, facts)


@pytest.mark.parametrize("name", ["tiny.pth", "tiny.plan.json", "tiny.h5"])
@pytest.mark.parametrize("how", ["byte", "cut", "longer", "gone"])
def test_a_file_that_changed_is_refused(name: str, how: str, folder: Path) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes({"byte": data, "cut": data[:-9],
                                 "longer": data + b" "}.get(how, b""))
    if how == "gone":
        (folder / name).unlink()

    findings = recheck(folder / CARD, models)

    assert [finding.what for finding in findings if finding.problem
           ] == [one.what for one in findings if one.what.endswith(name)]


def change_result(folder: Path) -> str:
    with h5py.File(folder / "tiny.h5", "a") as file:
        file["model_weights/head/tiny/head/bias"][0] += 1
    return "output"


def change_checkpoint(folder: Path) -> str:
    import torch

    state = torch.load(folder / "tiny.pth")
    state["6.bias"][0] += 1
    torch.save(state, folder / "tiny.pth")
    return "checkpoint"


def change_plan(folder: Path) -> str:
    # Another conversion of the same shapes: a norm's scale in the place of its offset.
    torch_model, keras_model = models()
    plan = ktc.align(torch_model, keras_model)
    places = {plan.targets[one.key].display_name: one for one in plan.assignments}
    scale, offset = places["stem_bn/gamma"], places["stem_bn/beta"]
    swapped = {
        scale: replace(scale, expression=offset.expression),
        offset: replace(offset, expression=scale.expression)
    }
    assignments = tuple(swapped.get(one, one) for one in plan.assignments)
    replace(plan, assignments=assignments).save(folder / "tiny.plan.json")
    return "plan"


@pytest.mark.parametrize("change", [change_result, change_checkpoint, change_plan])
def test_files_that_do_not_belong_together_are_refused_although_they_are_signed(
        change: Callable[[Path], str], folder: Path) -> None:
    kind = change(folder)
    digests = ("md5", "sha256") if kind == "output" else ("sha256",)
    signed(
        folder, lambda facts: facts.update(
            {kind: file_facts(folder / facts[kind]["file"], folder, digests)}))

    problems = [finding for finding in recheck(folder / CARD, models) if finding.problem]

    assert any("are not what the plan makes of the source" in one.problem for one in problems)


def test_the_command_runs_no_code_of_a_card_unasked(folder: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    card = str(folder / CARD)

    assert main(["recheck", card]) == 2
    assert "names the code zoo.tiny:tiny_torch: --run-code imports it" in capsys.readouterr().err
    assert main(["recheck", card, "--files-only"]) == 0
    assert "the models were not run, as you said" in capsys.readouterr().out
    assert main(["recheck", card, "--run-code", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    (folder / "tiny.h5").write_bytes(b"")
    assert main(["recheck", card, "--files-only"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_convert_writes_a_card_that_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.chdir(tmp_path)
    names = ("zoo.tiny:tiny_torch", "zoo.tiny:tiny_keras", "--kwargs", "{}", "--kwargs",
             '{"epsilon": 1.001e-5}')

    assert main(["convert", *names, "--card", "tiny.card.md"]) == 2
    assert main(["convert", *names, "-o", "tiny.h5", "--card", "tiny.card.md"]) == 0
    assert "epsilon" in (tmp_path / "tiny.card.md").read_text()
    assert main(["recheck", "tiny.card.md", "--run-code"]) == 0


def test_a_card_of_a_checkpoint_alone_says_that_nothing_was_compared(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLE / "weights" / "tiny.pth", tmp_path)

    assert main(["convert", "tiny.pth", "zoo.tiny:tiny_keras", "--accept-unproven", "-o",
                 "tiny.weights.h5", "--card", CARD]) == 0  # yapf: disable
    assert main(["recheck", CARD]) == 0
    assert "outputs: the card says that they were not compared" in capsys.readouterr().out


def test_a_card_without_a_file_is_refused(made: Path, tmp_path: Path) -> None:
    torch_model, keras_model = models()
    report = ktc.convert(torch_model, keras_model)
    with pytest.raises(ktc.SaveError, match="convert with save="):
        report.card(tmp_path / CARD)


def test_what_only_looks_like_a_card_is_refused_at_once(folder: Path) -> None:
    text = (folder / CARD).read_text()
    deep = text.replace("  revision: ", f"  revision: {'[' * 100_000}")
    assert deep != text
    for number, make in enumerate([os.mkfifo, lambda path: path.symlink_to("/dev/zero"),
                                   lambda path: path.write_text(deep)]):  # yapf: disable
        path = folder / f"{number}.card.md"
        make(path)
        with pytest.raises(ConversionError,
                           match=f"{number}.card.md.* (regular file|is not a con)"):
            recheck(path, None)
