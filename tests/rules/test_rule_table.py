"""The table of rules: complete, each with its source, and the page in docs/ made from it."""

import importlib.util
from pathlib import Path

from keras_torch_convert.rules.registry import ASSIGNERS, RULES
from keras_torch_convert.rules.rule_table import markdown, rule_table

DOCS = Path(__file__).resolve().parents[2] / "docs"


def rendered_page():
    specification = importlib.util.spec_from_file_location("render_rules", DOCS / "render_rules.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.page()


def test_the_page_in_the_documentation_is_current():
    assert (DOCS / "rules.md").read_text(
        encoding="utf-8") == rendered_page(), "run `python docs/render_rules.py`"


def test_every_rule_has_a_name_of_its_own_and_says_where_its_convention_is_written():
    rows = rule_table()

    assert len({row.name for row in rows}) == len(rows)
    assert all(
        "torch" in row.source or "parameter" in row.source or "Keras" in row.source for row in rows)


def test_every_kind_that_something_serves_is_in_the_table():
    listed = {kind for row in rule_table() for kind in row.class_names}

    assert {kind for rule in RULES for kind in rule.class_names} | set(ASSIGNERS) <= listed


def test_no_kind_has_two_rules():
    kinds = [kind for rule in RULES for kind in rule.class_names]

    assert len(set(kinds)) == len(kinds)


def test_a_layout_is_shown_as_both_sides_have_it():
    assert "`kernel: out in height width → height width in out`" in markdown()
    assert ("`depthwise_kernel: (channel multiplier) 1 height width → height width channel "
            "multiplier`") in markdown()


def test_the_table_is_one_line_a_rule_without_characters_that_would_break_it():
    lines = markdown().splitlines()

    assert len(lines) == 2 + len(rule_table())
    assert {line.replace(r"\|", "").count("|") for line in lines} == {6}
