"""The layout of Keras files inside a plan file: JSON, compressed, since nobody reads a model's
config there.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any

from ..spec.file_layout import (ArchiveMember, AttributeValue, FileLayout, StoredArray,
                                StoredAttribute, StoredGroup, TargetLayout)
from .file_entries import Entry, entry_at

# A layout is far smaller; a damaged or foreign one must not fill the memory.
_MOST_BYTES = 256 << 20


def layout_as_json(layout: TargetLayout) -> dict[str, str]:
    """Framework and version in clear, the rest compressed."""
    rest = {
        "legacy": _file_as_json(layout.legacy), "weights": _file_as_json(layout.weights),
        "members": [[member.name, member.text] for member in layout.members]
    }
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    compressed = base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")
    return {"compressed": compressed, "framework": layout.framework, "version": layout.version}


def read_layout(entry: Entry) -> TargetLayout:
    """The layout that an entry of a plan file holds. Raises PlanError."""
    members = _complete(entry, "compressed", "framework", "version")
    compressed = members["compressed"]
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(base64.b64decode(compressed.text(), validate=True), _MOST_BYTES)
        if not inflater.eof or inflater.unused_data:
            raise compressed.error(
                f"compressed data of at most {_MOST_BYTES} bytes, complete and nothing after it")
        rest = entry_at(json.loads(data.decode("utf-8")), "layout")
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        if not isinstance(
                error,
            (binascii.Error, zlib.error, UnicodeDecodeError, json.JSONDecodeError, RecursionError)):
            raise
        raise compressed.error("JSON, compressed by zlib, in base64") from error
    parts = _complete(rest, "legacy", "weights", "members")
    texts = [row.items(2) for row in parts["members"].items()]
    return TargetLayout(members["framework"].text(), members["version"].text(),
                        _read_file(parts["legacy"]), _read_file(parts["weights"]),
                        tuple(ArchiveMember(name.text(), text.text()) for name, text in texts))


def _file_as_json(file: FileLayout | None) -> Any:
    if file is None:
        return None
    # By columns, which compress far better than rows.
    return {
        "groups": [[group.path for group in file.groups],
                   [_attributes_as_json(group.attributes) for group in file.groups]],
        "arrays": [[array.path for array in file.arrays],
                   [list(array.shape) for array in file.arrays],
                   [array.dtype for array in file.arrays], [array.key for array in file.arrays],
                   [_attributes_as_json(array.attributes) for array in file.arrays],
                   [base64.b64encode(array.values).decode("ascii") for array in file.arrays]]
    }


def _attributes_as_json(attributes: tuple[StoredAttribute, ...]) -> list[Any]:
    return [[one.name, one.dtype,
             list(one.value) if isinstance(one.value, tuple) else one.value] for one in attributes]


def _read_file(entry: Entry) -> FileLayout | None:
    if entry.value is None:
        return None
    members = _complete(entry, "groups", "arrays")
    groups = _rows(members["groups"], 2)
    return FileLayout(
        tuple(
            StoredGroup(path.text(), _read_attributes(attributes)) for path, attributes in groups),
        tuple(_read_array(row) for row in _rows(members["arrays"], 6)))


def _rows(entry: Entry, count: int) -> list[tuple[Entry, ...]]:
    """The rows of a table that is kept as `count` columns of one length."""
    columns = [column.items() for column in entry.items(count)]
    if len({len(column) for column in columns}) != 1:
        raise entry.error("columns of one length")
    return list(zip(*columns, strict=True))


def _read_array(row: tuple[Entry, ...]) -> StoredArray:
    path, shape, dtype, place, attributes, values = row
    try:
        data = base64.b64decode(values.text(), validate=True)
    except binascii.Error as error:
        raise values.error("bytes in base64") from error
    return StoredArray(path.text(), shape.shape(), dtype.text(), place.text(),
                       _read_attributes(attributes), data)


def _read_attributes(entry: Entry) -> tuple[StoredAttribute, ...]:
    rows = [row.items(3) for row in entry.items()]
    return tuple(
        StoredAttribute(name.text(), dtype.text(), _read_value(value))
        for name, dtype, value in rows)


def _read_value(entry: Entry) -> AttributeValue:
    if isinstance(entry.value, list):
        kinds = {type(value) for value in entry.value}
        if len(kinds) <= 1 and kinds <= {str, int, float}:
            return tuple(entry.value)
    elif isinstance(entry.value, (str, bool, int, float)):
        return entry.value
    raise entry.error("a text, a number, or a list of either")


def _complete(entry: Entry, *names: str) -> dict[str, Entry]:
    members = entry.members(*names)
    if len(members) != len(names):
        raise entry.error(f"an object with {', '.join(names)}")
    return members
