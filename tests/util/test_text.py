"""Wording that messages share."""

from __future__ import annotations

import doctest

import pytest

from keras_torch_convert.util import text
from keras_torch_convert.util.text import (bullets, did_you_mean, join_names, percent, plural,
                                           shorten, shorten_middle)


def test_the_examples_in_the_docstrings_hold() -> None:
    results = doctest.testmod(text)
    assert results.attempted >= 2
    assert results.failed == 0


@pytest.mark.parametrize(("names", "options", "expected"),
                         [(["a", "b"], {}, "a, b"),
                          (["a", "b", "c"], {"most": 2}, "a, b and 1 more"),
                          (["a", "b", "c"], {"most": 3}, "a, b, c"),
                          (map(str, range(30)), {"most": None}, ", ".join(map(str, range(30)))),
                          (["a", "b"], {"quoted": True}, "'a', 'b'"),
                          ([(2, 3), (4,)], {}, "(2, 3), (4,)"),
                          (["a", "b", "c"], {"most": 2, "separator": "; "}, "a; b and 1 more"),
                          ([], {}, "none"), ([], {"empty": ""}, ""),])
def test_names_are_joined_and_the_rest_counted(names, options, expected) -> None:
    assert join_names(names, **options) == expected


def test_bullets_stand_one_below_the_other_and_the_rest_is_counted() -> None:
    assert bullets(["a", "b"]) == "\n  - a\n  - b"
    assert bullets("abc", 2, ", surer than these") == ("\n  - a\n  - b\n  and 1 more, surer than "
                                                       "these")
    assert bullets([]) == ""


def test_a_count_has_its_noun() -> None:
    assert [plural(count, "layer") for count in range(3)] == ["0 layers", "1 layer", "2 layers"]
    assert plural(2, "entry", "entries") == "2 entries"
    assert plural(1, "entry", "entries") == "1 entry"


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [("stem_cov", ["head", "stem_bn", "stem_conv"], "; did you mean 'stem_conv' or 'stem_bn'?"),
     ("hea", ["head", "head"], "; did you mean 'head'?"), ("zzz", ["head"], ""), ("head", [], ""),
     ("", ["head"], ""),])
def test_names_that_exist_are_suggested_the_most_alike_first(name, known, expected) -> None:
    assert did_you_mean(name, known) == expected


def test_at_most_three_names_are_suggested() -> None:
    assert did_you_mean("block", [f"block{number}" for number in range(9)]).count("'block") == 3


def test_long_text_loses_its_end_or_its_middle() -> None:
    assert shorten("abcdefgh", 8) == "abcdefgh"
    assert shorten("abcdefghi", 8) == "abcde..."
    assert shorten_middle("abcdefgh", 8) == "abcdefgh"
    assert shorten_middle("abcdefghi", 8) == "abc...hi"
    assert len(shorten_middle("x" * 50, 11)) == 11


def test_a_fraction_in_percent() -> None:
    assert percent(0.97) == "97 %"
    assert percent(0.5) == "50 %"


def test_a_name_without_end_is_cut_in_its_middle() -> None:
    joined = join_names(["layer." + "a" * 5000 + ".weight", "b"])
    assert len(joined) == 303
    assert joined.startswith("layer.aaa")
    assert joined.endswith("aaa.weight, b")
