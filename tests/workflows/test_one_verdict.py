"""One verdict: the same pair gets the same one from every entrance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keras_torch_convert as ktc
from keras_torch_convert.cli.main import main
from tests.helpers.small_models import same_values, values
from tests.helpers.verdict_pairs import (PAIRS, converted_keras_model, keras_model, plan_of,
                                         torch_model)

HELPERS = "tests.helpers.verdict_pairs"

# The verdict, and what is said of it in words.
Answer = tuple[str, str]
CommandLine = Callable[..., dict[str, Any]]


@pytest.fixture
def command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """A command on a pair, with its answer as data; the exit code must fit."""
    def run(command: str, name: str, keras: str, *options: str) -> dict[str, Any]:
        kwargs = json.dumps({"name": name})
        code = main([
            command, f"{HELPERS}:torch_model", f"{HELPERS}:{keras}", "--kwargs", kwargs, "--kwargs",
            kwargs, "--json", *options
        ])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert code == (1 if answer["verdict"] == "different" else 0)
        return answer

    return run


def by_classic_function(name: str, *_: Any) -> Answer:
    report = ktc.keras_reload_from_torch_model(torch_model(name), keras_model(name), save_name="",
                                               verbose=0, **PAIRS[name].classic)
    return report.verdict, report.summary()


def by_convert(name: str, *_: Any) -> Answer:
    report = ktc.convert(torch_model(name), keras_model(name), plan=plan_of(name),
                         if_different="keep")
    return report.verdict, report.summary()


def by_verify(name: str, *_: Any) -> Answer:
    comparison = ktc.verify(torch_model(name), converted_keras_model(name))
    return comparison.verdict, comparison.summary()


def by_convert_command(name: str, command_line: CommandLine, folder: Path) -> Answer:
    path = str(plan_of(name).save(folder / "pair.plan.json"))
    answer = command_line("convert", name, "keras_model", "--plan", path, "--keep-different")
    return answer["verdict"], answer["summary"]


def by_verify_command(name: str, command_line: CommandLine, _: Path) -> Answer:
    answer = command_line("verify", name, "converted_keras_model")
    return answer["verdict"], answer["summary"]


ENTRANCES = [by_classic_function, by_convert, by_verify, by_convert_command, by_verify_command]


@pytest.mark.parametrize("entrance", ENTRANCES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", PAIRS)
def test_every_entrance_gives_the_verdict_that_the_pair_deserves(name: str, entrance: Any,
                                                                 command_line: CommandLine,
                                                                 tmp_path: Path) -> None:
    verdict, summary = entrance(name, command_line, tmp_path)

    assert verdict == PAIRS[name].verdict, summary
    begin = {
        "equal": "outputs are equal", "close": "close, not equal", "different": "OUTPUTS DIFFER",
        "undecided": "undecided"
    }[verdict]
    assert summary.startswith(begin)
    if verdict == "close":
        assert PAIRS[name].cause in summary


def test_a_close_pair_is_kept_and_saved_and_says_so_first_and_last(tmp_path: Path) -> None:
    model = keras_model("epsilon")
    report = ktc.convert(torch_model("epsilon"), model, plan=plan_of("epsilon"),
                         save=tmp_path / "net.h5")

    assert (report.verdict, report.equal, report.ok) == ("close", False, True)
    assert (tmp_path / "net.h5").exists()
    assert same_values(values(model), values(converted_keras_model("epsilon")))
    lines = str(report).splitlines()
    assert lines[0] == lines[-1] == report.summary()
    assert "close, not equal" in lines[0]
    assert "norm: epsilon is 0.001 in Keras and 1e-05 in torch" in lines[0]
    assert str(report.comparison).splitlines()[0] == lines[0]
    assert report.to_dict()["verdict"] == report.to_dict()["comparison"]["verdict"] == "close"
    page = report.to_html(tmp_path / "report.html").read_text()
    assert '"verdict":"close"' in page
    assert "close, not equal: largest" in page


def test_who_accepts_equal_models_only_refuses_a_close_pair() -> None:
    model = keras_model("epsilon")
    before = values(model)

    with pytest.raises(ktc.NotEqualError, match="close, not equal") as caught:
        ktc.convert(torch_model("epsilon"), model, plan=plan_of("epsilon"), accept="equal")

    assert same_values(before, values(model))
    assert caught.value.comparison.verdict == "close"
    report = ktc.convert(torch_model("epsilon"), model, plan=plan_of("epsilon"), accept="equal",
                         if_different="keep")
    assert report.verdict == "close"
    with pytest.raises(ValueError, match="accept must be"):
        ktc.convert(torch_model("epsilon"), model, accept="maybe")  # type: ignore[arg-type]


def test_the_callers_tolerance_says_what_is_close() -> None:
    model = keras_model("epsilon")
    with pytest.raises(ktc.NotEqualError, match="OUTPUTS DIFFER"):
        ktc.convert(torch_model("epsilon"), model, plan=plan_of("epsilon"), tolerance=1e-4)
    wrong = converted_keras_model("wrong epsilon")
    assert ktc.verify(torch_model("twin"), wrong).verdict == "different"
    assert ktc.verify(torch_model("twin"), wrong, tolerance=0.1).verdict == "close"
    with pytest.raises(ValueError, match="tolerance must not be negative"):
        ktc.verify(torch_model("twin"), wrong, tolerance=-1)


@pytest.mark.parametrize("command", ["convert", "verify"])
def test_the_command_line_refuses_what_is_close_when_asked(
        command: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        command, f"{HELPERS}:torch_model", f"{HELPERS}:converted_keras_model", "--kwargs",
        '{"name": "epsilon"}', "--kwargs", '{"name": "epsilon"}'
    ]
    arguments += ["--by-order"] if command == "convert" else []

    assert main(arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    assert main([*arguments, "--accept", "equal"]) == 1
    assert shown[0].startswith("close, not equal")
    assert shown[0] == shown[-1]
