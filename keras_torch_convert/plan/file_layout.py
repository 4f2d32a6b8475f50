"""The layout of Keras files inside a plan file: JSON, compressed, since nobody reads a model's
config there.
"""

from __future__ import annotations

import base64
import json
import zlib
from functools import partial
from typing import Any

from ..errors import PlanError
from ..spec.file_layout import (ArchiveMember, AttributeValue, FileLayout, StoredArray,
                                StoredAttribute, StoredGroup, TargetLayout)
from .json_values import UnexpectedError, each, items, members, part, shape, text

# A small file must not fill the memory: unpacked a layout may take so many bytes, or so many times
# its own size, and hold so many values.
_MOST_BYTES = 64 << 20
_MOST_TIMES = 4
_MOST_VALUES = 4_000_000


def layout_as_json(layout: TargetLayout) -> dict[str, str]:
    """Return framework and version in clear, the rest compressed.

    Raises PlanError for a layout that `read_layout` would refuse.
    """
    rest = {
        "legacy": _file_as_json(layout.legacy), "weights": _file_as_json(layout.weights),
        "members": [[member.name, member.text] for member in layout.members]
    }
    data = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    compressed = base64.b64encode(zlib.compress(data, 9)).decode("ascii")
    if len(data) > _most_bytes(compressed) or _values(data) > _MOST_VALUES:
        raise PlanError(
            f"the layout of the Keras files takes {len(data)} bytes in a plan, which is too much: "
            "variables that keep their own values are stored there; save the plan without a "
            "layout, by dataclasses.replace(plan, layout=None), and give `apply` a template")
    return {"compressed": compressed, "framework": layout.framework, "version": layout.version}


def read_layout(value: Any) -> TargetLayout:
    """Return the layout that a value of a plan file holds. Raises UnexpectedError."""
    members(value, "compressed", "framework", "version", complete=True)
    rest = part(value, "compressed", _unpacked)
    members(rest, "legacy", "weights", "members", complete=True)
    return TargetLayout(part(value, "framework", text), part(value, "version", text),
                        part(rest, "legacy", _read_file), part(rest, "weights", _read_file),
                        tuple(part(rest, "members", lambda rows: each(rows, _read_member))))


def _unpacked(value: Any) -> Any:
    most = _most_bytes(text(value))
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(base64.b64decode(value, validate=True), most)
        if not inflater.eof or inflater.unused_data or _values(data) > _MOST_VALUES:
            raise UnexpectedError(
                f"compressed data of at most {most} bytes and {_MOST_VALUES} values, complete and "
                "nothing after it", value)
        return json.loads(data.decode("utf-8"))
    except (zlib.error, ValueError, RecursionError) as error:
        raise UnexpectedError("JSON, compressed by zlib, in base64", value) from error


def _most_bytes(compressed: str) -> int:
    return max(_MOST_BYTES, _MOST_TIMES * len(compressed))


def _values(data: bytes) -> int:
    """Return a number that the JSON values in a text do not exceed."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


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


def _read_member(row: Any) -> ArchiveMember:
    items(row, 2, 2)
    return ArchiveMember(part(row, 0, text), part(row, 1, text))


def _read_file(value: Any) -> FileLayout | None:
    if value is None:
        return None
    members(value, "groups", "arrays", complete=True)
    groups = part(value, "groups", lambda table: _columns(table, text, _read_attributes))
    arrays = part(
        value, "arrays",
        lambda table: _columns(table, text, shape, text, text, _read_attributes, _read_bytes))
    return FileLayout(tuple(StoredGroup(*row) for row in groups),
                      tuple(StoredArray(*row) for row in arrays))


def _columns(table: Any, *readers: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a table that is kept by columns, one for each reader."""
    items(table, len(readers), len(readers))
    columns = [part(table, index, partial(each, read=read)) for index, read in enumerate(readers)]
    if len({len(column) for column in columns}) != 1:
        raise UnexpectedError("columns of one length", table)
    return list(zip(*columns, strict=True))


def _read_bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(text(value), validate=True)
    except ValueError as error:
        raise UnexpectedError("bytes in base64", value) from error


def _read_attributes(value: Any) -> tuple[StoredAttribute, ...]:
    return tuple(each(value, _read_attribute))


def _read_attribute(row: Any) -> StoredAttribute:
    items(row, 3, 3)
    return StoredAttribute(part(row, 0, text), part(row, 1, text), part(row, 2, _read_value))


def _read_value(value: Any) -> AttributeValue:
    if isinstance(value, list):
        types = {type(one) for one in value}
        if len(types) <= 1 and types <= {str, int, float}:
            return tuple(value)
    elif isinstance(value, (str, bool, int, float)):
        return value
    raise UnexpectedError("a text, a number, or a list of either", value)
