"""What Python reads of a mapped file comes from the file, so that a cut is an error and no signal.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_torch_convert.errors import SourceError
from keras_torch_convert.util.mapped_memory import MappedMemory, in_memory, mapping_of

CONTENT = bytes(range(256)) * 1024
# NumPy's own reading of a page that is gone would end pytest.
CUTS = pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut there")


@pytest.fixture
def mapping(tmp_path: Path) -> MappedMemory:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        return MappedMemory.of(file.fileno(), str(path))


@pytest.mark.parametrize("part", [
    slice(3, 9), slice(0, 0), slice(None, 4), slice(-7, None), slice(1, 200_000),
    slice(65_535, 65_537), slice(len(CONTENT), None)
])  # yapf: disable
def test_slices_are_those_of_the_content(mapping: MappedMemory, part: slice) -> None:
    assert mapping[part] == CONTENT[part]


def test_bytes_and_positions_are_those_of_the_content(mapping: MappedMemory) -> None:
    assert [mapping[index] for index in (0, 255, 70_000)] == [0, 255, 70_000 % 256]
    with pytest.raises(IndexError):
        mapping[len(CONTENT)]
    assert mapping.find(b"\xff\x00", 65_400) == 65_535  # in two of the parts that are read
    assert mapping.find(b"\x00\x02") == -1


@pytest.mark.parametrize("dtype", [">f4", "<f8", "c16", "?"])
def test_a_view_is_copied_and_an_array_in_memory_is_not(mapping: MappedMemory, dtype: str) -> None:
    array = np.ndarray((4, 32), "u1", mapping, offset=0).view(dtype).T
    copy = in_memory(array)
    assert mapping_of(copy) is None
    assert copy.tobytes() == array.tobytes()
    assert in_memory(copy) is copy


@CUTS
def test_what_was_cut_is_an_error(mapping: MappedMemory) -> None:
    os.truncate(mapping.path, 5)
    said = f"{mapping.path}: the file was cut while it was read: it had {len(CONTENT)} bytes"
    with pytest.raises(SourceError, match=said):
        mapping[10:20]
    with pytest.raises(SourceError, match=said):
        mapping.find(b"\xff")
    with pytest.raises(SourceError, match=said):
        in_memory(np.frombuffer(mapping, np.uint8))
