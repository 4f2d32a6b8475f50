"""The dictionaries of an installed zoo, edited in copies of its own source files."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from keras_torch_convert.release.pretrained_dict import Entry, edited

FOLDER = Path(importlib.util.find_spec("keras_cv_attention_models").origin).parent
FILES = sorted(path for path in FOLDER.rglob("*.py")
               if re.search(r"^PRETRAINED_DICT = \{", path.read_text(), re.MULTILINE))
NEW = "f" * 32


def dictionary(text):
    """The value of PRETRAINED_DICT in a source text."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "PRETRAINED_DICT":
            return ast.literal_eval(node.value)
    raise AssertionError("no PRETRAINED_DICT")


def test_the_zoo_has_dictionaries():
    assert len(FILES) > 40


@pytest.mark.parametrize("original", FILES, ids=lambda path: path.stem)
def test_entries_are_replaced_and_added_and_nothing_else_changes(original, tmp_path):
    path = tmp_path / original.name
    path.write_bytes(original.read_bytes())
    before = dictionary(path.read_text())
    model, tags = next(iter(before.items()))
    tag, value = next(iter(tags.items()))
    resolution = next(iter(value)) if isinstance(value, dict) else None
    entries = ((model, tag, resolution), (model, "new_tag", 1024), ("new_model", "imagenet", None))
    for position in entries:
        edit = edited(path, Entry(*position, NEW))
        kept = [
            line for line in edit.diff().splitlines()
            if line[0] in "+-" and not line.startswith(("+++", "---"))
        ]
        edit.write()
        assert len(kept) <= 3

    after = dictionary(path.read_text())
    assert after.pop("new_model") == {"imagenet": NEW}
    assert after[model].pop("new_tag") == {1024: NEW}
    expected = {**value, resolution: NEW} if resolution is not None else NEW
    assert after == {**before, model: {**tags, tag: expected}}
    lines = len(original.read_text().splitlines())
    assert lines <= len(path.read_text().splitlines()) <= lines + 2
