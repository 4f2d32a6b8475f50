"""What a notebook shows of a report: small, readable without scripts, with code that can be pasted.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

import keras_torch_convert as ktc
from keras_torch_convert.cli.demo_command import TAILS, two_branches_keras, two_branches_torch


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    """Two branches, which both frameworks list in different order."""
    return two_branches_torch(), two_branches_keras()


def code_in(report: ktc.Report) -> str:
    """The code behind the button."""
    found = re.search(r"<button [^>]*>copy</button><pre[^>]*>(.*?)</pre>", report._repr_html_(),
                      re.DOTALL)
    return "" if found is None else unescape(found[1])


def run(code: str, models: tuple[Any, Any]) -> Any:
    """What `report` is after the code has run, or its value."""
    torch_model, keras_model = models
    for weight in keras_model.weights:
        weight.assign(0 * weight)
    names = {"ktc": ktc, "torch_model": torch_model, "keras_model": keras_model}
    if "mapping" not in code:
        return eval(code, names)
    exec(code, names)
    return names["report"]


def test_an_alignment_that_was_found_pastes_as_code(models: Any) -> None:
    report = ktc.convert(*models)

    code = code_in(report)

    assert "'left_bn': 'left.1'" in code
    again = run(code, models)
    assert again.verdict == "equal"
    assert [one.expression for one in again.plan.assignments
           ] == [one.expression for one in report.plan.assignments]
    assert len(report._repr_html_()) < 100_000


def test_dictionaries_paste_as_code(models: Any) -> None:
    report = ktc.keras_reload_from_torch_model(*models, tail_align_dict=TAILS, verbose=0,
                                               tail_split_position=1, save_name="")

    code = code_in(report)

    assert code.startswith("ktc.keras_reload_from_torch_model(torch_model, keras_model,")
    assert run(code[:-1] + ", save_name='', verbose=0)", models).verdict == "equal"


def test_what_takes_more_than_pairs_of_layers_has_no_code(models: Any) -> None:
    kept = ktc.convert(*models, plan=ktc.align(*models).without("head"), strict=False, verify=False)
    assert code_in(kept) == ""
    called = ktc.keras_reload_from_torch_model(
        *models, tail_align_dict=TAILS, tail_split_position=1, verbose=0, save_name="",
        do_predict=False, additional_transfer={"head": lambda weights: weights})
    assert code_in(called) == ""
