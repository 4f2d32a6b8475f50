"""The report: one status for every weight, the verdict in its last line, the same as text, HTML and
JSON.
"""

import json
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest

from keras_torch_convert.comparison.divergence import FirstDivergence
from keras_torch_convert.comparison.verdict import Comparison
from keras_torch_convert.plan.ledger import LedgerEntry
from keras_torch_convert.report.page import page
from keras_torch_convert.report.report import Report

USED = LedgerEntry("source", "conv.weight", (8, 3, 3, 3), "float32", 216, "used", "convolution",
                   "stem_conv/kernel")
SKIPPED = LedgerEntry("source", "bn.num_batches_tracked", (), "int64", 1, "skipped", "skip_weights")
LEFT_OVER = LedgerEntry("source", "aux.weight", (4, 2), "float32", 8, "left over")
SET = LedgerEntry("target", "stem_conv/kernel", (3, 3, 3, 8), "float32", 216, "set", "convolution",
                  "conv.weight")
KEPT = LedgerEntry("target", "head/bias", (5,), "float32", 5, "kept", "keep_layers")
UNSET = LedgerEntry("target", "head/kernel", (2, 5), "float32", 10, "unset")

TOP = ((285, "Egyptian_cat", 10.4701), (282, "tiger_cat", 8.4424))
EQUAL = Comparison("equal", 4e-6, 4.5e-7, inputs=("a cat",), rescale_mode="'lite'", torch_top=TOP,
                   keras_top=TOP)
DIFFERENT = replace(EQUAL, verdict="different", max_abs_diff=3.0, relative_diff=0.25)
CLOSE = replace(EQUAL, verdict="close", max_abs_diff=4e-3, relative_diff=4.5e-4)
UNDECIDED = replace(EQUAL, verdict="undecided", reason="the outputs prove nothing")


def report(*entries, comparison=None, **about):
    return Report("module Net", "net (keras, torch)", ledger=entries, comparison=comparison,
                  **about)


@pytest.mark.parametrize(
    ("entries", "comparison", "ok"), [((USED, SKIPPED, SET, KEPT), EQUAL, True),
                                      ((USED, SKIPPED, SET, KEPT), None, True),
                                      ((USED, SKIPPED, SET, KEPT), UNDECIDED, True),
                                      ((USED, SKIPPED, SET, KEPT), CLOSE, True),
                                      ((USED, SKIPPED, SET, KEPT), DIFFERENT, False),
                                      ((USED, LEFT_OVER, SET), EQUAL, False),
                                      ((USED, SET, UNSET), EQUAL, False), ((), None, False)], ids=[
                                          "equal", "not run", "undecided", "close", "different",
                                          "tensor left over", "variable unset", "nothing converted"
                                      ])
def test_ok_means_a_complete_ledger_and_no_known_difference(entries, comparison, ok):
    assert report(*entries, comparison=comparison).ok is ok


def test_totals_count_weights_and_parameters_by_fate():
    totals = {
        status: (count, parameters)
        for status, count, parameters, _ in report(USED, SKIPPED, SET, KEPT).totals()
    }

    assert totals == {
        "used": (1, 216), "skipped": (1, 1), "left over": (0, 0), "set": (1, 216), "kept": (1, 5),
        "unset": (0, 0)
    }


@pytest.mark.parametrize(
    ("made", "last_line"),
    [(report(USED, SET, comparison=EQUAL),
      ("outputs are equal: largest difference 4.00e-06, 4.50e-07 of torch's largest output "
       "(rounding explains 0.0001)")),
     (report(USED, SET, comparison=DIFFERENT),
      "OUTPUTS DIFFER: largest difference 3.00e+00, 2.50e-01 of torch's largest output "
      "(rounding explains 0.0001, accepted is 0.001); "
      "look at the alignment and the notes"),
     (report(USED, SET, KEPT, comparison=DIFFERENT),
      "OUTPUTS DIFFER: largest difference 3.00e+00, 2.50e-01 of torch's largest output "
      "(rounding explains 0.0001, accepted is 0.001); "
      "look at the alignment and the notes; own values were kept, as you said, in "
      "head/bias, which may be why"),
     (report(USED, SET), "unproven: the outputs of the two models were not compared"),
     (report(), "nothing was converted"),
     (report(USED, SET, comparison=UNDECIDED), "undecided: the outputs prove nothing"),
     (report(USED, SET, comparison=CLOSE),
      "close, not equal: largest difference 4.00e-03, 4.50e-04 of torch's largest output (rounding "
      "explains 0.0001, accepted is 0.001); cause: unknown"),
     (report(USED, SET, comparison=Comparison("different")),
      "OUTPUTS DIFFER: they have no common shape; look at the alignment and the notes")],
    ids=["equal", "different", "kept", "unproven", "nothing", "undecided", "close", "shapes"])
def test_last_printed_line_is_the_verdict(made, last_line):
    assert str(made).splitlines()[-1] == last_line


@pytest.mark.parametrize(
    ("made", "first_line"),
    [(report(USED, SET, comparison=EQUAL), "equal: module Net -> net (keras, torch)"),
     (report(USED, SET, comparison=DIFFERENT), "different: module Net -> net (keras, torch)"),
     (report(USED, SET, comparison=UNDECIDED), "undecided: module Net -> net (keras, torch)"),
     (report(USED, SET), "not compared: module Net -> net (keras, torch)"),
     (report(), "not converted: module Net -> net (keras, torch)"),
     (report(USED, SET, comparison=CLOSE), report(USED, SET, comparison=CLOSE).summary())],
    ids=["equal", "different", "undecided", "not compared", "not converted", "close"])
def test_every_screen_says_the_verdict_first(made, first_line):
    assert str(made).splitlines()[0] == first_line
    html = made._repr_html_()
    assert html.index(escape(made.summary())) < html.index(escape(made.headline()))
    assert f"<title>{escape(made.headline())}</title>" in page(made)


def test_the_cause_of_different_outputs_stands_in_the_verdict():
    divergence = FirstDivergence("bn", kind="epsilon", cause="epsilon is 0.1 in Keras")
    made = report(USED, SET, comparison=replace(DIFFERENT, first_divergence=divergence))

    assert made.summary().endswith("; cause: bn: epsilon is 0.1 in Keras")


def test_printed_report_tells_everything_in_one_screen():
    made = report(USED, SKIPPED, SET, comparison=EQUAL, alignment="by dictionaries",
                  alignment_arguments={"tail_align_dict": {"gamma": -1}},
                  callback_hits={"'predictions'": ("predictions",), "Dense":
                      ()}, path=Path("net.h5"), md5="0123", seconds={"read": 0.5, "transfer": 1.0},
                  warnings=("key 'bn9' matches no layer",), notes=("the file was sorted by name",))

    assert str(made).splitlines() == [
        "equal: module Net -> net (keras, torch)",
        "  used             1 tensors               216 parameters",
        "  skipped          1 tensors                 1 parameters   skip_weights",
        "  left over        0 tensors                 0 parameters",
        "  set              1 variables             216 parameters",
        "  unset            0 variables               0 parameters", "alignment    by dictionaries",
        "             tail_align_dict={'gamma': -1}", "callback     'predictions' -> predictions",
        "callback     Dense -> no layer", "file         net.h5", "md5          0123",
        "seconds      read 0.50, transfer 1.00; in all 1.50",
        "input        a cat; rescaled by 'lite'",
        "  torch                                         Keras",
        ("    285  Egyptian_cat                 10.4701     285  Egyptian_cat                 "
         "10.4701"),
        ("    282  tiger_cat                     8.4424     282  tiger_cat                     "
         "8.4424"), "note: the file was sorted by name", "WARNING: key 'bn9' matches no layer",
        "outputs are equal: largest difference 4.00e-06, 4.50e-07 of torch's largest output "
        "(rounding explains 0.0001)"
    ]


def test_interactive_session_shows_the_same_summary():
    made = report(USED, SET, comparison=EQUAL)

    assert repr(made) == str(made)


def test_ledger_table_has_a_line_for_every_weight():
    lines = report(USED, SKIPPED, SET).ledger_table().splitlines()

    assert len(lines) == 1 + 3
    assert lines[1].split() == [
        *("source", "conv.weight", "(8,3,3,3)", "float32", "216", "used", "convolution",
          "stem_conv/kernel")
    ]


def test_json_holds_the_whole_report_and_is_written_where_asked(tmp_path):
    made = report(
        USED, SET, UNSET, comparison=EQUAL, path=Path("net.h5"),
        alignment_arguments={"specific_match_func": sorted, "full_name_align_dict": {"a": -1}})

    text = made.to_json(tmp_path / "report.json")
    data = json.loads(text)

    assert json.loads((tmp_path / "report.json").read_text()) == data
    assert list(data) == sorted(data)
    assert (data["ok"], data["equal"], data["complete"]) == (False, True, False)
    assert data["verdict"] == data["comparison"]["verdict"] == "equal"
    assert data["summary"].startswith("outputs are equal")
    assert data["keras_top"][0] == [285, "Egyptian_cat", 10.4701]
    assert [entry["status"] for entry in data["ledger"]] == ["used", "set", "unset"]
    assert data["ledger"][0]["shape"] == [8, 3, 3, 3]
    assert data["path"] == "net.h5"
    assert data["alignment_arguments"] == {
        "specific_match_func": "builtins.sorted", "full_name_align_dict": {"a": -1}
    }


def test_json_writes_an_infinite_difference_as_text():
    made = report(USED, SET, comparison=Comparison("different", 1.0, float("inf")))

    assert json.loads(made.to_json())["relative_diff"] == "inf"


def test_notebook_shows_a_summary_without_scripts_and_folds_the_page():
    made = report(USED, SET, comparison=EQUAL, warnings=("<odd> & dangerous",))

    html = made._repr_html_()

    assert "outputs are equal" in html
    assert "Egyptian_cat" in html
    assert "&lt;odd&gt; &amp; dangerous" in html
    assert html.count("<details") == html.count("</details>") == html.count("<iframe") == 1
    assert html.count("<table") == html.count("</table>")
    assert "<script" not in html
    assert "<details open" not in html


def test_notebook_stays_small_for_a_huge_ledger():
    made = Report(ledger=tuple(
        replace(USED, name=f"layer{number}.weight") for number in range(20000)))

    html = made._repr_html_()

    assert len(html) < 10000
    assert "report.to_html(path)" in html
