"""One entry of a dictionary in a Python file, set in place: every other byte stays as it is.

The dictionary is that of keras_cv_attention_models: model name to pretrained tag to md5, or to
{resolution: md5}; a list of md5 stands for a file in parts.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, NamedTuple, Union

from ..errors import DictionaryError
from ..util.atomic_file import write_atomically
from ..util.text import did_you_mean, join_names

Md5 = Union[str, list[str]]


class Entry(NamedTuple):
    """An entry of the dictionary; the resolution is None when the tag has one file for all."""

    model: str
    tag: str
    resolution: int | None
    md5: Md5

    @property
    def value(self) -> str:
        """The value of the tag as it is written."""
        md5 = md5_text(self.md5)
        return md5 if self.resolution is None else f"{{{self.resolution}: {md5}}}"

    def __str__(self) -> str:
        """Return the entry as it would be pasted into the dictionary."""
        return f"{quoted(self.model)}: {{{quoted(self.tag)}: {self.value}}},"


@dataclass(frozen=True, slots=True)
class Edit:
    """A changed source file, not written yet. `changed` is False when the entry was there already.
    """

    entry: Entry
    path: Path
    before: str
    after: str
    encoding: str

    @property
    def changed(self) -> bool:
        """True when writing would change the file."""
        return self.before != self.after

    def diff(self) -> str:
        """The change as a unified diff."""
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        return "".join(unified_diff(before, after, str(self.path), str(self.path), n=1))

    def write(self) -> None:
        """Replace the file, by a new one of the same permissions, in one step."""
        write_atomically(self.path, self.after.encode(self.encoding))


def edited(path: Path, entry: Entry, name: str = "PRETRAINED_DICT",
           input_size: int | None = None) -> Edit:
    """Return a Python file with an entry set; comments and layout are untouched.

    Args:
        path: The file.
        entry: What the dictionary is to say.
        name: The dictionary, which is assigned at the top level of the file.
        input_size: That of the model, in pixels: the resolution where the dictionary wants one and
            the entry has none.

    Returns:
        The edit; the file is written by its `write`.

    Raises:
        DictionaryError: There is no such dictionary, its entries are not written out, or the entry
            that is there has the other form: one md5 for all resolutions, or one for each.
    """
    data = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    before = data.decode(encoding)
    source = Source(before, path)
    outer = source.dictionary(name)
    entries = source.literal(outer, name)
    tags = entries.get(entry.model, {})
    if entry.resolution is None and isinstance(tags.get(entry.tag), dict):
        entry = entry._replace(resolution=input_size)
    wanted = {**entries, entry.model: {**tags, entry.tag: merged(tags.get(entry.tag), entry)}}
    after = before if wanted == entries else source.with_entry(outer, entry)
    found = Source(after, path)
    if found.literal(found.dictionary(name), name) != wanted:
        raise DictionaryError(f"{path}: the entry for '{entry.model}' cannot be set without "
                              f"rewriting {name}; edit it by hand")
    return Edit(entry, path, before, after, encoding)


def merged(old: Any, entry: Entry) -> Any:
    """Return what the tag's value becomes. Raises DictionaryError when it has the other form."""
    where = f"'{entry.model}', '{entry.tag}'"
    if entry.resolution is None:
        if isinstance(old, dict):
            raise DictionaryError(
                f"{where} has an md5 for each resolution ({', '.join(map(str, old))}): say which "
                "one this file is for")
        return entry.md5
    if old is not None and not isinstance(old, dict):
        raise DictionaryError(
            f"{where} has one md5 for all resolutions: leave the resolution out, or give the "
            "other files of this tag a resolution first")
    return {**(old or {}), entry.resolution: entry.md5}


class Source:
    """A Python source text, and where things stand in it."""
    def __init__(self, text: str, path: Path) -> None:
        self.text = text
        self.path = path
        # Python counts lines by "\\n", "\\r\\n" and "\\r" alone, where str.splitlines knows more
        # ends.
        self.lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n|$)", text.removeprefix("\ufeff"))
        self.starts = [len(text) - len(text.removeprefix("\ufeff"))]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))
        self.newline = next((end for end in ("\r\n", "\n", "\r") if end in text), "\n")
        try:
            self.tree = ast.parse(text.removeprefix("\ufeff"))
        except SyntaxError as error:
            raise DictionaryError(f"{path} is not valid Python: {error}") from error

    def offset(self, line: int, column: int) -> int:
        """Return the position of a line, counted from 1, and a column in bytes of UTF-8, as in ast.
        """
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def start(self, node: ast.expr) -> int:
        """Return where an expression begins."""
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr) -> int:
        """Return where an expression ends."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.end_lineno, node.end_col_offset)

    def dictionary(self, name: str) -> ast.Dict:
        """Return the dictionary that is assigned to a name at the top level of the module."""
        found, others = [], []
        for statement in self.tree.body:
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if isinstance(statement,
                          (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, ast.Dict):
                others += names
                found += [statement.value for one in names if one == name]
        if len(found) == 1:
            return found[0]
        hint = "" if found else did_you_mean(name, others)
        if others and not found and not hint:
            hint = f"; dictionaries in it: {join_names(others)}"
        raise DictionaryError(
            f"{self.path} has {len(found) or 'no'} dictionaries called {name} at its top "
            f"level{hint}")

    def literal(self, node: ast.Dict, name: str) -> dict[str, Any]:
        """Return the dictionary's value. All of it must be written out, and no key twice."""
        try:
            value = ast.literal_eval(node)
        except ValueError as error:
            raise DictionaryError(f"{self.path}: {name} is not written out: {error}") from error
        for inner in ast.walk(node):
            if isinstance(inner, ast.Dict) and len(ast.literal_eval(inner)) != len(inner.keys):
                raise DictionaryError(f"{self.path}, line {inner.lineno}: {name} has a key twice")
        if not all(isinstance(tags, dict) for tags in value.values()):
            raise DictionaryError(
                f"{self.path}: {name} must map model names to dictionaries of pretrained tags")
        result: dict[str, Any] = value
        return result

    def with_entry(self, outer: ast.Dict, entry: Entry) -> str:
        """Return the text with the entry set, in the deepest dictionary that is there."""
        inner = value_at(outer, entry.model)
        if inner is None:
            tags = f"{{{self.quoted(outer, entry.tag)}: {entry.value}}}"
            return self.inserted(outer, entry.model, tags)
        assert isinstance(inner, ast.Dict)
        old = value_at(inner, entry.tag)
        if old is None:
            return self.inserted(inner, entry.tag, entry.value)
        if entry.resolution is None:
            return self.replaced(old, entry.value)
        assert isinstance(old, ast.Dict)
        same = value_at(old, entry.resolution)
        if same is None:
            return self.inserted(old, entry.resolution, md5_text(entry.md5))
        return self.replaced(same, md5_text(entry.md5))

    def replaced(self, node: ast.expr, text: str) -> str:
        """Return the text with one expression replaced."""
        if self.text[self.start(node)] == "'":
            text = text.replace('"', "'")
        return self.text[:self.start(node)] + text + self.text[self.end(node):]

    def inserted(self, node: ast.Dict, key: str | int, value: str) -> str:
        """Return the text with one more entry at the end of a dictionary.

        It stands on a line of its own where the last entry does.
        """
        if self.quote(node) == "'":
            value = value.replace('"', "'")
        entry = f"{self.quoted(node, key)}: {value}"
        closing = self.end(node) - 1
        if not node.keys:
            return self.text[:closing] + entry + self.text[closing:]
        last_key, last_value = node.keys[-1], node.values[-1]
        assert last_key is not None
        behind = self.end(last_value)
        comma = self.comma_after(behind, closing)
        indent = self.lines[last_key.lineno - 1][:self.start(last_key)
                                                 - self.starts[last_key.lineno - 1]]
        if indent.strip():
            # The last entry shares its line: the new one joins it.
            end = comma if comma is not None else behind
            text = f", {entry}" if comma is None else f" {entry},"
            return self.text[:end] + text + self.text[end:]
        closing_line = self.starts[(node.end_lineno or 1) - 1]
        own_line = not self.text[closing_line:closing].strip()
        position = closing_line if own_line else behind
        with_comma = self.text[:behind] + ("" if comma is not None else ",") + self.text[behind:]
        position += 1 if comma is None and position >= behind else 0
        if own_line:
            return f"{with_comma[:position]}{indent}{entry},{self.newline}{with_comma[position:]}"
        position = position if comma is None else comma
        return f"{with_comma[:position]}{self.newline}{indent}{entry}{with_comma[position:]}"

    def comma_after(self, start: int, end: int) -> int | None:
        """Return the position behind the comma in a range, None without one outside comments."""
        code = re.sub(r"#[^\r\n]*", lambda comment: " " * len(comment.group()),
                      self.text[start:end])
        position = code.find(",")
        return None if position < 0 else start + position + 1

    def quote(self, node: ast.Dict) -> str:
        """Return the quotation mark of the dictionary's keys, or else of any dictionary's."""
        for one in (node, *ast.walk(self.tree)):
            if isinstance(one, ast.Dict):
                for key in one.keys:
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        return self.text[self.start(key)]
        return '"'

    def quoted(self, node: ast.Dict, key: str | int) -> str:
        """Return a key as it is written in a dictionary."""
        return str(key) if isinstance(key, int) else quoted(key, self.quote(node))


def value_at(node: ast.Dict, key: str | int) -> ast.expr | None:
    """Return the expression of a key, None when the key is not there."""
    for one, value in zip(node.keys, node.values, strict=True):
        if isinstance(one, ast.Constant) and one.value == key:
            return value
    return None


def md5_text(md5: Md5) -> str:
    """Return the md5 as it is written, that of parts as a list."""
    return quoted(md5) if isinstance(md5, str) else f"[{', '.join(map(quoted, md5))}]"


def quoted(text: str, mark: str = '"') -> str:
    """Return a text as a Python string; what would need escapes is refused."""
    if not text.isprintable() or any(letter in text for letter in "\"'\\"):
        raise DictionaryError(
            f"{text!r} cannot be a key: it has quotation marks or characters that cannot be printed"
        )
    return f"{mark}{text}{mark}"
