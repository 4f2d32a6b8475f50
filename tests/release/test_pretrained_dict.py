"""One entry of a zoo's dictionary set in place: what is expected, to the byte, and refusals that
leave the file alone.
"""

import ast
from pathlib import Path

import pytest

from keras_torch_convert.errors import DictionaryError
from keras_torch_convert.release.pretrained_dict import edited

# The forms that occur in zoos: one md5, md5 by resolution, md5 of parts, on one line and over
# several.
ZOO = '''\
"""A zoo."""  # with a comment: PRETRAINED_DICT = {}
import os

PRETRAINED_DICT = {
    "tiny": {"imagenet": "00000000000000000000000000000001"},
    "small": {
        "imagenet": {224: "00000000000000000000000000000002", 384: "00000000000000000000000000000003"},
        # larger, without a trailing comma
        "imagenet21k": "00000000000000000000000000000004"
    },
    "große": {"imagenet": ["00000000000000000000000000000005", "00000000000000000000000000000006"]},  # in parts
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


@pytest.mark.parametrize(
    ("model", "tag", "resolution", "md5", "removed", "added"),
    [
        ("tiny", "imagenet", None, NEW, ['    "tiny": {"imagenet": "00000000000000000000000000000001"},'], [f'    "tiny": {{"imagenet": "{NEW}"}},']),
        ("tiny", "noisy", None, NEW, [('    "tiny": {"imagenet": '
                                      '"00000000000000000000000000000001"},')],
         [f'    "tiny": {{"imagenet": "00000000000000000000000000000001", "noisy": "{NEW}"}},']),
        ("small", "imagenet", 384, NEW, [('        "imagenet": {224: "00000000000000000000000000000002", 384: '
                                         '"00000000000000000000000000000003"},')],
         [f'        "imagenet": {{224: "00000000000000000000000000000002", 384: "{NEW}"}},']),
        ("small", "imagenet", 512, NEW, [('        "imagenet": {224: "00000000000000000000000000000002", 384: '
                                         '"00000000000000000000000000000003"},')],
         [('        "imagenet": {224: "00000000000000000000000000000002", 384: '
          f'"00000000000000000000000000000003", 512: "{NEW}"}},')]),
        ("small", "noisy", 224, NEW, ['        "imagenet21k": "00000000000000000000000000000004"'],
         ['        "imagenet21k": "00000000000000000000000000000004",', f'        "noisy": {{224: "{NEW}"}},']),
        ("empty", "imagenet", 224, NEW, ['    "empty": {},'], [f'    "empty": {{"imagenet": {{224: "{NEW}"}}}},']),
        ("new", "imagenet", None, [NEW, "e" * 32], [], [f'    "new": {{"imagenet": ["{NEW}", "{"e" * 32}"]}},']),
        ("große", "imagenet", None, NEW, [('    "große": {"imagenet": ["00000000000000000000000000000005", '
                                          '"00000000000000000000000000000006"]},  # in parts')],
         [f'    "große": {{"imagenet": "{NEW}"}},  # in parts'])
    ],
    ids=["md5 replaced", "tag on the line", "resolution replaced", "resolution added", "tag on its own line", "first tag", "model in parts", "umlaut"]
)  # yapf: disable
def test_only_the_entry_changes(model, tag, resolution, md5, removed, added, path):
    edit = edited(path, model, tag, resolution, md5)

    assert changed_lines(edit) == (removed, added)
    edit.write()
    assert path.read_text(encoding="utf-8") == edit.after
    assert [entry.name for entry in path.parent.iterdir()] == ["zoo.py"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("PRETRAINED_DICT = {}", f'PRETRAINED_DICT = {{"net": {{"imagenet": "{NEW}"}}}}'),
        ("PRETRAINED_DICT = {'a': {}}", f"PRETRAINED_DICT = {{'a': {{}}, 'net': {{'imagenet': '{NEW}'}}}}"),
        ("PRETRAINED_DICT = {'a': {},}", f"PRETRAINED_DICT = {{'a': {{}}, 'net': {{'imagenet': '{NEW}'}},}}"),
        ("PRETRAINED_DICT: dict = {\r\n\t'a': {}, # b, c\r\n}\r\n", ("PRETRAINED_DICT: dict = {\r\n\t'a': {}, # b, c\r\n\t'net': {'imagenet': "
                                                                    f"'{NEW}'}},\r\n}}\r\n")),
        ("PRETRAINED_DICT = {\n  'a': {}  # b, c\n}", ("PRETRAINED_DICT = {\n  'a': {},  # b, c\n  'net': {'imagenet': "
                                                      f"'{NEW}'}},\n}}")),
        ("PRETRAINED_DICT = {\n  'a': {},\n  'b': {}}\n", ("PRETRAINED_DICT = {\n  'a': {},\n  'b': {},\n  'net': {'imagenet': "
                                                          f"'{NEW}'}}}}\n")),
        ("PRETRAINED_DICT = {\n  'a': {},}\n", f"PRETRAINED_DICT = {{\n  'a': {{}},\n  'net': {{'imagenet': '{NEW}'}}}}\n"),
        ("\ufeffx = 1\nPRETRAINED_DICT = {'net': {'imagenet': 'old'}}", f"\ufeffx = 1\nPRETRAINED_DICT = {{'net': {{'imagenet': '{NEW}'}}}}"),
        ("x = '\x0c\u2028'; PRETRAINED_DICT = {}", f"x = '\x0c\u2028'; PRETRAINED_DICT = {{'net': {{'imagenet': '{NEW}'}}}}".replace("'net'", '"net"').replace("'imagenet'", '"imagenet"').replace(f"'{NEW}'", f'"{NEW}"'))
    ],
    ids=["empty", "single quotes", "comma on the line", "windows lines and tabs", "comment", "brace on the line", "comma and brace", "byte order mark", "odd line ends"]
)  # yapf: disable
def test_layouts(before, after, tmp_path):
    path = tmp_path / "zoo.py"
    path.write_bytes(before.encode())

    edited(path, "net", "imagenet", None, NEW).write()

    assert path.read_bytes().decode() == after


def test_other_encodings_are_kept(tmp_path):
    path = tmp_path / "zoo.py"
    path.write_bytes(
        "# coding: latin-1\nname = 'é'; PRETRAINED_DICT = {'é': {'x': 'y'}}\n".encode("latin-1"))

    edited(path, "é", "x", None, NEW).write()

    assert path.read_bytes() == f"# coding: latin-1\nname = 'é'; PRETRAINED_DICT = {{'é': {{'x': '{NEW}'}}}}\n".encode("latin-1")  # yapf: disable


def test_permissions_are_kept_and_an_entry_that_is_there_changes_nothing(path):
    path.chmod(0o640)
    edited(path, "tiny", "imagenet", None, NEW).write()
    assert path.stat().st_mode & 0o777 == 0o640

    assert not edited(path, "tiny", "imagenet", None, NEW).changed


@pytest.mark.parametrize(
    ("text", "model", "tag", "resolution", "message"),
    [
        (ZOO, "small", "imagenet", None, "has an md5 for each resolution (224, 384)"),
        (ZOO, "tiny", "imagenet", 224, "has one md5 for all resolutions"),
        (ZOO.replace("PRETRAINED_DICT = {\n", "PRETRAINED = {\n"), "a", "b", None, "no dictionaries called PRETRAINED_DICT at its top level; did you mean 'PRETRAINED'?"),
        ("PRETRAINED_DICT = {}\nPRETRAINED_DICT = {}\n", "a", "b", None, "2 dictionaries called PRETRAINED_DICT"),
        ("PRETRAINED_DICT = {**OTHER}\n", "a", "b", None, "not written out"),
        ("PRETRAINED_DICT = {'a': MD5}\n", "a", "b", None, "not written out"),
        ("PRETRAINED_DICT = {'a': {'b': '1'}, 'a': {'b': '2'}}\n", "a", "b", None, "stands there twice"),
        ("PRETRAINED_DICT = {'a': '1'}\n", "a", "b", None, "must map model names to dictionaries"),
        ("PRETRAINED_DICT = {\n", "a", "b", None, "is no Python source"),
        (ZOO, 'a"b', "c", None, "cannot be a key")
    ]
)  # yapf: disable
def test_what_cannot_be_done_plainly_is_refused(text, model, tag, resolution, message, tmp_path):
    path = tmp_path / "zoo.py"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(DictionaryError) as caught:
        edited(path, model, tag, resolution, NEW)

    assert message in str(caught.value)
    assert path.read_text(encoding="utf-8") == text


def test_every_entry_of_the_example_can_be_replaced(path):
    assignment = next(node for node in ast.parse(ZOO).body if isinstance(node, ast.Assign))
    for model, tags in ast.literal_eval(assignment.value).items():
        for tag, value in tags.items():
            for resolution in value if isinstance(value, dict) else [None]:
                edit = edited(Path(path), model, tag, resolution, NEW)
                assert edit.after.count(NEW) == 1
