"""One entry of a zoo's dictionary set in place: what is expected, to the byte, and refusals that
leave the file alone.
"""

import ast
from pathlib import Path

import pytest

from keras_torch_convert.errors import DictionaryError
from keras_torch_convert.release.pretrained_dict import Entry, edited

# The forms that occur in zoos: one md5, md5 by resolution, md5 of parts, on one line and over
# several.
ZOO = '''\
"""A zoo."""  # with a comment: PRETRAINED_DICT = {}
import os

PRETRAINED_DICT = {
    "tiny": {"imagenet": "old1"},
    "small": {
        "imagenet": {224: "old2", 384: "old3"},
        # larger, without a trailing comma
        "imagenet21k": "old4"
    },
    "große": {"imagenet": ["old5", "old6"]},  # in parts
    "empty": {},
}


def build():
    return PRETRAINED_DICT
'''
NEW = "f" * 32


@pytest.fixture
def path(tmp_path):
    (tmp_path / "zoo.py").write_text(ZOO, encoding="utf-8")
    return tmp_path / "zoo.py"


def changed_lines(edit):
    """Lines removed and added."""
    lines = edit.diff().splitlines()[2:]
    return [line[1:] for line in lines if line[0] == "-"
           ], [line[1:] for line in lines if line[0] == "+"]


TINY_LINE = '    "tiny": {"imagenet": "old1"},'
SMALL_LINE = '        "imagenet": {224: "old2", 384: "old3"},'


@pytest.mark.parametrize(("model", "tag", "resolution", "md5", "removed", "added"), [
    pytest.param("tiny", "imagenet", None, NEW, TINY_LINE, f'    "tiny": {{"imagenet": "{NEW}"}},',
                 id="md5 replaced"),
    pytest.param("tiny", "noisy", None, NEW, TINY_LINE,
                 f'    "tiny": {{"imagenet": "old1", "noisy": "{NEW}"}},', id="tag on the line"),
    pytest.param("small", "imagenet", 384, NEW, SMALL_LINE,
                 f'        "imagenet": {{224: "old2", 384: "{NEW}"}},', id="resolution replaced"),
    pytest.param("small", "imagenet", 512, NEW, SMALL_LINE,
                 f'        "imagenet": {{224: "old2", 384: "old3", 512: "{NEW}"}},',
                 id="resolution added"),
    pytest.param("small", "noisy", 224, NEW, '        "imagenet21k": "old4"',
                 f'        "imagenet21k": "old4",\n        "noisy": {{224: "{NEW}"}},',
                 id="tag on its own line"),
    pytest.param("empty", "imagenet", 224, NEW, '    "empty": {},',
                 f'    "empty": {{"imagenet": {{224: "{NEW}"}}}},', id="first tag"),
    pytest.param("new", "imagenet", None, [NEW, "e" * 32], "",
                 f'    "new": {{"imagenet": ["{NEW}", "{"e" * 32}"]}},', id="model in parts"),
    pytest.param("große", "imagenet", None, NEW,
                 '    "große": {"imagenet": ["old5", "old6"]},  # in parts',
                 f'    "große": {{"imagenet": "{NEW}"}},  # in parts', id="umlaut"),
])
def test_only_the_entry_changes(model, tag, resolution, md5, removed, added, path):
    edit = edited(path, Entry(model, tag, resolution, md5))

    assert changed_lines(edit) == (removed.splitlines(), added.splitlines())
    edit.write()
    assert path.read_text(encoding="utf-8") == edit.after
    assert [entry.name for entry in path.parent.iterdir()] == ["zoo.py"]


# D stands for the dictionary, NEW for the entry's md5.
@pytest.mark.parametrize(("before", "after"), [
    pytest.param("D = {}", 'D = {"net": {"imagenet": "NEW"}}', id="empty"),
    pytest.param("D = {'a': {}}", "D = {'a': {}, 'net': {'imagenet': 'NEW'}}", id="single quotes"),
    pytest.param("D = {'a': {},}", "D = {'a': {}, 'net': {'imagenet': 'NEW'},}",
                 id="comma on the line"),
    pytest.param("D: dict = {\r\n\t'a': {}, # b, c\r\n}\r\n",
                 "D: dict = {\r\n\t'a': {}, # b, c\r\n\t'net': {'imagenet': 'NEW'},\r\n}\r\n",
                 id="windows lines and tabs"),
    pytest.param("D = {\n  'a': {}  # b, c\n}",
                 "D = {\n  'a': {},  # b, c\n  'net': {'imagenet': 'NEW'},\n}", id="comment"),
    pytest.param("D = {\n  'a': {},\n  'b': {}}\n",
                 "D = {\n  'a': {},\n  'b': {},\n  'net': {'imagenet': 'NEW'}}\n",
                 id="brace on the line"),
    pytest.param("D = {\n  'a': {},}\n", "D = {\n  'a': {},\n  'net': {'imagenet': 'NEW'}}\n",
                 id="comma and brace"),
    pytest.param("\ufeffx = 1\nD = {'net': {'imagenet': 'old'}}",
                 "\ufeffx = 1\nD = {'net': {'imagenet': 'NEW'}}", id="byte order mark"),
    pytest.param("x = '\x0c\u2028'; D = {}",
                 "x = '\x0c\u2028'; D = {\"net\": {\"imagenet\": \"NEW\"}}", id="odd line ends"),
])
def test_layouts(before, after, tmp_path):
    before, after = (
        text.replace("D", "PRETRAINED_DICT", 1).replace("NEW", NEW) for text in (before, after))
    path = tmp_path / "zoo.py"
    path.write_bytes(before.encode())

    edited(path, Entry("net", "imagenet", None, NEW)).write()

    assert path.read_bytes().decode() == after


def test_other_encodings_are_kept(tmp_path):
    path = tmp_path / "zoo.py"
    path.write_bytes(
        "# coding: latin-1\nname = 'é'; PRETRAINED_DICT = {'é': {'x': 'y'}}\n".encode("latin-1"))

    edited(path, Entry("é", "x", None, NEW)).write()

    after = f"# coding: latin-1\nname = 'é'; PRETRAINED_DICT = {{'é': {{'x': '{NEW}'}}}}\n"
    assert path.read_bytes() == after.encode("latin-1")


def test_permissions_are_kept_and_an_entry_that_is_there_changes_nothing(path):
    path.chmod(0o640)
    edited(path, Entry("tiny", "imagenet", None, NEW)).write()
    assert path.stat().st_mode & 0o777 == 0o640

    assert not edited(path, Entry("tiny", "imagenet", None, NEW)).changed


@pytest.mark.parametrize(
    ("text", "model", "tag", "resolution", "message"),
    [(ZOO, "small", "imagenet", None, "has an md5 for each resolution (224, 384)"),
     (ZOO, "tiny", "imagenet", 224, "has one md5 for all resolutions"),
     (ZOO.replace("PRETRAINED_DICT = {\n", "PRETRAINED = {\n"), "a", "b", None,
      "no dictionaries called PRETRAINED_DICT at its top level; did you mean 'PRETRAINED'?"),
     ("PRETRAINED_DICT = {}\nPRETRAINED_DICT = {}\n", "a", "b", None,
      "2 dictionaries called PRETRAINED_DICT"),
     ("PRETRAINED_DICT = {**OTHER}\n", "a", "b", None, "not written out"),
     ("PRETRAINED_DICT = {'a': MD5}\n", "a", "b", None, "not written out"),
     ("PRETRAINED_DICT = {'a': {'b': '1'}, 'a': {'b': '2'}}\n", "a", "b", None,
      "PRETRAINED_DICT has a key twice"),
     ("PRETRAINED_DICT = {'a': '1'}\n", "a", "b", None, "must map model names to dictionaries"),
     ("PRETRAINED_DICT = {\n", "a", "b", None, "is not valid Python"),
     (ZOO, 'a"b', "c", None, "cannot be a key")])
def test_what_cannot_be_done_plainly_is_refused(text, model, tag, resolution, message, tmp_path):
    path = tmp_path / "zoo.py"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(DictionaryError) as caught:
        edited(path, Entry(model, tag, resolution, NEW))

    assert message in str(caught.value)
    assert path.read_text(encoding="utf-8") == text


def test_every_entry_of_the_example_can_be_replaced(path):
    assignment = next(node for node in ast.parse(ZOO).body if isinstance(node, ast.Assign))
    for model, tags in ast.literal_eval(assignment.value).items():
        for tag, value in tags.items():
            for resolution in value if isinstance(value, dict) else [None]:
                edit = edited(Path(path), Entry(model, tag, resolution, NEW))
                assert edit.after.count(NEW) == 1
